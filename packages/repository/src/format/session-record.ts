/**
 * What a writer session leaves in the store beside its data: `open` before its first pack, `closed` when it is done. Whoever
 * collects garbage waits for a session that is open. Readers need neither.
 */
import { damaged } from './frame.ts';
import { MAX_SESSION_LISTS } from './limits.ts';
import { bytes, message, text, uint, type MessageOf } from './wire.ts';

const schema = message({
  sessionId: text(1, 64),
  machineId: text(2, 64),
  /** Unix ms by the writer's clock. */
  instantMs: uint(3),
  event: text(4, 16),
  /** The point of a committed session; else empty. */
  pointId: text(5, 64),
  /** Ids, 16 bytes each, of the condemn lists the writer knew before it opened the session: these need not wait for it. */
  knownLists: bytes(6, { max: MAX_SESSION_LISTS * 16 }),
  /** Of the end: 32 bytes that only the session itself can know. Of the beginning: their SHA-256. */
  closing: bytes(7, { length: 32 }),
});

export type SessionEvent = 'open' | 'committed' | 'abandoned';
type Wire = MessageOf<typeof schema>;
export type SessionRecord = Wire & { readonly event: SessionEvent };

/** Bodies of signed records. */
export const encodeSessionRecord = (record: SessionRecord): Uint8Array => schema.encode(record);

export function decodeSessionRecord(body: Uint8Array, what: string): Wire {
  const record = schema.decode(body, what);
  if (record.knownLists.length % 16 !== 0) throw damaged(what, `${record.knownLists.length} bytes of list ids`);
  return record;
}
