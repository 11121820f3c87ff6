/** A leaf of the map that has to be built anew, and what is known of each of its chunks so far. */
import type { Place } from '../format/blob-ref.ts';
import type { ChunkId } from '../format/names.ts';
import type { PlanRun } from './write-plan.ts';

/** A chunk whose content is known, but not yet where it lies: its pack is still being filled. */
export interface AwaitedChunk {
  readonly awaits: ChunkId;
}

/** `parent`: taken over; undefined: still to be read. */
export type LeafSlot = Place | AwaitedChunk | 'parent' | undefined;

export interface LeafTask {
  readonly index: number;
  readonly slots: LeafSlot[];
  /** Chunks to read, by their number on the disk. */
  readonly reads: readonly number[];
  /** Of those, how many are not answered yet. */
  unanswered: number;
}

/**
 * The leaves that runs touch, in order. `everyLeaf`: also those no run touches (their chunks are all taken over). A leaf that
 * would be a hole on top of nothing is left out.
 */
export function* leafTasks(
  runs: readonly PlanRun[],
  disk: { chunkCount: number; leafEntries: number; hasParent: boolean; everyLeaf: boolean },
): Generator<LeafTask> {
  const { chunkCount, leafEntries } = disk;
  const leafCount = Math.ceil(chunkCount / leafEntries);
  let r = 0;
  for (
    let index = disk.everyLeaf ? 0 : nextLeaf(0);
    index < leafCount;
    index = disk.everyLeaf ? index + 1 : nextLeaf(index + 1)
  ) {
    const start = index * leafEntries;
    const end = Math.min(start + leafEntries, chunkCount);
    const slots: LeafSlot[] = Array.from({ length: leafEntries }, (_, i) =>
      start + i < end && disk.hasParent ? ('parent' as const) : ('hole' as const),
    );
    const reads: number[] = [];
    for (let i = r; i < runs.length; i++) {
      const run = runs[i];
      if (!run || run.firstChunk >= end) break;
      for (let chunk = Math.max(run.firstChunk, start); chunk < Math.min(run.firstChunk + run.count, end); chunk++) {
        slots[chunk - start] = run.kind === 'read' ? undefined : run.kind;
        if (run.kind === 'read') reads.push(chunk);
      }
    }
    yield { index, slots, reads, unanswered: reads.length };
  }

  /** The first leaf from `from` on that a run touches; skips, on a disk without a parent, what is hole anyway. */
  function nextLeaf(from: number): number {
    const first = from * leafEntries;
    while (r < runs.length) {
      const run = runs[r];
      if (run && run.firstChunk + run.count > first && !(run.kind === 'hole' && !disk.hasParent)) {
        return Math.max(from, Math.floor(run.firstChunk / leafEntries));
      }
      r++;
    }
    return leafCount;
  }
}
