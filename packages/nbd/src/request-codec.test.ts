import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeRequest, encodeRequest, REQUEST_BYTES } from './request-codec.ts';
import { expectBitFlipsContained, expectTruncationRefused } from './testing/damage.ts';

const u16 = fc.integer({ min: 0, max: 0xffff });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

describe('request codec', () => {
  it('round-trips every field at its full width and contains damage', () => {
    const lengthBytes = fc.integer({ min: 0, max: 0xffff_ffff });
    fc.assert(
      fc.property(fc.record({ flags: u16, command: u16, cookie: u64, offsetBytes: u64, lengthBytes }), (request) => {
        const bytes = encodeRequest(request);
        expect(bytes).toHaveLength(REQUEST_BYTES);
        expect(decodeRequest(bytes)).toEqual(request);
        expectTruncationRefused(bytes, decodeRequest);
        expectBitFlipsContained(bytes, decodeRequest);
      }),
      { numRuns: 50 },
    );
  });

  it('has the layout of the specification', () => {
    const bytes = encodeRequest({ flags: 1, command: 7, cookie: 2n, offsetBytes: 3n, lengthBytes: 4 });
    expect(bytes.toString('hex')).toBe('25609513000100070000000000000002000000000000000300000004');
  });
});
