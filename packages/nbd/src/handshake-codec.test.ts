import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as codec from './handshake-codec.ts';
import { expectBitFlipsContained, expectTruncationRefused } from './testing/damage.ts';

const u16 = fc.integer({ min: 0, max: 0xffff });
const size = fc.maxSafeNat();

describe('handshake codec', () => {
  it('round-trips greetings and contains damage', () => {
    fc.assert(
      fc.property(u16, (flags) => {
        const bytes = codec.encodeGreeting(flags);
        expect(bytes).toHaveLength(codec.GREETING_BYTES);
        expect(codec.decodeGreeting(bytes)).toEqual({ flags });
        expectTruncationRefused(bytes, codec.decodeGreeting);
        expectBitFlipsContained(bytes, codec.decodeGreeting);
      }),
      { numRuns: 20 },
    );
  });

  it('round-trips client flags', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), (flags) => {
        expect(codec.decodeClientFlags(codec.encodeClientFlags(flags))).toBe(flags);
        expectTruncationRefused(codec.encodeClientFlags(flags), codec.decodeClientFlags);
      }),
    );
  });

  it('round-trips the answer to EXPORT_NAME, padded and not', () => {
    fc.assert(
      fc.property(size, u16, fc.boolean(), (sizeBytes, flags, padded) => {
        const decode = (bytes: Uint8Array): unknown => codec.decodeExportNameReply(bytes, padded);
        const bytes = codec.encodeExportNameReply({ sizeBytes, flags }, padded);
        expect(decode(bytes)).toEqual({ sizeBytes, flags });
        expectTruncationRefused(bytes, decode);
        expectBitFlipsContained(bytes, decode);
      }),
      { numRuns: 20 },
    );
  });

  it('tells a stranger and a server of the old handshake apart', () => {
    expect(() => codec.decodeGreeting(Buffer.from('HTTP/1.1 400 Bad R'))).toThrow(/no NBD server/);
    const old = Buffer.concat([Buffer.from('NBDMAGIC'), Buffer.from('0000420281861253', 'hex'), Buffer.alloc(2)]);
    expect(() => codec.decodeGreeting(old)).toThrow(expect.objectContaining({ code: 'nbd.unsupported' }));
  });

  it('refuses a size that a number cannot hold', () => {
    const bytes = Buffer.alloc(10, 0xff);
    expect(() => codec.decodeExportNameReply(bytes, false)).toThrow(/beyond 8 PiB/);
  });
});
