import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { checkLockPolicy, lockEndMs } from './lock-policy.ts';

const DAY_MS = 86_400_000;

describe('a lock generation', () => {
  test('holds what it must until the next extension is due, and not two generations longer', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3650 }),
        fc.integer({ min: 1, max: 90 }),
        fc.nat(4e12),
        fc.nat(),
        (retentionDays, generationDays, putMs, wait) => {
          const policy = { retentionMs: retentionDays * DAY_MS, generationMs: generationDays * DAY_MS };
          const endMs = lockEndMs(policy, putMs);
          const referredMs = putMs + (wait % (policy.generationMs + 1));
          expect(endMs - referredMs).toBeGreaterThanOrEqual(policy.retentionMs);
          expect(endMs - putMs).toBeLessThan(policy.retentionMs + 2 * policy.generationMs);
          expect(endMs % policy.generationMs).toBe(0);
        },
      ),
    );
  });

  test.each([
    { retentionMs: 0, generationMs: DAY_MS },
    { retentionMs: DAY_MS, generationMs: 0 },
    { retentionMs: Number.NaN, generationMs: DAY_MS },
    { retentionMs: 101 * 365 * DAY_MS, generationMs: DAY_MS },
  ])('refuses %j', (policy) => {
    expect(() => checkLockPolicy(policy)).toThrow(expect.objectContaining({ code: 'input.invalid' }) as Error);
  });
});
