/**
 * What a writer session leaves in the store beside its data: `open` before its first pack, `closed` when it is done. Whoever
 * collects garbage holds back while a session is open. Readers need neither.
 */
import { decodeFrame, encodeFrame } from './frame.ts';
import { message, text, uint, type MessageOf } from './wire.ts';

const schema = message({
  sessionId: text(1, 64),
  machineId: text(2, 64),
  /** Unix ms by the writer's clock. */
  instantMs: uint(3),
  event: text(4, 16),
});

export type SessionEvent = 'open' | 'committed' | 'abandoned';
type Wire = MessageOf<typeof schema>;
export type SessionRecord = Wire & { readonly event: SessionEvent };

export function encodeSessionRecord(record: SessionRecord): Uint8Array {
  return encodeFrame('SESS', schema.encode(record));
}

export function decodeSessionRecord(object: Uint8Array, what: string): Wire {
  return schema.decode(decodeFrame('SESS', object, what), what);
}
