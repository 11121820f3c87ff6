/** Where an operation stands. `doneBytes` never falls within a phase; `totalBytes` is absent while it is not known. */
export interface Progress {
  readonly phase: string;
  readonly doneBytes: number;
  readonly totalBytes?: number;
  /** What is being worked on, for a person: a disk's name, a kernel's version. */
  readonly detail?: string;
}

export type ProgressSink = (progress: Progress) => void;

/** What every verb takes beside its input. */
export interface VerbContext {
  readonly signal: AbortSignal;
  readonly progress: ProgressSink;
}
