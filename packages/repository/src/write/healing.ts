/** What a writer does about damage it meets, or was told of: it looks, and leads who comes to the damaged place to a whole one. */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';

import { closeReport, readDamage, type KnownDamage } from '../check/damage-reports.ts';
import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { sha256 } from '../format/frame.ts';
import { MAX_PACK_ENTRIES } from '../format/limits.ts';
import { hex, packObject, relocationObject, type ChunkId, type PackName } from '../format/names.ts';
import { encodeMoved } from '../format/relocation.ts';
import { BlobDamage } from '../read/blob-reader.ts';
import { controlName } from '../seal/control-records.ts';
import { discard } from '../seal/discard.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { writeRelocation } from './relocation-writer.ts';

/** Whether the pack in the store has exactly these bytes; what has not is read once more, over another connection. */
export async function holds(
  core: Core,
  pack: PackName,
  bytes: Uint8Array,
  options: StoreOptions = {},
): Promise<boolean> {
  for (const fresh of [false, true]) {
    try {
      const there = await core.store.get(packObject(pack), { ...options, fresh, maxBytes: bytes.length });
      if (Buffer.compare(there, bytes) === 0) return true;
    } catch (error) {
      // Gone since it was found there, of another length, or on bad sectors: nothing to refer to.
      if (!isUselessObject(error)) throw error;
    }
  }
  return false;
}

/** Ids that are tried for one relocation: what lies under the first may have rotted, and so may what was put in its place. */
const MAX_IDS = 8;

/**
 * Leads from a damaged pack to whole places of its blobs, durable in the store. The relocation is named by what it says, so that a
 * repetition finds it. `moved`: an id that comes twice is taken once. Errors: `repository.object-damaged` where something else lies under
 * every id it may have; those of the store.
 */
async function heal(
  core: Core,
  input: { readonly pack: PackName; readonly moved: readonly BlobRef[]; readonly sizes: ReadonlyMap<PackName, number> },
  options: StoreOptions = {},
): Promise<void> {
  const moved = [...new Map(input.moved.map((ref) => [ref.id, ref])).values()];
  const first = `healed-${hex(sha256(encodeMoved(moved))).slice(0, 32)}`;
  for (let i = 0; i < MAX_IDS; i++) {
    const relocationId = i === 0 ? first : `${first}-${i}`;
    if (await writeRelocation(core, { ...input, moved, relocationId, reason: 'healed' }, options)) return;
  }
  const object = controlName(core, relocationObject(input.pack, first));
  throw new LifeboatError('repository.object-damaged', `${object}, and ${MAX_IDS - 1} more like it, cannot be used`, {
    context: { object },
  });
}

/**
 * Healing helps the points before, and must not cost the one in work: what is wrong with single objects, or with the rights of who writes,
 * is no reason to give a backup up. A store that failed is: the backup needs it, too, and may be repeated.
 */
function isHarmless(error: unknown): error is LifeboatError {
  return isUselessObject(error) || hasCode(error, 'repository.limit-exceeded', 'repository.store-denied');
}

/** Pages a session remembers for healing: 40 MB. A disk of 16 TiB has as many; of a larger one the rest is not healed. */
const MAX_KEPT_PAGES = 262_144;

export interface HealingOutcome {
  /** Chunks of earlier points that read again. */
  readonly chunks: number;
  /** Why some, or all, of what could have been healed was not. */
  readonly failure?: string;
}

/** How a session finds a chunk again. */
export interface WholePlaces {
  /** Places the session knows for a chunk, its own first; none of them was ever reported. */
  candidates(id: ChunkId): Promise<BlobRef[]>;
  /** Whether this session stored it: then it was opened again before it was sent. */
  isOwn(pack: PackName): boolean;
  sizeOf(pack: PackName): number | undefined;
}

/**
 * One session's part in mending what checks reported.
 *
 * ```
 *   reports ─► parent's places in them are read again ─► stored in packs of this session ─┐
 *          └─► chunks of them that lie elsewhere, too, and open ──────────────────────────┴─► relocations ─► commit ─► closed
 * ```
 * Killed between two of these, nothing is lost: a relocation is true whether or not there is a point, and a report that stays open is
 * looked at by the next session.
 */
export class Healing {
  readonly damage: KnownDamage;
  readonly #core: Core;
  /** What relocations of a pack say, as of the first question. */
  readonly #moved = new Map<PackName, Promise<readonly ReadonlyMap<ChunkId, BlobRef>[]>>();
  /** Places of parents that were read again. */
  readonly #readAgain: BlobRef[] = [];
  readonly #pages: BlobRef[] = [];
  readonly #healed = new Set<string>();
  #pageFailure: string | undefined;

  private constructor(core: Core, damage: KnownDamage) {
    this.#core = core;
    this.damage = damage;
  }

  static async begin(core: Core, options: StoreOptions = {}): Promise<Healing> {
    const damage = await readDamage(core, options);
    // A page that was read before it was damaged would hide that it is.
    if (damage.open.length > 0) core.pages.forget();
    return new Healing(core, damage);
  }

  /** Whether there is nothing to be led anywhere; what was healed long ago is only avoided. */
  get isIdle(): boolean {
    return this.damage.open.length === 0 && this.#readAgain.length === 0 && this.#pageFailure === undefined;
  }

  /** Whether a map must not refer to the place any more. */
  avoids(ref: BlobRef): boolean {
    return this.#core.rules.avoidDamaged && this.damage.has(ref);
  }

  /** Whether what the place names must be read again: it is damaged, and nobody led it elsewhere yet. */
  async needsRead(ref: BlobRef, options: StoreOptions = {}): Promise<boolean> {
    if (!this.damage.waits(ref) && !this.damage.isWhole(ref.pack)) return false;
    return !(await this.#isElsewhere(ref, options));
  }

  /** The place will be read again; if its chunk is what it was, the place is led to where it is stored then. */
  readAgain(ref: BlobRef): void {
    this.#readAgain.push(ref);
  }

  /** From packs in which pages were met that are damaged, to the one in which they were sealed anew. */
  async leadPages(
    what: {
      readonly from: readonly PackName[];
      readonly moved: readonly BlobRef[];
      readonly sizes: ReadonlyMap<PackName, number>;
    },
    options: StoreOptions = {},
  ): Promise<void> {
    const { from, moved, sizes } = what;
    for (const pack of from) this.#pageFailure ??= await this.#lead({ pack, moved, sizes }, options);
  }

  /** Pages this session stored: they may be what a damaged page was. */
  keepPages(pages: readonly BlobRef[]): void {
    if (!this.damage.open.some((report) => report.pages.length > 0)) return;
    this.#pages.push(...pages.slice(0, MAX_KEPT_PAGES - this.#pages.length));
  }

  /** Writes the relocations, after everything they lead to is durable. May be repeated. Errors: those of the store. */
  async run(places: WholePlaces, options: StoreOptions = {}): Promise<HealingOutcome> {
    const moved = new Map<PackName, Map<ChunkId, BlobRef>>();
    const add = (from: PackName, to: BlobRef): void => {
      if (to.pack === from) return;
      const blobs = moved.get(from) ?? new Map<ChunkId, BlobRef>();
      moved.set(from, blobs.set(to.id, to));
    };
    for (const ref of [...this.damage.open.flatMap(({ chunks }) => chunks), ...this.#readAgain]) {
      if (moved.get(ref.pack)?.has(ref.id) || (await this.#isElsewhere(ref, options))) continue;
      const whole = await this.#wholePlace(ref, places, options);
      if (whole) add(ref.pack, whole);
    }
    const chunkIds = new Map([...moved].map(([pack, blobs]) => [pack, new Set(blobs.keys())]));
    for (const [pack, pages] of await this.#wholePages(options)) for (const page of pages) add(pack, page);
    let chunks = 0;
    let failure = this.#pageFailure;
    for (const [pack, blobs] of moved) {
      const all = [...blobs.values()];
      for (let i = 0; i < all.length; i += MAX_PACK_ENTRIES) {
        const part = all.slice(i, i + MAX_PACK_ENTRIES);
        const sizes = new Map(part.map((ref) => [ref.pack, places.sizeOf(ref.pack) ?? 0]));
        const why = await this.#lead({ pack, moved: part, sizes }, options);
        failure ??= why;
        if (why !== undefined) continue;
        for (const { id } of part) {
          this.#healed.add(`${pack} ${id}`);
          if (chunkIds.get(pack)?.has(id)) chunks++;
        }
      }
    }
    return { chunks, ...(failure === undefined ? {} : { failure }) };
  }

  /** Why it could not be written; the others are all the same. */
  async #lead(what: Parameters<typeof heal>[1], options: StoreOptions): Promise<string | undefined> {
    try {
      await heal(this.#core, what, options);
      return undefined;
    } catch (error) {
      if (!isHarmless(error)) throw error;
      this.#core.log.error('what is damaged could not be healed', { pack: what.pack, why: error.message });
      return error.message;
    }
  }

  /**
   * Pages this session stored, by the packs they are to be found from: those that were reported and that nothing leads to yet; and the
   * others of their packs, since a page that could not be read hid the ones below it from the check. So a relocation is written only
   * where it serves a page that none served, and not once more by every session for as long as a report is open.
   */
  async #wholePages(options: StoreOptions): Promise<Map<PackName, BlobRef[]>> {
    const byId = new Map(this.#pages.map((page) => [page.id, page]));
    const packs = new Map<PackName, Set<PackName>>();
    for (const ref of this.damage.open.flatMap(({ pages }) => pages)) {
      const whole = byId.get(ref.id);
      if (!whole || whole.pack === ref.pack || (await this.#isElsewhere(ref, options))) continue;
      packs.set(ref.pack, (packs.get(ref.pack) ?? new Set()).add(whole.pack));
    }
    return new Map([...packs].map(([from, to]) => [from, this.#pages.filter((page) => to.has(page.pack))]));
  }

  /** Closes the reports of which everything is found elsewhere now. After the commit: until then the next attempt needs them. */
  async close(options: StoreOptions = {}): Promise<void> {
    for (const { reportId, chunks, pages } of this.damage.open) {
      let left = 0;
      for (const ref of [...chunks, ...pages]) {
        if (this.#healed.has(`${ref.pack} ${ref.id}`) || (await this.#isElsewhere(ref, options))) continue;
        left++;
      }
      if (left === 0) await closeReport(this.#core, reportId, options);
      this.#core.log.info('a damage report was looked at', { reportId, blobs: chunks.length + pages.length, left });
    }
  }

  /** Of what others stored a copy counts only when it opens. */
  async #wholePlace(ref: BlobRef, places: WholePlaces, options: StoreOptions): Promise<BlobRef | undefined> {
    for (const place of await places.candidates(ref.id)) {
      if (place.pack === ref.pack) continue;
      if (places.isOwn(place.pack) || (await this.#opens(place, options))) return place;
    }
    return undefined;
  }

  async #opens(place: BlobRef, options: StoreOptions): Promise<boolean> {
    const { chunkSizeBytes: maxBytes } = this.#core.superblock;
    try {
      discard(await this.#core.blobs.read(place, { kind: 'data', plain: { maxBytes } }, options));
      return true;
    } catch (error) {
      // An agent opens no chunk: what it did not store itself it cannot vouch for.
      const isUnknown = hasCode(error, 'repository.unknown-epoch', 'repository.not-permitted');
      if (!(error instanceof BlobDamage) && !isUnknown) throw error;
      return false;
    }
  }

  async #isElsewhere(ref: BlobRef, options: StoreOptions): Promise<boolean> {
    const known = this.#moved.get(ref.pack) ?? this.#core.relocations.from(ref.pack, options);
    this.#moved.set(ref.pack, known);
    // A failed listing is tried again by the next caller.
    known.catch(() => this.#moved.delete(ref.pack));
    return (await known).some((moved) => {
      const place = moved.get(ref.id);
      return place !== undefined && !this.damage.has(place);
    });
  }
}
