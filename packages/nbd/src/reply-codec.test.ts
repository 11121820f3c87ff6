import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CHUNK } from './protocol.ts';
import * as codec from './reply-codec.ts';
import { expectBitFlipsContained, expectTruncationRefused } from './testing/damage.ts';

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const cookie = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const run = fc.record({ offsetBytes: fc.maxSafeNat(), lengthBytes: fc.integer({ min: 1, max: 1 << 30 }) });
const few = { numRuns: 40 };

/** Splits a chunk into what a reader takes one after another. */
function parts(bytes: Buffer): { prefix: Buffer; length: number; payload: Buffer } {
  const head = codec.REPLY_PREFIX_BYTES + codec.CHUNK_LENGTH_BYTES;
  return {
    prefix: bytes.subarray(0, codec.REPLY_PREFIX_BYTES),
    length: codec.decodeChunkLength(bytes.subarray(codec.REPLY_PREFIX_BYTES, head)),
    payload: bytes.subarray(head),
  };
}

describe('reply codec', () => {
  it('round-trips simple replies and contains damage', () => {
    fc.assert(
      fc.property(u32, cookie, (errno, id) => {
        const bytes = codec.encodeSimpleReply({ errno, cookie: id });
        expect(codec.decodeReplyPrefix(bytes)).toEqual({ kind: 'simple', errno, cookie: id });
        expectTruncationRefused(bytes, codec.decodeReplyPrefix);
        expectBitFlipsContained(bytes, codec.decodeReplyPrefix);
      }),
      few,
    );
  });

  it('round-trips data and hole chunks', () => {
    fc.assert(
      fc.property(cookie, fc.boolean(), run, (id, done, where) => {
        const data = parts(codec.encodeDataChunkStart({ cookie: id, done }, where));
        expect(codec.decodeReplyPrefix(data.prefix)).toEqual({
          kind: 'chunk',
          done,
          type: CHUNK.offsetData,
          cookie: id,
        });
        expect(data.length).toBe(where.lengthBytes + codec.CHUNK_OFFSET_BYTES);
        expect(codec.decodeChunkOffset(data.payload)).toBe(where.offsetBytes);
        expectTruncationRefused(data.prefix, codec.decodeReplyPrefix);
        expectBitFlipsContained(data.prefix, codec.decodeReplyPrefix);
        expectBitFlipsContained(data.payload, codec.decodeChunkOffset);

        const hole = parts(codec.encodeHoleChunk({ cookie: id, done }, where));
        expect(hole.length).toBe(codec.HOLE_BYTES);
        expect(codec.decodeHole(hole.payload)).toEqual(where);
        expectTruncationRefused(hole.payload, codec.decodeHole);
        expectBitFlipsContained(hole.payload, codec.decodeHole);
      }),
      few,
    );
  });

  it('round-trips block status', () => {
    const entries = fc.array(fc.record({ lengthBytes: u32, flags: u32 }), { maxLength: 6 });
    fc.assert(
      fc.property(cookie, u32, entries, (id, contextId, list) => {
        const { payload, length } = parts(codec.encodeStatusChunk({ cookie: id, done: true }, contextId, list));
        expect(length).toBe(payload.length);
        expect(codec.decodeStatusContext(payload.subarray(0, 4))).toBe(contextId);
        const body = payload.subarray(4);
        expect(codec.decodeStatusEntries(body)).toEqual(list);
        // Cut between entries it is a shorter list; anywhere else it is an error.
        expectTruncationRefused(body, codec.decodeStatusEntries, (bytes) => bytes % codec.STATUS_ENTRY_BYTES === 0);
        expectBitFlipsContained(body, codec.decodeStatusEntries);
      }),
      few,
    );
  });

  it('round-trips errors', () => {
    const errno = fc.integer({ min: 1, max: 0xffff_ffff });
    fc.assert(
      fc.property(cookie, errno, fc.string({ unit: 'binary', maxLength: 60 }), (id, number, message) => {
        const { payload } = parts(codec.encodeErrorChunk(id, { errno: number, message }));
        const decode = (bytes: Uint8Array): unknown => codec.decodeErrorPayload(CHUNK.error, bytes);
        expect(decode(payload)).toEqual({ errno: number, message });
        expectTruncationRefused(payload, decode);
        expectBitFlipsContained(payload, decode);
      }),
      few,
    );
  });

  it('cuts a long message between characters', () => {
    const { payload } = parts(codec.encodeErrorChunk(1n, { errno: 5, message: 'a' + 'ä'.repeat(3000) }));
    const { message } = codec.decodeErrorPayload(CHUNK.error, payload);
    expect(message).toBe('a' + 'ä'.repeat(2047));
  });

  it('reads the offset of an error and refuses an error that is none', () => {
    const at = Buffer.from('00000005000268690000000000000200', 'hex');
    expect(codec.decodeErrorPayload(CHUNK.errorOffset, at)).toEqual({ errno: 5, message: 'hi', offsetBytes: 512 });
    expectTruncationRefused(at, (bytes) => codec.decodeErrorPayload(CHUNK.errorOffset, bytes));
    expect(() => codec.decodeErrorPayload(CHUNK.error, Buffer.alloc(6))).toThrow(/errno 0/);
  });
});
