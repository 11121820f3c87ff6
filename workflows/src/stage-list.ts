import type { Stage, StageState } from '@lifeboat/contracts/workflow/progress';

/** The stages of one operation, in order, as its status query shows them. Small: it lives in the workflow's memory only. */
export class StageList {
  readonly #stages: Stage[];

  constructor(names: readonly string[]) {
    this.#stages = names.map((name) => ({ name, state: 'pending', notes: [] }));
  }

  get all(): readonly Stage[] {
    return this.#stages;
  }

  /** Runs `work` as the stage `name`; its notes come from the result. A failure is marked and thrown on. */
  async run<T>(
    name: string,
    work: () => Promise<T>,
    describe: (result: T) => readonly string[] = () => [],
  ): Promise<T> {
    this.#change(name, { state: 'running', startedMs: Date.now() });
    try {
      const result = await work();
      this.#change(name, { state: 'done', endedMs: Date.now(), notes: describe(result) });
      return result;
    } catch (error) {
      this.#change(name, { state: 'failed', endedMs: Date.now() });
      throw error;
    }
  }

  mark(name: string, state: StageState, notes: readonly string[] = []): void {
    this.#change(name, { state, notes });
  }

  /** What never ran is not pending any more. */
  close(): void {
    for (const stage of this.#stages) {
      if (stage.state === 'pending') this.#change(stage.name, { state: 'skipped' });
    }
  }

  #change(name: string, change: Partial<Stage>): void {
    const index = this.#stages.findIndex((stage) => stage.name === name);
    const stage = this.#stages[index];
    if (stage) this.#stages[index] = { ...stage, ...change };
  }
}
