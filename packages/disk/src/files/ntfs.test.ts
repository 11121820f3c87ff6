import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasCode } from '@lifeboat/foundation/errors';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deviceOf } from '../testing/disks.ts';
import { findNtfs, type NtfsNode, openNtfs } from './ntfs.ts';

const MIB = 1024 * 1024;
const BIG = pseudoRandom(3 * MIB + 17);

let directory: string;
let image: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'ntfs-'));
  image = join(directory, 'volume.raw');
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function pseudoRandom(length: number): Buffer {
  const out = Buffer.alloc(length);
  for (let at = 0, n = 0; at < length; at += 32, n += 1) createHash('sha256').update(String(n)).digest().copy(out, at);
  return out;
}

/** The tools of ntfs-3g write files into an unmounted volume, one at a time, into directories that are there. */
function ntfs(files: Readonly<Record<string, Buffer>>, ...args: string[]): Buffer {
  rmSync(image, { force: true });
  writeFileSync(image, '');
  truncateSync(image, 16 * MIB);
  execFileSync('mkntfs', ['-q', '-F', '-f', '-L', 'Système', ...args, image], { stdio: 'ignore' });
  const source = join(directory, 'source');
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(source, content);
    execFileSync('ntfscp', ['-q', image, source, name], { stdio: 'ignore' });
  }
  return readFileSync(image);
}

describe('NTFS, as mkntfs and ntfscp make it', () => {
  it.each([
    ['clusters of 512 bytes', 0, ['-c', '512']],
    ['clusters of 4 KiB and a large directory', 40, ['-c', '4096']],
    ['clusters of 64 KiB', 0, ['-c', '65536']],
    ['sectors of 4 KiB', 0, ['-s', '4096', '-c', '4096', '-p', '0', '-H', '16', '-S', '63']],
  ])('with %s gives every file, whatever the case of its name', async (_, count, args) => {
    const many = Object.fromEntries(
      Array.from({ length: count }, (__, i) => [`A file with a rather long name ${i}.txt`, Buffer.from(`${i}`)]),
    );
    const files = { 'Größe.bin': BIG, small: Buffer.from('resident'), empty: Buffer.alloc(0), ...many };
    const volume = await openNtfs(deviceOf(ntfs(files, ...args)));
    expect(volume).toMatchObject({ label: 'Système', version: '3.1', isDirty: false, hasOpenLog: false });
    const { root } = volume;
    expect((await root.names()).sort()).toEqual(Object.keys(files).sort());
    const big = await findNtfs(root, 'GRÖßE.BIN');
    expect((await big?.read())?.equals(BIG)).toBe(true);
    expect((await big?.readAt(1_234_567, 100_000))?.equals(BIG.subarray(1_234_567, 1_334_567))).toBe(true);
    await expect(big?.readAt(BIG.length - 1, 2)).rejects.toMatchObject({ code: 'guest.filesystem-unreadable' });
    expect((await (await root.child('SMALL'))?.read())?.toString()).toBe('resident');
    expect(await (await root.child('empty'))?.read()).toHaveLength(0);
    const last = await (await root.child(`a FILE with a rather long name ${count - 1}.TXT`))?.read();
    expect(last?.toString()).toBe(count === 0 ? undefined : '39');
    expect(await root.child('nothing')).toBeUndefined();
    expect(await findNtfs(root, 'small/within')).toBeUndefined();
  });

  it('says what is compressed or encrypted, and reads the rest', async () => {
    const bytes = ntfs({ big: BIG, other: BIG.subarray(0, 100_000) });
    const attribute = dataAttributeOf(bytes, 'big');
    for (const [flag, word] of [
      [0x0001, 'compressed'],
      [0x4000, 'encrypted'],
    ] as const) {
      bytes.writeUInt16LE(flag, attribute + 12);
      const { root } = await openNtfs(deviceOf(bytes));
      await expect((await root.child('big'))?.read()).rejects.toThrow(word);
      expect(await (await root.child('other'))?.read()).toHaveLength(100_000);
    }
  });

  it('tells a volume that wants a check, and one that was not closed', async () => {
    const bytes = ntfs({});
    const flags = bytes.indexOf(Buffer.from('0301', 'hex'), recordAt(bytes, 3) + 56);
    bytes.writeUInt16LE(1, flags + 2);
    const log = recordAt(bytes, 2);
    const run = bytes.indexOf(Buffer.from('RSTR'), 0);
    expect(run).toBe(-1);
    expect(await openNtfs(deviceOf(bytes))).toMatchObject({ isDirty: true, hasOpenLog: false });
    // A restart page as Windows leaves it: one client, the volume not marked clean.
    const page = Buffer.alloc(4096);
    page.write('RSTR', 'latin1');
    page.writeUInt32LE(4096, 16);
    page.writeUInt16LE(0x30, 24);
    page.writeUInt16LE(0, 0x30 + 12);
    page.copy(bytes, logStart(bytes, log));
    expect((await openNtfs(deviceOf(bytes))).hasOpenLog).toBe(true);
    bytes.writeUInt16LE(2, logStart(bytes, log) + 0x30 + 14);
    expect((await openNtfs(deviceOf(bytes))).hasOpenLog).toBe(false);
  });

  it('whose record was written in part is refused', async () => {
    const bytes = ntfs({});
    bytes.writeUInt16LE(0xdead, recordAt(bytes, 5) + 510);
    await expect(openNtfs(deviceOf(bytes))).rejects.toThrow('written in part');
  });

  it('that is damaged or hostile gives files or a finding, never a hang', async () => {
    const few = Object.fromEntries(
      Array.from({ length: 12 }, (_, i) => [`A file with a rather long name ${i}`, BIG.subarray(0, i * 300)]),
    );
    const bytes = ntfs({ big: BIG, ...few });
    const table = recordAt(bytes, 0);
    const flips = fc.array(fc.record({ at: fc.nat({ max: 160 * 1024 }), bits: fc.integer({ min: 1, max: 255 }) }), {
      minLength: 1,
      maxLength: 60,
    });
    const bugs: unknown[] = [];
    await fc.assert(
      fc.asyncProperty(flips, fc.nat({ max: bytes.length }), async (list, cut) => {
        const flip = () => {
          for (const { at, bits } of list) bytes.writeUInt8(bytes.readUInt8(table + at) ^ bits, table + at);
        };
        flip();
        try {
          const device = deviceOf(cut % 4 === 0 ? bytes.subarray(0, cut) : bytes);
          await walk((await openNtfs(device)).root);
        } catch (error) {
          if (!hasCode(error, 'guest.filesystem-unreadable')) bugs.push(error);
        } finally {
          flip(); // the same again: undone
        }
      }),
      { numRuns: 60 },
    );
    expect(bugs).toEqual([]);
  });
});

async function walk(root: NtfsNode): Promise<void> {
  for (const name of (await root.names()).slice(0, 20)) {
    try {
      const child = await root.child(name);
      if (child?.kind === 'file') await child.read(64 * 1024);
    } catch (error) {
      if (!hasCode(error, 'guest.filesystem-unreadable')) throw error;
    }
  }
}

/** In these small volumes the file table lies in one piece. */
function recordAt(bytes: Buffer, number: number): number {
  const clusterBytes = bytes.readUInt16LE(11) * bytes.readUInt8(13);
  return Number(bytes.readBigUInt64LE(48)) * clusterBytes + number * 1024;
}

function logStart(bytes: Buffer, record: number): number {
  const attribute = attributeAt(bytes, record, 0x80);
  const runs = attribute + bytes.readUInt16LE(attribute + 32);
  const header = bytes.readUInt8(runs);
  const start = bytes.readUIntLE(runs + 1 + (header & 0xf), header >> 4);
  return start * bytes.readUInt16LE(11) * bytes.readUInt8(13);
}

function attributeAt(bytes: Buffer, record: number, type: number): number {
  let at = record + bytes.readUInt16LE(record + 20);
  while (bytes.readUInt32LE(at) !== type) {
    const lengthBytes = bytes.readUInt32LE(at + 4);
    if (lengthBytes === 0 || bytes.readUInt32LE(at) > type) return -1;
    at += lengthBytes;
  }
  return at;
}

function dataAttributeOf(bytes: Buffer, name: string): number {
  const wanted = Buffer.from(name, 'utf16le');
  for (let number = 16; number < 200; number += 1) {
    const record = recordAt(bytes, number);
    const file = attributeAt(bytes, record, 0x30);
    if (file < 0) continue;
    const value = file + bytes.readUInt16LE(file + 20);
    if (bytes.subarray(value + 66, value + 66 + wanted.length).equals(wanted)) return attributeAt(bytes, record, 0x80);
  }
  throw new Error(`there is no ${name}`);
}
