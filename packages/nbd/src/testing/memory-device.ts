import { assertWithin, type BlockDevice, type Extent } from '@lifeboat/foundation/block-device';

/** A disk in memory that counts what is read, and can be made to wait or fail. */
export class MemoryDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly content: Uint8Array;
  reads = 0;
  bytesRead = 0;
  /** Reads under way, now and at most. */
  active = 0;
  peakActive = 0;
  /** Called before each read; may wait or throw. */
  beforeRead: (offsetBytes: number, lengthBytes: number, signal?: AbortSignal) => Promise<void> | void = () => {};
  readonly #extents: readonly Extent[];

  /** `extents` cover all of `content`; without them it is one data run. */
  constructor(content: Uint8Array, extents?: readonly Extent[]) {
    this.content = content;
    this.sizeBytes = content.length;
    this.#extents = extents ?? [{ offsetBytes: 0, lengthBytes: content.length, kind: 'data' }];
  }

  async read(offsetBytes: number, target: Uint8Array, options: { signal?: AbortSignal } = {}): Promise<void> {
    assertWithin(this.sizeBytes, { offsetBytes, lengthBytes: target.length }, 'read');
    this.reads++;
    this.bytesRead += target.length;
    this.peakActive = Math.max(this.peakActive, ++this.active);
    try {
      await this.beforeRead(offsetBytes, target.length, options.signal);
    } finally {
      this.active--;
    }
    target.set(this.content.subarray(offsetBytes, offsetBytes + target.length));
  }

  async extents(range: { offsetBytes: number; lengthBytes: number }): Promise<Extent[]> {
    assertWithin(this.sizeBytes, range, 'extents');
    const end = range.offsetBytes + range.lengthBytes;
    return this.#extents.flatMap(({ offsetBytes, lengthBytes, kind }) => {
      const from = Math.max(offsetBytes, range.offsetBytes);
      const to = Math.min(offsetBytes + lengthBytes, end);
      return from < to ? [{ offsetBytes: from, lengthBytes: to - from, kind }] : [];
    });
  }

  async close(): Promise<void> {}
}

/** Bytes that repeat nowhere within a disk of a test, the same in every run. */
export function patternBytes(lengthBytes: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  const words = new Uint32Array(bytes.buffer, 0, lengthBytes >>> 2);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return bytes;
}
