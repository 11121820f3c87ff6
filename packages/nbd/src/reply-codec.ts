import { CHUNK, CHUNK_FLAG_DONE, MAX_STRING_BYTES, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC } from './protocol.ts';
import { protocolError, u32, WireReader } from './wire.ts';

/** Both kinds of reply begin with these bytes; a structured chunk has CHUNK_LENGTH_BYTES more before its payload. */
export const REPLY_PREFIX_BYTES = 16;
export const CHUNK_LENGTH_BYTES = 4;
export const CHUNK_OFFSET_BYTES = 8;
export const HOLE_BYTES = 12;
export const STATUS_CONTEXT_BYTES = 4;
export const STATUS_ENTRY_BYTES = 8;
/** errno, message length, message, offset. */
export const MAX_ERROR_PAYLOAD_BYTES = 4 + 2 + MAX_STRING_BYTES + 8;

export type ReplyPrefix =
  | { readonly kind: 'simple'; readonly errno: number; readonly cookie: bigint }
  | { readonly kind: 'chunk'; readonly done: boolean; readonly type: number; readonly cookie: bigint };

export function encodeSimpleReply(reply: { errno: number; cookie: bigint }): Buffer {
  const bytes = Buffer.allocUnsafe(REPLY_PREFIX_BYTES);
  bytes.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0);
  bytes.writeUInt32BE(reply.errno, 4);
  bytes.writeBigUInt64BE(reply.cookie, 8);
  return bytes;
}

export function decodeReplyPrefix(bytes: Uint8Array): ReplyPrefix {
  const reader = new WireReader(bytes, 'reply');
  const magic = reader.u32();
  if (magic === SIMPLE_REPLY_MAGIC) {
    const reply = { kind: 'simple', errno: reader.u32(), cookie: reader.u64() } as const;
    reader.end();
    return reply;
  }
  if (magic !== STRUCTURED_REPLY_MAGIC) throw protocolError(`reply: 0x${magic.toString(16)} in place of a reply magic`);
  const flags = reader.u16();
  const chunk = {
    kind: 'chunk',
    done: (flags & CHUNK_FLAG_DONE) !== 0,
    type: reader.u16(),
    cookie: reader.u64(),
  } as const;
  reader.end();
  return chunk;
}

export function decodeChunkLength(bytes: Uint8Array): number {
  const reader = new WireReader(bytes, 'reply chunk');
  const lengthBytes = reader.u32();
  reader.end();
  return lengthBytes;
}

interface ChunkStart {
  readonly cookie: bigint;
  /** The last chunk of this reply. */
  readonly done: boolean;
}

function encodeChunk(start: ChunkStart, type: number, fields: Buffer, dataBytes = 0): Buffer {
  const bytes = Buffer.allocUnsafe(REPLY_PREFIX_BYTES + CHUNK_LENGTH_BYTES + fields.length);
  bytes.writeUInt32BE(STRUCTURED_REPLY_MAGIC, 0);
  bytes.writeUInt16BE(start.done ? CHUNK_FLAG_DONE : 0, 4);
  bytes.writeUInt16BE(type, 6);
  bytes.writeBigUInt64BE(start.cookie, 8);
  bytes.writeUInt32BE(fields.length + dataBytes, 16);
  fields.copy(bytes, 20);
  return bytes;
}

/** Nothing but the end of a reply. */
export function encodeNoneChunk(cookie: bigint): Buffer {
  return encodeChunk({ cookie, done: true }, CHUNK.none, Buffer.alloc(0));
}

/** What stands before `lengthBytes` of data; the data itself follows on the wire, uncopied. */
export function encodeDataChunkStart(start: ChunkStart, run: { offsetBytes: number; lengthBytes: number }): Buffer {
  const fields = Buffer.allocUnsafe(CHUNK_OFFSET_BYTES);
  fields.writeBigUInt64BE(BigInt(run.offsetBytes));
  return encodeChunk(start, CHUNK.offsetData, fields, run.lengthBytes);
}

export function decodeChunkOffset(bytes: Uint8Array): number {
  const reader = new WireReader(bytes, 'data chunk');
  const offsetBytes = reader.offset();
  reader.end();
  return offsetBytes;
}

export function encodeHoleChunk(start: ChunkStart, run: { offsetBytes: number; lengthBytes: number }): Buffer {
  const fields = Buffer.allocUnsafe(HOLE_BYTES);
  fields.writeBigUInt64BE(BigInt(run.offsetBytes));
  fields.writeUInt32BE(run.lengthBytes, 8);
  return encodeChunk(start, CHUNK.offsetHole, fields);
}

export function decodeHole(bytes: Uint8Array): { offsetBytes: number; lengthBytes: number } {
  const reader = new WireReader(bytes, 'hole chunk');
  const hole = { offsetBytes: reader.offset(), lengthBytes: reader.u32() };
  reader.end();
  return hole;
}

/** One run of a block status reply: it begins where the one before ends. `flags` mean what their context says. */
export interface StatusEntry {
  readonly lengthBytes: number;
  readonly flags: number;
}

export function encodeStatusChunk(start: ChunkStart, contextId: number, entries: readonly StatusEntry[]): Buffer {
  const fields = Buffer.concat([
    u32(contextId),
    ...entries.flatMap((entry) => [u32(entry.lengthBytes), u32(entry.flags)]),
  ]);
  return encodeChunk(start, CHUNK.blockStatus, fields);
}

export function decodeStatusContext(bytes: Uint8Array): number {
  const reader = new WireReader(bytes, 'block status chunk');
  const id = reader.u32();
  reader.end();
  return id;
}

/** Whole entries only: the caller cuts the payload at multiples of STATUS_ENTRY_BYTES. */
export function decodeStatusEntries(bytes: Uint8Array): StatusEntry[] {
  const reader = new WireReader(bytes, 'block status chunk');
  const entries: StatusEntry[] = [];
  while (reader.remainingBytes > 0) entries.push({ lengthBytes: reader.u32(), flags: reader.u32() });
  return entries;
}

export interface ErrorPayload {
  readonly errno: number;
  readonly message: string;
  /** Only in CHUNK.errorOffset: where in the range it went wrong. */
  readonly offsetBytes?: number;
}

/** Ends the reply. The message is cut to what the protocol allows. */
export function encodeErrorChunk(cookie: bigint, error: { errno: number; message: string }): Buffer {
  const message = cutText(error.message, MAX_STRING_BYTES);
  const fields = Buffer.alloc(6 + message.length);
  fields.writeUInt32BE(error.errno, 0);
  fields.writeUInt16BE(message.length, 4);
  message.copy(fields, 6);
  return encodeChunk({ cookie, done: true }, CHUNK.error, fields);
}

/** At most `limitBytes` of UTF-8, never half a character. */
function cutText(text: string, limitBytes: number): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  let end = Math.min(bytes.length, limitBytes);
  while (end < bytes.length && end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}

/** Error chunks of types from a later protocol begin alike; what follows in them is ignored. */
export function decodeErrorPayload(type: number, bytes: Uint8Array): ErrorPayload {
  const reader = new WireReader(bytes, 'error chunk');
  const errno = reader.u32();
  if (errno === 0) throw protocolError('error chunk: errno 0, which means success');
  const message = reader.message(reader.u16());
  if (type === CHUNK.errorOffset) {
    const offsetBytes = reader.offset();
    reader.end();
    return { errno, message, offsetBytes };
  }
  if (type === CHUNK.error) reader.end();
  return { errno, message };
}
