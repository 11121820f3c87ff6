/**
 * What relocations mean for what is needed.
 *
 * ```
 *   map: pack P, slots 3 and 9 ─► newest relocation of P by a compaction: holds 3 and 9, and what it leads to is there
 *                                   yes: P is *moved*: its object is not needed; where 3 and 9 are now is
 *                                   no:  P stays, with all of it; if it is gone already, whatever any relocation still leads to stays
 * ```
 * One relocation must hold all that is needed of a pack, so that it alone decides, and earlier ones, or those of a compaction that was
 * killed, keep nothing alive. What healing led elsewhere is kept beside that, as long as the pack it leads from is needed.
 */
import { hasCode } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { damaged } from '../format/frame.ts';
import { MAX_RELOCATION_BYTES } from '../format/limits.ts';
import {
  packObject,
  relocatedPackOf,
  relocationIdOf,
  RELOCATIONS,
  relocationsPrefix,
  type ChunkId,
  type PackName,
} from '../format/names.ts';
import { targetPacks } from '../format/relocation.ts';
import { LruCache } from '../read/lru.ts';
import { namingOf, openRelocation, type RelocationRecord } from '../read/relocations.ts';
import { listNames, type StoreOptions } from '../store/object-store.ts';
import { PackNames } from './pack-names.ts';
import type { PackUse } from './pack-use.ts';

/** How many relocations a reader follows, one after the other. */
const MAX_HOPS = 32;
const MAX_CACHED_PACKS = 65_536;
const MAX_CACHED_ENTRIES = 65_536;

export interface RelocationGroup {
  readonly pack: PackName;
  readonly names: readonly string[];
}

/** Which blobs are asked about, and where it is noted what keeps them. */
interface Needs {
  readonly needed: PackUse;
  readonly use: PackUse;
}

/** A pack whose blobs lie elsewhere, and where all that is needed of it is now, by slot. */
export interface MovedSource {
  readonly pack: PackName;
  readonly places: ReadonlyMap<number, BlobRef>;
}

/**
 * The relocations there are, by the pack they lead from. What is not ours by its name is left out, and told to `foreign`. Throws when the
 * listing fails.
 */
export async function* listRelocations(
  core: Core,
  options: StoreOptions & { readonly foreign?: (name: string) => void } = {},
): AsyncGenerator<RelocationGroup> {
  let pack: PackName | undefined;
  let names: string[] = [];
  for await (const name of listNames(core.store, RELOCATIONS, options)) {
    if (namingOf(core, name) === 'foreign') {
      options.foreign?.(name);
      continue;
    }
    const source = relocatedPackOf(name);
    if (pack !== undefined && source !== pack) {
      yield { pack, names };
      names = [];
    }
    pack = source;
    names.push(name);
  }
  if (pack !== undefined) yield { pack, names };
}

/** The relocations of one pack, without what is not ours by its name. Throws when the listing fails. */
export async function relocationsOf(core: Core, pack: PackName, options: StoreOptions = {}): Promise<string[]> {
  const names: string[] = [];
  for await (const name of listNames(core.store, relocationsPrefix(pack), options))
    if (namingOf(core, name) !== 'foreign') names.push(name);
  return names;
}

/** By its name: what a compaction wrote, and not healing. */
export function isOfCompaction(name: string): boolean {
  return !relocationIdOf(name).startsWith('healed-');
}

export class MovedPacks {
  readonly #core: Core;
  readonly #options: StoreOptions;
  /** Packs among whose relocations something without a tag lies that is none. */
  readonly #doubtful = new PackNames();
  /** Packs that relocations lead from. */
  readonly #sources: PackNames;
  /** Packs that a collector may delete, or delete again: nothing relies on them. */
  readonly #avoided: { has(pack: PackName): boolean };
  readonly #sizes = new LruCache<PackName, { readonly sizeBytes: number | undefined }>(MAX_CACHED_PACKS);
  readonly #records = new LruCache<PackName, readonly RelocationRecord[]>(
    MAX_CACHED_ENTRIES,
    (records) => 1 + records.reduce((sum, { moved }) => sum + moved.length, 0),
  );

  constructor(input: {
    core: Core;
    sources: PackNames;
    avoided: { has(pack: PackName): boolean };
    options: StoreOptions;
  }) {
    this.#core = input.core;
    this.#sources = input.sources;
    this.#avoided = input.avoided;
    this.#options = input.options;
  }

  /**
   * Where every blob that is needed of the pack is, by its slot, as the newest relocation says that holds them all and can be relied on;
   * undefined: there is none.
   * Throws `repository.object-damaged` for a relocation that cannot be read: then what it leads to is not known.
   */
  async chosen(group: RelocationGroup, use: PackUse): Promise<ReadonlyMap<number, BlobRef> | undefined> {
    const { pack } = group;
    if (use.is(pack, 'whole')) return undefined;
    const records = await this.#read(group);
    const ofCompaction = records.filter((record) => this.#standsForPack(record));
    for (const record of ofCompaction.toSorted(newestFirst)) {
      const needed = neededPlaces(record, pack, use);
      const isComplete = record.slots.length > 0 && needed.size === use.used(pack).blobs;
      if (!isComplete && this.#core.rules.moveEveryBlob) continue;
      if (await this.#areThere(record, [...needed.values()])) return needed;
    }
    return undefined;
  }

  /**
   * Notes in `use` what the relocations of a pack keep alive of which `needed` says what is needed: the same, or a part. 'moved': the pack
   * itself is not needed. 'there': it is. 'gone': it is not there, and relocations lead on from pack to pack. 'lost': it is not there, and
   * not all that is needed is anywhere else.
   * Throws `repository.object-damaged` for a relocation that cannot be read; for one without a tag only where the pack would be lost.
   */
  async apply(group: RelocationGroup, { needed, use }: Needs): Promise<'moved' | 'there' | 'gone' | 'lost'> {
    const { pack } = group;
    await this.keepHealed(group, use);
    const places = await this.chosen(group, needed);
    if (places) {
      use.flag(pack, 'moved');
      for (const place of places.values()) await this.#keep(place, use, 0);
      return 'moved';
    }
    if ((await this.#sizeOf(pack)) !== undefined) return 'there';
    if ((await this.#keepAll(group, { needed, use })) >= needed.used(pack).blobs) return 'gone';
    if (!this.#doubtful.has(pack)) return 'lost';
    throw damaged(relocationsPrefix(pack), 'what cannot be read there may lead to what is needed of that pack');
  }

  /** Notes what healing led to, away from a pack that is needed: which of it is needed is not known, so all of it is. */
  async keepHealed(group: RelocationGroup, use: PackUse): Promise<void> {
    if (!this.#core.rules.keepHealed) return;
    for (const record of await this.#read(group)) {
      if (this.#standsForPack(record)) continue;
      for (const place of record.moved) await this.#pin(group.pack, place, use, 0);
    }
  }

  /** The pack is gone, and no relocation holds all that is needed of it: whatever is left is kept. Returns how many blobs that is. */
  async #keepAll(group: RelocationGroup, { needed, use }: Needs): Promise<number> {
    const { pack } = group;
    const found = new Set<ChunkId>();
    for (const record of await this.#read(group)) {
      const isKnown = record.slots.length > 0 && !needed.is(pack, 'whole');
      const places = isKnown ? neededPlaces(record, pack, needed).values() : record.moved;
      for (const place of places) {
        await this.#pin(pack, place, use, 0);
        found.add(place.id);
      }
    }
    return found.size;
  }

  async #keep(place: BlobRef, use: PackUse, hops: number): Promise<void> {
    const isNew = use.add(place, 'target');
    if (!isNew || hops >= MAX_HOPS || !this.#sources.has(place.pack)) return;
    const isGone = (await this.#sizeOf(place.pack)) === undefined;
    const names = await relocationsOf(this.#core, place.pack, this.#options);
    for (const record of await this.#read({ pack: place.pack, names })) {
      if (!isGone && this.#standsForPack(record)) continue;
      const next = record.moved.find(({ id }) => id === place.id);
      if (next) await this.#pin(place.pack, next, use, hops + 1);
    }
  }

  /** Kept, and neither end is compacted: which of its blobs are needed is known too vaguely for that. */
  async #pin(from: PackName, place: BlobRef, use: PackUse, hops: number): Promise<void> {
    use.flag(from, 'healed');
    use.flag(place.pack, 'healed');
    await this.#keep(place, use, hops);
  }

  /**
   * Whether it can take the place of its pack. Only who holds the tenant's own keys can say so: what an agent signs adds a way, and must not
   * have a pack deleted.
   */
  #standsForPack({ statement: { reason, signer } }: RelocationRecord): boolean {
    return reason === 'compacted' && Buffer.compare(signer, this.#core.keyring.signer) === 0;
  }

  async #areThere({ statement }: RelocationRecord, places: readonly BlobRef[]): Promise<boolean> {
    const sizes = new Map(targetPacks(statement).map(({ pack, sizeBytes }) => [pack, sizeBytes]));
    for (const pack of new Set(places.map((place) => place.pack))) {
      if (this.#avoided.has(pack)) return false;
      const sizeBytes = await this.#sizeOf(pack);
      if (sizeBytes === undefined || sizeBytes !== sizes.get(pack)) return false;
    }
    return true;
  }

  async #sizeOf(pack: PackName): Promise<number | undefined> {
    const known = this.#sizes.get(pack);
    if (known) return known.sizeBytes;
    const found = await this.#core.store.head(packObject(pack), this.#options);
    this.#sizes.set(pack, { sizeBytes: found?.sizeBytes });
    return found?.sizeBytes;
  }

  async #read({ pack, names }: RelocationGroup): Promise<readonly RelocationRecord[]> {
    const known = this.#records.get(pack);
    if (known) return known;
    const records: RelocationRecord[] = [];
    for (const name of names) {
      try {
        const record = await readRelocation(this.#core, name, this.#options);
        if (record) records.push(record);
      } catch (error) {
        // Anybody may have put it. If it is ours, no reader finds what it leads to; so it counts where nothing else leads there.
        const isAnybodys = hasCode(error, 'repository.object-damaged') && namingOf(this.#core, name) === 'untagged';
        if (!isAnybodys) throw error;
        this.#doubtful.add(pack);
        this.#core.log.warn('a relocation without a tag cannot be used', { object: name, why: error.message });
      }
    }
    this.#records.set(pack, records);
    return records;
  }
}

/** Undefined: it went since it was listed. Throws `repository.object-damaged` for one that cannot be read. */
export async function readRelocation(
  core: Core,
  name: string,
  options: StoreOptions = {},
): Promise<RelocationRecord | undefined> {
  const pack = relocatedPackOf(name);
  try {
    const object = await core.store.get(name, { ...options, maxBytes: MAX_RELOCATION_BYTES });
    return openRelocation(core, object, { pack, relocationId: relocationIdOf(name) }, name);
  } catch (error) {
    if (!hasCode(error, 'repository.object-missing')) throw error;
    return undefined;
  }
}

function neededPlaces({ slots, moved }: RelocationRecord, pack: PackName, use: PackUse): Map<number, BlobRef> {
  const places = new Map<number, BlobRef>();
  for (const [i, place] of moved.entries()) {
    const slot = slots[i];
    if (slot !== undefined && use.isUsed({ pack, slot })) places.set(slot, place);
  }
  return places;
}

/** Ids of compactions begin with the number of the list they were made for. */
function newestFirst(a: RelocationRecord, b: RelocationRecord): number {
  return a.statement.relocationId < b.statement.relocationId ? 1 : -1;
}
