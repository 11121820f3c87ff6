import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as codec from './option-codec.ts';
import { expectBitFlipsContained, expectTruncationRefused } from './testing/damage.ts';

const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const text = fc.string({ unit: 'binary', maxLength: 30 });
const few = { numRuns: 30 };

describe('option codec', () => {
  it('round-trips headers of options and of their replies', () => {
    fc.assert(
      fc.property(u32, u32, fc.uint8Array({ maxLength: 40 }), (option, type, data) => {
        const asked = codec.encodeOption(option, data);
        const header = asked.subarray(0, codec.OPTION_HEADER_BYTES);
        expect(codec.decodeOptionHeader(header)).toEqual({ option, lengthBytes: data.length });
        expect(asked.subarray(codec.OPTION_HEADER_BYTES)).toEqual(Buffer.from(data));
        expectTruncationRefused(header, codec.decodeOptionHeader);
        expectBitFlipsContained(header, codec.decodeOptionHeader);

        const replied = codec.encodeOptionReply(option, type, data).subarray(0, codec.OPTION_REPLY_HEADER_BYTES);
        expect(codec.decodeOptionReplyHeader(replied)).toEqual({ option, type, lengthBytes: data.length });
        expectTruncationRefused(replied, codec.decodeOptionReplyHeader);
        expectBitFlipsContained(replied, codec.decodeOptionReplyHeader);
      }),
      few,
    );
  });

  it('round-trips GO', () => {
    fc.assert(
      fc.property(text, fc.array(u16, { maxLength: 5 }), (exportName, infos) => {
        const bytes = codec.encodeGo({ exportName, infos });
        expect(codec.decodeGo(bytes)).toEqual({ exportName, infos });
        expectTruncationRefused(bytes, codec.decodeGo);
        expectBitFlipsContained(bytes, codec.decodeGo);
      }),
      few,
    );
  });

  it('round-trips what is said about an export', () => {
    const info = fc.oneof(
      fc.record({ kind: fc.constant('export' as const), sizeBytes: fc.maxSafeNat(), flags: u16 }),
      fc.record({ kind: fc.constantFrom('name' as const, 'description' as const), text }),
      fc.record({ kind: fc.constant('block-size' as const), minimum: u32, preferred: u32, maximum: u32 }),
    );
    fc.assert(
      fc.property(info, (value) => {
        const bytes = codec.encodeInfo(value);
        expect(codec.decodeInfo(bytes)).toEqual(value);
        // A name ends where the message ends: every stump that cuts no character is a shorter name.
        if (!('text' in value)) expectTruncationRefused(bytes, codec.decodeInfo);
        expectBitFlipsContained(bytes, codec.decodeInfo);
      }),
      { numRuns: 60 },
    );
    expect(codec.decodeInfo(Buffer.from([0x12, 0x34, 1, 2, 3]))).toEqual({ kind: 'unknown', type: 0x1234 });
  });

  it('round-trips meta context requests and contexts', () => {
    fc.assert(
      fc.property(text, fc.array(text, { maxLength: 4 }), u32, (exportName, queries, id) => {
        const bytes = codec.encodeMetaContextRequest({ exportName, queries });
        expect(codec.decodeMetaContextRequest(bytes)).toEqual({ exportName, queries });
        expectTruncationRefused(bytes, codec.decodeMetaContextRequest);
        expectBitFlipsContained(bytes, codec.decodeMetaContextRequest);
        const context = codec.encodeMetaContext({ id, name: exportName });
        expect(codec.decodeMetaContext(context)).toEqual({ id, name: exportName });
        expectTruncationRefused(context.subarray(0, 4), codec.decodeMetaContext);
      }),
      few,
    );
  });

  it('round-trips listed exports', () => {
    fc.assert(
      fc.property(text, text, (name, description) => {
        const bytes = codec.encodeListedExport({ name, description });
        expect(codec.decodeListedExport(bytes)).toEqual({ name, description });
        expectTruncationRefused(bytes.subarray(0, 4 + Buffer.byteLength(name)), codec.decodeListedExport);
        expectBitFlipsContained(bytes, codec.decodeListedExport);
      }),
      few,
    );
  });

  it('does not believe counts and lengths from the wire', () => {
    const count = Buffer.from('00000000ffffffff', 'hex');
    expect(() => codec.decodeMetaContextRequest(count)).toThrow(
      expect.objectContaining({ code: 'nbd.protocol-error' }),
    );
    const name = Buffer.concat([Buffer.from('00001001', 'hex'), Buffer.alloc(0x1001)]);
    expect(() => codec.decodeListedExport(name)).toThrow(/4097 bytes; the protocol allows 4096/);
  });

  it('refuses to send a name that is too long, and a received one that is no UTF-8', () => {
    expect(() => codec.encodeGo({ exportName: 'x'.repeat(4097), infos: [] })).toThrow(
      expect.objectContaining({ code: 'input.invalid' }),
    );
    expect(() => codec.decodeGo(Buffer.from('00000001ff0000', 'hex'))).toThrow(/not UTF-8/);
  });
});
