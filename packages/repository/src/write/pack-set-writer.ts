/**
 * Brings a pack set up to date: the set before, plus and minus references. Pages nothing changed in are kept.
 *
 * The result depends on the set alone, not on how it came about: a page is split exactly when it holds more than
 * `packSetEntries` packs, and joined again when it holds no more.
 *
 * ```
 *   changes, sorted ─► depth first through the pages they fall into ─► pages, children before parents
 * ```
 * A page is written as soon as it is certain to stay one, so memory holds the pages from the root down to where the changes are, and
 * never more packs for each than two pages have.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { BlobRef, Place } from '../format/blob-ref.ts';
import { encodePackSetPage, FAN_OUT, type PackUse } from '../format/pack-set-page.ts';
import type { PackName } from '../format/names.ts';
import type { PageReader } from '../read/page-reader.ts';
import type { StoreOptions } from '../store/object-store.ts';
import type { PackChange } from './pack-deltas.ts';
import type { PageWriter } from './page-writer.ts';

/** What is under a prefix: as it is stored, or packs that are to become a page. */
type Part =
  | { readonly kind: 'stored'; readonly place: BlobRef }
  | { readonly kind: 'packs'; readonly packs: readonly PackUse[] };

interface Branch {
  readonly children: readonly Part[];
  readonly packCount: number;
}

interface Updated {
  readonly part: Part;
  readonly countBefore: number;
  readonly countAfter: number;
}

const EMPTY: Part = { kind: 'packs', packs: [] };

export class PackSetWriter {
  readonly #pages: PageReader;
  readonly #writer: PageWriter;
  readonly #maxPacks: number;
  readonly #sizeOf: (pack: PackName) => number;

  /** `sizeOf` is asked for packs that are new to the set. */
  constructor(input: { pages: PageReader; writer: PageWriter; maxPacks: number; sizeOf: (pack: PackName) => number }) {
    this.#pages = input.pages;
    this.#writer = input.writer;
    this.#maxPacks = input.maxPacks;
    this.#sizeOf = input.sizeOf;
  }

  /** `changes`: sorted by name, each pack once. The new root; null when no pack is left. Complete after the page writer was flushed. */
  async update(
    before: BlobRef | null,
    changes: AsyncIterable<PackChange>,
    options: StoreOptions = {},
  ): Promise<BlobRef | null> {
    const queue = new ChangeQueue(changes);
    if (!(await queue.comesUnder(''))) return before;
    const { part } = await this.#apply(before ? { kind: 'stored', place: before } : EMPTY, '', queue, options);
    const root = await this.#write(part, 0);
    return typeof root === 'string' ? null : root;
  }

  /** Takes every change under the prefix from the queue. What comes back has more packs than a page may have, or is not written yet. */
  async #apply(before: Part, prefix: string, queue: ChangeQueue, options: StoreOptions): Promise<Updated> {
    const page = before.kind === 'stored' ? await this.#load(before.place, prefix.length, options) : before;
    if (!('packs' in page)) return this.#applyToBranch(page, prefix, queue, options);
    const { packs } = page;
    // At most as many as there are packs can change one of them; with so many more the page is too small in any case.
    const taken = await queue.take(prefix, packs.length + this.#maxPacks + 1);
    const merged = this.#merge(packs, taken);
    if (merged.length <= this.#maxPacks)
      return { part: { kind: 'packs', packs: merged }, countBefore: packs.length, countAfter: merged.length };
    queue.putBack(taken);
    const groups = Map.groupBy(packs, ({ pack }) => Number.parseInt(pack.charAt(prefix.length), 16));
    const children = Array.from({ length: FAN_OUT }, (_, digit): Part => ({
      kind: 'packs',
      packs: groups.get(digit) ?? [],
    }));
    return this.#applyToBranch({ children, packCount: packs.length }, prefix, queue, options);
  }

  async #applyToBranch(branch: Branch, prefix: string, queue: ChangeQueue, options: StoreOptions): Promise<Updated> {
    const depth = prefix.length;
    const children: Part[] = [];
    let countAfter = branch.packCount;
    let held = 0;
    let staysBranch = false;
    for (const [digit, before] of branch.children.entries()) {
      const under = prefix + digit.toString(16);
      let child = before;
      if (await queue.comesUnder(under)) {
        const updated = await this.#apply(before, under, queue, options);
        child = updated.part;
        countAfter += updated.countAfter - updated.countBefore;
        staysBranch ||= child.kind === 'stored';
      }
      if (child.kind === 'packs') held += child.packs.length;
      children.push(child);
      staysBranch ||= held > this.#maxPacks;
      if (staysBranch) {
        await this.#writeAll(children, depth + 1);
        held = 0;
      }
    }
    const counts = { countBefore: branch.packCount, countAfter };
    if (!staysBranch && countAfter <= this.#maxPacks) {
      const packs: PackUse[] = [];
      for (const child of children) packs.push(...(await this.#collect(child, depth + 1, options)));
      return { part: { kind: 'packs', packs }, ...counts };
    }
    const places = await this.#writeAll(children, depth + 1);
    const place = await this.#writer.put(() =>
      encodePackSetPage({ kind: 'branch', depth, children: places, packCount: countAfter }),
    );
    return { part: { kind: 'stored', place }, ...counts };
  }

  #merge(packs: readonly PackUse[], changes: readonly PackChange[]): PackUse[] {
    const merged = new Map(packs.map((use) => [use.pack, use]));
    for (const { pack, references } of changes) {
      const before = merged.get(pack);
      const total = (before?.references ?? 0) + references;
      if (total < 0) throw new LifeboatError('internal.bug', `pack ${pack} would be referred to ${total} times`);
      if (total === 0) merged.delete(pack);
      else merged.set(pack, { pack, references: total, sizeBytes: before?.sizeBytes ?? this.#sizeOf(pack) });
    }
    return [...merged.values()].toSorted((a, b) => (a.pack < b.pack ? -1 : 1));
  }

  async #collect(part: Part, depth: number, options: StoreOptions): Promise<readonly PackUse[]> {
    const page = part.kind === 'stored' ? await this.#load(part.place, depth, options) : part;
    if ('packs' in page) return page.packs;
    const packs: PackUse[] = [];
    for (const child of page.children) packs.push(...(await this.#collect(child, depth + 1, options)));
    return packs;
  }

  async #load(
    place: BlobRef,
    depth: number,
    options: StoreOptions,
  ): Promise<{ readonly packs: readonly PackUse[] } | Branch> {
    const page = await this.#pages.packSet(place, depth, options);
    if (page.kind === 'leaf') return page;
    const children = page.children.map((child): Part =>
      typeof child === 'string' ? EMPTY : { kind: 'stored', place: child },
    );
    return { children, packCount: page.packCount };
  }

  /** Writes those that are not, in place. */
  async #writeAll(parts: Part[], depth: number): Promise<Place[]> {
    const places: Place[] = [];
    for (const [i, part] of parts.entries()) {
      const place = await this.#write(part, depth);
      if (typeof place !== 'string') parts[i] = { kind: 'stored', place };
      places.push(place);
    }
    return places;
  }

  async #write(part: Part, depth: number): Promise<Place> {
    if (part.kind === 'stored') return part.place;
    const { packs } = part;
    return packs.length === 0 ? 'hole' : this.#writer.put(() => encodePackSetPage({ kind: 'leaf', depth, packs }));
  }
}

/** The changes that are left, a look ahead at a time. */
class ChangeQueue {
  readonly #source: AsyncIterator<PackChange>;
  #ahead: PackChange[] = [];

  constructor(changes: AsyncIterable<PackChange>) {
    this.#source = changes[Symbol.asyncIterator]();
  }

  /** Whether the next change is under the prefix. */
  async comesUnder(prefix: string): Promise<boolean> {
    if (this.#ahead.length === 0) {
      const { value, done } = await this.#source.next();
      if (!done) this.#ahead.push(value);
    }
    return this.#ahead[0]?.pack.startsWith(prefix) ?? false;
  }

  /** The next changes under the prefix, so many at most. */
  async take(prefix: string, limit: number): Promise<PackChange[]> {
    const taken: PackChange[] = [];
    while (taken.length < limit && (await this.comesUnder(prefix))) {
      const change = this.#ahead.shift();
      if (change) taken.push(change);
    }
    return taken;
  }

  putBack(changes: readonly PackChange[]): void {
    this.#ahead = [...changes, ...this.#ahead];
  }
}
