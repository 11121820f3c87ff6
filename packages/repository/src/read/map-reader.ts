import type { Place } from '../format/blob-ref.ts';
import { chunksUnder, entriesAt, rootLevel, type MapPage } from '../format/map-page.ts';
import type { DiskRoot } from '../format/point.ts';
import type { Geometry } from '../format/superblock.ts';
import type { StoreOptions } from '../store/object-store.ts';
import type { PageReader } from './page-reader.ts';
import { asMapDamage } from './blob-reader.ts';

/** A run of chunks of which the map says the same without looking further: a leaf, or a subtree that holds nothing. */
export interface MapRun {
  readonly firstChunk: number;
  readonly count: number;
  /** One place per chunk, or one for all of them, or why they cannot be known (`repository.map-damaged`). */
  readonly places: readonly Place[] | 'hole' | 'zero' | Error;
}

/** Looks up chunks in one disk's map. */
export class MapReader {
  readonly root: DiskRoot;
  readonly geometry: Geometry;
  readonly chunkCount: number;
  readonly rootLevel: number;
  readonly #pages: PageReader;
  readonly #what: string;

  /** `what` names the disk in errors. */
  constructor(input: { root: DiskRoot; geometry: Geometry; pages: PageReader; what: string }) {
    this.root = input.root;
    this.geometry = input.geometry;
    this.chunkCount = Math.ceil(input.root.sizeBytes / input.root.chunkSizeBytes);
    this.rootLevel = rootLevel(input.geometry, this.chunkCount);
    this.#pages = input.pages;
    this.#what = input.what;
  }

  /** Bytes a chunk has: the last one ends with the disk. */
  chunkBytes(chunk: number): number {
    const { chunkSizeBytes, sizeBytes } = this.root;
    return Math.min(chunkSizeBytes, sizeBytes - chunk * chunkSizeBytes);
  }

  /** Where the page of this level and index is. Throws `repository.map-damaged`. */
  async pagePlace(level: number, index: number, options: StoreOptions = {}): Promise<Place> {
    if (level === this.rootLevel) return this.root.map;
    const parent = await this.page(level + 1, Math.floor(index / this.geometry.branchEntries), options);
    return typeof parent === 'string' ? parent : (parent.places[index % this.geometry.branchEntries] ?? 'hole');
  }

  /** The page itself, or what holds for everything under it. */
  async page(level: number, index: number, options: StoreOptions = {}): Promise<MapPage | 'hole' | 'zero'> {
    const place = await this.pagePlace(level, index, options);
    return typeof place === 'string' ? place : this.#load(place, level, index, options);
  }

  async place(chunk: number, options: StoreOptions = {}): Promise<Place> {
    const leaf = await this.page(0, Math.floor(chunk / this.geometry.leafEntries), options);
    return typeof leaf === 'string' ? leaf : (leaf.places[chunk % this.geometry.leafEntries] ?? 'hole');
  }

  /** Every chunk from `firstChunk` on, `count` of them, in order. Damaged pages are runs of their own, not exceptions. */
  async *runs(firstChunk: number, count: number, options: StoreOptions = {}): AsyncIterable<MapRun> {
    const end = Math.min(firstChunk + count, this.chunkCount);
    for (let chunk = firstChunk; chunk < end;) {
      options.signal?.throwIfAborted();
      const run = await this.#runAt(chunk, options);
      const length = Math.min(run.end, end) - chunk;
      const places = Array.isArray(run.places)
        ? (run.places as readonly Place[]).slice(chunk - run.start, chunk - run.start + length)
        : run.places;
      yield { firstChunk: chunk, count: length, places };
      chunk += length;
    }
  }

  /** The largest aligned run around a chunk that one page decides. */
  async #runAt(
    chunk: number,
    options: StoreOptions,
  ): Promise<{ start: number; end: number; places: readonly Place[] | 'hole' | 'zero' | Error }> {
    let place: Place = this.root.map;
    for (let level = this.rootLevel; ; level--) {
      const span = chunksUnder(this.geometry, level);
      const index = Math.floor(chunk / span);
      const run = { start: index * span, end: (index + 1) * span };
      if (typeof place === 'string') return { ...run, places: place };
      let page: MapPage;
      try {
        page = await this.#load(place, level, index, options);
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'repository.map-damaged')
          return { ...run, places: error };
        throw error;
      }
      if (level === 0) return { ...run, places: page.places };
      place =
        page.places[Math.floor(chunk / chunksUnder(this.geometry, level - 1)) % entriesAt(this.geometry, level)] ??
        'hole';
    }
  }

  async #load(place: Exclude<Place, string>, level: number, index: number, options: StoreOptions): Promise<MapPage> {
    try {
      return await this.#pages.map(place, { level, index }, options);
    } catch (error) {
      const chunkBytes = this.root.chunkSizeBytes;
      const offsetBytes = index * chunksUnder(this.geometry, level) * chunkBytes;
      const lengthBytes = Math.min(chunksUnder(this.geometry, level) * chunkBytes, this.root.sizeBytes - offsetBytes);
      throw asMapDamage(error, { what: this.#what, offsetBytes, lengthBytes });
    }
  }
}
