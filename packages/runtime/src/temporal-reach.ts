import type { Clock } from '@lifeboat/foundation/clock';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;

/**
 * Repeats `connect` until it succeeds: a server that is being started, or started again, is no reason to give up at once.
 * Errors: `temporal.unreachable` after `limitMs`; the signal's reason when it aborts first.
 */
export async function reachTemporal<T>(
  connect: () => Promise<T>,
  options: { readonly address: string; readonly limitMs: number; readonly clock: Clock; readonly signal: AbortSignal },
): Promise<T> {
  const { address, limitMs, clock, signal } = options;
  const startedMs = clock.monotonicMs();
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    signal.throwIfAborted();
    try {
      return await connect();
    } catch (cause) {
      if (clock.monotonicMs() - startedMs + pauseMs > limitMs) {
        const message = `the Temporal server at ${address} did not answer within ${limitMs} ms: ${messageOf(cause)}`;
        throw new LifeboatError('temporal.unreachable', message, { cause, context: { address, limitMs } });
      }
    }
    await clock.sleep(pauseMs, signal);
  }
}
