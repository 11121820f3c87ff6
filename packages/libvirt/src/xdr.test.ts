import { hasCode } from '@lifeboat/foundation/errors';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { STRING_MAX_BYTES, XdrReader, XdrWriter } from './xdr.ts';

/** One value of each kind, with how it is written and read; lists and options nest. */
type Sample =
  | { kind: 'u32' | 'i32' | 'f64'; value: number }
  | { kind: 'u64' | 'i64'; value: bigint }
  | { kind: 'bool'; value: boolean }
  | { kind: 'string'; value: string }
  | { kind: 'fixed'; value: Buffer }
  | { kind: 'optional'; value: Sample | undefined; shape: Sample }
  | { kind: 'array'; value: readonly number[] };

function write(writer: XdrWriter, sample: Sample): void {
  switch (sample.kind) {
    case 'optional':
      writer.optional(sample.value, (value) => write(writer, value));
      return;
    case 'array':
      writer.array(sample.value, (value) => writer.u32(value));
      return;
    case 'u64':
    case 'i64':
      writer[sample.kind](sample.value);
      return;
    case 'bool':
      writer.bool(sample.value);
      return;
    case 'string':
      writer.string(sample.value);
      return;
    case 'fixed':
      writer.fixed(sample.value);
      return;
    default:
      writer[sample.kind](sample.value);
  }
}

function read(reader: XdrReader, shape: Sample): Sample {
  switch (shape.kind) {
    case 'optional':
      return { ...shape, value: reader.optional(() => read(reader, shape.shape)) };
    case 'array':
      return { kind: 'array', value: reader.array(() => reader.u32(), 100) };
    case 'fixed':
      return { kind: 'fixed', value: reader.fixed(shape.value.length) };
    default:
      return { kind: shape.kind, value: reader[shape.kind]() } as Sample;
  }
}

const sample: fc.Arbitrary<Sample> = fc.letrec<{ sample: Sample }>((tie) => ({
  sample: fc.oneof(
    { maxDepth: 3 },
    fc.record({ kind: fc.constant('u32' as const), value: fc.nat({ max: 0xffff_ffff }) }),
    fc.record({ kind: fc.constant('i32' as const), value: fc.integer() }),
    fc.record({ kind: fc.constant('f64' as const), value: fc.double({ noNaN: true }) }),
    fc.record({ kind: fc.constant('u64' as const), value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }),
    fc.record({ kind: fc.constant('i64' as const), value: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }) }),
    fc.record({ kind: fc.constant('bool' as const), value: fc.boolean() }),
    fc.record({ kind: fc.constant('string' as const), value: fc.string({ unit: 'grapheme', maxLength: 20 }) }),
    fc.record({
      kind: fc.constant('fixed' as const),
      value: fc.uint8Array({ maxLength: 9 }).map((bytes) => Buffer.from(bytes)),
    }),
    fc.record({
      kind: fc.constant('array' as const),
      value: fc.array(fc.nat({ max: 0xffff_ffff }), { maxLength: 8 }),
    }),
    fc
      .tuple(tie('sample'), fc.boolean())
      .map(([shape, there]) => ({ kind: 'optional' as const, shape, value: there ? shape : undefined })),
  ),
})).sample;

function encode(samples: readonly Sample[]): Buffer {
  const writer = new XdrWriter();
  samples.forEach((value) => write(writer, value));
  return writer.bytes();
}

function decode(bytes: Buffer, shapes: readonly Sample[]): Sample[] {
  const reader = new XdrReader(bytes);
  const values = shapes.map((shape) => read(reader, shape));
  reader.end();
  return values;
}

function outcome(run: () => unknown): 'value' | 'protocol-error' {
  try {
    run();
    return 'value';
  } catch (error) {
    if (hasCode(error, 'libvirt.protocol-error')) return 'protocol-error';
    throw error;
  }
}

describe('XDR', () => {
  test('reads back what it wrote', () => {
    fc.assert(
      fc.property(fc.array(sample, { maxLength: 8 }), (samples) => {
        const bytes = encode(samples);
        expect(bytes.length % 4).toBe(0);
        expect(decode(bytes, samples)).toEqual(samples);
      }),
    );
  });

  test('a body cut at any byte is a protocol error, never a value', () => {
    fc.assert(
      fc.property(fc.array(sample, { minLength: 1, maxLength: 4 }), (samples) => {
        const bytes = encode(samples);
        for (let length = 0; length < bytes.length; length += 1) {
          expect(outcome(() => decode(bytes.subarray(0, length), samples))).toBe('protocol-error');
        }
      }),
    );
  });

  test('a flipped bit gives another value or a protocol error, and nothing else', () => {
    fc.assert(
      fc.property(fc.array(sample, { minLength: 1, maxLength: 4 }), fc.nat(), (samples, at) => {
        const bytes = encode(samples);
        fc.pre(bytes.length > 0);
        const bit = at % (bytes.length * 8);
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(['value', 'protocol-error']).toContain(outcome(() => decode(bytes, samples)));
      }),
    );
  });

  test('lengths that lie are refused before anything is read for them', () => {
    const lie = (count: number): XdrReader => new XdrReader(encode([{ kind: 'u32', value: count }]));
    expect(() => lie(STRING_MAX_BYTES + 1).string()).toThrow(/exceeds the limit of 4194304/);
    expect(() => lie(STRING_MAX_BYTES).string()).toThrow(/4194304 bytes expected, 0 left/);
    expect(() => lie(0xffff_ffff).array(() => 0)).toThrow(/4294967295 items exceeds the limit/);
    expect(() => lie(1000).array(() => 0)).toThrow(/1000 items cannot fit into 0 bytes/);
    expect(() => lie(2).bool()).toThrow(/boolean holds 2/);
  });

  test('padding that is not zero and bytes after the end are refused', () => {
    const padded = encode([{ kind: 'string', value: 'abc' }]);
    padded[7] = 1;
    expect(() => new XdrReader(padded).string()).toThrow(/padding is not zero/);
    expect(() => new XdrReader(Buffer.alloc(4)).end()).toThrow(/4 bytes follow/);
  });

  test('a string longer than libvirt takes is refused before it is sent', () => {
    expect(() => new XdrWriter().string('x'.repeat(STRING_MAX_BYTES + 1))).toThrow(/exceeds the 4194304/);
  });
});
