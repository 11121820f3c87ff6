import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { unchangedAllocated } from './capture-disk.ts';

const CHUNK = 8;
const CHUNKS = 12;

interface Bytes {
  readonly kind: ('data' | 'hole')[];
  readonly dirty: boolean[];
}

/** Runs of equal values, as an export reports them; a run may be cut in two anywhere, as exports do. */
function runs<T>(
  values: readonly T[],
  cuts: ReadonlySet<number>,
): { offsetBytes: number; lengthBytes: number; value: T }[] {
  const found: { offsetBytes: number; lengthBytes: number; value: T }[] = [];
  for (const [offsetBytes, value] of values.entries()) {
    const last = found.at(-1);
    if (last && last.value === value && !cuts.has(offsetBytes)) last.lengthBytes++;
    else found.push({ offsetBytes, lengthBytes: 1, value });
  }
  return found;
}

const disk: fc.Arbitrary<Bytes> = fc.record({
  kind: fc
    .array(
      fc.tuple(fc.constantFrom('data' as const, 'data' as const, 'hole' as const), fc.integer({ min: 1, max: 30 })),
      { minLength: 1 },
    )
    .map((parts) => fill(parts, 'data' as const)),
  dirty: fc
    .array(fc.tuple(fc.constantFrom(false, false, true), fc.integer({ min: 1, max: 20 })), { minLength: 1 })
    .map((parts) => fill(parts, false)),
});

function fill<T>(parts: readonly (readonly [T, number])[], rest: T): T[] {
  const values = parts.flatMap(([value, count]) => Array.from({ length: count }, () => value));
  return Array.from({ length: CHUNK * CHUNKS }, (_, i) => values[i] ?? rest);
}

describe('unchangedAllocated', () => {
  it('names just the mapped chunks that are all data and nowhere dirty', () => {
    fc.assert(
      fc.property(
        disk,
        fc.uniqueArray(fc.nat(CHUNKS - 1)),
        fc.uniqueArray(fc.nat(CHUNK * CHUNKS)),
        (bytes, mapped, cuts) => {
          const cut = new Set(cuts);
          const chunks = mapped.sort((a, b) => a - b);
          const expected = chunks.filter((chunk) => {
            const from = chunk * CHUNK;
            return (
              bytes.kind.slice(from, from + CHUNK).every((kind) => kind === 'data') &&
              !bytes.dirty.slice(from, from + CHUNK).includes(true)
            );
          });
          const allocation = runs(bytes.kind, cut).map(({ value, ...range }) => ({ ...range, kind: value }));
          const dirty = runs(bytes.dirty, cut).filter(({ value }) => value);
          expect(unchangedAllocated(chunks, { allocation, dirty, chunkSizeBytes: CHUNK })).toEqual(expected);
        },
      ),
    );
  });
});
