/**
 * A relocation: blobs of one pack that can be found in other packs now, because the pack was compacted or because parts of it
 * were damaged and healed. `frame('RELO', protobuf: statement || signature)`.
 *
 * A relocation adds a way and takes none away: a reader asks it only when the place its map names does not give the blob, and
 * what it finds must open to the same id. So a wrong one costs time, never data. It is signed because a collector believes it: by the
 * tenant, or in version 2 by an agent, whose certificate it holds.
 */
import { placesSchema, type BlobRef, fromColumns, toColumns } from './blob-ref.ts';
import { certificateField, type Certified } from './certificate.ts';
import { damaged, decodeVersions, encodeFrame } from './frame.ts';
import { MAX_PACK_BYTES, MAX_PACK_ENTRIES, MAX_PAGE_ENTRIES, MAX_RELOCATION_BYTES } from './limits.ts';
import { hashBytes, packNameOf, type ChunkId, type PackName } from './names.ts';
import { bytes, list, message, text, uint, uints, type MessageOf } from './wire.ts';

const targetSchema = message({
  pack: bytes(1, { length: 32 }),
  sizeBytes: uint(2, MAX_PACK_BYTES),
});

const statementSchema = message({
  tenantId: bytes(1, { length: 16 }),
  /** The pack the blobs were in. */
  pack: bytes(2, { length: 32 }),
  relocationId: text(3, 63),
  /** Unix ms by the writer's clock. */
  createdMs: uint(4),
  /** `healed` or `compacted`. */
  reason: text(5, 16),
  /** Every pack the blobs are in now, once, ascending by name: in the open, for whoever keeps or locks packs. */
  targets: list(6, targetSchema, MAX_PACK_ENTRIES),
  salt: bytes(7, { length: 32 }),
  /** Where each blob is, sealed under the index key. */
  sealed: bytes(8, { max: MAX_RELOCATION_BYTES }),
  /** Ed25519 public key. */
  signer: bytes(9, { length: 32 }),
});
export type RelocationStatement = MessageOf<typeof statementSchema>;

const envelopeFields = {
  statement: bytes(1, { max: MAX_RELOCATION_BYTES }),
  signature: bytes(2, { length: 64 }),
};
const envelopeSchema = message(envelopeFields);
const certifiedSchema = message({ ...envelopeFields, certificate: certificateField(3) });

const movedSchema = message({
  blocks: list(1, placesSchema, Math.ceil(MAX_PACK_ENTRIES / MAX_PAGE_ENTRIES)),
  /** Of each blob, in the same order, its slot in the pack it was in; none where whoever wrote it did not know. */
  slots: uints(2, MAX_PACK_ENTRIES),
});

/** Where blobs of one pack are now. */
export interface Moved {
  /** Ascending by id. */
  readonly places: readonly BlobRef[];
  /** Of each place, the slot the blob had; empty where that is not known. */
  readonly slots: readonly number[];
}

export const encodeRelocationStatement = (statement: RelocationStatement): Uint8Array =>
  statementSchema.encode(statement);

export function encodeRelocation(envelope: Certified<MessageOf<typeof envelopeSchema>>): Uint8Array {
  const { certificate } = envelope;
  if (certificate === undefined) return encodeFrame('RELO', envelopeSchema.encode(envelope));
  return encodeFrame('RELO', certifiedSchema.encode({ ...envelope, certificate }), 2);
}

export function decodeRelocation(
  object: Uint8Array,
  what: string,
): Certified<{ statement: RelocationStatement; statementBytes: Uint8Array; signature: Uint8Array }> {
  const { version, body } = decodeVersions('RELO', object, what);
  const { statement: statementBytes, ...rest } = (version === 1 ? envelopeSchema : certifiedSchema).decode(body, what);
  return { statement: statementSchema.decode(statementBytes, what), statementBytes, ...rest };
}

/** `moved`: any order, ids distinct. `slots`: the slot each blob had, of all of them or of none. */
export function encodeMoved(moved: readonly BlobRef[], slots?: ReadonlyMap<ChunkId, number>): Uint8Array {
  const sorted = moved.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const blocks = [];
  for (let i = 0; i < sorted.length; i += MAX_PAGE_ENTRIES)
    blocks.push(toColumns(sorted.slice(i, i + MAX_PAGE_ENTRIES)));
  return movedSchema.encode({ blocks, slots: slots ? sorted.map(({ id }) => slots.get(id) ?? 0) : [] });
}

/** Throws `repository.object-damaged`. */
export function decodeMoved(plain: Uint8Array, what: string): Moved {
  const { blocks, slots } = movedSchema.decode(plain, what);
  const found = blocks.flatMap((block) => fromColumns(block, undefined, what));
  const places = found.map((place, i) => {
    const before = found[i - 1];
    if (typeof place === 'string' || (typeof before === 'object' && before.id >= place.id))
      throw damaged(what, `entry ${i} is out of order`);
    return place;
  });
  if (slots.length > 0 && (slots.length !== places.length || slots.some((slot) => slot >= MAX_PACK_ENTRIES)))
    throw damaged(what, `${slots.length} slots for ${places.length} blobs`);
  return { places, slots };
}

export function targetsOf(sizes: ReadonlyMap<PackName, number>): RelocationStatement['targets'] {
  return [...sizes]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([pack, sizeBytes]) => ({ pack: hashBytes(pack), sizeBytes }));
}

export function targetPacks(statement: RelocationStatement): { pack: PackName; sizeBytes: number }[] {
  return statement.targets.map(({ pack, sizeBytes }) => ({ pack: packNameOf(pack), sizeBytes }));
}
