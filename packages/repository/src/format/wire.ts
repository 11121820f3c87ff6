/**
 * Protocol buffers, strictly.
 *
 * A message is declared once as a record of fields; encoder, decoder and TypeScript type follow from it. The bytes are
 * ordinary protobuf that any implementation reads. Ours is narrower on the way in: an unknown field, a missing or repeated
 * one, a wrong wire type, a value over its limit, or bytes another encoder would have written differently, are refused.
 * So one value has exactly one encoding, and a reader never skips what it does not understand.
 */
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import protobuf from 'protobufjs/minimal.js';

const VARINT = 0;
const DELIMITED = 2;

type Writer = protobuf.Writer;
type Reader = protobuf.Reader;

interface Field<T> {
  readonly tag: number;
  readonly wireType: typeof VARINT | typeof DELIMITED;
  readonly repeated: boolean;
  /** The value when nothing was encoded; undefined: the field must be there. */
  readonly absent?: () => T;
  write(writer: Writer, value: T, name: string): void;
  /** Reads one occurrence; a repeated field appends to what it has. */
  read(reader: Reader, before: T | undefined): T;
}

type Fields = Readonly<Record<string, Field<never>>>;
type ValueOf<F> = F extends Field<infer T> ? T : never;

/** The value a message carries. */
export type MessageOf<M> = M extends Message<infer T> ? T : never;

export interface Message<T> {
  encode(value: T): Uint8Array;
  /** `what` names the object in the error. Throws `repository.object-damaged`. */
  decode(bytes: Uint8Array, what: string): T;
}

/** Bytes of exactly `length`, or of at most `max`. */
export function bytes(tag: number, size: { length: number } | { max: number }): Field<Uint8Array> {
  const fits = (n: number): boolean => ('length' in size ? n === size.length : n <= size.max);
  return delimited(
    tag,
    (writer, value) => {
      if (!fits(value.length)) throw new RangeError(`${value.length} bytes do not fit ${JSON.stringify(size)}`);
      writer.bytes(value);
    },
    (reader) => {
      // A copy, not a view: a decoded message must not keep a whole pack alive.
      const value = Uint8Array.from(reader.bytes());
      if (!fits(value.length)) throw new RangeError(`${value.length} bytes do not fit ${JSON.stringify(size)}`);
      return value;
    },
  );
}

/** UTF-8 text of at most `maxBytes`. */
export function text(tag: number, maxBytes: number): Field<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  return delimited(
    tag,
    (writer, value) => {
      const encoded = Buffer.from(value, 'utf8');
      if (encoded.length > maxBytes) throw new RangeError(`${encoded.length} bytes of text exceed ${maxBytes}`);
      writer.bytes(encoded);
    },
    (reader) => {
      const encoded = reader.bytes();
      if (encoded.length > maxBytes) throw new RangeError(`${encoded.length} bytes of text exceed ${maxBytes}`);
      return decoder.decode(encoded);
    },
  );
}

/** An unsigned integer up to 2^53 - 1. */
export function uint(tag: number, max: number = Number.MAX_SAFE_INTEGER): Field<number> {
  const checked = (value: number): number => {
    if (!Number.isSafeInteger(value) || value < 0 || value > max) throw new RangeError(`${value} is not in 0..${max}`);
    return value;
  };
  return {
    tag,
    wireType: VARINT,
    repeated: false,
    write: (writer, value) => void writer.uint32((tag << 3) | VARINT).uint64(checked(value)),
    read: (reader) => checked(toNumber(reader.uint64())),
  };
}

/** Packed unsigned 32-bit integers, at most `maxCount`; the empty list is not encoded. */
export function uints(tag: number, maxCount: number): Field<readonly number[]> {
  return {
    tag,
    wireType: DELIMITED,
    repeated: false,
    absent: () => [],
    write(writer, values) {
      if (values.length > maxCount) throw new RangeError(`${values.length} numbers exceed ${maxCount}`);
      if (values.length === 0) return;
      writer.uint32((tag << 3) | DELIMITED).fork();
      for (const value of values) {
        if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) throw new RangeError(`${value} is no uint32`);
        writer.uint32(value);
      }
      writer.ldelim();
    },
    read(reader) {
      const end = reader.uint32() + reader.pos;
      if (end > reader.len) throw new RangeError('packed numbers run past the end');
      const values: number[] = [];
      while (reader.pos < end) {
        if (values.length >= maxCount) throw new RangeError(`more than ${maxCount} numbers`);
        values.push(reader.uint32());
      }
      if (reader.pos !== end) throw new RangeError('packed numbers run past their length');
      return values;
    },
  };
}

/** A message within a message. */
export function nested<T>(tag: number, message: Message<T>): Field<T> {
  return delimited(
    tag,
    (writer, value) => void writer.bytes(message.encode(value)),
    (reader) => message.decode(reader.bytes(), `field ${tag}`),
  );
}

/** Any number of messages up to `maxCount`, in order. */
export function list<T>(tag: number, message: Message<T>, maxCount: number): Field<readonly T[]> {
  return {
    tag,
    wireType: DELIMITED,
    repeated: true,
    absent: () => [],
    write(writer, values) {
      if (values.length > maxCount) throw new RangeError(`${values.length} items exceed ${maxCount}`);
      for (const value of values) writer.uint32((tag << 3) | DELIMITED).bytes(message.encode(value));
    },
    read(reader, before) {
      const value = message.decode(reader.bytes(), `field ${tag}`);
      const items = (before as T[] | undefined) ?? [];
      if (items.length >= maxCount) throw new RangeError(`more than ${maxCount} items`);
      items.push(value);
      return items;
    },
  };
}

/** A field that may be left out; its value is then undefined. */
export function optional<T>(field: Field<T>): Field<T | undefined> {
  return {
    tag: field.tag,
    wireType: field.wireType,
    repeated: false,
    absent: () => undefined,
    write(writer, value, name) {
      if (value !== undefined) field.write(writer, value, name);
    },
    read: (reader) => field.read(reader, undefined),
  };
}

/** Declares a message; fields are encoded in the order of their tags. */
export function message<F extends Readonly<Record<string, unknown>>>(
  fields: F,
): Message<{ readonly [K in keyof F]: ValueOf<F[K]> }> {
  type T = { readonly [K in keyof F]: ValueOf<F[K]> };
  const ordered = Object.entries(fields as Fields).toSorted(([, a], [, b]) => a.tag - b.tag);
  const byTag = new Map(ordered.map(([name, field]) => [field.tag, { name, field }]));
  if (byTag.size !== ordered.length) throw new TypeError('two fields share a tag');

  const encode = (value: T): Uint8Array => {
    const writer = protobuf.Writer.create();
    for (const [name, field] of ordered) {
      try {
        field.write(writer, value[name as keyof T] as never, name);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        throw new LifeboatError('repository.limit-exceeded', `field ${name}: ${error.message}`, { cause: error });
      }
    }
    return writer.finish();
  };

  const decode = (input: Uint8Array, what: string): T => {
    const damaged = (why: string, cause?: unknown): LifeboatError =>
      new LifeboatError('repository.object-damaged', `${what}: ${why}`, { cause });
    const value: Record<string, unknown> = {};
    try {
      const reader = protobuf.Reader.create(input);
      while (reader.pos < reader.len) {
        const key = reader.uint32();
        const known = byTag.get(key >>> 3);
        if (!known) throw damaged(`unknown field ${key >>> 3}`);
        const { name, field } = known;
        if ((key & 7) !== field.wireType) throw damaged(`field ${name} has wire type ${key & 7}`);
        if (name in value && !field.repeated) throw damaged(`field ${name} appears twice`);
        value[name] = field.read(reader, value[name] as never);
      }
    } catch (error) {
      if (error instanceof LifeboatError && error.message.startsWith(what)) throw error;
      // protobufjs throws RangeError and Error for truncation, TextDecoder TypeError: all mean that the bytes are not ours.
      throw damaged(messageOf(error), error);
    }
    for (const [name, field] of ordered) {
      if (name in value) continue;
      if (!field.absent) throw damaged(`field ${name} is missing`);
      value[name] = field.absent();
    }
    const again = encode(value as T);
    if (Buffer.compare(again, input) !== 0) throw damaged('its encoding is not the canonical one');
    return value as T;
  };

  return { encode, decode };
}

/** protobufjs gives 64-bit integers as two halves. Beyond 2^53 the result is no safe integer, and refused as such. */
function toNumber(value: number | { low: number; high: number }): number {
  return typeof value === 'number' ? value : (value.high >>> 0) * 2 ** 32 + (value.low >>> 0);
}

function delimited<T>(tag: number, write: (writer: Writer, value: T) => void, read: (reader: Reader) => T): Field<T> {
  return {
    tag,
    wireType: DELIMITED,
    repeated: false,
    write(writer, value) {
      writer.uint32((tag << 3) | DELIMITED);
      write(writer, value);
    },
    read,
  };
}
