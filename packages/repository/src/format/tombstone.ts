/**
 * What a pruned point leaves: signed, so that nobody without the key can make a point disappear as if it had been pruned. Written
 * before the point's object goes, and kept: it closes the gap in the machine's chain, and a late repetition of the commit stays
 * invisible.
 */
import { decodeFrame, encodeFrame } from './frame.ts';
import { bytes, message, text, uint, type MessageOf } from './wire.ts';

const bodySchema = message({
  tenantId: bytes(1, { length: 16 }),
  machineId: text(2, 64),
  pointId: text(3, 64),
  /** SHA-256 of the whole object of the point. */
  pointHash: bytes(4, { length: 32 }),
  prunedMs: uint(5),
  /** Who, and by which rule; for people. */
  by: text(6, 255),
  reason: text(7, 255),
  signer: bytes(8, { length: 32 }),
});
export type Tombstone = MessageOf<typeof bodySchema>;

const envelopeSchema = message({
  body: bytes(1, { max: 2048 }),
  signature: bytes(2, { length: 64 }),
});

export const encodeTombstoneBody = (tombstone: Tombstone): Uint8Array => bodySchema.encode(tombstone);
export const encodeTombstone = (envelope: MessageOf<typeof envelopeSchema>): Uint8Array =>
  encodeFrame('TOMB', envelopeSchema.encode(envelope));

/** The caller checks signer and signature over `signedTombstone(body)`. Throws `repository.object-damaged`. */
export function decodeTombstone(
  object: Uint8Array,
  what: string,
): { tombstone: Tombstone; body: Uint8Array; signature: Uint8Array } {
  const { body, signature } = envelopeSchema.decode(decodeFrame('TOMB', object, what), what);
  return { tombstone: bodySchema.decode(body, what), body, signature };
}
