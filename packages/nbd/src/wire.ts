import { LifeboatError } from '@lifeboat/foundation/errors';
import { MAX_STRING_BYTES } from './protocol.ts';

// Fatal: a name that is not UTF-8 is refused, not repaired into another name. ignoreBOM: a leading BOM belongs to the name.
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const LENIENT_UTF8 = new TextDecoder('utf-8', { ignoreBOM: true });

export function protocolError(message: string, cause?: unknown): LifeboatError {
  return new LifeboatError('nbd.protocol-error', message, { cause });
}

/** Reads big-endian fields from the front of a message. Every method throws `nbd.protocol-error` when the message ends too early. */
export class WireReader {
  readonly #bytes: Buffer;
  readonly #what: string;
  #position = 0;

  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  get remainingBytes(): number {
    return this.#bytes.length - this.#position;
  }

  u16(): number {
    return this.#bytes.readUInt16BE(this.#advance(2));
  }

  u32(): number {
    return this.#bytes.readUInt32BE(this.#advance(4));
  }

  u64(): bigint {
    return this.#bytes.readBigUInt64BE(this.#advance(8));
  }

  /** An offset or size: a 64-bit number that JavaScript can hold exactly (below 8 PiB). */
  offset(): number {
    const value = this.u64();
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      throw protocolError(`${this.#what}: offset or size ${value} is beyond 8 PiB`);
    return Number(value);
  }

  text(lengthBytes: number): string {
    if (lengthBytes > MAX_STRING_BYTES) {
      throw protocolError(`${this.#what}: a string of ${lengthBytes} bytes; the protocol allows ${MAX_STRING_BYTES}`);
    }
    const start = this.#advance(lengthBytes);
    const bytes = this.#bytes.subarray(start, start + lengthBytes);
    try {
      return UTF8.decode(bytes);
    } catch (cause) {
      throw protocolError(`${this.#what}: a string is not UTF-8`, cause);
    }
  }

  /** Words for a person: bytes that are no UTF-8 are shown as U+FFFD rather than costing the connection. */
  message(lengthBytes: number): string {
    if (lengthBytes > MAX_STRING_BYTES) {
      throw protocolError(`${this.#what}: a message of ${lengthBytes} bytes; the protocol allows ${MAX_STRING_BYTES}`);
    }
    const start = this.#advance(lengthBytes);
    return LENIENT_UTF8.decode(this.#bytes.subarray(start, start + lengthBytes));
  }

  /** The message must end here. */
  end(): void {
    if (this.remainingBytes > 0) throw protocolError(`${this.#what}: ${this.remainingBytes} bytes too many`);
  }

  #advance(count: number): number {
    if (this.remainingBytes < count) {
      throw protocolError(
        `${this.#what}: ends after ${this.#bytes.length} bytes, ${count - this.remainingBytes} more expected`,
      );
    }
    const start = this.#position;
    this.#position += count;
    return start;
  }
}

/** A string in UTF-8. Refuses what the protocol could not carry, before anything is sent. */
export function encodeText(text: string, what: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length > MAX_STRING_BYTES) {
    throw new LifeboatError('input.invalid', `${what} has ${bytes.length} bytes; NBD allows ${MAX_STRING_BYTES}`);
  }
  return bytes;
}

export function u16(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
