import { createHash } from 'node:crypto';

import * as fc from 'fast-check';
import { expect, test } from 'vitest';

import { chunkIdOf, packNameOf } from '../format/names.ts';
import { ChunkIndex } from './chunk-index.ts';

const digest = (n: number): Buffer => createHash('sha256').update(String(n)).digest();

test('answers like a map, through growth and collisions, and keeps the first place of an id', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(3000), fc.nat(5)), { maxLength: 4000 }), (adds) => {
      const index = new ChunkIndex();
      const model = new Map<number, number>();
      for (const [n, pack] of adds) {
        index.add({
          id: chunkIdOf(digest(n)),
          pack: packNameOf(digest(pack)),
          slot: n % 7,
          offsetBytes: n * 3,
          lengthBytes: n + 17,
        });
        if (!model.has(n)) model.set(n, pack);
      }
      expect(index.size).toBe(model.size);
      for (let n = 0; n <= 3000; n += 13) {
        const pack = model.get(n);
        const found = index.get(chunkIdOf(digest(n)));
        const id = chunkIdOf(digest(n));
        const expected = { id, slot: n % 7, offsetBytes: n * 3, lengthBytes: n + 17 };
        expect(found).toEqual(pack === undefined ? undefined : { ...expected, pack: packNameOf(digest(pack)) });
      }
    }),
    { numRuns: 20 },
  );
});
