import { execFileSync } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync, truncateSync, closeSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partitionTypes, readPartitionTable, type PartitionTable } from './partition-table.ts';
import { deviceOf } from './testing/disks.ts';

const SECTOR = 512;
const DISK_SECTORS = 65_536;
const SMALL_DISK_SECTORS = 8192;

let directory: string;
let image: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'partition-table-'));
  image = join(directory, 'disk.raw');
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function blankImage(sectors = DISK_SECTORS): void {
  closeSync(openSync(image, 'w'));
  truncateSync(image, sectors * SECTOR);
}

function partitioned(script: string, sectors = DISK_SECTORS): Buffer {
  blankImage(sectors);
  execFileSync('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', '--wipe', 'never', image], { input: script });
  return readFileSync(image);
}

interface Listed {
  label: string;
  id: string;
  partitions: {
    node: string;
    start: number;
    size: number;
    type: string;
    uuid?: string;
    name?: string;
    bootable?: boolean;
  }[];
}

/** What sfdisk reads from the same image: the oracle. */
function listedBySfdisk(): Listed {
  const text = execFileSync('sfdisk', ['--json', image], { encoding: 'utf8' });
  return (JSON.parse(text) as { partitiontable: Listed }).partitiontable;
}

function comparable(table: PartitionTable) {
  return table.partitions.map((p) => ({
    number: p.number,
    start: p.startBytes / SECTOR,
    size: p.lengthBytes / SECTOR,
    type: p.type,
    bootable: p.bootable,
    name: p.name,
  }));
}

function comparableListed(listed: Listed) {
  return listed.partitions.map((p) => ({
    number: Number(/(\d+)$/.exec(p.node)?.[1]),
    start: p.start,
    size: p.size,
    type: listed.label === 'gpt' ? p.type.toLowerCase() : `0x${p.type.padStart(2, '0')}`,
    bootable: p.bootable ?? false,
    name: p.name ?? '',
  }));
}

/** Random runs that do not overlap, within [from, to), aligned to `grain` sectors. */
const runs = (range: { from: number; to: number; grain: number; most: number }) =>
  fc
    .uniqueArray(fc.integer({ min: Math.ceil(range.from / range.grain), max: Math.floor(range.to / range.grain) }), {
      minLength: 2,
      maxLength: range.most * 2,
    })
    .map((marks) => {
      const sorted = marks.toSorted((a, b) => a - b).map((mark) => mark * range.grain);
      return Array.from({ length: Math.floor(sorted.length / 2) }, (_, i) => ({
        start: sorted[2 * i] as number,
        size: (sorted[2 * i + 1] as number) - (sorted[2 * i] as number),
      }));
    });

describe('readPartitionTable agrees with sfdisk', () => {
  it('on random GPT tables, with gaps in the numbering', async () => {
    const tables = fc.tuple(
      runs({ from: 2048, to: 65_000, grain: 8, most: 12 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 2 })),
    );
    await fc.assert(
      fc.asyncProperty(
        tables,
        fc.constantFrom('linux', 'uefi', '21686148-6449-6E6F-744E-656564454649'),
        async ([parts, steps], type) => {
          let number = 0;
          const lines = parts.map((part) => {
            number += steps.next().value ?? 1;
            return `${number} : start=${part.start}, size=${part.size}, type=${type}, name="part ${number} ä"`;
          });
          const bytes = partitioned(`label: gpt\n${lines.join('\n')}\n`);
          const table = await readPartitionTable(deviceOf(bytes));
          const listed = listedBySfdisk();
          expect(table.problems).toEqual([]);
          expect(table.scheme).toBe('gpt');
          expect(table.diskId).toBe(listed.id.toLowerCase());
          expect(comparable(table)).toEqual(comparableListed(listed));
          expect(table.partitions.map((p) => p.partitionId)).toEqual(
            listed.partitions.map((p) => p.uuid?.toLowerCase()),
          );
        },
      ),
      { numRuns: 12 },
    );
  });

  it('on random MBR tables with logical partitions', async () => {
    const tables = fc.tuple(
      runs({ from: 2048, to: 20_000, grain: 1, most: 3 }),
      // sfdisk aligns each extended boot record to 1 MiB: leave it that room between two.
      runs({ from: 32_768, to: 61_440, grain: 4096, most: 3 }).map((list) =>
        list.map((r) => ({ ...r, size: r.size - 2048 - (r.start % 7) })),
      ),
      fc.boolean(),
    );
    await fc.assert(
      fc.asyncProperty(tables, async ([primary, logical, active]) => {
        const lines = [
          ...primary.map(
            (p, i) => `${i + 1} : start=${p.start}, size=${p.size}, type=83${active && i === 0 ? ', bootable' : ''}`,
          ),
          `4 : start=30000, size=33000, type=${active ? '5' : 'f'}`,
          ...logical.map((p, i) => `${i + 5} : start=${p.start}, size=${p.size}, type=8e`),
        ];
        const bytes = partitioned(`label: dos\nlabel-id: 0xdeadbeef\n${lines.join('\n')}\n`);
        const table = await readPartitionTable(deviceOf(bytes));
        expect(table.problems).toEqual([]);
        expect(table).toMatchObject({ scheme: 'mbr', diskId: 'deadbeef' });
        expect(comparable(table)).toEqual(comparableListed(listedBySfdisk()));
        expect(table.partitions[0]?.partitionId).toBe('deadbeef-01');
      }),
      { numRuns: 12 },
    );
  });

  it('on a table of sgdisk, bit for bit the same GUIDs', async () => {
    blankImage();
    execFileSync('sgdisk', ['-o', '-n1:2048:+1M', '-t1:ef02', '-n2:0:-2M', '-t2:8300', '-A2:set:2', '-c2:root', image]);
    const info = execFileSync('sgdisk', ['-i2', image], { encoding: 'utf8' });
    const table = await readPartitionTable(deviceOf(readFileSync(image)));
    expect(table.partitions[0]?.type).toBe(partitionTypes.biosBoot);
    expect(table.partitions[1]).toMatchObject({ type: partitionTypes.linuxFilesystem, name: 'root', bootable: true });
    expect(info.toLowerCase()).toContain(`partition unique guid: ${table.partitions[1]?.partitionId}`);
  });

  it('on a 4Kn disk', async () => {
    blankImage();
    // sgdisk cannot be told the sector size of a file; qemu's way is to move each LBA by hand.
    const small = partitioned('label: gpt\n1 : start=2048, size=4096, type=linux\n', 8192);
    const moved = Buffer.alloc(8192 * 4096);
    for (const lba of [0, 1, 8191]) small.copy(moved, lba * 4096, lba * SECTOR, (lba + 1) * SECTOR);
    small.copy(moved, 2 * 4096, 2 * SECTOR, 34 * SECTOR);
    small.copy(moved, (8191 - 32) * 4096, (8191 - 32) * SECTOR, 8191 * SECTOR);
    const table = await readPartitionTable(deviceOf(moved));
    expect(table).toMatchObject({ scheme: 'gpt', sectorBytes: 4096, problems: [] });
    expect(table.partitions[0]).toMatchObject({ startBytes: 2048 * 4096, lengthBytes: 4096 * 4096 });
  });
});

describe('readPartitionTable on what is not a healthy table', () => {
  it('finds none on an empty disk, a tiny one, and a FAT boot sector', async () => {
    for (const size of [0, 100, 512, 4096, 1024 * 1024]) {
      expect((await readPartitionTable(deviceOf(new Uint8Array(size)))).scheme).toBe('none');
    }
    const fat = join(directory, 'fat.img');
    writeFileSync(fat, Buffer.alloc(2 * 1024 * 1024));
    execFileSync('mkfs.fat', [fat]);
    expect((await readPartitionTable(deviceOf(readFileSync(fat)))).scheme).toBe('none');
  });

  it('uses the backup GPT when the primary is damaged, and says so', async () => {
    const bytes = partitioned('label: gpt\n1 : start=2048, size=4096, type=linux\n');
    const whole = await readPartitionTable(deviceOf(bytes));
    bytes.writeUInt8((bytes[2 * SECTOR + 33] ?? 0) ^ 0xff, 2 * SECTOR + 33);
    const entriesDamaged = await readPartitionTable(deviceOf(bytes));
    expect(entriesDamaged.partitions).toEqual(whole.partitions);
    expect(entriesDamaged.problems).toEqual(['the primary GPT header at LBA 1 has entries with a wrong checksum']);
    bytes.fill(0, SECTOR, 34 * SECTOR);
    const wiped = await readPartitionTable(deviceOf(bytes));
    expect(wiped.partitions).toEqual(whole.partitions);
    expect(wiped.problems).toEqual(['the primary GPT header is missing']);
  });

  it('names a disk that grew: the backup header is no longer at the end', async () => {
    const bytes = partitioned('label: gpt\n1 : start=2048, size=4096, type=linux\n');
    const grown = Buffer.concat([bytes, Buffer.alloc(1024 * 1024)]);
    const table = await readPartitionTable(deviceOf(grown));
    expect(table.partitions).toHaveLength(1);
    expect(table.problems).toEqual(['the backup GPT header is at LBA 65535, the disk ends at LBA 67583']);
  });

  it('takes the new MBR, not a backup GPT left over at the end', async () => {
    const bytes = partitioned('label: gpt\n1 : start=2048, size=4096, type=linux\n');
    const mbr = partitioned('label: dos\n1 : start=4096, size=100, type=83\n');
    mbr.copy(bytes, 0, 0, SECTOR);
    bytes.fill(0, SECTOR, 34 * SECTOR);
    const table = await readPartitionTable(deviceOf(bytes));
    expect(table.scheme).toBe('mbr');
    expect(table.partitions).toHaveLength(1);
  });

  it('ends on a chain of logical partitions that loops', async () => {
    const bytes = partitioned(
      'label: dos\n1 : start=2048, size=60000, type=5\n5 : start=4096, size=100, type=83\n6 : start=8192, size=100, type=83\n',
    );
    const ebr = (2048 + bytes.readUInt32LE(2048 * SECTOR + 462 + 8)) * SECTOR;
    // The last record links to the first.
    bytes.writeUInt8(0x05, ebr + 462 + 4);
    bytes.writeUInt32LE(0, ebr + 462 + 8);
    bytes.writeUInt32LE(100, ebr + 462 + 12);
    const table = await readPartitionTable(deviceOf(bytes));
    expect(table.partitions.map((p) => p.number)).toEqual([1, 5, 6]);
    expect(table.problems.join()).toMatch(/does not end/);
  });

  it('survives any bit flips and truncation, and never lists a partition outside the disk', async () => {
    const gpt = partitioned(
      'label: gpt\n1 : start=2048, size=1024, type=linux\n2 : start=4096, size=1024, type=uefi\n',
      SMALL_DISK_SECTORS,
    );
    const mbr = partitioned(
      'label: dos\n1 : start=2048, size=6000, type=5\n5 : start=4096, size=100, type=83\n',
      SMALL_DISK_SECTORS,
    );
    const flips = fc.array(
      fc.record({
        at: fc.integer({ min: 0, max: 40 * SECTOR * 8 - 1 }),
        where: fc.constantFrom('head', 'ebr', 'tail'),
      }),
      {
        minLength: 1,
        maxLength: 8,
      },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.boolean(),
        flips,
        fc.integer({ min: 0, max: SMALL_DISK_SECTORS }),
        async (isGpt, list, sectors) => {
          const bytes = Buffer.from(isGpt ? gpt : mbr);
          for (const { at, where } of list) {
            const base = { head: 0, ebr: 2048 * SECTOR, tail: bytes.length - 40 * SECTOR }[where];
            const index = base + (at >> 3);
            bytes.writeUInt8((bytes[index] ?? 0) ^ (1 << (at & 7)), index);
          }
          const cut = sectors % 3 === 0 ? bytes.subarray(0, sectors * SECTOR) : bytes;
          const table = await readPartitionTable(deviceOf(cut));
          for (const p of table.partitions) {
            expect(p.startBytes).toBeGreaterThanOrEqual(0);
            expect(p.startBytes + p.lengthBytes).toBeLessThanOrEqual(cut.length);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
