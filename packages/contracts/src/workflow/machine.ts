/**
 * The machine entity, `machine/<id>`: one operation at a time happens to a machine, in the order they were submitted.
 *
 *   submit ──► queue ──► running (a child with a fixed id, abandoned when the entity continues as new)
 *                            │ finished (signal; or found closed by describe, when the signal was lost)
 *                            ▼
 *                         recent, points
 */
import type { OperationRequest, OperationTarget } from './operations.ts';
import type { ProofLevel } from './verbs.ts';

export const MACHINE = {
  /** Update `(OperationRequest) => SubmitReply`; rejected with `machine.queue-full` or `input.invalid`. Start the entity with it. */
  submit: 'submit',
  /** Signal `(Withdrawal)`: a queued request is dropped, a running one is cancelled. Unknown ones are ignored. */
  withdraw: 'withdraw',
  /** Signal `(OperationFinished)`, from the operation's workflow. */
  finished: 'finished',
  /** Query `() => MachineStatus`. */
  status: 'status',
} as const;

export const MACHINE_QUEUE_LIMIT = 64;
export const MACHINE_RECENT_LIMIT = 32;
export const MACHINE_POINT_LIMIT = 64;

export interface MachineInput {
  readonly machineId: string;
  /** Set by the entity itself when it continues as new. */
  readonly state?: MachineSnapshot;
  readonly pace?: MachinePace;
}

export interface MachinePace {
  /** How long a running operation may be silent before it is looked up. */
  readonly recheckMs: number;
  /** Messages handled before the entity continues as new, whatever the server suggests. */
  readonly continueAfter: number;
}

export interface SubmitReply {
  readonly workflowId: string;
  /** Operations that come before it; 0: it starts now, or has started. */
  readonly ahead: number;
}

export interface Withdrawal {
  readonly requestId: string;
}

/** A recovery point as the entity knows it. The bucket holds the truth. */
export interface KnownPoint {
  readonly pointId: string;
  readonly instantMs: number;
  readonly proof: readonly ProofLevel[];
  /** A check found it damaged: it counts for no recovery number, and earlier evidence is void. */
  readonly damaged?: true;
  /** Levels at which checks found the damage. It stays until a check that proves the same level finds none. */
  readonly damagedAt?: readonly ProofLevel[];
}

export interface OperationFinished {
  readonly requestId: string;
  readonly outcome: OperationOutcome;
  /** A point that was made, or that evidence was gathered for; levels are added to those known. */
  readonly point?: KnownPoint;
  /** From power-on to ready in a boot test that passed. */
  readonly provenRtoMs?: number;
}

/** `withdrawn`: never started. `lost`: its workflow was terminated or timed out, so it could not say. */
export type OperationOutcome = 'completed' | 'failed' | 'cancelled' | 'withdrawn' | 'lost';

export interface OperationEntry {
  readonly requestId: string;
  readonly kind: OperationRequest['kind'];
  readonly workflowId: string;
}

export interface FinishedEntry extends OperationEntry {
  readonly outcome: OperationOutcome;
  readonly endedMs: number;
}

export interface MachineStatus {
  readonly machineId: string;
  readonly running?: OperationEntry & { readonly startedMs: number };
  readonly queue: readonly OperationEntry[];
  /** Newest last. */
  readonly recent: readonly FinishedEntry[];
  /** Newest first. */
  readonly points: readonly KnownPoint[];
  /** Of the newest undamaged point. RPO now = the reader's clock minus this. */
  readonly newestInstantMs?: number;
  /** The same for points that were booted: the RPO that counts. */
  readonly newestProvenInstantMs?: number;
  readonly provenRtoMs?: number;
}

/** All an entity takes along when it continues as new. */
export interface MachineSnapshot {
  readonly running?: { readonly request: OperationRequest; readonly startedMs: number };
  readonly queue: readonly OperationRequest[];
  readonly recent: readonly FinishedEntry[];
  readonly points: readonly KnownPoint[];
  /** A withdrawal of the running operation that was not passed on yet. */
  readonly withdrawn: boolean;
  /** The points may differ from what the repository holds. */
  readonly pointsInDoubt: boolean;
  /** Where the repository was last reached. */
  readonly lastTarget?: OperationTarget;
  readonly provenRtoMs?: number;
}
