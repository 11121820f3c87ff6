/**
 * XDR (RFC 4506) as libvirt uses it: everything big endian, everything padded to four bytes.
 *
 *   string   = length u32 | bytes | 0..3 zero bytes
 *   optional = 0 | 1 value
 *   array    = count u32 | values
 *
 * The reader takes nothing on trust: lengths are checked against a limit of the caller and against the bytes that are
 * there, padding must be zero, and a body must end where its last value ends. Every violation is `libvirt.protocol-error`.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

/** The largest string libvirt itself accepts in a call. */
export const STRING_MAX_BYTES = 4 * 1024 * 1024;
/** The largest list libvirt sends (statistics of all domains); most are far smaller and say so. */
const ARRAY_MAX_ITEMS = 262_144;

export class XdrWriter {
  readonly #parts: Buffer[] = [];

  u32(value: number): this {
    const part = Buffer.allocUnsafe(4);
    part.writeUInt32BE(value);
    this.#parts.push(part);
    return this;
  }

  i32(value: number): this {
    const part = Buffer.allocUnsafe(4);
    part.writeInt32BE(value);
    this.#parts.push(part);
    return this;
  }

  i64(value: bigint): this {
    const part = Buffer.allocUnsafe(8);
    part.writeBigInt64BE(value);
    this.#parts.push(part);
    return this;
  }

  u64(value: bigint): this {
    const part = Buffer.allocUnsafe(8);
    part.writeBigUInt64BE(value);
    this.#parts.push(part);
    return this;
  }

  f64(value: number): this {
    const part = Buffer.allocUnsafe(8);
    part.writeDoubleBE(value);
    this.#parts.push(part);
    return this;
  }

  bool(value: boolean): this {
    return this.u32(value ? 1 : 0);
  }

  /** Bytes of a length both sides know. */
  fixed(bytes: Uint8Array): this {
    this.#parts.push(Buffer.from(bytes), Buffer.alloc(padding(bytes.length)));
    return this;
  }

  string(value: string): this {
    const bytes = Buffer.from(value, 'utf8');
    if (bytes.length > STRING_MAX_BYTES) {
      throw new LifeboatError(
        'input.invalid',
        `a string of ${bytes.length} bytes exceeds the ${STRING_MAX_BYTES} that libvirt takes`,
      );
    }
    return this.u32(bytes.length).fixed(bytes);
  }

  optional<T>(value: T | undefined, write: (value: T) => void): this {
    this.bool(value !== undefined);
    if (value !== undefined) write(value);
    return this;
  }

  array<T>(values: readonly T[], write: (value: T) => void): this {
    this.u32(values.length);
    values.forEach(write);
    return this;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

export class XdrReader {
  readonly #bytes: Buffer;
  #position = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get remainingBytes(): number {
    return this.#bytes.length - this.#position;
  }

  u32(): number {
    return this.#bytes.readUInt32BE(this.#advance(4));
  }

  i32(): number {
    return this.#bytes.readInt32BE(this.#advance(4));
  }

  i64(): bigint {
    return this.#bytes.readBigInt64BE(this.#advance(8));
  }

  u64(): bigint {
    return this.#bytes.readBigUInt64BE(this.#advance(8));
  }

  f64(): number {
    return this.#bytes.readDoubleBE(this.#advance(8));
  }

  bool(): boolean {
    const value = this.u32();
    if (value > 1) throw malformed(`a boolean holds ${value}`);
    return value === 1;
  }

  /** A copy, so that a small value does not keep a large message in memory. */
  fixed(lengthBytes: number): Buffer {
    const start = this.#advance(lengthBytes);
    const gap = this.#advance(padding(lengthBytes));
    if (this.#bytes.subarray(gap, this.#position).some((byte) => byte !== 0)) throw malformed('padding is not zero');
    return Buffer.from(this.#bytes.subarray(start, start + lengthBytes));
  }

  string(maxBytes = STRING_MAX_BYTES): string {
    const lengthBytes = this.u32();
    if (lengthBytes > maxBytes) throw malformed(`a string of ${lengthBytes} bytes exceeds the limit of ${maxBytes}`);
    return this.fixed(lengthBytes).toString('utf8');
  }

  optional<T>(read: () => T): T | undefined {
    return this.bool() ? read() : undefined;
  }

  array<T>(read: () => T, maxItems = ARRAY_MAX_ITEMS): T[] {
    const count = this.u32();
    if (count > maxItems) throw malformed(`a list of ${count} items exceeds the limit of ${maxItems}`);
    // The smallest value takes four bytes: a count that cannot be true is refused before the loop.
    if (count * 4 > this.remainingBytes) {
      throw malformed(`a list of ${count} items cannot fit into ${this.remainingBytes} bytes`);
    }
    return Array.from({ length: count }, read);
  }

  /** Nothing may follow the last value. */
  end(): void {
    if (this.remainingBytes !== 0) throw malformed(`${this.remainingBytes} bytes follow the last value`);
  }

  #advance(lengthBytes: number): number {
    if (lengthBytes > this.remainingBytes) {
      throw malformed(`${lengthBytes} bytes expected, ${this.remainingBytes} left`);
    }
    const start = this.#position;
    this.#position += lengthBytes;
    return start;
  }
}

function padding(lengthBytes: number): number {
  return (4 - (lengthBytes % 4)) % 4;
}

export function malformed(what: string): LifeboatError {
  return new LifeboatError('libvirt.protocol-error', `malformed libvirt message: ${what}`);
}
