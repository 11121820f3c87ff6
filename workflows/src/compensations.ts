import { CancellationScope, log } from '@temporalio/workflow';

interface Compensation {
  readonly what: string;
  readonly run: () => Promise<void>;
}

/**
 * What undoes the steps so far, newest first. A compensation is registered before its step begins (the step may have had
 * an effect though it failed or was never heard of again), so each must be idempotent and do nothing where there is
 * nothing. They run though the workflow is cancelled; one that fails does not keep the others from running.
 */
export class Compensations {
  readonly #registered: Compensation[] = [];

  register(what: string, run: () => Promise<void>): void {
    this.#registered.push({ what, run });
  }

  /** Returns what could not be undone; the reaper finds it once the operation has given up its lease. */
  async run(): Promise<readonly string[]> {
    const leftBehind: string[] = [];
    await CancellationScope.nonCancellable(async () => {
      for (let next = this.#registered.pop(); next; next = this.#registered.pop()) {
        try {
          await next.run();
        } catch (error) {
          log.error('compensation failed; the reaper will find what is left', { what: next.what, error });
          leftBehind.push(next.what);
        }
      }
    });
    return leftBehind;
  }
}
