/**
 * A segment of the deduplication index: what one session stored. Sorted by id; sealed under the tenant's index key.
 * Losing segments costs duplicate uploads and never data: no reader needs them.
 */
import { placesSchema, type BlobRef, fromColumns, toColumns } from './blob-ref.ts';
import { damaged, decodeFrame, encodeFrame } from './frame.ts';
import { MAX_INDEX_SEGMENT_BYTES, MAX_INDEX_SEGMENT_ENTRIES, MAX_PAGE_ENTRIES } from './limits.ts';
import { bytes, list, message, type MessageOf } from './wire.ts';

const envelopeSchema = message({
  tenantId: bytes(1, { length: 16 }),
  /** The seal's key is derived from the index key and this. */
  salt: bytes(2, { length: 32 }),
  sealed: bytes(3, { max: MAX_INDEX_SEGMENT_BYTES }),
});

export type IndexEnvelope = MessageOf<typeof envelopeSchema>;

export const encodeIndexEnvelope = (envelope: IndexEnvelope): Uint8Array =>
  encodeFrame('INDX', envelopeSchema.encode(envelope));
export const decodeIndexEnvelope = (object: Uint8Array, what: string): IndexEnvelope =>
  envelopeSchema.decode(decodeFrame('INDX', object, what), what);

const blocksSchema = message({
  blocks: list(1, placesSchema, Math.ceil(MAX_INDEX_SEGMENT_ENTRIES / MAX_PAGE_ENTRIES)),
});

export function encodeIndexEntries(refs: readonly BlobRef[]): Uint8Array {
  const sorted = refs.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const blocks = [];
  for (let i = 0; i < sorted.length; i += MAX_PAGE_ENTRIES)
    blocks.push(toColumns(sorted.slice(i, i + MAX_PAGE_ENTRIES)));
  return blocksSchema.encode({ blocks });
}

export function decodeIndexEntries(plain: Uint8Array, what: string): BlobRef[] {
  const refs = blocksSchema.decode(plain, what).blocks.flatMap((block) => fromColumns(block, undefined, what));
  return refs.map((ref, i) => {
    const before = refs[i - 1];
    if (typeof ref === 'string' || (typeof before === 'object' && before.id >= ref.id)) {
      throw damaged(what, `entry ${i} is out of order`);
    }
    return ref;
  });
}
