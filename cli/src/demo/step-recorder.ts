/** Records what a run does, step by step, for the report, and shows the same steps while they run. */
import type { Clock } from '@lifeboat/foundation/clock';
import type { Stages } from '../progress/stages.ts';
import type { Check, Evidence, Step } from './report.ts';

/** A step while it runs: what is noted here is in the report, also when the step then fails. */
export class StepDraft {
  readonly id: string;
  readonly facts: [string, string][] = [];
  readonly checks: Check[] = [];
  readonly evidence: Evidence[] = [];
  summary: string;
  plan: readonly string[] | undefined;
  /** What came of it, in a few words, beside the step on the display. */
  note: string | undefined;

  constructor(id: string, summary: string) {
    this.id = id;
    this.summary = summary;
  }

  fact(name: string, value: string): void {
    this.facts.push([name, value]);
  }

  /** Puts a claim to the test; `detail` holds the values that decided it. */
  check(claim: string, good: boolean, detail: string): boolean {
    this.checks.push({ claim, good, detail });
    return good;
  }
}

export class StepRecorder {
  readonly #clock: Clock;
  readonly #stages: Stages;
  readonly #planned: { id: string; title: string }[] = [];
  readonly #steps = new Map<string, Step>();

  constructor(clock: Clock, stages: Stages) {
    this.#clock = clock;
    this.#stages = stages;
  }

  plan(id: string, title: string): void {
    this.#planned.push({ id, title });
    this.#stages.plan(id, title);
  }

  /** Runs a planned step. A claim that does not hold makes the step failed on the display, but nothing is thrown. */
  async run<T>(id: string, summary: string, body: (draft: StepDraft) => Promise<T>): Promise<T> {
    const title = this.#titleOf(id);
    const draft = new StepDraft(id, summary);
    const beganMs = this.#clock.monotonicMs();
    this.#stages.begin(id, title);
    const record = (state: 'done' | 'failed'): void => {
      const { facts, checks, evidence, plan } = draft;
      const durationMs = this.#clock.monotonicMs() - beganMs;
      this.#steps.set(id, {
        id,
        title,
        state,
        durationMs,
        summary: draft.summary,
        facts,
        checks,
        evidence,
        ...(plan === undefined ? {} : { plan }),
      });
    };
    try {
      const value = await body(draft);
      record('done');
      const bad = draft.checks.find((check) => !check.good);
      const note = bad ? `did not hold: ${bad.claim} ${bad.detail}` : draft.note;
      this.#stages.end(id, bad ? 'failed' : 'done', note === undefined ? {} : { note });
      return value;
    } catch (error) {
      record('failed');
      this.#stages.end(id, 'failed');
      throw error;
    }
  }

  skip(id: string, why: string): void {
    this.#steps.set(id, leftOut({ id, title: this.#titleOf(id) }, why));
    this.#stages.end(id, 'skipped', { note: why });
  }

  /** All steps in planned order; those that were never reached say so. */
  steps(): Step[] {
    return this.#planned.map(({ id, title }) => this.#steps.get(id) ?? leftOut({ id, title }, 'Not reached.'));
  }

  #titleOf(id: string): string {
    const planned = this.#planned.find((step) => step.id === id);
    if (!planned) throw new TypeError(`step '${id}' was not planned`);
    return planned.title;
  }
}

function leftOut(step: Pick<Step, 'id' | 'title'>, summary: string): Step {
  return { ...step, state: 'skipped', durationMs: 0, summary, facts: [], checks: [], evidence: [] };
}
