import { randomBytes } from 'node:crypto';

import { describe, expect, test } from 'vitest';

import { seal } from '../seal/aead.ts';
import { blobSeal, chunkId, type BlobOpening } from '../seal/blob-seal.ts';
import { CODECS, zstd } from '../seal/codec.ts';
import { threadOpener } from './thread-opener.ts';

const chunkIdKey = randomBytes(32);
const pack = { key: randomBytes(32), kind: 'data' as const, tenantId: randomBytes(16), chunkIdKey };

function blob(plain: Uint8Array, slot: number): { opening: BlobOpening; sealed: Uint8Array } {
  const id = chunkId(chunkIdKey, plain);
  const packed = zstd(1).compress(plain);
  const sealed = seal(blobSeal(pack, { id, slot }), Buffer.concat([Uint8Array.of(CODECS.zstd), packed]));
  return { opening: { ...pack, id, slot, plain: { exactBytes: plain.length } }, sealed };
}

describe('threads that open blobs', () => {
  test('give each caller its own, large and small, many at a time', async () => {
    const opener = threadOpener({ threads: 2 });
    const plains = Array.from({ length: 40 }, (_, i) => randomBytes(i % 3 === 0 ? 200 : 100_000 + i * 7));
    const opened = await Promise.all(
      plains.map((plain, slot) => {
        const { opening, sealed } = blob(plain, slot);
        return opener.open(opening, sealed);
      }),
    );
    opened.forEach((result, i) =>
      expect('plain' in result && Buffer.compare(result.plain, plains[i] ?? Buffer.alloc(0))).toBe(0),
    );
    await opener.close();
  });

  test('say why a blob does not open, and go on', async () => {
    const opener = threadOpener({ threads: 1 });
    const { opening, sealed } = blob(randomBytes(100_000), 0);
    const flipped = Uint8Array.from(sealed);
    flipped[5000] = (flipped[5000] ?? 0) ^ 1;
    expect(await opener.open(opening, flipped)).toEqual({ failure: 'its seal does not open' });
    const tooShort = { ...opening, plain: { exactBytes: 99_999 } };
    expect(await opener.open(tooShort, Uint8Array.from(sealed))).toEqual({ failure: 'it does not decompress' });
    expect(await opener.open(opening, sealed)).toHaveProperty('plain');
    await opener.close();
  });

  test('that cannot start reject what was asked, and the next request starts anew', async () => {
    const opener = threadOpener({ threads: 1, entry: new URL('./no-such-thread.ts', import.meta.url) });
    const { opening, sealed } = blob(randomBytes(100_000), 0);
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(opener.open(opening, Uint8Array.from(sealed))).rejects.toMatchObject({
        code: 'repository.sealing-failed',
      });
    }
    await opener.close();
  });
});
