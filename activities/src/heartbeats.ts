import type { Heartbeat } from '@lifeboat/contracts/workflow/progress';
import type { Progress } from '@lifeboat/foundation/progress';

/** A fifth of the heartbeat timeout, and how soon a cancellation is heard of. */
export const HEARTBEAT_INTERVAL_MS = 2_000;

/**
 * Heartbeats of one attempt: the latest position, at most every `intervalMs`, and at least that often. The repetition says
 * that this process lives; that the verb gets somewhere is what the position says. A verb that hangs is ended by its
 * own timeouts.
 */
export class Heartbeats {
  #latest: Heartbeat;
  readonly #timer: NodeJS.Timeout;

  constructor(options: {
    readonly verb: string;
    readonly opId?: string;
    readonly send: (heartbeat: Heartbeat) => void;
    readonly intervalMs: number;
  }) {
    const { verb, opId, send, intervalMs } = options;
    this.#latest = { verb, phase: 'starting', doneBytes: 0, ...(opId ? { opId } : {}) };
    send(this.#latest);
    this.#timer = setInterval(() => send(this.#latest), intervalMs);
  }

  readonly progress = ({ phase, doneBytes, totalBytes, detail }: Progress): void => {
    const { verb, opId } = this.#latest;
    this.#latest = {
      verb,
      phase,
      doneBytes,
      ...(opId ? { opId } : {}),
      ...(totalBytes === undefined ? {} : { totalBytes }),
      ...(detail === undefined ? {} : { detail }),
    };
  };

  stop(): void {
    clearInterval(this.#timer);
  }
}
