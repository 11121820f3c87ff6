/**
 * Which unchanged chunks an incremental reads anyway, to catch change tracking that lies.
 *
 * Half of the sample is random, so that no pattern of loss escapes for ever; half is a sweep that goes on where the last
 * point's sweep ended, so that every chunk is audited after (chunks / half) points, whatever chance does.
 *
 * Candidates are the unchanged chunks that the parent maps to data. Its map is asked only about positions that were chosen, so the cost
 * is the same for a disk of any size:
 * 1. sweep: from where the last one ended, along the map, over empty parts at a stride, for so many steps at most;
 * 2. random: a position among all unchanged chunks; one the parent does not map is drawn again. So every candidate is as likely as
 *    any other;
 * 3. after so many draws (few of the allocated chunks hold data) the sweep goes on instead.
 */
import type { Random } from '@lifeboat/foundation/random';

/** Chunks an incremental audits per disk: 16 MiB of reads at the default chunk size, whatever the disk's size. */
const AUDIT_CHUNKS = 16;
/** Positions drawn at most: with an eighth of the allocated chunks mapped they are enough nearly always. */
const MAX_DRAWS = 64;
/** Parts of the map a sweep goes over at most. A point in which it comes no further is followed by one that goes on there. */
const MAX_STEPS = 256;

export interface ChunkRun {
  readonly firstChunk: number;
  readonly count: number;
}

export interface AuditSample {
  /** Ascending, distinct. */
  readonly chunkIndexes: readonly number[];
  /** Where the next point's sweep begins. */
  readonly nextSweepChunk: number;
}

export interface AuditInput {
  /** Chunks that are unchanged by the bitmap and allocated now: ascending, apart. */
  readonly unchanged: readonly ChunkRun[];
  /** What the parent's map says of these chunks, part by part, in order. Not read further than asked. */
  readonly mapRuns: (run: ChunkRun) => AsyncIterable<ChunkRun & { readonly isMapped: boolean }>;
  readonly sweepFromChunk: number;
  readonly count?: number;
  readonly random: Random;
}

export async function selectAudit(asked: AuditInput): Promise<AuditSample> {
  const { unchanged, random, count = AUDIT_CHUNKS } = asked;
  // From the record of a point, which an agent may have written: what is no place would end every audit from then on.
  const isPlace = Number.isSafeInteger(asked.sweepFromChunk) && asked.sweepFromChunk >= 0;
  const input = isPlace ? asked : { ...asked, sweepFromChunk: 0 };
  const chosen = new Set<number>();
  const sweep = new Sweep(input);
  const sweepUntil = async (size: number): Promise<void> => {
    while (chosen.size < size) {
      const chunk = await sweep.next();
      if (chunk === undefined) return;
      chosen.add(chunk);
    }
  };
  await sweepUntil(Math.ceil(count / 2));
  const total = unchanged.reduce((sum, run) => sum + run.count, 0);
  for (let draws = 0; chosen.size < count && !sweep.isOver && draws < MAX_DRAWS; draws++) {
    const chunk = chunkAt(unchanged, randomBelow(total, random));
    for await (const { isMapped } of input.mapRuns({ firstChunk: chunk, count: 1 })) if (isMapped) chosen.add(chunk);
  }
  await sweepUntil(count);
  const chunkIndexes = [...chosen].toSorted((a, b) => a - b);
  return { chunkIndexes, nextSweepChunk: chosen.size === 0 && sweep.isOver ? input.sweepFromChunk : sweep.position };
}

/** Candidates in order, once round the disk. */
class Sweep {
  /** Of the next candidate, or before it. */
  position: number;
  /** Every candidate was named. */
  isOver = false;
  readonly #parts: AsyncIterator<ChunkRun & { readonly isMapped: boolean }>;
  #left = 0;
  #steps = 0;

  constructor(input: AuditInput) {
    this.position = input.sweepFromChunk;
    this.#parts = partsFrom(input);
  }

  /** Undefined: there are no more, or finding one takes too many steps. */
  async next(): Promise<number | undefined> {
    while (this.#left === 0) {
      if (this.isOver || this.#steps >= MAX_STEPS) return undefined;
      this.#steps++;
      const { value, done } = await this.#parts.next();
      if (done) {
        this.isOver = true;
        return undefined;
      }
      this.position = value.isMapped ? value.firstChunk : value.firstChunk + value.count;
      this.#left = value.isMapped ? value.count : 0;
    }
    this.#left--;
    return this.position++;
  }
}

async function* partsFrom({
  unchanged,
  mapRuns,
  sweepFromChunk,
}: AuditInput): AsyncGenerator<ChunkRun & { readonly isMapped: boolean }> {
  const ahead: ChunkRun[] = [];
  const behind: ChunkRun[] = [];
  for (const { firstChunk, count } of unchanged) {
    const before = Math.min(count, Math.max(0, sweepFromChunk - firstChunk));
    if (before > 0) behind.push({ firstChunk, count: before });
    if (before < count) ahead.push({ firstChunk: firstChunk + before, count: count - before });
  }
  for (const run of [...ahead, ...behind]) yield* mapRuns(run);
}

/** The chunk at this place among all of the runs. */
function chunkAt(runs: readonly ChunkRun[], place: number): number {
  let left = place;
  for (const { firstChunk, count } of runs) {
    if (left < count) return firstChunk + left;
    left -= count;
  }
  throw new RangeError(`place ${place} of fewer chunks`);
}

function randomBelow(limit: number, random: Random): number {
  const bytes = random.bytes(6);
  return Buffer.from(bytes.buffer, bytes.byteOffset, 6).readUIntBE(0, 6) % limit;
}
