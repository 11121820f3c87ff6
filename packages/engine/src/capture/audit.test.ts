import { type Random, systemRandom } from '@lifeboat/foundation/random';
import { describe, expect, it } from 'vitest';
import { selectAudit } from './audit.ts';

const even = (count: number): number[] => Array.from({ length: count }, (_, i) => i * 2);

describe('selectAudit', () => {
  it('takes everything when there is little, nothing when there is nothing', () => {
    expect(selectAudit([3, 9], { sweepFromChunk: 0, random: systemRandom }).chunkIndexes).toEqual([3, 9]);
    expect(selectAudit([], { sweepFromChunk: 5, random: systemRandom })).toEqual({
      chunkIndexes: [],
      nextSweepChunk: 5,
    });
  });

  it('gives distinct candidates, exactly as many as asked for', () => {
    const candidates = even(1000);
    const { chunkIndexes } = selectAudit(candidates, { sweepFromChunk: 0, count: 16, random: systemRandom });
    expect(new Set(chunkIndexes).size).toBe(16);
    expect(chunkIndexes.every((index) => candidates.includes(index))).toBe(true);
  });

  it('sweeps over every chunk in a bounded number of points', () => {
    const candidates = even(100);
    const seen = new Set<number>();
    let sweepFromChunk = 0;
    for (let point = 0; point < 100 / 8 + 1; point++) {
      const sample = selectAudit(candidates, { sweepFromChunk, count: 16, random: lowNumbers() });
      for (const index of sample.chunkIndexes) seen.add(index);
      sweepFromChunk = sample.nextSweepChunk;
    }
    expect(seen.size).toBe(100);
  });
});

/** Randomness that never helps the sweep: it names the first 24 candidates over and over. */
function lowNumbers(): Random {
  let call = 0;
  return {
    bytes(count) {
      const bytes = new Uint8Array(count);
      bytes[count - 1] = call++ % 24;
      return bytes;
    },
  };
}
