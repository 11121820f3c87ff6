import { systemClock, type Clock } from '@lifeboat/foundation/clock';

/** What a lane does with a chunk, in order; `wait` is the rest: reading from the source, and waiting for work or a buffer. */
export const STAGES = ['wait', 'hash', 'compress', 'seal', 'prove'] as const;
type Stage = (typeof STAGES)[number];
/** Milliseconds of one lane, or of several added up. They say where time goes; nothing depends on them. */
export type StageTimes = Readonly<Record<Stage, number>>;

export const noTimes = (): Record<Stage, number> => ({ wait: 0, hash: 0, compress: 0, seal: 0, prove: 0 });

export class StageClock {
  readonly #clock: Clock;
  readonly #beganMs: number;
  readonly #ms = noTimes();

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
    this.#beganMs = clock.monotonicMs();
  }

  time<T>(stage: Exclude<Stage, 'wait'>, action: () => T): T {
    const beganMs = this.#clock.monotonicMs();
    try {
      return action();
    } finally {
      this.#ms[stage] += this.#clock.monotonicMs() - beganMs;
    }
  }

  get times(): StageTimes {
    const { hash, compress, seal, prove } = this.#ms;
    return { ...this.#ms, wait: this.#clock.monotonicMs() - this.#beganMs - hash - compress - seal - prove };
  }
}
