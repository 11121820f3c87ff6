import { MiB } from '@lifeboat/foundation/units';

/**
 * What bounds a writer's memory. With N lanes: N x 2 stripes, (N + 1) pack buffers, one page buffer; for two lanes
 * 2 x 2 x 4 + 3 x 36 + 4 = 128 MiB beside the process itself. Tests make them tiny.
 */
export interface WriterLimits {
  /** Chunks a lane reads and hashes at once. */
  readonly stripeChunks: number;
  /** Size of a pack buffer: packs are sealed when another stripe might not fit. */
  readonly packBytes: number;
  /** Pack buffers beyond one per lane: packs that are being uploaded while their lanes go on. */
  readonly spareBuffers: number;
  /** Leaves that wait for packs still being filled; beyond it lanes seal what they have. */
  readonly waitingLeaves: number;
  /** Chunks stored before they become an index segment: what a session remembers of them in memory. Default and most: 65,536. */
  readonly segmentEntries?: number;
  /** Packs whose number of references changes, in memory; more are sorted on disk. Default: 65,536. */
  readonly packChanges?: number;
  /** Size of a pack of pages. */
  readonly pagePackBytes: number;
}

const STRIPE_BYTES = 4 * MiB;

export function defaultWriterLimits(chunkSizeBytes: number): WriterLimits {
  return {
    stripeChunks: Math.min(64, Math.max(1, Math.floor(STRIPE_BYTES / chunkSizeBytes))),
    // Sealed when another stripe of 4 MiB might not fit: packs have 32 MiB at least, but for a session's last ones.
    packBytes: 36 * MiB,
    spareBuffers: 1,
    waitingLeaves: 512,
    pagePackBytes: 4 * MiB,
  };
}
