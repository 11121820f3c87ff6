import { open, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { OriginalFiles, originalContent, type OriginalFile } from './original-files.ts';

async function kept(directory: string, old: Buffer, now: Buffer | undefined): Promise<OriginalFile> {
  const paths = [join(directory, 'old'), join(directory, 'now')] as const;
  await writeFile(paths[0], old);
  await writeFile(paths[1], now ?? '');
  const files = [await open(paths[0]), await open(paths[1])] as const;
  const originals = await OriginalFiles.create(join(directory, 'originals'));
  try {
    return await originals.keep(files[0], now === undefined ? undefined : files[1]);
  } finally {
    await originals.close();
    for (const file of files) await file.close();
  }
}

test('of a file that was lengthened nothing is kept but how long it was', async () => {
  const directory = await scratchDirectory();
  const old = Buffer.alloc(100_001, 'initrd ');
  const original = await kept(directory, old, Buffer.concat([old, Buffer.alloc(5000, 1)]));
  expect(original).toMatchObject({ existed: true, sizeBytes: 100_001, pieces: [] });
  expect((await stat(join(directory, 'originals'))).size).toBe(0);
});

test('of a file that was cut, what was cut off comes back, though it looks like what stayed', async () => {
  const directory = await scratchDirectory();
  const [old, now] = [Buffer.alloc(10_000, 'a'), Buffer.alloc(4096, 'a')];
  const original = await kept(directory, old, now);
  expect(original.pieces).toMatchObject([{ offsetBytes: 4096, lengthBytes: 5904 }]);
  expect((await originalContent(original, now, join(directory, 'originals'))).equals(old)).toBe(true);
});

test('whatever became of a file, its old content comes back', async () => {
  const directory = await scratchDirectory();
  // Long runs, so that pieces begin and end at, before and behind the border of a block.
  const content = fc
    .array(fc.tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 1, max: 5000 })), { maxLength: 6 })
    .map((runs) => Buffer.concat(runs.map(([byte, length]) => Buffer.alloc(length, byte))));
  await fc.assert(
    fc.asyncProperty(content, fc.option(content, { nil: undefined }), async (old, now) => {
      const original = await kept(directory, old, now);
      const back = await originalContent(original, now ?? Buffer.alloc(0), join(directory, 'originals'));
      expect(back.equals(old)).toBe(true);
      expect((await readFile(join(directory, 'originals'))).length).toBeLessThanOrEqual(old.length);
    }),
    { numRuns: 50 },
  );
});

test('a file that the edit made has no content to come back', async () => {
  const originals = await OriginalFiles.create(join(await scratchDirectory(), 'originals'));
  expect(await originals.keep(undefined, undefined)).toMatchObject({ existed: false, pieces: [] });
  await originals.close();
});
