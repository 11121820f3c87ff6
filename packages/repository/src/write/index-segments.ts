import type { SessionId } from '@lifeboat/foundation/ids';

import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { encodeIndexEntries, encodeIndexEnvelope } from '../format/index-segment.ts';
import { indexObject } from '../format/names.ts';
import { seal } from '../seal/aead.ts';
import { deriveKey } from '../seal/derive.ts';
import type { StoreOptions } from '../store/object-store.ts';

/**
 * Writes a part of what a session stored (at most 65,536 chunks) as its `sequence`-th index segment, and returns the segment's name.
 * One that exists already was written by an earlier attempt.
 */
export async function writeIndexSegment(
  core: Core,
  input: { sessionId: SessionId; sequence: number; refs: readonly BlobRef[] },
  options: StoreOptions = {},
): Promise<string> {
  const name = indexObject(input.sessionId, input.sequence);
  const salt = core.random.bytes(32);
  const { tenantId, indexKey } = core.keyring;
  const key = deriveKey(indexKey, 'index segment', salt);
  const sealed = seal({ key, counter: 0, additionalData: tenantId }, encodeIndexEntries(input.refs));
  await core.store.putIfAbsent(name, [encodeIndexEnvelope({ tenantId, salt, sealed })], options);
  return name;
}
