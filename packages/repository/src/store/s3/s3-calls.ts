/**
 * One request to an S3 service, repeated while that may help.
 *
 * A call is repeated when its failure is transient (`LifeboatError.retry`): the way is down, the service is busy or broken, the answer
 * was cut short. What is repeated is told which attempt it is, because a put whose answer was lost finds its own object.
 */
import type { Clock } from '@lifeboat/foundation/clock';
import type { Random } from '@lifeboat/foundation/random';

import { asStoreError } from './s3-errors.ts';

/** Attempts of one request. With the pauses below they span about 12 s: a service that restarts, not one that is gone. */
const MAX_ATTEMPTS = 6;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5000;

export interface CallDeps {
  readonly clock: Clock;
  readonly random: Random;
}

export class S3Calls {
  readonly #deps: CallDeps;

  constructor(deps: CallDeps) {
    this.#deps = deps;
  }

  /** `what` completes "could not …" in messages. Throws a `LifeboatError` or the signal's reason. */
  async call<T>(
    what: string,
    signal: AbortSignal | undefined,
    action: (attempt: { readonly number: number; readonly signal: AbortSignal | undefined }) => Promise<T>,
  ): Promise<T> {
    for (let number = 1; ; number++) {
      signal?.throwIfAborted();
      try {
        return await action({ number, signal });
      } catch (error) {
        signal?.throwIfAborted();
        const failure = asStoreError(error, what);
        if (failure.retry === 'permanent' || number >= MAX_ATTEMPTS) throw failure;
        await this.#deps.clock.sleep(this.#pauseMs(number), signal);
      }
    }
  }

  /** Doubles, and half of it is left to chance, so that many clients do not come back at the same instant. */
  #pauseMs(attempt: number): number {
    const fullMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (attempt - 1));
    const chance = (this.#deps.random.bytes(1)[0] ?? 0) / 255;
    return fullMs * (0.5 + chance / 2);
  }
}
