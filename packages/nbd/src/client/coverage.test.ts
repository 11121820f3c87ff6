import { hasCode } from '@lifeboat/foundation/errors';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { thrownBy } from '../testing/damage.ts';
import { Coverage } from './coverage.ts';

describe('Coverage', () => {
  it('agrees with a byte map about overlap, bounds and completeness', () => {
    const start = 100;
    const length = 40;
    const chunk = fc.record({
      offsetBytes: fc.integer({ min: 95, max: 145 }),
      lengthBytes: fc.integer({ min: 0, max: 12 }),
    });
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 25 }), (chunks) => {
        const coverage = new Coverage({ offsetBytes: start, lengthBytes: length });
        const map = new Uint8Array(length);
        for (const { offsetBytes, lengthBytes } of chunks) {
          const from = offsetBytes - start;
          const inside = from >= 0 && from + lengthBytes <= length && lengthBytes > 0;
          const free = inside && map.subarray(from, from + lengthBytes).every((byte) => byte === 0);
          const error = thrownBy(() => coverage.add({ offsetBytes, lengthBytes }));
          expect(hasCode(error, 'nbd.protocol-error')).toBe(!free);
          expect(error === undefined).toBe(free);
          if (free) map.fill(1, from, from + lengthBytes);
          expect(coverage.complete).toBe(map.every((byte) => byte === 1));
        }
      }),
      { numRuns: 300 },
    );
  });

  it('gives up on a reply in thousands of scattered pieces', () => {
    const coverage = new Coverage({ offsetBytes: 0, lengthBytes: 1 << 20 });
    const scatter = (): void => {
      for (let at = 0; at < 1 << 20; at += 2) coverage.add({ offsetBytes: at, lengthBytes: 1 });
    };
    expect(scatter).toThrow(/separate chunks/);
  });
});
