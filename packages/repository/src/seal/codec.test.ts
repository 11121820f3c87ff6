import { randomBytes } from 'node:crypto';
import { constants, createZstdCompress } from 'node:zlib';

import { describe, expect, test } from 'vitest';

import { MiB } from '@lifeboat/foundation/units';

import { zstd } from './codec.ts';

const codec = zstd(1);
const text = (bytes: number): Buffer => Buffer.alloc(bytes, 'what compresses well, ');

describe('zstd', () => {
  test.each([1, 17, 255, 256, 257, 65_791, 65_792, 300_000, MiB, 5 * MiB])('gives %i bytes back', (bytes) => {
    for (const plain of [text(bytes), randomBytes(bytes)]) {
      const opened = codec.decompress(codec.compress(plain), bytes);
      expect(opened && Buffer.compare(opened, plain)).toBe(0);
    }
  });

  test('takes no more memory for a small frame than it needs, however large it might be', () => {
    const opened = codec.decompress(codec.compress(text(300)), 16 * MiB);
    expect(opened?.length).toBe(300);
    expect(opened?.buffer.byteLength).toBeLessThanOrEqual(Buffer.poolSize);
  });

  test('gives back a frame that does not say how long it is', async () => {
    const stream = createZstdCompress({ params: { [constants.ZSTD_c_contentSizeFlag]: 0 } });
    stream.end(text(100_000));
    const frame = Buffer.concat(await stream.toArray());
    expect(Buffer.from(codec.decompress(frame, MiB) ?? []).equals(text(100_000))).toBe(true);
  });

  test('opens no frame to more than it may, whatever its header says', () => {
    expect(codec.decompress(codec.compress(text(1000)), 999)).toBeUndefined();
    const frame = Buffer.from(codec.compress(text(MiB)));
    // A header of the same length that promises 300 bytes, and one that promises 4 GiB.
    for (const promised of [300, 0xffff_ffff]) {
      const lying = Buffer.from(frame);
      expect((lying[4] ?? 0) >> 6).toBe(2);
      lying.writeUInt32LE(promised, (lying[4] ?? 0) & 0x20 ? 5 : 6);
      expect(codec.decompress(lying, 2 * MiB)).toBeUndefined();
    }
  });

  test.each([0, 3, 4, 5, 9, 17, 18, 30])('refuses a frame cut off after %i bytes', (bytes) => {
    const frame = codec.compress(randomBytes(1000));
    expect(codec.decompress(frame.subarray(0, bytes), 2000)).toBeUndefined();
  });
});
