import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  discardIncomplete,
  discardReverted,
  newBytesPath,
  oldBytesPath,
  readJournal,
  sealJournal,
  writeState,
  type Journal,
} from './journal-file.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'journal-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const journal: Journal = {
  formatVersion: 1,
  edits: [{ path: '/a ä', oldSha256: '1', newSha256: '2', oldBytes: 1, newBytes: 2 }],
  disks: [
    {
      name: 'vda',
      image: { path: '/x', format: 'raw' },
      sizeBytes: 4096,
      runs: [{ offsetBytes: 0, lengthBytes: 4096, oldSha256: 'o', newSha256: 'n', newAt: 0 }],
    },
  ],
  result: { kernels: [] },
};

describe('a journal', () => {
  it('is not there until it is sealed, and then as it was written', async () => {
    writeFileSync(oldBytesPath(directory), 'old');
    expect(await readJournal(directory)).toBeUndefined();
    await sealJournal(directory, journal);
    expect(await readJournal(directory)).toEqual({ journal, state: 'writing' });
    await writeState(directory, 'applied');
    expect((await readJournal(directory))?.state).toBe('applied');
  });

  it('that was never sealed leaves nothing when it is discarded', async () => {
    for (const path of [oldBytesPath(directory), newBytesPath(directory)]) writeFileSync(path, 'x');
    await writeState(directory, 'writing');
    await discardIncomplete(directory);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('that was taken back leaves nothing when it is discarded, and may be discarded again', async () => {
    for (const path of [oldBytesPath(directory), newBytesPath(directory)]) writeFileSync(path, 'x');
    await sealJournal(directory, journal);
    await writeState(directory, 'reverted');
    await discardReverted(directory);
    expect(readdirSync(directory)).toEqual([]);
    await discardReverted(directory);
    expect(await readJournal(directory)).toBeUndefined();
  });

  it('is not read when one bit of it is wrong, or it is cut', async () => {
    await sealJournal(directory, journal);
    const path = join(directory, 'journal.json');
    const good = readFileSync(path);
    // The line end after the body is not part of it.
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: (good.length - 1) * 8 - 1 }), fc.boolean(), async (bit, cut) => {
        const bad = Buffer.from(cut ? good.subarray(0, bit >> 3) : good);
        if (!cut) bad[bit >> 3] = (bad[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        writeFileSync(path, bad);
        await expect(readJournal(directory)).rejects.toMatchObject({ code: 'guest.journal-damaged' });
      }),
      { numRuns: 100 },
    );
  });

  it('of a state or a version it does not know is not read', async () => {
    await sealJournal(directory, journal);
    writeFileSync(join(directory, 'state'), 'lost\n');
    await expect(readJournal(directory)).rejects.toMatchObject({ code: 'guest.journal-damaged' });
    await sealJournal(directory, { ...journal, formatVersion: 2 as 1 });
    await expect(readJournal(directory)).rejects.toThrow(/version 2/);
  });
});
