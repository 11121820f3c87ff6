import { describe, expect, test } from 'vitest';
import type { Clock } from '@lifeboat/foundation/clock';
import { reachTemporal } from './temporal-reach.ts';

/** Time that passes only by sleeping. */
function sleepingClock(): Clock {
  let nowMs = 0;
  return {
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: async (ms, signal) => {
      signal?.throwIfAborted();
      nowMs += ms;
    },
  };
}

const address = '127.0.0.1:7233';

describe('reaching Temporal', () => {
  test('a server that comes up late is reached', async () => {
    let calls = 0;
    const connect = async (): Promise<string> => {
      if (++calls < 5) throw new Error('connection refused');
      return 'connected';
    };
    const signal = new AbortController().signal;
    const options = { address, limitMs: 10_000, clock: sleepingClock(), signal };
    expect(await reachTemporal(connect, options)).toBe('connected');
    expect(calls).toBe(5);
  });

  test('a server that stays away is named, with the limit and the last reason', async () => {
    const clock = sleepingClock();
    const options = { address, limitMs: 10_000, clock, signal: new AbortController().signal };
    await expect(reachTemporal(() => Promise.reject(new Error('refused')), options)).rejects.toMatchObject({
      code: 'temporal.unreachable',
      message: 'the Temporal server at 127.0.0.1:7233 did not answer within 10000 ms: refused',
    });
    expect(clock.monotonicMs()).toBeLessThanOrEqual(10_000);
  });

  test('an abort ends the wait', async () => {
    const abort = new AbortController();
    const connect = (): Promise<never> => {
      abort.abort(new Error('stopped'));
      return Promise.reject(new Error('refused'));
    };
    const options = { address, limitMs: 10_000, clock: sleepingClock(), signal: abort.signal };
    await expect(reachTemporal(connect, options)).rejects.toThrow('stopped');
  });
});
