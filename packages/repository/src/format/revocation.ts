/**
 * An agent is trusted no more: `frame('REVO', protobuf {1 body, 2 signature})`, signed by the tenant.
 *
 * It says which points of the agent count all the same: those that were there, by the hash of their objects. A list and not an
 * instant, because every instant an agent could be judged by is one that it wrote itself.
 */
import { damaged, decodeFrame, encodeFrame } from './frame.ts';
import { MAX_ACCEPTED_POINTS, MAX_REVOCATION_BYTES } from './limits.ts';
import { hex } from './names.ts';
import { bytes, message, text, uint, type MessageOf } from './wire.ts';

const bodySchema = message({
  tenantId: bytes(1, { length: 16 }),
  agentId: bytes(2, { length: 16 }),
  revokedMs: uint(3),
  /** Label of the key slot by which who revoked it had opened the tenant. */
  by: text(4, 128),
  reason: text(5, 255),
  /** SHA-256 of the objects of points that count, 32 bytes each, ascending. */
  points: bytes(6, { max: MAX_ACCEPTED_POINTS * 32 }),
});
export type RevocationBody = MessageOf<typeof bodySchema>;

const envelopeSchema = message({
  body: bytes(1, { max: MAX_REVOCATION_BYTES }),
  signature: bytes(2, { length: 64 }),
});

export const encodeRevocationBody = (body: RevocationBody): Uint8Array => bodySchema.encode(body);
export const encodeRevocation = (envelope: MessageOf<typeof envelopeSchema>): Uint8Array =>
  encodeFrame('REVO', envelopeSchema.encode(envelope));

/** The caller checks tenant, agent and signature. Throws `repository.object-damaged` or `repository.newer-version`. */
export function decodeRevocation(
  object: Uint8Array,
  what: string,
): { revocation: RevocationBody; body: Uint8Array; signature: Uint8Array } {
  const { body, signature } = envelopeSchema.decode(decodeFrame('REVO', object, what), what);
  const revocation = bodySchema.decode(body, what);
  acceptedPoints(revocation, what);
  return { revocation, body, signature };
}

/** Hashes of the points that count, hexadecimal. `hashes` for encoding in any order. */
export const encodeAcceptedPoints = (hashes: ReadonlySet<string>): Uint8Array =>
  Buffer.from([...hashes].toSorted().join(''), 'hex');

export function acceptedPoints({ points }: RevocationBody, what: string): string[] {
  if (points.length % 32 !== 0) throw damaged(what, `${points.length} bytes of hashes`);
  const hashes: string[] = [];
  for (let at = 0; at < points.length; at += 32) {
    const hash = hex(points.subarray(at, at + 32));
    if (hash <= (hashes.at(-1) ?? '')) throw damaged(what, 'its points do not rise');
    hashes.push(hash);
  }
  return hashes;
}
