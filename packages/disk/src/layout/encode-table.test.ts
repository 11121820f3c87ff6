/** Written tables against tools that are not ours: sfdisk and sgdisk must find what was planned, and nothing wrong with it. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { MiB } from '@lifeboat/foundation/units';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readPartitionTable } from '../partition-table.ts';
import { deviceOf } from '../testing/disks.ts';
import type { VolumeContent } from '../volume-content.ts';
import { assembledDisk } from './assembled-disk.ts';
import { encodeTable, withIds } from './encode-table.ts';
import type { LayoutRequest } from './layout-plan.ts';
import { planLayout } from './plan-layout.ts';

let directory: string;
let image: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'encode-table-'));
  image = join(directory, 'disk.raw');
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const EXT4: VolumeContent = { kind: 'filesystem', type: 'ext4', uuid: 'u', label: '', notes: [] };
let counter = 0;
/** Differs from call to call, and from no run to the next. */
const random = {
  bytes: (count: number) =>
    createHash('sha256')
      .update(`${(counter += 1)}`)
      .digest()
      .subarray(0, count),
};

function partitioned(script: string, sizeMib = 64): Buffer {
  closeSync(openSync(image, 'w'));
  truncateSync(image, sizeMib * MiB);
  execFileSync('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', image], { input: script });
  return readFileSync(image);
}

/** Plans and writes a table for a disk, and reads it back from a file. */
async function relaid(disk: Buffer, wanted: Partial<LayoutRequest>, sizeMib: number, sectorBytes = 512) {
  const table = await readPartitionTable(deviceOf(disk));
  const contents = new Map(table.partitions.map(({ number }) => [number, EXT4]));
  const source = { name: 'vda', sizeBytes: disk.length, table, contents, boot: { loader: 'none' } } as const;
  const target = { sizeBytes: sizeMib * MiB, sectorBytes };
  const plan = planLayout(source, { scheme: 'aligned', target, firmware: 'same', ids: 'kept', ...wanted });
  expect(plan.refusals).toEqual([]);
  const numbered = withIds(plan, random);
  const written = assembledDisk(target.sizeBytes, encodeTable(numbered, Buffer.alloc(440, 0x90)));
  const bytes = Buffer.alloc(target.sizeBytes);
  await written.read(0, bytes);
  writeFileSync(image, bytes);
  return { plan: numbered, bytes, found: await readPartitionTable(deviceOf(bytes)) };
}

const listed = (): {
  label: string;
  id: string;
  partitions: { start: number; size: number; type: string; uuid?: string }[];
} =>
  (JSON.parse(execFileSync('sfdisk', ['--json', image], { encoding: 'utf8' })) as { partitiontable: never })
    .partitiontable;

const OLD = `label: dos
label-id: 0xdeadbeef
unit: sectors
1 : start=63, size=16065, type=83, bootable
4 : start=16128, size=96390, type=5
5 : start=16191, size=32067, type=83
6 : start=48321, size=16002, type=82
7 : start=80325, size=16002, type=8e
`;

describe('a written table', () => {
  it('is a sound MBR for sfdisk, logical partitions on boundaries, with its id and its active partition', async () => {
    const { plan, found } = await relaid(partitioned(OLD), {}, 64);
    expect(found.problems).toEqual([]);
    expect(execFileSync('sfdisk', ['--verify', image], { encoding: 'utf8' })).toContain('No errors detected');
    const table = listed();
    expect(table.id).toBe('0xdeadbeef');
    expect(table.partitions.map(({ start, size }) => [start * 512, size * 512])).toEqual(
      plan.partitions.map(({ startBytes, lengthBytes }) => [startBytes, lengthBytes]),
    );
    expect(found.partitions.map(({ bootable }) => bootable)).toEqual([true, false, false, false, false]);
    expect(
      found.partitions.filter(({ role }) => role === 'logical').every(({ startBytes }) => startBytes % MiB === 0),
    ).toBe(true);
  });

  it('is a sound GPT for sgdisk, of the types it gives itself', async () => {
    const disk = partitioned(OLD);
    execFileSync('sgdisk', ['--mbrtogpt', image], { stdio: 'ignore' });
    const types = listed().partitions.map(({ type }) => type);
    const { found } = await relaid(disk, { scheme: 'gpt' }, 64);
    expect(found.problems).toEqual([]);
    expect(execFileSync('sgdisk', ['--verify', image], { encoding: 'utf8' })).toMatch(/No problems found/);
    expect(listed().partitions.map(({ type }) => type)).toEqual(types);
    expect(new Set(found.partitions.map(({ partitionId }) => partitionId)).size).toBe(4);
  });

  it('keeps ids, names and attributes of a GPT on a larger disk, whose end has the second copy', async () => {
    const disk = partitioned(
      'label: gpt\n2 : start=4096, size=8192, type=linux, name="wörld", attrs="RequiredPartition GUID:60"\n',
    );
    const before = await readPartitionTable(deviceOf(disk));
    const { found, bytes } = await relaid(disk, { resize: 'last' }, 80);
    expect(found).toMatchObject({ diskId: before.diskId, problems: [] });
    expect(found.partitions[0]).toMatchObject({ ...before.partitions[0], lengthBytes: 77 * MiB });
    expect(before.partitions[0]?.attributes).toBe('0x1000000000000001');
    expect(execFileSync('sgdisk', ['--verify', image], { encoding: 'utf8' })).toMatch(/No problems found/);
    // The first copy lost: the second one is enough.
    bytes.fill(0, 512, 34 * 512);
    expect((await readPartitionTable(deviceOf(bytes))).partitions).toEqual(found.partitions);
  });

  it('has its second copy where sectors of 4096 bytes put it', async () => {
    const { bytes } = await relaid(partitioned('label: gpt\nstart=4096, size=8192, type=linux\n'), {}, 64);
    expect(bytes.toString('latin1', 512, 520)).toBe('EFI PART');
    const table = await readPartitionTable(deviceOf(bytes));
    const source = {
      name: 'a',
      sizeBytes: bytes.length,
      table: { ...table, sectorBytes: 4096 },
      contents: new Map([[1, EXT4]]),
      boot: { loader: 'none' },
    } as const;
    const target = { sizeBytes: 64 * MiB, sectorBytes: 4096 };
    const plan = withIds(planLayout(source, { scheme: 'aligned', target, firmware: 'same', ids: 'kept' }), random);
    const large = Buffer.alloc(target.sizeBytes);
    await assembledDisk(large.length, encodeTable(plan, Buffer.alloc(0))).read(0, large);
    expect(await readPartitionTable(deviceOf(large))).toMatchObject({
      sectorBytes: 4096,
      problems: [],
      partitions: [{ startBytes: 2 * MiB }],
    });
  });

  it('is read back as it was planned, whatever was planned', async () => {
    const starts = fc.uniqueArray(fc.integer({ min: 2, max: 60 }), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(
        starts,
        fc.constantFrom('aligned' as const, 'gpt' as const),
        fc.integer({ min: 0, max: 3 }),
        async (marks, scheme, primary) => {
          const order = marks.toSorted((a, b) => a - b);
          const parts = order.map((start, index) => ({
            number: index < primary ? index + 1 : 5 + index - primary,
            startBytes: start * MiB + 63 * 512,
            lengthBytes: MiB / 2,
            type: '0x83',
            role: index < primary ? ('primary' as const) : ('logical' as const),
            partitionId: '',
            name: '',
            bootable: false,
          }));
          const extended = {
            number: 4,
            startBytes: 0,
            lengthBytes: 0,
            type: '0x0f',
            role: 'extended' as const,
            partitionId: '',
            name: '',
            bootable: false,
          };
          const partitions = order.length > primary ? [...parts, extended] : parts;
          const table = { scheme: 'mbr' as const, sectorBytes: 512, diskId: '0000beef', partitions, problems: [] };
          const contents = new Map(parts.map(({ number }) => [number, EXT4]));
          const source = { name: 'vda', sizeBytes: 64 * MiB, table, contents, boot: { loader: 'none' as const } };
          const target = { sizeBytes: 128 * MiB, sectorBytes: 512 };
          const plan = withIds(planLayout(source, { scheme, target, firmware: 'same', ids: 'kept' }), random);
          const found = await readPartitionTable(assembledDisk(target.sizeBytes, encodeTable(plan, Buffer.alloc(0))));
          expect(found.problems).toEqual([]);
          expect(found.diskId).toBe(plan.diskId);
          const seen = (
            list: readonly {
              number: number;
              startBytes: number;
              lengthBytes: number;
              type: string;
              partitionId: string;
            }[],
          ) =>
            list
              .map(({ number, startBytes, lengthBytes, type, partitionId }) => ({
                number,
                startBytes,
                lengthBytes,
                type,
                partitionId,
              }))
              .toSorted((a, b) => a.number - b.number);
          expect(seen(found.partitions)).toEqual(seen(plan.partitions));
        },
      ),
      { numRuns: 200 },
    );
  });
});
