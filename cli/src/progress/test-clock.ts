import type { Clock } from '@lifeboat/foundation/clock';

/** Time that stands still until the test moves it. */
export class TestClock implements Clock {
  #nowMs = 0;
  advance(ms: number): void {
    this.#nowMs += ms;
  }
  nowMs(): number {
    return this.#nowMs;
  }
  monotonicMs(): number {
    return this.#nowMs;
  }
  async sleep(ms: number): Promise<void> {
    this.advance(ms);
  }
}
