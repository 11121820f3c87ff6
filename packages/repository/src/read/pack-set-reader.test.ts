import { expect, test } from 'vitest';

import type { BlobRef } from '../format/blob-ref.ts';
import type { ChunkId, PackName } from '../format/names.ts';
import type { PackSetPage } from '../format/pack-set-page.ts';
import { readPackSet } from './pack-set-reader.ts';
import type { PageReader } from './page-reader.ts';

const page = (slot: number): BlobRef => ({
  id: 'a'.repeat(64) as ChunkId,
  pack: 'b'.repeat(64) as PackName,
  slot,
  offsetBytes: 0,
  lengthBytes: 1,
});

test('a set whose pages lead to one another for ever is read once, and is damaged', async () => {
  let reads = 0;
  const packSet = async (ref: BlobRef, depth: number): Promise<PackSetPage> => {
    reads++;
    return { kind: 'branch', depth, children: Array<BlobRef>(16).fill(page(Math.min(62, ref.slot + 1))), packCount: 1 };
  };
  let errors = 0;
  for await (const need of readPackSet({ packSet } as unknown as PageReader, page(0))) {
    if (!(need instanceof Error)) continue;
    expect(need).toMatchObject({ code: 'repository.object-damaged' });
    errors++;
  }
  expect(reads).toBe(63);
  expect(errors).toBe(15 * 62 + 16);
});
