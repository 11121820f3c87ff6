/**
 * How a session ended that somebody else had to end.
 *
 * ```
 *   fence ─► list the points ─► outcome (create-only): committed, or not
 * ```
 * A fence cannot stop a PUT that is on its way, so the outcome decides: a point whose session has an outcome that does not name it
 * is no point, whenever it arrives. Both records are kept for good, because a late PUT has no deadline.
 */
import { decodeFrame, encodeFrame } from './frame.ts';
import { bytes, message, text, uint, type MessageOf } from './wire.ts';

const fenceSchema = message({
  sessionId: text(1, 64),
  /** Unix ms by the clock of who fenced it. */
  fencedMs: uint(2),
});
export type Fence = MessageOf<typeof fenceSchema>;

const outcomeSchema = message({
  tenantId: bytes(1, { length: 16 }),
  sessionId: text(2, 64),
  /** The point the session committed; empty: none, now and for ever. */
  pointId: text(3, 64),
  decidedMs: uint(4),
  signer: bytes(5, { length: 32 }),
});
export type SessionOutcome = MessageOf<typeof outcomeSchema>;

const envelopeSchema = message({
  body: bytes(1, { max: 1024 }),
  /** An outcome can make a point invisible: it counts only when the tenant signed it. */
  signature: bytes(2, { length: 64 }),
});

/** The body of a signed record. */
export const encodeFence = (fence: Fence): Uint8Array => fenceSchema.encode(fence);
export const decodeFence = (body: Uint8Array, what: string): Fence => fenceSchema.decode(body, what);

export const encodeOutcomeBody = (outcome: SessionOutcome): Uint8Array => outcomeSchema.encode(outcome);
export const encodeOutcome = (envelope: MessageOf<typeof envelopeSchema>): Uint8Array =>
  encodeFrame('OUTC', envelopeSchema.encode(envelope));

/** The caller checks signer and signature over the body. Throws `repository.object-damaged`. */
export function decodeOutcome(
  object: Uint8Array,
  what: string,
): { outcome: SessionOutcome; body: Uint8Array; signature: Uint8Array } {
  const { body, signature } = envelopeSchema.decode(decodeFrame('OUTC', object, what), what);
  return { outcome: outcomeSchema.decode(body, what), body, signature };
}
