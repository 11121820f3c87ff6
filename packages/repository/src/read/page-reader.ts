import type { BlobRef } from '../format/blob-ref.ts';
import { MAX_PAGE_BYTES } from '../format/limits.ts';
import { decodeMapPage, type MapPage } from '../format/map-page.ts';
import { decodePackSetPage, type PackSetPage } from '../format/pack-set-page.ts';
import type { Geometry } from '../format/superblock.ts';
import type { StoreOptions } from '../store/object-store.ts';
import type { BlobReader } from './blob-reader.ts';
import { LruCache, SharedLoads } from './lru.ts';

/** Decoded map pages kept: at 64 entries about 16 KiB each. */
const MAX_CACHED_PAGES = 512;

/** Reads pages of maps and pack sets. Throws `BlobDamage` or `repository.object-damaged`; callers say what that hits. */
export class PageReader {
  readonly #blobs: BlobReader;
  readonly #geometry: Geometry;
  readonly #pages = new LruCache<string, MapPage>(MAX_CACHED_PAGES);
  readonly #loads = new SharedLoads<string, MapPage>();

  constructor(blobs: BlobReader, geometry: Geometry) {
    this.#blobs = blobs;
    this.#geometry = geometry;
  }

  async map(ref: BlobRef, position: { level: number; index: number }, options: StoreOptions = {}): Promise<MapPage> {
    const key = `${ref.pack} ${ref.slot} ${position.level} ${position.index}`;
    const cached = this.#pages.get(key);
    if (cached) return cached;
    const page = await this.#loads.load(key, async () => {
      const plain = await this.#blobs.read(ref, { kind: 'map', plain: { maxBytes: MAX_PAGE_BYTES } });
      const what = `map page ${position.index} of level ${position.level} in pack ${ref.pack}`;
      const fresh = decodeMapPage(plain, { ...position, self: ref.pack, geometry: this.#geometry, what });
      this.#pages.set(key, fresh);
      return fresh;
    });
    options.signal?.throwIfAborted();
    return page;
  }

  /** Lets go of pages that were read: the next readers see what is stored now. */
  forget(): void {
    this.#pages.clear();
  }

  async packSet(ref: BlobRef, depth: number, options: StoreOptions = {}): Promise<PackSetPage> {
    const plain = await this.#blobs.read(ref, { kind: 'set', plain: { maxBytes: MAX_PAGE_BYTES } }, options);
    return decodePackSetPage(plain, { depth, self: ref.pack, what: `pack-set page in pack ${ref.pack}` });
  }
}
