import { type Random, systemRandom } from '@lifeboat/foundation/random';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { selectAudit, type AuditSample, type ChunkRun } from './audit.ts';

/** A disk of which the parent maps some chunks; its map is asked in pages of so many. */
class MadeUpDisk {
  readonly #isMapped: (chunk: number) => boolean;
  readonly #pageChunks: number;
  readonly unchanged: readonly ChunkRun[];
  /** Parts of the map that were looked at. */
  parts = 0;

  constructor(input: { unchanged: readonly ChunkRun[]; isMapped: (chunk: number) => boolean; pageChunks?: number }) {
    this.#isMapped = input.isMapped;
    this.#pageChunks = input.pageChunks ?? 4;
    this.unchanged = input.unchanged;
  }

  select(options: { sweepFromChunk?: number; count?: number; random?: Random } = {}): Promise<AuditSample> {
    return selectAudit({
      unchanged: this.unchanged,
      mapRuns: (run) => this.#runs(run),
      sweepFromChunk: 0,
      random: systemRandom,
      ...options,
    });
  }

  async *#runs({ firstChunk, count }: ChunkRun): AsyncGenerator<ChunkRun & { isMapped: boolean }> {
    for (let chunk = firstChunk; chunk < firstChunk + count;) {
      const isMapped = this.#isMapped(chunk);
      const pageEnd = (Math.floor(chunk / this.#pageChunks) + 1) * this.#pageChunks;
      let end = chunk + 1;
      while (end < Math.min(firstChunk + count, pageEnd) && this.#isMapped(end) === isMapped) end++;
      this.parts++;
      yield { firstChunk: chunk, count: end - chunk, isMapped };
      chunk = end;
    }
  }
}

const whole = (count: number): ChunkRun[] => [{ firstChunk: 0, count }];
const isEven = (chunk: number): boolean => chunk % 2 === 0;

describe('selectAudit', () => {
  it('takes everything when there is little, nothing when there is nothing', async () => {
    const few = new MadeUpDisk({ unchanged: whole(12), isMapped: (chunk) => chunk === 3 || chunk === 9 });
    expect((await few.select()).chunkIndexes).toEqual([3, 9]);
    for (const unchanged of [[], whole(12)]) {
      const none = new MadeUpDisk({ unchanged, isMapped: () => false });
      expect(await none.select({ sweepFromChunk: 5 })).toEqual({ chunkIndexes: [], nextSweepChunk: 5 });
    }
  });

  it.each([undefined, null, -3, 1.5, 'everywhere'])(
    'begins at the beginning where it is told to at %s',
    async (place) => {
      const disk = new MadeUpDisk({ unchanged: whole(40), isMapped: () => true });
      const { chunkIndexes, nextSweepChunk } = await disk.select({ sweepFromChunk: place as number, count: 4 });
      expect(chunkIndexes.slice(0, 2)).toEqual([0, 1]);
      expect([chunkIndexes.length, nextSweepChunk]).toEqual([4, expect.any(Number)]);
    },
  );

  it('gives distinct candidates in order, as many as asked for while there are as many, and sweeps over all of them', async () => {
    const disk = fc.array(fc.tuple(fc.nat(9), fc.array(fc.boolean(), { minLength: 1, maxLength: 20 })), {
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(disk, fc.integer({ min: 1, max: 12 }), fc.nat(100), async (parts, count, sweepFromChunk) => {
        const unchanged: ChunkRun[] = [];
        const mapped = new Set<number>();
        let at = 0;
        for (const [gap, chunks] of parts) {
          at += gap;
          unchanged.push({ firstChunk: at, count: chunks.length });
          for (const [i, isMapped] of chunks.entries()) if (isMapped) mapped.add(at + i);
          at += chunks.length + 1;
        }
        const made = new MadeUpDisk({ unchanged, isMapped: (chunk) => mapped.has(chunk) });
        const seen = new Set<number>();
        let from = sweepFromChunk;
        for (let point = 0; point <= Math.ceil(mapped.size / Math.ceil(count / 2)); point++) {
          const sample = await made.select({ sweepFromChunk: from, count, random: lowNumbers() });
          expect(sample.chunkIndexes).toHaveLength(Math.min(count, mapped.size));
          expect(sample.chunkIndexes).toEqual([...new Set(sample.chunkIndexes)].toSorted((a, b) => a - b));
          expect(sample.chunkIndexes.every((chunk) => mapped.has(chunk))).toBe(true);
          for (const chunk of sample.chunkIndexes) seen.add(chunk);
          from = sample.nextSweepChunk;
        }
        expect(seen).toEqual(mapped);
      }),
    );
  });

  it('draws every candidate about as often, wherever the others lie', async () => {
    // A dense third, and a sparse rest: what walks on from a drawn place to the next candidate would prefer the sparse ones.
    const isMapped = (chunk: number): boolean => (chunk < 100 ? true : chunk % 10 === 0);
    const made = new MadeUpDisk({ unchanged: whole(300), isMapped });
    const times = new Map<number, number>();
    for (let point = 0; point < 2000; point++) {
      // The sweep is at chunks 0 to 7 every time.
      for (const chunk of (await made.select({ sweepFromChunk: 0 })).chunkIndexes)
        times.set(chunk, (times.get(chunk) ?? 0) + 1);
    }
    // 8 of 112 each time: 143 on average, with a deviation of 12.
    for (let chunk = 8; chunk < 300; chunk++) {
      const [least, most] = isMapped(chunk) ? [143 - 6 * 12, 143 + 6 * 12] : [0, 0];
      expect(times.get(chunk) ?? 0).toBeGreaterThanOrEqual(least);
      expect(times.get(chunk) ?? 0).toBeLessThanOrEqual(most);
    }
  });

  it('looks at no more of the map of a large disk than of a small one', async () => {
    const parts = async (chunks: number, isMapped: (chunk: number) => boolean): Promise<number> => {
      const made = new MadeUpDisk({ unchanged: whole(chunks), isMapped, pageChunks: 64 });
      const { chunkIndexes } = await made.select({ sweepFromChunk: Math.floor(chunks / 3) });
      expect(chunkIndexes.length).toBeLessThanOrEqual(16);
      return made.parts;
    };
    for (const chunks of [1000, 100_000_000]) {
      expect(await parts(chunks, () => true)).toBeLessThan(40);
      expect(await parts(chunks, isEven)).toBeLessThan(100);
    }
    // Nothing to be found: it gives up.
    expect(await parts(100_000_000, () => false)).toBeLessThan(1000);
  });

  it('goes on where it gave up, until it comes to what there is', async () => {
    const made = new MadeUpDisk({ unchanged: whole(100_000), isMapped: (chunk) => chunk === 77_777 });
    let sweepFromChunk = 0;
    let points = 0;
    for (let found = false; !found; points++) {
      const sample = await made.select({ sweepFromChunk, random: lowNumbers() });
      found = sample.chunkIndexes.includes(77_777);
      sweepFromChunk = sample.nextSweepChunk;
    }
    expect(points).toBeLessThan(100);
  });
});

/** Randomness that never helps the sweep: it names the first 24 chunks over and over. */
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
