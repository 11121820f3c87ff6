/**
 * Finds blobs that are not where a map says.
 *
 * ```
 *   map: pack P, slot 3 ── does not open ──► data/relocations/<P>/… ──► pack Q, slot 0 ── does not open ──► data/relocations/<Q>/…
 * ```
 * Asked only after the place in the map failed, so an intact repository never lists here. Objects are immutable and are kept; the
 * listing is repeated whenever what is known does not help, because a pack may be healed while a reader is open.
 */
import type { Log } from '@lifeboat/foundation/log';

import type { BlobRef } from '../format/blob-ref.ts';
import { damaged } from '../format/frame.ts';
import { MAX_RELOCATION_BYTES } from '../format/limits.ts';
import {
  hashBytes,
  isRecordName,
  relocationIdOf,
  relocationsPrefix,
  type ChunkId,
  type PackName,
} from '../format/names.ts';
import { decodeMoved, decodeRelocation, type RelocationStatement } from '../format/relocation.ts';
import { open } from '../seal/aead.ts';
import { authorOf } from '../seal/certificate.ts';
import type { Keyring } from '../seal/keyring.ts';
import { plainName } from '../seal/control-records.ts';
import { relocationSeal, signedRelocation } from '../seal/relocation-seal.ts';
import { isUselessObject } from '../store/bad-object.ts';
import { listNames, type ObjectStore, type StoreOptions } from '../store/object-store.ts';
import { LruCache } from './lru.ts';

/** Relocations of one pack that are read, and once more as many without a tag; it is healed or compacted a few times at most. */
const MAX_PER_PACK = 256;
/** Entries kept: some 50 MB. */
const MAX_CACHED_ENTRIES = 262_144;

type Moved = ReadonlyMap<ChunkId, BlobRef>;

export interface RelocationRecord {
  readonly statement: RelocationStatement;
  readonly moved: readonly BlobRef[];
  /** The slot each of `moved` had in the pack it was in; empty where that is not known. */
  readonly slots: readonly number[];
}

/** Checks and opens the bytes of a relocation. Throws `repository.object-damaged` or `repository.newer-version`. */
export function openRelocation(
  deps: { readonly keyring: Keyring },
  object: Uint8Array,
  id: { pack: PackName; relocationId: string },
  what: string,
): RelocationRecord {
  const { keyring } = deps;
  const { statement, statementBytes, ...signed } = decodeRelocation(object, what);
  if (Buffer.compare(statement.tenantId, keyring.tenantId) !== 0) throw damaged(what, 'it belongs to another tenant');
  if (Buffer.compare(statement.pack, hashBytes(id.pack)) !== 0 || statement.relocationId !== id.relocationId)
    throw damaged(what, 'it was made for another pack or under another name');
  // Of an agent it counts for ever, revoked or not: it only adds a way, and what it leads to must open to the id.
  if (!authorOf(keyring, signedRelocation(statementBytes), { signer: statement.signer, ...signed }, what))
    throw damaged(what, 'its signature is not ours');
  const plain = open(relocationSeal(keyring.indexKey, statement), statement.sealed);
  if (!plain) throw damaged(what, 'its seal does not open');
  const { places, slots } = decodeMoved(plain, what);
  return { statement, moved: places, slots };
}

export type RelocationNaming =
  /** By who has the tenant's keys. */
  | 'tagged'
  /** As before names had tags: ours if its signature is; anybody may have put it. */
  | 'untagged'
  | 'foreign';

/** `name`: of what lies among the relocations. */
export function namingOf(keys: { readonly keyring: Keyring }, name: string): RelocationNaming {
  if (isRecordName(name)) return 'untagged';
  return plainName(keys, name) === undefined ? 'foreign' : 'tagged';
}

export class Relocations {
  readonly #store: ObjectStore;
  readonly #keyring: Keyring;
  readonly #log: Log;
  readonly #objects = new LruCache<string, Moved>(MAX_CACHED_ENTRIES, (moved) => moved.size + 1);
  /** Names of a pack's relocations as they were listed last. */
  readonly #listed = new LruCache<PackName, readonly string[]>(MAX_CACHED_ENTRIES);

  constructor(deps: { store: ObjectStore; keyring: Keyring; log: Log }) {
    this.#store = deps.store;
    this.#keyring = deps.keyring;
    this.#log = deps.log;
  }

  /**
   * Other places of a blob, those known already first. A relocation that is damaged or not ours is logged and passed over; a
   * store that cannot be asked throws.
   */
  async *places(ref: BlobRef, options: StoreOptions = {}): AsyncIterable<BlobRef> {
    const asked = new Set<string>();
    for (const fresh of [false, true]) {
      const names = fresh ? await this.#list(ref.pack, options) : (this.#listed.get(ref.pack) ?? []);
      for (const name of names) {
        if (asked.has(name)) continue;
        asked.add(name);
        const place = (await this.#load(name, ref.pack, options))?.get(ref.id);
        if (place) yield place;
      }
    }
  }

  /** What the relocations of a pack say, listed anew; those that cannot be used are left out. */
  async from(pack: PackName, options: StoreOptions = {}): Promise<readonly ReadonlyMap<ChunkId, BlobRef>[]> {
    const found: Moved[] = [];
    for (const name of await this.#list(pack, options)) {
      const moved = await this.#load(name, pack, options);
      if (moved) found.push(moved);
    }
    return found;
  }

  /** Whether any relocation leads away from the pack; what it says is not looked at. */
  async leadFrom(pack: PackName, options: StoreOptions = {}): Promise<boolean> {
    return (await this.#list(pack, options)).length > 0;
  }

  /** Those with a tag first: however many names others put there, they hide none of them. */
  async #list(pack: PackName, options: StoreOptions): Promise<readonly string[]> {
    const found: Record<RelocationNaming, string[]> = { tagged: [], untagged: [], foreign: [] };
    let leftOut = 0;
    for await (const name of listNames(this.#store, relocationsPrefix(pack), options)) {
      const alike = found[namingOf({ keyring: this.#keyring }, name)];
      if (alike.length < MAX_PER_PACK) alike.push(name);
      else leftOut++;
    }
    const { tagged, untagged, foreign } = found;
    if (leftOut > 0 || foreign.length > 0) {
      const counts = { foreign: foreign.length, leftOut, limit: MAX_PER_PACK };
      this.#log.warn('a pack has more relocations than are read, or objects among them that are not ours', {
        pack,
        ...counts,
      });
    }
    const names = [...tagged, ...untagged];
    this.#listed.set(pack, names);
    return names;
  }

  async #load(name: string, pack: PackName, options: StoreOptions): Promise<Moved | undefined> {
    const cached = this.#objects.get(name);
    if (cached) return cached;
    try {
      const relocationId = relocationIdOf(name);
      const object = await this.#store.get(name, { ...options, maxBytes: MAX_RELOCATION_BYTES });
      const { moved } = openRelocation({ keyring: this.#keyring }, object, { pack, relocationId }, name);
      const byId = new Map(moved.map((place) => [place.id, place]));
      this.#objects.set(name, byId);
      return byId;
    } catch (error) {
      if (!isUselessObject(error)) throw error;
      this.#log.warn('a relocation cannot be used', { object: name, why: error.message });
      return undefined;
    }
  }
}
