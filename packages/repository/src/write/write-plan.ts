/**
 * Which chunks of a disk are read, which are known to hold nothing, and which are taken over from the parent; as runs, so that a
 * disk of 100 TiB costs no more than its changes.
 */
import { assertWithin, type Extent } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { ByteRange } from '../store/object-store.ts';

export interface PlanRun {
  readonly firstChunk: number;
  readonly count: number;
  readonly kind: 'read' | 'zero' | 'hole';
}

/**
 * Runs in order, without overlap; chunks in no run are taken over. `changed` may be unsorted and may overlap; a chunk it
 * touches at all is in a run. `allocation`, where given, must cover the disk in order: chunks wholly in holes, or in holes and
 * zeros, are not read.
 * Throws `input.invalid` for ranges outside the disk, or an allocation that does not cover it.
 */
export function planRuns(input: {
  sizeBytes: number;
  chunkSizeBytes: number;
  changed: 'all' | readonly ByteRange[];
  allocation?: readonly Extent[] | undefined;
}): PlanRun[] {
  const { sizeBytes, chunkSizeBytes, changed, allocation } = input;
  const chunkCount = Math.ceil(sizeBytes / chunkSizeBytes);
  const touched =
    changed === 'all' ? [{ start: 0, end: chunkCount }] : touchedChunks(changed, { sizeBytes, chunkSizeBytes });
  const empty = allocation ? emptyRuns(allocation, { sizeBytes, chunkSizeBytes }) : [];
  const runs: PlanRun[] = [];
  const append = (start: number, end: number, kind: PlanRun['kind']): void => {
    if (end > start) runs.push({ firstChunk: start, count: end - start, kind });
  };
  let e = 0;
  for (const { start, end } of touched) {
    let at = start;
    while (at < end) {
      while (e < empty.length && (empty[e]?.end ?? 0) <= at) e++;
      const next = empty[e];
      if (!next || next.start >= end) {
        append(at, end, 'read');
        at = end;
      } else {
        append(at, Math.max(at, next.start), 'read');
        const emptyEnd = Math.min(end, next.end);
        append(Math.max(at, next.start), emptyEnd, next.kind);
        at = emptyEnd;
      }
    }
  }
  return runs;
}

interface Run {
  readonly start: number;
  readonly end: number;
}

/** Chunks any of the ranges touches, sorted and joined. */
function touchedChunks(ranges: readonly ByteRange[], disk: { sizeBytes: number; chunkSizeBytes: number }): Run[] {
  const runs = ranges
    .filter((range) => {
      checkInput(() => assertWithin(disk.sizeBytes, range, 'changed range'));
      return range.lengthBytes > 0;
    })
    .map(({ offsetBytes, lengthBytes }) => ({
      start: Math.floor(offsetBytes / disk.chunkSizeBytes),
      end: Math.ceil((offsetBytes + lengthBytes) / disk.chunkSizeBytes),
    }))
    .toSorted((a, b) => a.start - b.start);
  const joined: { start: number; end: number }[] = [];
  for (const run of runs) {
    const last = joined.at(-1);
    if (last && run.start <= last.end) last.end = Math.max(last.end, run.end);
    else joined.push({ ...run });
  }
  return joined;
}

/** Chunks that lie wholly in holes and zeros. A hole only where all of it is one. */
function emptyRuns(
  allocation: readonly Extent[],
  disk: { sizeBytes: number; chunkSizeBytes: number },
): (Run & { kind: 'zero' | 'hole' })[] {
  const { sizeBytes, chunkSizeBytes } = disk;
  const runs: (Run & { kind: 'zero' | 'hole' })[] = [];
  const append = (start: number, end: number, kind: 'zero' | 'hole'): void => {
    if (end <= start) return;
    const last = runs.at(-1);
    if (last && last.kind === kind && last.end === start) runs[runs.length - 1] = { ...last, end };
    else runs.push({ start, end, kind });
  };
  const chunkEnd = (offset: number): number =>
    offset === sizeBytes ? Math.ceil(offset / chunkSizeBytes) : Math.floor(offset / chunkSizeBytes);
  let at = 0;
  // The empty bytes that lead up to `at`: where they begin, and from where on all of them are hole.
  let emptyFrom = 0;
  for (const { offsetBytes, lengthBytes, kind } of allocation) {
    if (offsetBytes !== at || lengthBytes < 0) {
      throw new LifeboatError('input.invalid', `the allocation has a gap or overlap: ${offsetBytes} follows ${at}`);
    }
    const end = at + lengthBytes;
    if (kind === 'data') emptyFrom = end;
    else {
      // A chunk that began in an earlier run of the other kind and ends in this one is zero as a whole.
      const whole = Math.ceil(at / chunkSizeBytes);
      const mixedFrom = Math.ceil(emptyFrom / chunkSizeBytes);
      if (whole > mixedFrom && whole <= chunkEnd(end) && at % chunkSizeBytes !== 0) append(whole - 1, whole, 'zero');
      append(whole, chunkEnd(end), kind);
    }
    at = end;
  }
  if (at !== sizeBytes) throw new LifeboatError('input.invalid', `the allocation covers ${at} of ${sizeBytes} bytes`);
  return runs;
}

function checkInput(check: () => void): void {
  try {
    check();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new LifeboatError('input.invalid', error.message, { cause: error });
  }
}
