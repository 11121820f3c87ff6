/**
 * What the repository holds already, as far as a writer may refer to it: packs that the store lists now, and chunks in them that
 * index segments name: in memory, or in a local index on disk where the session has one. Loaded once per session: the packs when the
 * first chunk was read, the chunks when the parent's map does not answer. An incremental that reads nothing lists nothing.
 */
import type { Core } from '../core.ts';
import { decodeIndexEntries, decodeIndexEnvelope } from '../format/index-segment.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { damaged } from '../format/frame.ts';
import { MAX_INDEX_SEGMENT_BYTES } from '../format/limits.ts';
import { INDEX, packOfObject, PACKS } from '../format/names.ts';
import { open } from '../seal/aead.ts';
import { deriveKey } from '../seal/derive.ts';
import { isUselessObject } from '../store/bad-object.ts';
import { listNames, type StoreOptions } from '../store/object-store.ts';
import type { ChunkIndex } from './chunk-index.ts';
import type { IndexCache } from './index-cache.ts';
import type { PackSizes } from './pack-sizes.ts';

/** Sizes of the packs in the store. Throws when the listing fails: a partial one would lose deduplication, silently. */
export async function listPacks(core: Core, into: { sizes: PackSizes }, options: StoreOptions = {}): Promise<void> {
  for await (const { name, sizeBytes } of core.store.list(PACKS, options)) {
    const pack = packOfObject(name);
    if (pack) into.sizes.set(pack, sizeBytes);
    if (!pack) core.log.warn('an object among the packs is not a pack; it is ignored', { object: name });
  }
}

/** Whether it is there: the store lists the pack, in a size that holds the blob. */
export function isUsable(ref: BlobRef, packs: PackSizes): boolean {
  const sizeBytes = packs.get(ref.pack);
  return sizeBytes !== undefined && ref.offsetBytes + ref.lengthBytes <= sizeBytes;
}

/** Fills `index` from the segments with what may be referred to: all of it in memory. */
export async function loadIndex(
  core: Core,
  into: { index: ChunkIndex; isUsable: (ref: BlobRef) => boolean },
  options: StoreOptions = {},
): Promise<void> {
  for await (const name of listNames(core.store, INDEX, options)) {
    for (const ref of (await readSegment(core, name, options)) ?? []) if (into.isUsable(ref)) into.index.add(ref);
  }
}

/** Brings the local index up to date with the segments. */
export async function syncIndex(
  core: Core,
  into: { cache: IndexCache; packs: PackSizes },
  options: StoreOptions = {},
): Promise<void> {
  const names = async function* (): AsyncGenerator<string> {
    for await (const name of listNames(core.store, INDEX, options)) yield name;
  };
  await into.cache.sync(
    names(),
    (name) => readSegment(core, name, options),
    (pack) => into.packs.get(pack) !== undefined,
  );
}

/** A segment that is damaged, or was collected meanwhile, costs duplicates and is only logged. */
async function readSegment(core: Core, name: string, options: StoreOptions): Promise<BlobRef[] | undefined> {
  try {
    const object = await core.store.get(name, { ...options, maxBytes: MAX_INDEX_SEGMENT_BYTES });
    return openSegment(core, object, name);
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    core.log.warn('an index segment cannot be used; its chunks may be stored again', {
      object: name,
      why: error.message,
    });
    return undefined;
  }
}

/** What a segment names. Throws `repository.object-damaged`. */
export function openSegment(core: Core, object: Uint8Array, what: string): ReturnType<typeof decodeIndexEntries> {
  const { tenantId, salt, sealed } = decodeIndexEnvelope(object, what);
  const key = deriveKey(core.keyring.indexKey, 'index segment', salt);
  const plain = open({ key, counter: 0, additionalData: tenantId }, sealed);
  if (!plain) throw damaged(what, 'its seal does not open');
  return decodeIndexEntries(plain, what);
}
