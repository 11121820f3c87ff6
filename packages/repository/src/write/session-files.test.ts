import { createHash } from 'node:crypto';
import { appendFileSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, describe, expect, test } from 'vitest';

import type { BlobRef } from '../format/blob-ref.ts';
import { chunkIdOf, packNameOf } from '../format/names.ts';
import { MACHINE, Scratch } from '../testing/tiny.ts';
import { SessionFiles, type StoredPack } from './session-files.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());

const hash = (text: string): Buffer => createHash('sha256').update(text).digest();

function storedPack(n: number): StoredPack {
  const pack = packNameOf(hash(`pack ${n}`));
  const blobs = Array.from({ length: n % 7 }, (_, slot): BlobRef => {
    const id = chunkIdOf(hash(`chunk ${n} ${slot}`));
    return { id, pack, slot, offsetBytes: slot * 100, lengthBytes: 100 };
  });
  return { pack, sizeBytes: 1000 + n, blobs };
}

const PACKS = Array.from({ length: 40 }, (_, n) => storedPack(n));
const filesOf = (directory: string): SessionFiles =>
  new SessionFiles({ directory, tenantId: Buffer.alloc(16, 1), machineId: MACHINE });

async function readAll(files: SessionFiles): Promise<StoredPack[]> {
  const packs: StoredPack[] = [];
  for await (const pack of files.openJournal()) packs.push(pack);
  return packs;
}

async function reread(directory: string): Promise<StoredPack[]> {
  const files = filesOf(directory);
  const packs = await readAll(files);
  await files.close();
  return packs;
}

async function journalWith(packs: readonly StoredPack[]): Promise<{ directory: string; path: string }> {
  const directory = scratch.directory();
  const files = filesOf(directory);
  expect(await readAll(files)).toEqual([]);
  for (const pack of packs) await files.append(pack);
  await files.close();
  return { directory, path: join(directory, 'session.journal') };
}

describe('the journal of a session', () => {
  test('gives back, in order, what was appended in any number of attempts', async () => {
    const { directory } = await journalWith(PACKS.slice(0, 25));
    const files = filesOf(directory);
    expect(await readAll(files)).toEqual(PACKS.slice(0, 25));
    for (const pack of PACKS.slice(25)) await files.append(pack);
    await files.close();
    expect(await reread(directory)).toEqual(PACKS);
  });

  test('cut off anywhere gives the records before, and goes on behind them', async () => {
    const { directory, path } = await journalWith(PACKS.slice(0, 6));
    const whole = readFileSync(path);
    for (let length = whole.length; length > 0; length -= 37) {
      writeFileSync(path, whole);
      truncateSync(path, length);
      const files = filesOf(directory);
      const found = await readAll(files);
      expect(found).toEqual(PACKS.slice(0, found.length));
      await files.append(storedPack(99));
      await files.close();
      expect(await reread(directory)).toEqual([...found, storedPack(99)]);
    }
  });

  test('ends where something claims to be longer than a record is, and takes no memory for it', async () => {
    const { directory, path } = await journalWith(PACKS.slice(0, 3));
    const { size } = statSync(path);
    const claim = Buffer.concat([readFileSync(path).subarray(0, 14), Buffer.from([0xff, 0xff, 0xff, 0x00])]);
    appendFileSync(path, claim);
    // A hole: longer than what was claimed, and than any buffer may be.
    truncateSync(path, size + 5 * 2 ** 30);
    expect(await reread(directory)).toEqual(PACKS.slice(0, 3));
    expect(statSync(path).size).toBe(size);
  });

  test('may be left in the middle, and says so to whoever appends then', async () => {
    const { directory } = await journalWith(PACKS);
    const files = filesOf(directory);
    for await (const pack of files.openJournal()) {
      expect(pack).toEqual(PACKS[0]);
      break;
    }
    await expect(files.append(storedPack(99))).rejects.toMatchObject({ code: 'internal.bug' });
    expect(await reread(directory)).toEqual(PACKS);
  });
});
