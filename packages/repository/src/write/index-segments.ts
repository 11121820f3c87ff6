import type { SessionId } from '@lifeboat/foundation/ids';

import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { encodeIndexEntries, encodeIndexEnvelope } from '../format/index-segment.ts';
import { MAX_INDEX_SEGMENT_ENTRIES } from '../format/limits.ts';
import { indexObject } from '../format/names.ts';
import { seal } from '../seal/aead.ts';
import { deriveKey } from '../seal/derive.ts';
import type { StoreOptions } from '../store/object-store.ts';

/** Writes what a session stored as index segments. A segment that exists already was written by an earlier attempt. */
export async function writeIndexSegments(
  core: Core,
  input: { sessionId: SessionId; refs: readonly BlobRef[] },
  options: StoreOptions = {},
): Promise<number> {
  let bytes = 0;
  for (let start = 0, sequence = 0; start < input.refs.length; start += MAX_INDEX_SEGMENT_ENTRIES, sequence++) {
    const salt = core.random.bytes(32);
    const { tenantId, indexKey } = core.keyring;
    const key = deriveKey(indexKey, 'index segment', salt);
    const plain = encodeIndexEntries(input.refs.slice(start, start + MAX_INDEX_SEGMENT_ENTRIES));
    const sealed = seal({ key, counter: 0, additionalData: tenantId }, plain);
    const object = encodeIndexEnvelope({ tenantId, salt, sealed });
    await core.store.putIfAbsent(indexObject(input.sessionId, sequence), [object], options);
    bytes += object.length;
  }
  return bytes;
}
