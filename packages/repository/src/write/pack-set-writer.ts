/**
 * Brings a pack set up to date: the set before, plus and minus references. Pages nothing changed in are kept.
 *
 * The result depends on the set alone, not on how it came about: a page is split exactly when it holds more than
 * `packSetEntries` packs, and joined again when it holds no more.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { BlobRef, Place } from '../format/blob-ref.ts';
import type { PackName } from '../format/names.ts';
import { encodePackSetPage, FAN_OUT, type PackUse } from '../format/pack-set-page.ts';
import type { PageReader } from '../read/page-reader.ts';
import type { StoreOptions } from '../store/object-store.ts';
import type { PageWriter } from './page-writer.ts';

interface Change {
  readonly pack: PackName;
  readonly references: number;
}

/** A part of the set in memory: kept as it is stored, or to be written. */
type Part =
  | { readonly kind: 'kept'; readonly ref: BlobRef }
  | { readonly kind: 'leaf'; readonly packs: readonly PackUse[] }
  | { readonly kind: 'branch'; readonly children: readonly Part[]; readonly packCount: number };

const EMPTY: Part = { kind: 'leaf', packs: [] };

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

  /** The new root; null when no pack is left. Complete after the page writer was flushed. */
  async update(
    before: BlobRef | null,
    changes: readonly Change[],
    options: StoreOptions = {},
  ): Promise<BlobRef | null> {
    if (changes.length === 0) return before;
    const { part } = await this.#apply(before ? { kind: 'kept', ref: before } : EMPTY, 0, changes, options);
    const root = await this.#write(part, 0);
    return typeof root === 'string' ? null : root;
  }

  async #apply(
    part: Part,
    depth: number,
    changes: readonly Change[],
    options: StoreOptions,
  ): Promise<{ part: Part; countBefore: number; countAfter: number }> {
    const loaded = part.kind === 'kept' ? await this.#load(part.ref, depth, options) : part;
    if (loaded.kind === 'kept') throw new LifeboatError('internal.bug', 'a loaded page of a pack set is not loaded');
    if (loaded.kind === 'leaf') {
      const packs = this.#merge(loaded.packs, changes);
      return { part: this.#build(packs, depth), countBefore: loaded.packs.length, countAfter: packs.length };
    }
    const children = [...loaded.children];
    let countAfter = loaded.packCount;
    for (const [digit, group] of byDigit(changes, depth)) {
      const result = await this.#apply(children[digit] ?? EMPTY, depth + 1, group, options);
      children[digit] = result.part;
      countAfter += result.countAfter - result.countBefore;
    }
    const branch: Part = { kind: 'branch', children, packCount: countAfter };
    const fits = countAfter <= this.#maxPacks;
    return {
      part: fits ? { kind: 'leaf', packs: await this.#collect(branch, depth, options) } : branch,
      countBefore: loaded.packCount,
      countAfter,
    };
  }

  #merge(packs: readonly PackUse[], changes: readonly Change[]): PackUse[] {
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

  #build(packs: readonly PackUse[], depth: number): Part {
    if (packs.length <= this.#maxPacks) return { kind: 'leaf', packs };
    const groups = byDigit(packs, depth);
    const children = Array.from({ length: FAN_OUT }, (_, digit) => this.#build(groups.get(digit) ?? [], depth + 1));
    return { kind: 'branch', children, packCount: packs.length };
  }

  async #collect(part: Part, depth: number, options: StoreOptions): Promise<readonly PackUse[]> {
    const loaded = part.kind === 'kept' ? await this.#load(part.ref, depth, options) : part;
    if (loaded.kind === 'leaf') return loaded.packs;
    if (loaded.kind === 'kept') throw new LifeboatError('internal.bug', 'a loaded page of a pack set is not loaded');
    const packs: PackUse[] = [];
    for (const child of loaded.children) packs.push(...(await this.#collect(child, depth + 1, options)));
    return packs;
  }

  async #load(ref: BlobRef, depth: number, options: StoreOptions): Promise<Part> {
    const page = await this.#pages.packSet(ref, depth, options);
    if (page.kind === 'leaf') return page;
    const children = page.children.map((place): Part =>
      typeof place === 'string' ? EMPTY : { kind: 'kept', ref: place },
    );
    return { kind: 'branch', children, packCount: page.packCount };
  }

  async #write(part: Part, depth: number): Promise<Place> {
    if (part.kind === 'kept') return part.ref;
    if (part.kind === 'leaf') {
      if (part.packs.length === 0) return 'hole';
      return this.#writer.put(() => encodePackSetPage({ kind: 'leaf', depth, packs: part.packs }));
    }
    const children: Place[] = [];
    for (const child of part.children) children.push(await this.#write(child, depth + 1));
    const { packCount } = part;
    return this.#writer.put(() => encodePackSetPage({ kind: 'branch', depth, children, packCount }));
  }
}

function byDigit<T extends { readonly pack: PackName }>(items: readonly T[], depth: number): Map<number, T[]> {
  return Map.groupBy(items, (item) => Number.parseInt(item.pack.charAt(depth), 16));
}
