import { setTimeout as delay } from 'node:timers/promises';

/** Time as a port, so that tests and simulations can own it. */
export interface Clock {
  /** Wall clock, Unix ms. May jump. */
  nowMs(): number;
  /** Never goes back; origin is arbitrary. For durations and deadlines. */
  monotonicMs(): number;
  /** Resolves after `ms`; rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  async sleep(ms, signal) {
    signal?.throwIfAborted();
    try {
      await delay(ms, undefined, signal ? { signal } : {});
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
  },
};
