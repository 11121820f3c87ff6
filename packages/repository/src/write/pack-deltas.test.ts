import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';

import * as fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';

import { systemRandom } from '@lifeboat/foundation/random';

import { packNameOf, type PackName } from '../format/names.ts';
import { Scratch } from '../testing/tiny.ts';
import { PackDeltas, type PackChange } from './pack-deltas.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());

const name = (n: number): PackName => packNameOf(createHash('sha256').update(String(n)).digest());

async function all(deltas: PackDeltas): Promise<PackChange[]> {
  const changes: PackChange[] = [];
  for await (const change of deltas.sorted()) changes.push(change);
  return changes;
}

describe('changes of references', () => {
  test('are added up by pack and sorted, whatever fits in memory', async () => {
    const directory = scratch.directory();
    const added = fc.array(fc.tuple(fc.nat(40), fc.integer({ min: -3, max: 3 })), { maxLength: 400 });
    await fc.assert(
      fc.asyncProperty(added, fc.integer({ min: 1, max: 12 }), async (changes, maxPacks) => {
        const deltas = new PackDeltas({ directory, maxPacks, random: systemRandom });
        const expected = new Map<PackName, number>();
        for (const [n, count] of changes) {
          deltas.addPack(name(n), count);
          expected.set(name(n), (expected.get(name(n)) ?? 0) + count);
          if (deltas.isFull) await deltas.spill();
        }
        const sorted = [...expected].filter(([, count]) => count !== 0).toSorted(([a], [b]) => (a < b ? -1 : 1));
        expect(await all(deltas)).toEqual(sorted.map(([pack, references]) => ({ pack, references })));
        await deltas.close();
      }),
      { numRuns: 40 },
    );
    expect(readdirSync(directory)).toEqual([]);
  });

  test('leave memory for the disk, in few runs, and the disk when they are done', async () => {
    const directory = scratch.directory();
    const deltas = new PackDeltas({ directory, maxPacks: 4, random: systemRandom });
    for (let n = 0; n < 400; n++) {
      deltas.addPack(name(n), n + 1);
      if (deltas.isFull) await deltas.spill();
    }
    expect(deltas.spills).toBe(100);
    expect(deltas.runs).toBeLessThanOrEqual(17);
    expect(readdirSync(directory)).toEqual([]);
    const found = await all(deltas);
    expect(found).toHaveLength(400);
    expect(found.every(({ pack, references }) => pack === name(references - 1))).toBe(true);
    await deltas.close();
    expect(deltas.isEmpty).toBe(true);
  });
});
