/**
 * A run of bytes of a disk.
 * - `data`: must be read.
 * - `zero`: allocated, reads as zeros.
 * - `hole`: not allocated; reads as zeros, and nobody relies on it (freed blocks change without a write).
 */
export interface Extent {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly kind: 'data' | 'zero' | 'hole';
}

/** A disk that can be read at any position. Safe for concurrent reads. */
export interface BlockDevice {
  readonly sizeBytes: number;
  /** Bytes its reads fetched from below so far, with what alignment added. Where a device counts them. */
  readonly bytesRead?: number;
  /**
   * Fills `target` from `offsetBytes`; never short. Positions need no alignment.
   * Errors: `device.read-failed`, or the room's own code where it says more (`repository.chunk-damaged`).
   */
  read(offsetBytes: number, target: Uint8Array, options?: { signal?: AbortSignal }): Promise<void>;
  /**
   * As `read`, but in memory of its own that belongs to the caller. Where a device has that: it saves a copy for who reads much and
   * reads it once.
   */
  take?(offsetBytes: number, lengthBytes: number, options?: { signal?: AbortSignal }): Promise<Uint8Array>;
  /** Runs that cover [offset, offset + length) in order, without gaps or overlap. A device that knows nothing says one `data` run. */
  extents(range: { offsetBytes: number; lengthBytes: number }, options?: { signal?: AbortSignal }): Promise<Extent[]>;
  close(): Promise<void>;
}

/** A restore target. Writes may be in any order and do not overlap while in flight. */
export interface WritableBlockDevice extends BlockDevice {
  write(offsetBytes: number, bytes: Uint8Array, options?: { signal?: AbortSignal }): Promise<void>;
  /** Makes the run read as zeros, sparse where the target can. */
  writeZeros(offsetBytes: number, lengthBytes: number, options?: { signal?: AbortSignal }): Promise<void>;
  /** All earlier writes are durable when this resolves. */
  flush(): Promise<void>;
}

/** Rejects a run outside the device before anything is read or written. */
export function assertWithin(sizeBytes: number, run: { offsetBytes: number; lengthBytes: number }, what: string): void {
  const { offsetBytes, lengthBytes } = run;
  if (
    !Number.isSafeInteger(offsetBytes) ||
    !Number.isSafeInteger(lengthBytes) ||
    offsetBytes < 0 ||
    lengthBytes < 0 ||
    offsetBytes + lengthBytes > sizeBytes
  ) {
    throw new RangeError(`${what}: ${lengthBytes} bytes at ${offsetBytes} lie outside a device of ${sizeBytes} bytes`);
  }
}
