/**
 * What is known about the stages of an operation: a pure model that the displays draw. Nothing here is guessed: bytes
 * come from the operation, time from the clock, and a rate or a remaining time appears only when there is ground for it.
 */
import type { Clock } from '@lifeboat/foundation/clock';
import type { Progress } from '@lifeboat/foundation/progress';

export type StageState = 'waiting' | 'running' | 'done' | 'failed' | 'skipped';

export interface StageView {
  readonly id: string;
  readonly title: string;
  readonly state: StageState;
  /** Since the stage began, or from its beginning to its end; absent while it waits. */
  readonly elapsedMs?: number;
  readonly progress?: Progress;
  /** Mean over the last seconds; absent until two samples lie at least a second apart. */
  readonly rateBytesPerSecond?: number;
  readonly remainingMs?: number;
  /** What came of it, in a few words. */
  readonly note?: string;
}

interface Sample {
  readonly atMs: number;
  readonly doneBytes: number;
}

interface Stage {
  readonly id: string;
  readonly title: string;
  state: StageState;
  beganMs?: number;
  endedMs?: number;
  progress?: Progress;
  phaseBeganMs?: number;
  samples: Sample[];
  note?: string;
}

/** A rate is the mean over this window: long enough to be calm, short enough to show a stall. */
const RATE_WINDOW_MS = 8_000;
const RATE_GROUND_MS = 1_000;
/** No remaining time before this much of the phase has passed, in time and in bytes. */
const REMAINING_GROUND_MS = 10_000;
const REMAINING_GROUND_SHARE = 0.05;

export class Stages {
  readonly #clock: Clock;
  readonly #stages: Stage[] = [];
  readonly #listeners = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `listener` after every change; returns the way to stop that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Announces a stage that has not begun. A stage that is known already stays as it is. */
  plan(id: string, title: string): void {
    if (this.#find(id)) return;
    this.#stages.push({ id, title, state: 'waiting', samples: [] });
    this.#changed();
  }

  /** Begins a stage, planned or not. One that runs or has ended already stays as it is. */
  begin(id: string, title: string): void {
    this.plan(id, title);
    const stage = this.#find(id);
    if (!stage || stage.state !== 'waiting') return;
    stage.state = 'running';
    stage.beganMs = this.#clock.monotonicMs();
    this.#changed();
  }

  update(id: string, progress: Progress): void {
    const stage = this.#find(id);
    if (!stage || stage.state !== 'running') return;
    const nowMs = this.#clock.monotonicMs();
    const last = stage.progress;
    // A new phase, or bytes that went back (the operation began again after a failure): old samples say nothing about it.
    if (!last || last.phase !== progress.phase || progress.doneBytes < last.doneBytes) {
      stage.samples = [];
      stage.phaseBeganMs = nowMs;
    }
    stage.progress = progress;
    stage.samples.push({ atMs: nowMs, doneBytes: progress.doneBytes });
    while (stage.samples.length > 2 && (stage.samples[1]?.atMs ?? nowMs) < nowMs - RATE_WINDOW_MS)
      stage.samples.shift();
    this.#changed();
  }

  /** `elapsedMs` where somebody measured it better than we, who only look now and then. */
  end(
    id: string,
    state: 'done' | 'failed' | 'skipped',
    { note, elapsedMs }: { note?: string; elapsedMs?: number } = {},
  ): void {
    const stage = this.#find(id);
    if (!stage || (stage.state !== 'running' && stage.state !== 'waiting')) return;
    stage.state = state;
    const nowMs = this.#clock.monotonicMs();
    if (elapsedMs !== undefined) stage.beganMs = nowMs - elapsedMs;
    if (stage.beganMs !== undefined) stage.endedMs = nowMs;
    if (note !== undefined) stage.note = note;
    this.#changed();
  }

  /** Ends what still runs as failed, and what never began as skipped: for an operation that was broken off. */
  breakOff(note: string, { except }: { except?: string } = {}): void {
    for (const { id, state } of this.#stages) {
      if (id === except) continue;
      if (state === 'running') this.end(id, 'failed', { note });
      else if (state === 'waiting') this.end(id, 'skipped', { note: 'not reached' });
    }
  }

  view(): StageView[] {
    const nowMs = this.#clock.monotonicMs();
    return this.#stages.map((stage) => viewOf(stage, nowMs));
  }

  #find(id: string): Stage | undefined {
    return this.#stages.find((stage) => stage.id === id);
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}

function viewOf(stage: Stage, nowMs: number): StageView {
  const rate = stage.state === 'running' ? rateOf(stage, nowMs) : undefined;
  const remaining = rate === undefined ? undefined : remainingOf(stage, rate, nowMs);
  return {
    id: stage.id,
    title: stage.title,
    state: stage.state,
    ...(stage.beganMs === undefined ? {} : { elapsedMs: (stage.endedMs ?? nowMs) - stage.beganMs }),
    ...(stage.progress === undefined ? {} : { progress: stage.progress }),
    ...(rate === undefined ? {} : { rateBytesPerSecond: rate }),
    ...(remaining === undefined ? {} : { remainingMs: remaining }),
    ...(stage.note === undefined ? {} : { note: stage.note }),
  };
}

/** Up to now, not to the last sample: an operation that has stopped reporting slows down on the display too. */
function rateOf(stage: Stage, nowMs: number): number | undefined {
  const first = stage.samples[0];
  const last = stage.samples.at(-1);
  if (!first || !last || stage.samples.length < 2) return undefined;
  const intervalMs = nowMs - first.atMs;
  if (intervalMs < RATE_GROUND_MS) return undefined;
  return ((last.doneBytes - first.doneBytes) * 1000) / intervalMs;
}

function remainingOf(stage: Stage, rateBytesPerSecond: number, nowMs: number): number | undefined {
  const { progress, phaseBeganMs } = stage;
  if (!progress?.totalBytes || phaseBeganMs === undefined || rateBytesPerSecond <= 0) return undefined;
  if (nowMs - phaseBeganMs < REMAINING_GROUND_MS) return undefined;
  if (progress.doneBytes < progress.totalBytes * REMAINING_GROUND_SHARE) return undefined;
  return Math.max(0, ((progress.totalBytes - progress.doneBytes) * 1000) / rateBytesPerSecond);
}
