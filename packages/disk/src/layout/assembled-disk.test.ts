import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { deviceOf } from '../testing/disks.ts';
import { assembledDisk, type DiskPart } from './assembled-disk.ts';

const SIZE = 200;
const below = deviceOf(Buffer.from(Array.from({ length: 300 }, (_, i) => (i * 7 + 1) & 255)));

it('reads as if its parts had been written one after the other, at every place and length', async () => {
  const run = fc
    .tuple(fc.nat(SIZE - 1), fc.nat(40))
    .map(([at, length]) => ({ offsetBytes: at, lengthBytes: Math.min(length, SIZE - at) }));
  const part = fc.oneof(
    run.map(({ offsetBytes, lengthBytes }): DiskPart => ({ offsetBytes, bytes: Buffer.alloc(lengthBytes, 0xee) })),
    fc.tuple(run, fc.nat(80)).map(([place, at]): DiskPart => ({ ...place, device: below, at })),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(part, { maxLength: 8 }), run, async (parts, { offsetBytes, lengthBytes }) => {
      const flat = Buffer.alloc(SIZE);
      for (const one of parts) {
        if ('bytes' in one) flat.set(one.bytes, one.offsetBytes);
        else await below.read(one.at, flat.subarray(one.offsetBytes, one.offsetBytes + one.lengthBytes));
      }
      const disk = assembledDisk(SIZE, parts);
      const got = Buffer.alloc(lengthBytes, 0x55);
      await disk.read(offsetBytes, got);
      expect(got.equals(flat.subarray(offsetBytes, offsetBytes + lengthBytes))).toBe(true);
      let at = offsetBytes;
      for (const extent of await disk.extents({ offsetBytes, lengthBytes })) {
        expect(extent.offsetBytes).toBe(at);
        at += extent.lengthBytes;
        const isEmpty = flat.subarray(extent.offsetBytes, at).every((byte) => byte === 0);
        expect(extent.kind === 'data' || isEmpty).toBe(true);
      }
      expect(at).toBe(offsetBytes + lengthBytes);
    }),
  );
});

it('refuses a part that does not lie on it', () => {
  expect(() => assembledDisk(10, [{ offsetBytes: 8, bytes: Buffer.alloc(3) }])).toThrow(
    'do not lie on a disk of 10 bytes',
  );
});
