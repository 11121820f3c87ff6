/** What a writer does about damage it meets, or was told of: it looks, and leads who comes to the damaged place to a whole one. */
import { hasCode } from '@lifeboat/foundation/errors';

import { closeReport, readDamage, type KnownDamage } from '../check/damage-reports.ts';
import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { sha256 } from '../format/frame.ts';
import { MAX_PACK_ENTRIES } from '../format/limits.ts';
import { hex, packObject, type ChunkId, type PackName } from '../format/names.ts';
import { encodeMoved } from '../format/relocation.ts';
import { BlobDamage } from '../read/blob-reader.ts';
import { discard } from '../seal/discard.ts';
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
      const isDamage = hasCode(
        error,
        'repository.object-missing',
        'repository.object-damaged',
        'repository.object-unreadable',
      );
      if (!isDamage) throw error;
    }
  }
  return false;
}

/**
 * Leads from a damaged pack to whole places of its blobs, durable in the store. The relocation is named by what it says, so that a
 * repetition finds it. `moved`: an id that comes twice is taken once.
 */
export async function heal(
  core: Core,
  input: { readonly pack: PackName; readonly moved: readonly BlobRef[]; readonly sizes: ReadonlyMap<PackName, number> },
  options: StoreOptions = {},
): Promise<void> {
  const moved = [...new Map(input.moved.map((ref) => [ref.id, ref])).values()];
  const relocationId = `healed-${hex(sha256(encodeMoved(moved))).slice(0, 32)}`;
  await writeRelocation(core, { ...input, moved, relocationId, reason: 'healed' }, options);
}

/** Pages a session remembers for healing: 40 MB. A disk of 16 TiB has as many; of a larger one the rest is not healed. */
const MAX_KEPT_PAGES = 262_144;

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

  /** Whether a map must not refer to the place any more. */
  avoids(ref: BlobRef): boolean {
    return this.damage.has(ref);
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

  /** Pages this session stored: they may be what a damaged page was. */
  keepPages(pages: readonly BlobRef[]): void {
    if (!this.damage.open.some((report) => report.pages.length > 0)) return;
    this.#pages.push(...pages.slice(0, MAX_KEPT_PAGES - this.#pages.length));
  }

  /** Writes the relocations, after everything they lead to is durable. Returns how many chunks they heal. May be repeated. */
  async run(places: WholePlaces, options: StoreOptions = {}): Promise<number> {
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
    const chunks = [...moved.values()].reduce((sum, blobs) => sum + blobs.size, 0);
    for (const pack of new Set(this.damage.open.flatMap(({ pages }) => pages.map((page) => page.pack))))
      for (const page of this.#pages) add(pack, page);
    for (const [pack, blobs] of moved) {
      const all = [...blobs.values()];
      for (let i = 0; i < all.length; i += MAX_PACK_ENTRIES) {
        const part = all.slice(i, i + MAX_PACK_ENTRIES);
        const sizes = new Map(part.map((ref) => [ref.pack, places.sizeOf(ref.pack) ?? 0]));
        await heal(this.#core, { pack, moved: part, sizes }, options);
      }
      for (const id of blobs.keys()) this.#healed.add(`${pack} ${id}`);
    }
    return chunks;
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
      if (!(error instanceof BlobDamage) && !hasCode(error, 'repository.unknown-epoch')) throw error;
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
