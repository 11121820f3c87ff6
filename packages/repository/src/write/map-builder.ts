/**
 * Builds the map of a disk from leaves that arrive in order, on top of the map before.
 *
 * ```
 *   putLeaf(3) putLeaf(4) … putLeaf(70) …  ─►  level 0: written, or the old page when nothing in it changed
 *                                              level 1: page 0 is open until a leaf of page 1 arrives, then closed: written or old
 *                                              level n: the same; one open page per level is all that is held
 * ```
 * Pages no leaf was put into stay those of the map before. Reference counts of packs are kept along the way.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

import { samePlace, type Place } from '../format/blob-ref.ts';
import { encodeMapPage, entriesAt, type MapPage } from '../format/map-page.ts';
import type { Geometry } from '../format/superblock.ts';
import type { StoreOptions } from '../store/object-store.ts';
import type { MapReader } from '../read/map-reader.ts';
import type { PackDeltas } from './pack-deltas.ts';
import type { PageWriter } from './page-writer.ts';

interface OpenPage {
  readonly index: number;
  readonly places: Place[];
}

export class MapBuilder {
  readonly #geometry: Geometry;
  readonly #rootLevel: number;
  /** The map before; undefined for a disk that had none, or had another size. */
  readonly #base: MapReader | undefined;
  readonly #pages: PageWriter;
  readonly #deltas: PackDeltas;
  readonly #open: (OpenPage | undefined)[] = [];
  #root: Place;
  #lastLeaf = -1;

  constructor(input: {
    geometry: Geometry;
    rootLevel: number;
    base: MapReader | undefined;
    pages: PageWriter;
    deltas: PackDeltas;
  }) {
    this.#geometry = input.geometry;
    this.#rootLevel = input.rootLevel;
    this.#base = input.base;
    this.#pages = input.pages;
    this.#deltas = input.deltas;
    this.#root = input.base?.root.map ?? 'hole';
  }

  /** `places`: one for every chunk of the leaf; behind the disk's end they are holes. Indexes must rise. */
  async putLeaf(index: number, places: readonly Place[] | 'hole' | 'zero', options: StoreOptions = {}): Promise<void> {
    if (index <= this.#lastLeaf)
      throw new LifeboatError('internal.bug', `leaf ${index} came after leaf ${this.#lastLeaf}`);
    this.#lastLeaf = index;
    await this.#replace(0, index, places, options);
  }

  /** The root. Complete after the page writer was flushed. */
  async finish(options: StoreOptions = {}): Promise<Place> {
    for (let level = 1; level <= this.#rootLevel; level++) await this.#close(level, options);
    return this.#root;
  }

  /** Writes a page where it differs from the one before, and tells the level above. */
  async #replace(
    level: number,
    index: number,
    places: readonly Place[] | 'hole' | 'zero',
    options: StoreOptions,
  ): Promise<void> {
    const before = this.#base ? await this.#base.page(level, index, options) : 'hole';
    const beforePlace = this.#base ? await this.#base.pagePlace(level, index, options) : 'hole';
    const place = await this.#placeOf({ level, index, places, before, beforePlace });
    if (!samePlace(place, beforePlace)) {
      if (level === 0) this.#countLeaf(before, -1);
      this.#deltas.add(beforePlace, -1);
      // A new page is counted by the page writer, which learns the name of its pack; so is what lies in a new leaf, here.
      if (level === 0 && typeof places !== 'string') for (const chunk of places) this.#deltas.add(chunk, 1);
    }
    await this.#set(level, index, place, options);
  }

  async #placeOf(input: {
    level: number;
    index: number;
    places: readonly Place[] | 'hole' | 'zero';
    before: MapPage | 'hole' | 'zero';
    beforePlace: Place;
  }): Promise<Place> {
    const { level, index, places, before, beforePlace } = input;
    if (typeof places === 'string') return places;
    const old = before;
    const unchanged =
      typeof old === 'string'
        ? places.every((place) => place === old)
        : places.every((place, i) => samePlace(place, old.places[i] ?? 'hole'));
    if (unchanged) return beforePlace;
    const [first] = places;
    if (typeof first === 'string' && places.every((place) => place === first)) return first;
    return this.#pages.put(() => encodeMapPage({ level, index, places }));
  }

  async #set(level: number, index: number, place: Place, options: StoreOptions): Promise<void> {
    if (level === this.#rootLevel) {
      this.#root = place;
      return;
    }
    const above = Math.floor(index / this.#geometry.branchEntries);
    if (this.#open[level + 1] && this.#open[level + 1]?.index !== above) await this.#close(level + 1, options);
    const page = (this.#open[level + 1] ??= { index: above, places: await this.#before(level + 1, above, options) });
    page.places[index % this.#geometry.branchEntries] = place;
  }

  async #close(level: number, options: StoreOptions): Promise<void> {
    const page = this.#open[level];
    if (!page) return;
    this.#open[level] = undefined;
    await this.#replace(level, page.index, page.places, options);
  }

  async #before(level: number, index: number, options: StoreOptions): Promise<Place[]> {
    const page = this.#base ? await this.#base.page(level, index, options) : 'hole';
    if (typeof page !== 'string') return [...page.places];
    return Array.from({ length: entriesAt(this.#geometry, level) }, () => page);
  }

  #countLeaf(leaf: MapPage | 'hole' | 'zero', count: 1 | -1): void {
    if (typeof leaf !== 'string') for (const place of leaf.places) this.#deltas.add(place, count);
  }
}
