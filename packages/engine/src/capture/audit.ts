/**
 * Which unchanged chunks an incremental reads anyway, to catch change tracking that lies.
 *
 * Half of the sample is random, so that no pattern of loss escapes for ever; half is a sweep that goes on where the last
 * point's sweep ended, so that every chunk is audited after (chunks / half) points, whatever chance does.
 */
import type { Random } from '@lifeboat/foundation/random';

/** Chunks an incremental audits per disk: 16 MiB of reads at the default chunk size, whatever the disk's size. */
const AUDIT_CHUNKS = 16;

export interface AuditSample {
  /** Ascending, distinct. */
  readonly chunkIndexes: readonly number[];
  /** Where the next point's sweep begins. */
  readonly nextSweepChunk: number;
}

/** `candidates`: chunk indexes that are mapped in the parent, unchanged by the bitmap and allocated now; ascending. */
export function selectAudit(
  candidates: readonly number[],
  options: { sweepFromChunk: number; count?: number; random: Random },
): AuditSample {
  const count = Math.min(options.count ?? AUDIT_CHUNKS, candidates.length);
  if (count === 0) return { chunkIndexes: [], nextSweepChunk: options.sweepFromChunk };
  const chosen = new Set<number>();
  const start = candidates.findIndex((index) => index >= options.sweepFromChunk);
  const sweepCount = Math.ceil(count / 2);
  let last = 0;
  for (let i = 0; i < sweepCount; i++) {
    last = candidates[(Math.max(start, 0) + i) % candidates.length] ?? 0;
    chosen.add(last);
  }
  while (chosen.size < count) {
    const index = candidates[randomBelow(candidates.length, options.random)];
    if (index !== undefined) chosen.add(index);
  }
  return { chunkIndexes: [...chosen].sort((a, b) => a - b), nextSweepChunk: last + 1 };
}

function randomBelow(limit: number, random: Random): number {
  const bytes = random.bytes(6);
  return Buffer.from(bytes.buffer, bytes.byteOffset, 6).readUIntBE(0, 6) % limit;
}
