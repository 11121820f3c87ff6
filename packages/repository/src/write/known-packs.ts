/**
 * What the repository holds already, as far as a writer may refer to it: packs that the store lists now, and chunks in them that
 * index segments name. Loaded once per session, and only when the parent's map does not answer: an incremental that finds
 * nothing new lists nothing.
 */
import { hasCode } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import { decodeIndexEntries, decodeIndexEnvelope } from '../format/index-segment.ts';
import { damaged } from '../format/frame.ts';
import { MAX_INDEX_SEGMENT_BYTES } from '../format/limits.ts';
import { INDEX, packOfObject, PACKS, type PackName } from '../format/names.ts';
import { open } from '../seal/aead.ts';
import { deriveKey } from '../seal/derive.ts';
import type { StoreOptions } from '../store/object-store.ts';
import type { ChunkIndex } from './chunk-index.ts';

/** Sizes of all packs in the store. Throws when the listing fails: a partial one would lose deduplication, silently. */
export async function listPacks(core: Core, options: StoreOptions = {}): Promise<Map<PackName, number>> {
  const sizes = new Map<PackName, number>();
  for await (const { name, sizeBytes } of core.store.list(PACKS, options)) {
    const pack = packOfObject(name);
    if (pack) sizes.set(pack, sizeBytes);
    else core.log.warn('an object among the packs is not a pack; it is ignored', { object: name });
  }
  return sizes;
}

/** Fills `index` from the segments. A damaged segment costs duplicates and is only logged. */
export async function loadIndex(
  core: Core,
  into: { index: ChunkIndex; packs: ReadonlyMap<PackName, number> },
  options: StoreOptions = {},
): Promise<void> {
  for await (const { name } of core.store.list(INDEX, options)) {
    try {
      const object = await core.store.get(name, { ...options, maxBytes: MAX_INDEX_SEGMENT_BYTES });
      for (const ref of openSegment(core, object, name)) {
        const sizeBytes = into.packs.get(ref.pack);
        if (sizeBytes !== undefined && ref.offsetBytes + ref.lengthBytes <= sizeBytes) into.index.add(ref);
      }
    } catch (error) {
      if (!hasCode(error, 'repository.object-damaged', 'repository.object-missing')) throw error;
      core.log.warn('an index segment cannot be used; its chunks may be stored again', {
        object: name,
        why: error.message,
      });
    }
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
