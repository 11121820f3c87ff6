/**
 * One message of libvirt's RPC, and its way out of a byte stream.
 *
 *   length u32 (of the whole message, these four bytes included)
 *   program | version | procedure | type | serial | status      six u32
 *   body
 *
 * A reply carries the serial of its call; packets of a stream carry the serial of the call that opened it; events and
 * keepalives carry none that matters.
 */
import { malformed } from './xdr.ts';

/** libvirt's own limit of one message, its length field included. */
export const MESSAGE_MAX_BYTES = 32 * 1024 * 1024;
export const HEADER_BYTES = 28;

export const MESSAGE_TYPE = { call: 0, reply: 1, event: 2, stream: 3 } as const;
/** `more` marks data of a stream; a stream packet with `ok` finishes, one with `error` aborts. */
export const MESSAGE_STATUS = { ok: 0, error: 1, more: 2 } as const;

export interface MessageHeader {
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  readonly type: number;
  readonly serial: number;
  readonly status: number;
}

export interface Message {
  readonly header: MessageHeader;
  readonly body: Buffer;
}

export function encodeMessage({ header, body }: Message): Buffer {
  const lengthBytes = HEADER_BYTES + body.length;
  if (lengthBytes > MESSAGE_MAX_BYTES) {
    throw malformed(`a message of ${lengthBytes} bytes exceeds the limit of ${MESSAGE_MAX_BYTES}`);
  }
  const bytes = Buffer.allocUnsafe(lengthBytes);
  const fields = [
    lengthBytes,
    header.program,
    header.version,
    header.procedure,
    header.type,
    header.serial,
    header.status,
  ];
  fields.forEach((value, index) => bytes.writeUInt32BE(value, index * 4));
  body.copy(bytes, HEADER_BYTES);
  return bytes;
}

/** `frame` is one whole message, as `FrameSplitter` yields it. */
export function decodeMessage(frame: Buffer): Message {
  if (frame.length < HEADER_BYTES) throw malformed(`a message of ${frame.length} bytes is shorter than its header`);
  if (frame.readUInt32BE(0) !== frame.length) {
    throw malformed(`a message says ${frame.readUInt32BE(0)} bytes and holds ${frame.length}`);
  }
  const field = (index: number): number => frame.readUInt32BE(index * 4);
  const header = {
    program: field(1),
    version: field(2),
    procedure: field(3),
    type: field(4),
    serial: field(5),
    status: field(6),
  };
  return { header, body: frame.subarray(HEADER_BYTES) };
}

/** Cuts a byte stream into messages, however the stream was cut by the socket. */
export class FrameSplitter {
  #chunks: Buffer[] = [];
  #bufferedBytes = 0;

  /** Whole messages that `chunk` completes. Throws on a length no message can have, before anything is buffered for it. */
  push(chunk: Buffer): Buffer[] {
    this.#chunks.push(chunk);
    this.#bufferedBytes += chunk.length;
    const frames: Buffer[] = [];
    for (let length = this.#nextLength(); length !== undefined; length = this.#nextLength()) {
      if (this.#bufferedBytes < length) break;
      // Joined once per message, not once per chunk: a large message arrives in hundreds of chunks.
      const joined = this.#joined();
      frames.push(joined.subarray(0, length));
      this.#chunks = length < joined.length ? [joined.subarray(length)] : [];
      this.#bufferedBytes -= length;
    }
    return frames;
  }

  #nextLength(): number | undefined {
    if (this.#bufferedBytes < 4) return undefined;
    if ((this.#chunks[0]?.length ?? 0) < 4) this.#chunks = [this.#joined()];
    const length = this.#chunks[0]?.readUInt32BE(0) ?? 0;
    if (length < HEADER_BYTES || length > MESSAGE_MAX_BYTES) {
      throw malformed(`a message announces ${length} bytes, allowed are ${HEADER_BYTES} to ${MESSAGE_MAX_BYTES}`);
    }
    return length;
  }

  #joined(): Buffer {
    return this.#chunks.length === 1 && this.#chunks[0] ? this.#chunks[0] : Buffer.concat(this.#chunks);
  }
}
