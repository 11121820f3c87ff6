import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { Extent } from '@lifeboat/foundation/block-device';

import { leafTasks } from './leaf-plan.ts';
import { planRuns } from './write-plan.ts';

const chunkSizeBytes = 8;
const kinds = ['data', 'zero', 'hole'] as const;

/** A disk described byte by byte: what changed, what is allocated. */
const disk = fc.integer({ min: 0, max: 90 }).chain((sizeBytes) =>
  fc.record({
    sizeBytes: fc.constant(sizeBytes),
    changed: fc.array(
      fc
        .nat(sizeBytes)
        .chain((offsetBytes) =>
          fc.record({ offsetBytes: fc.constant(offsetBytes), lengthBytes: fc.nat(sizeBytes - offsetBytes) }),
        ),
      { maxLength: 4 },
    ),
    // Few, longish runs: most chunks then lie in one or two of them.
    allocation: fc
      .array(fc.tuple(fc.constantFrom(...kinds), fc.integer({ min: 1, max: 30 })), { minLength: 30, maxLength: 40 })
      .map((runs) =>
        extentsOf(runs.flatMap(([kind, count]) => Array.from({ length: count }, () => kind)).slice(0, sizeBytes), runs),
      ),
  }),
);

/** Extents that cover the bytes, cut also where the generator cut them: neighbours may be of one kind. */
function extentsOf(bytes: readonly Extent['kind'][], runs: readonly (readonly [Extent['kind'], number])[]): Extent[] {
  const extents: Extent[] = [];
  let at = 0;
  for (const [kind, count] of runs) {
    const lengthBytes = Math.min(count, bytes.length - at);
    if (lengthBytes > 0) extents.push({ offsetBytes: at, lengthBytes, kind });
    at += lengthBytes;
  }
  return extents;
}

describe('the plan of a write', () => {
  test('says of every chunk what its bytes say', () => {
    fc.assert(
      fc.property(disk, fc.boolean(), ({ sizeBytes, changed, allocation }, all) => {
        const runs = planRuns({ sizeBytes, chunkSizeBytes, changed: all ? 'all' : changed, allocation });
        const planned = Array.from({ length: Math.ceil(sizeBytes / chunkSizeBytes) }, () => 'keep');
        let end = 0;
        for (const { firstChunk, count, kind } of runs) {
          expect(firstChunk).toBeGreaterThanOrEqual(end);
          end = firstChunk + count;
          planned.fill(kind, firstChunk, end);
        }
        const kindAt = (byte: number): Extent['kind'] =>
          allocation.find((e) => byte >= e.offsetBytes && byte < e.offsetBytes + e.lengthBytes)?.kind ?? 'data';
        planned.forEach((plan, chunk) => {
          const bytes = Array.from(
            { length: Math.min(chunkSizeBytes, sizeBytes - chunk * chunkSizeBytes) },
            (_, i) => chunk * chunkSizeBytes + i,
          );
          const touched =
            all || changed.some((c) => bytes.some((b) => b >= c.offsetBytes && b < c.offsetBytes + c.lengthBytes));
          const found = new Set(bytes.map(kindAt));
          let right: string[];
          if (!touched) right = ['keep'];
          else if (found.has('data')) right = ['read'];
          else if (found.has('zero')) right = ['zero'];
          // Zeros are a safe answer for a hole that came in pieces.
          else right = ['zero', 'hole'];
          expect(right).toContain(plan);
        });
      }),
      { numRuns: 1000 },
    );
  });

  test('without an allocation reads what changed', () => {
    expect(planRuns({ sizeBytes: 80, chunkSizeBytes, changed: [{ offsetBytes: 9, lengthBytes: 8 }] })).toEqual([
      { firstChunk: 1, count: 2, kind: 'read' },
    ]);
  });

  test.each([
    ['a range outside the disk', { changed: [{ offsetBytes: 72, lengthBytes: 16 }] }, /outside/],
    [
      'an allocation with a gap',
      { changed: [], allocation: [{ offsetBytes: 8, lengthBytes: 72, kind: 'data' }] },
      /gap/,
    ],
    [
      'an allocation that ends early',
      { changed: [], allocation: [{ offsetBytes: 0, lengthBytes: 72, kind: 'hole' }] },
      /72 of 80/,
    ],
  ] as const)('refuses %s', (_, input, why) => {
    expect(() => planRuns({ sizeBytes: 80, chunkSizeBytes, ...input })).toThrowError(why);
  });
});

describe('leaves', () => {
  test('hold every planned chunk once, in order, and every other chunk of their range as it was', () => {
    fc.assert(
      fc.property(disk, fc.boolean(), fc.boolean(), ({ sizeBytes, changed, allocation }, hasParent, all) => {
        const everyLeaf = hasParent && all;
        const runs = planRuns({ sizeBytes, chunkSizeBytes, changed: hasParent ? changed : 'all', allocation });
        const chunkCount = Math.ceil(sizeBytes / chunkSizeBytes);
        const tasks = [...leafTasks(runs, { chunkCount, leafEntries: 4, hasParent, everyLeaf })];
        expect(tasks.map(({ index }) => index)).toEqual(tasks.map(({ index }) => index).toSorted((a, b) => a - b));
        const slots = Array.from({ length: chunkCount }, (): unknown => (hasParent ? 'parent' : 'hole'));
        const reads = tasks.flatMap((task) => {
          task.slots.forEach((slot, i) => {
            slots[task.index * 4 + i] = slot;
          });
          return task.reads;
        });
        const expected = Array.from({ length: chunkCount }, (): unknown => (hasParent ? 'parent' : 'hole'));
        for (const run of runs)
          expected.fill(run.kind === 'read' ? undefined : run.kind, run.firstChunk, run.firstChunk + run.count);
        // A leaf is whole; behind the end of the disk it holds nothing.
        expect(slots.slice(0, chunkCount)).toEqual(expected);
        expect(new Set(slots.slice(chunkCount))).toEqual(new Set(slots.length > chunkCount ? ['hole'] : []));
        expect(reads).toEqual(expected.flatMap((slot, chunk) => (slot === undefined ? [chunk] : [])));
        expect(!everyLeaf || tasks.length === Math.ceil(chunkCount / 4)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });
});
