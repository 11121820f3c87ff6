/**
 * A disk of a recovery point as a block device: the one read path of restore, boot test, export and browsing.
 *
 * ```
 *   read(offset, target) ─► chunks ─► map page ─► blob of a pack ─► copy into target
 *                             │ (cache of pages)   (cache of plain chunks, loads shared)
 * ```
 * Every chunk is compared with its id before a byte of it is handed out.
 */
import { assertWithin, type BlockDevice, type Extent } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';

import type { BlobRef } from '../format/blob-ref.ts';
import { BlobDamage, type BlobReader } from './blob-reader.ts';
import { LruCache, SharedLoads } from './lru.ts';
import type { MapReader } from './map-reader.ts';

/** Plain chunks kept per disk: enough for the working set of a booting guest to be read once. */
const DEFAULT_CACHE_BYTES = 64 * MiB;

export class DiskReader implements BlockDevice {
  readonly sizeBytes: number;
  readonly #map: MapReader;
  readonly #blobs: BlobReader;
  readonly #what: { readonly point: string; readonly disk: string };
  readonly #chunks: LruCache<string, Uint8Array>;
  readonly #loads = new SharedLoads<string, Uint8Array>();

  constructor(input: {
    map: MapReader;
    blobs: BlobReader;
    what: { point: string; disk: string };
    cacheBytes?: number | undefined;
  }) {
    this.sizeBytes = input.map.root.sizeBytes;
    this.#map = input.map;
    this.#blobs = input.blobs;
    this.#what = input.what;
    this.#chunks = new LruCache(input.cacheBytes ?? DEFAULT_CACHE_BYTES, (chunk) => chunk.length);
  }

  async read(offsetBytes: number, target: Uint8Array, options: { signal?: AbortSignal } = {}): Promise<void> {
    assertWithin(this.sizeBytes, { offsetBytes, lengthBytes: target.length }, this.#name);
    const size = this.#map.root.chunkSizeBytes;
    const parts: Promise<void>[] = [];
    for (let at = 0; at < target.length;) {
      const chunk = Math.floor((offsetBytes + at) / size);
      const from = offsetBytes + at - chunk * size;
      const length = Math.min(size - from, target.length - at);
      parts.push(this.#readChunk(chunk, from, target.subarray(at, at + length), options.signal));
      at += length;
    }
    // All settle before we leave: nobody writes into the target after the caller got its error.
    const outcomes = await Promise.allSettled(parts);
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  /** A whole chunk comes as it was opened: neither copied nor kept. Anything else is read as ever. */
  async take(offsetBytes: number, lengthBytes: number, options: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    assertWithin(this.sizeBytes, { offsetBytes, lengthBytes }, this.#name);
    const chunk = offsetBytes / this.#map.root.chunkSizeBytes;
    if (Number.isInteger(chunk) && lengthBytes > 0 && lengthBytes === this.#map.chunkBytes(chunk)) {
      const place = await this.#map.place(chunk, options);
      if (typeof place !== 'string') return this.#open(chunk, place, options);
    }
    const target = Buffer.allocUnsafeSlow(lengthBytes);
    await this.read(offsetBytes, target, options);
    return target;
  }

  async extents(
    range: { offsetBytes: number; lengthBytes: number },
    options: { signal?: AbortSignal } = {},
  ): Promise<Extent[]> {
    assertWithin(this.sizeBytes, range, this.#name);
    if (range.lengthBytes === 0) return [];
    const size = this.#map.root.chunkSizeBytes;
    const end = range.offsetBytes + range.lengthBytes;
    const first = Math.floor(range.offsetBytes / size);
    const extents: Extent[] = [];
    const append = (chunk: number, count: number, kind: Extent['kind']): void => {
      const offsetBytes = Math.max(chunk * size, range.offsetBytes);
      const lengthBytes = Math.min((chunk + count) * size, end) - offsetBytes;
      const last = extents.at(-1);
      if (last?.kind === kind) extents[extents.length - 1] = { ...last, lengthBytes: last.lengthBytes + lengthBytes };
      else extents.push({ offsetBytes, lengthBytes, kind });
    };
    for await (const run of this.#map.runs(first, Math.ceil(end / size) - first, options)) {
      const { places } = run;
      if (places instanceof Error) throw places;
      if (typeof places === 'string') append(run.firstChunk, run.count, places);
      else places.forEach((place, i) => append(run.firstChunk + i, 1, typeof place === 'string' ? place : 'data'));
    }
    return extents;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  get #name(): string {
    return `disk ${this.#what.disk} of point ${this.#what.point}`;
  }

  async #readChunk(chunk: number, from: number, target: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const options = signal ? { signal } : {};
    const place = await this.#map.place(chunk, options);
    if (typeof place === 'string') {
      target.fill(0);
      return;
    }
    const plain = await this.#load(chunk, place);
    signal?.throwIfAborted();
    target.set(plain.subarray(from, from + target.length));
  }

  async #load(chunk: number, ref: BlobRef): Promise<Uint8Array> {
    const exactBytes = this.#map.chunkBytes(chunk);
    // The length is part of the key: nothing else stops a short last chunk and a whole one from sharing an id in the map.
    const key = `${ref.id} ${exactBytes}`;
    const cached = this.#chunks.get(key);
    if (cached) return cached;
    return this.#loads.load(key, async () => {
      const plain = await this.#open(chunk, ref);
      this.#chunks.set(key, plain);
      return plain;
    });
  }

  async #open(chunk: number, ref: BlobRef, options: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    try {
      const exactBytes = this.#map.chunkBytes(chunk);
      return await this.#blobs.read(ref, { kind: 'data', plain: { exactBytes } }, options);
    } catch (error) {
      throw error instanceof BlobDamage ? chunkDamaged(error, { ...this.#what, chunk, map: this.#map }) : error;
    }
  }
}

/** The error a person sees for a damaged chunk: which bytes of which disk, and where in the store. */
function chunkDamaged(
  damage: BlobDamage,
  where: { point: string; disk: string; chunk: number; map: MapReader },
): LifeboatError {
  const { ref } = damage;
  const offsetBytes = where.chunk * where.map.root.chunkSizeBytes;
  const lengthBytes = where.map.chunkBytes(where.chunk);
  return new LifeboatError(
    'repository.chunk-damaged',
    `disk ${where.disk} of point ${where.point}: ${lengthBytes} bytes at ${offsetBytes} cannot be read: ${damage.message}`,
    {
      context: {
        point: where.point,
        disk: where.disk,
        diskOffsetBytes: offsetBytes,
        lengthBytes,
        pack: ref.pack,
        packOffsetBytes: ref.offsetBytes,
        packLengthBytes: ref.lengthBytes,
        chunkId: ref.id,
      },
      cause: damage,
    },
  );
}
