import { setImmediate as turn } from 'node:timers/promises';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InFlightLimit } from './in-flight-limit.ts';

describe('InFlightLimit', () => {
  it('never admits more than the limit, admits everything in the end, in order', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 30 }), async (sizes) => {
        const limit = new InFlightLimit({ maxBytes: 20, maxRequests: 3 });
        const admitted: number[] = [];
        const running: number[] = [];
        const all = sizes.map(async (bytes, index) => {
          await limit.acquire(bytes, undefined);
          admitted.push(index);
          running.push(bytes);
          const sum = running.reduce((total, next) => total + next, 0);
          expect(running.length === 1 || (running.length <= 3 && sum <= 20)).toBe(true);
        });
        while (admitted.length < sizes.length || running.length > 0) {
          await turn();
          const done = running.shift();
          if (done !== undefined) limit.release(done);
        }
        await Promise.all(all);
        expect(admitted).toEqual(sizes.map((_, index) => index));
      }),
      { numRuns: 40 },
    );
  });

  it('lets a waiter go that aborts, and the ones behind it pass', async () => {
    const limit = new InFlightLimit({ maxBytes: 10, maxRequests: 8 });
    await limit.acquire(5, undefined);
    const abort = new AbortController();
    const large = limit.acquire(10, abort.signal);
    const small = limit.acquire(5, undefined);
    abort.abort(new Error('enough'));
    await expect(large).rejects.toThrow('enough');
    await small;
  });

  it('turns everybody away after a failure', async () => {
    const limit = new InFlightLimit({ maxBytes: 1, maxRequests: 1 });
    await limit.acquire(1, undefined);
    const waiting = limit.acquire(1, undefined);
    limit.fail(new Error('gone'));
    await expect(waiting).rejects.toThrow('gone');
    await expect(limit.acquire(0, undefined)).rejects.toThrow('gone');
  });
});
