/**
 * Reads one sealed blob of a pack.
 *
 * ```
 *   getRange(blob) ─┐
 *                   ├─► open: decrypt, decompress, compare with the id ─► plaintext
 *   pack key ───────┘   (header of the pack, kept for the packs used last)
 * ```
 * What does not open is read and opened once more, from the store and with the key derived anew. Then relocations are asked for
 * other places of the blob. Only when none of them has it, it counts as damage.
 */
import { hasCode, LifeboatError, messageOf } from '@lifeboat/foundation/errors';

import { describeRef, type BlobRef } from '../format/blob-ref.ts';
import { damaged } from '../format/frame.ts';
import { MAX_CHUNK_BYTES, MAX_PACK_BYTES, MAX_PAGE_BYTES } from '../format/limits.ts';
import { chunkIdOf, hex, packObject, type PackName } from '../format/names.ts';
import {
  decodePackHeader,
  HEADER_READ_BYTES,
  kindOf,
  parsePack,
  type PackHeader,
  type PackKind,
  type PackLayout,
  type SealedBlob,
} from '../format/pack.ts';
import { openToc, packKey, type BlobOpening } from '../seal/blob-seal.ts';
import { discard } from '../seal/discard.ts';
import type { Keyring } from '../seal/keyring.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { ObjectStore, StoreOptions } from '../store/object-store.ts';
import type { BlobOpener } from './blob-opener.ts';
import { LruCache, SharedLoads } from './lru.ts';
import type { Relocations } from './relocations.ts';
import { Slots } from './slots.ts';

/** Fetches in flight. A disk that turns needs them to order its seeks: 16 gave 4 to 5 times the rate of one. */
const MAX_FETCHES = 16;
/** Of a pack that is opened as a whole: 32 MiB of copies at chunks of 4 MiB. */
const OPENED_AT_ONCE = 8;
/** Keys of packs kept: a terabyte at 32 MiB a pack needs 32,768; each is about 200 bytes. */
const MAX_PACK_KEYS = 65_536;
/** Packs in which one blob is looked for: what is compacted or healed again and again makes a chain of relocations. */
const MAX_PLACES = 32;

/** A blob that cannot be read as it was written, also not at the second attempt. The caller knows what it meant. */
export class BlobDamage extends Error {
  readonly ref: BlobRef;
  /** Everywhere it was looked for in vain: where the map says, and where relocations led. */
  readonly places: readonly BlobRef[];

  constructor(ref: BlobRef, why: string, cause?: unknown, elsewhere: readonly BlobRef[] = []) {
    super(`${describeRef(ref)}: ${why}`, { cause });
    this.ref = ref;
    this.places = [ref, ...elsewhere];
  }
}

interface OpenPack {
  readonly key: Uint8Array;
  readonly kind: PackKind;
}

export class BlobReader {
  readonly #store: ObjectStore;
  readonly #keyring: Keyring;
  readonly #refreshKeys: () => Promise<void>;
  readonly #opener: BlobOpener;
  readonly #relocations: Relocations;
  /** Packs that are gone and whose blobs were found elsewhere: not asked for again before the relocations are. */
  readonly #left = new LruCache<PackName, true>(MAX_PACK_KEYS);
  readonly #slots = new Slots(MAX_FETCHES);
  readonly #packs = new LruCache<PackName, OpenPack>(MAX_PACK_KEYS);
  readonly #loads = new SharedLoads<PackName, OpenPack | { failure: string }>();
  /** One session seals many packs: the X25519 step is done once for each. */
  readonly #baseKeys = new LruCache<string, Uint8Array>(1024);

  constructor(deps: {
    store: ObjectStore;
    keyring: Keyring;
    refreshKeys: () => Promise<void>;
    opener: BlobOpener;
    relocations: Relocations;
  }) {
    this.#refreshKeys = deps.refreshKeys;
    this.#store = deps.store;
    this.#relocations = deps.relocations;
    this.#keyring = deps.keyring;
    this.#opener = deps.opener;
  }

  /** Throws `BlobDamage`, or what the store throws when it cannot be asked, or not now. */
  async read(
    ref: BlobRef,
    expected: { kind: PackKind; plain: BlobOpening['plain'] },
    options: StoreOptions = {},
  ): Promise<Uint8Array> {
    return this.#slots.run(async () => {
      if (this.#left.get(ref.pack)) {
        const moved = await this.#readMoved(ref, expected, options, new Map([[ref.pack, ref]]));
        if (moved) return moved;
      }
      const found = await this.#readAt(ref, expected, options);
      if ('plain' in found) return found.plain;
      const tried = new Map([[ref.pack, ref]]);
      const moved = await this.#readMoved(ref, expected, options, tried);
      if (!moved) throw new BlobDamage(ref, found.failure, found.cause, [...tried.values()].slice(1));
      if (hasCode(found.cause, 'repository.object-missing')) this.#left.set(ref.pack, true);
      return moved;
    });
  }

  /** Two attempts: a read that fails once proves nothing. The second goes over a connection of its own. */
  async #readAt(
    ref: BlobRef,
    expected: { kind: PackKind; plain: BlobOpening['plain'] },
    options: StoreOptions,
  ): Promise<{ plain: Uint8Array } | { failure: string; cause?: unknown }> {
    const first = await this.#attempt(ref, expected, options);
    if ('plain' in first) return first;
    this.#packs.delete(ref.pack);
    return this.#attempt(ref, expected, { ...options, fresh: true });
  }

  /** The blob from where relocations say, and from where relocations of those packs say. Each pack is tried once. */
  async #readMoved(
    ref: BlobRef,
    expected: { kind: PackKind; plain: BlobOpening['plain'] },
    options: StoreOptions,
    tried: Map<PackName, BlobRef>,
  ): Promise<Uint8Array | undefined> {
    for await (const place of this.#relocations.places(ref, options)) {
      if (tried.has(place.pack)) continue;
      if (tried.size >= MAX_PLACES) return undefined;
      tried.set(place.pack, place);
      const found = await this.#readAt(place, expected, options);
      const plain = 'plain' in found ? found.plain : await this.#readMoved(place, expected, options, tried);
      if (plain) return plain;
    }
    return undefined;
  }

  /**
   * Opens every blob of a pack whose bytes are at hand, against the ids in its own table. Returns why, by slot, for those that do not open.
   * Throws `repository.object-damaged` where the pack as a whole does not open, `repository.unknown-epoch`, what the store throws.
   */
  async openWhole(layout: PackLayout, bytes: Uint8Array, options: StoreOptions = {}): Promise<Map<number, string>> {
    const { name, header, blobs } = layout;
    const object = packObject(name);
    const kind = kindOf(header);
    if (!this.#keyring.knowsEpochOf(header)) await this.#learnEpoch(name, header);
    const baseKey = this.#baseKey(header);
    if (!kind || !baseKey) throw damaged(object, 'the key in it was not made for this repository');
    const { tenantId, chunkIdKey } = this.#keyring;
    const pack = { key: packKey(baseKey, header.salt), kind, tenantId };
    const { ids, plainBytes } = openToc(pack, layout.sealedToc, object);
    if (plainBytes.length !== blobs.length)
      throw damaged(object, `it holds ${blobs.length} blobs and names ${plainBytes.length}`);
    const failures = new Map<number, string>();
    const openOne = async ({ slot, offsetBytes, lengthBytes }: SealedBlob): Promise<void> => {
      options.signal?.throwIfAborted();
      const exactBytes = plainBytes[slot] ?? 0;
      if (exactBytes > (kind === 'data' ? MAX_CHUNK_BYTES : MAX_PAGE_BYTES)) {
        failures.set(slot, `it claims ${exactBytes} bytes of plaintext`);
        return;
      }
      const id = chunkIdOf(ids.subarray(slot * 32, slot * 32 + 32));
      // A copy: the opener may hand its memory to another thread, and this one is all of the pack.
      const sealed = Uint8Array.from(bytes.subarray(offsetBytes, offsetBytes + lengthBytes));
      const opened = await this.#opener.open({ ...pack, chunkIdKey, id, slot, plain: { exactBytes } }, sealed);
      if ('failure' in opened) failures.set(slot, opened.failure);
      else discard(opened.plain);
    };
    for (let slot = 0; slot < blobs.length; slot += OPENED_AT_ONCE)
      await Promise.all(blobs.slice(slot, slot + OPENED_AT_ONCE).map(openOne));
    return failures;
  }

  close(): Promise<void> {
    return this.#opener.close();
  }

  async #attempt(
    ref: BlobRef,
    expected: { kind: PackKind; plain: BlobOpening['plain'] },
    options: StoreOptions,
  ): Promise<{ plain: Uint8Array } | { failure: string; cause?: unknown }> {
    options.signal?.throwIfAborted();
    try {
      const [sealed, pack] = await Promise.all([
        this.#store.getRange(
          packObject(ref.pack),
          { offsetBytes: ref.offsetBytes, lengthBytes: ref.lengthBytes },
          options,
        ),
        this.#pack(ref.pack, options),
      ]);
      if ('failure' in pack) return pack;
      if (pack.kind !== expected.kind) return { failure: `its pack holds ${pack.kind}, not ${expected.kind}` };
      const opening: BlobOpening = {
        key: pack.key,
        kind: pack.kind,
        tenantId: this.#keyring.tenantId,
        chunkIdKey: this.#keyring.chunkIdKey,
        id: ref.id,
        slot: ref.slot,
        plain: expected.plain,
      };
      const opened = await this.#opener.open(opening, sealed);
      discard(sealed);
      return opened;
    } catch (error) {
      // Also a pack that claims a version that our own map would not refer to.
      if (!isUselessObject(error)) throw error;
      return { failure: error.message, cause: error };
    }
  }

  async #pack(name: PackName, options: StoreOptions): Promise<OpenPack | { failure: string }> {
    const known = this.#packs.get(name);
    if (known) return known;
    // Shared by several readers, so not bound to the signal of one of them.
    const loaded = await this.#loads.load(name, () => this.#loadPack(name, options.fresh));
    options.signal?.throwIfAborted();
    return loaded;
  }

  async #loadPack(name: PackName, fresh: boolean | undefined): Promise<OpenPack | { failure: string }> {
    const object = packObject(name);
    const range = { offsetBytes: 0, lengthBytes: HEADER_READ_BYTES, atMost: true };
    const start = await this.#store.getRange(object, range, { fresh });
    const { header } = decodePackHeader(start, object);
    const kind = kindOf(header);
    const key = this.#keyring.packKeyOf?.(name) ?? (await this.#deriveKey(name, header));
    if (!kind || !key) return { failure: 'the key in its pack was not made for this repository' };
    const pack = { key, kind };
    this.#packs.set(name, pack);
    return pack;
  }

  async #deriveKey(name: PackName, header: PackHeader): Promise<Uint8Array | undefined> {
    if (!this.#keyring.knowsEpochOf(header)) await this.#learnEpoch(name, header);
    const baseKey = this.#baseKey(header);
    return baseKey && packKey(baseKey, header.salt);
  }

  /**
   * Another process may have begun the epoch since the keys were opened. One that is not known then either is no damage, if the pack is
   * what its name says: with the keys that are missing it would open.
   */
  async #learnEpoch(name: PackName, header: PackHeader): Promise<void> {
    let cause: unknown;
    try {
      await this.#refreshKeys();
    } catch (error) {
      // Key sets that cannot be read are no damage of this pack either.
      if (!isUselessObject(error)) throw error;
      cause = error;
    }
    if (this.#keyring.knowsEpochOf(header)) return;
    const object = packObject(name);
    if (parsePack(await this.#store.get(object, { maxBytes: MAX_PACK_BYTES }), object).name !== name) return;
    throw new LifeboatError(
      'repository.unknown-epoch',
      `${object} was sealed in epoch ${header.epoch} of the keys, which the newest key set that can be read does not hold`,
      { context: { object, epoch: header.epoch }, cause },
    );
  }

  #baseKey(header: PackHeader): Uint8Array | undefined {
    const cacheKey = header.sealedSessionKey
      ? `${header.epoch} ${hex(header.sealedSessionKey)}`
      : `machine ${header.machineId}`;
    const cached = this.#baseKeys.get(cacheKey);
    if (cached && Buffer.compare(header.tenantId, this.#keyring.tenantId) === 0) return cached;
    const baseKey = this.#keyring.baseKeyOf(header);
    if (baseKey) this.#baseKeys.set(cacheKey, baseKey);
    return baseKey;
  }
}

/** Turns damage of a page into the error a person sees; anything else passes. */
export function asMapDamage(
  error: unknown,
  range: { what: string; offsetBytes: number; lengthBytes: number },
): unknown {
  if (!(error instanceof BlobDamage) && !hasCode(error, 'repository.object-damaged')) return error;
  const { what, offsetBytes, lengthBytes } = range;
  return new LifeboatError(
    'repository.map-damaged',
    `${what}: the map of ${lengthBytes} bytes at ${offsetBytes} cannot be read: ${messageOf(error)}`,
    { context: { ...range, ...(error instanceof BlobDamage ? { pack: error.ref.pack } : {}) }, cause: error },
  );
}
