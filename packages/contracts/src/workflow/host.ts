/**
 * The host entity, `host/<id>`: owns what a host has to give, and so knows exactly which operations live on it.
 *
 *   operation                         host/<id>                            agent
 *      │ request (signal-with-start)     │ ◄───────────── register ────────── │
 *      │ ──────────────────────────────► │  waiting ─ in order, within capacity
 *      │ ◄─── lease answer (signal) ──── │  leases                            │
 *      │ work on agent/<id> ···································································► │
 *      │ ──── release ─────────────────► │                                    │
 *                                        │ ── reap({liveOps, epoch}) ───────► │   periodically, and when it registers
 *
 * A lease ends with its release, or when its holder's workflow is found closed. Answers may come twice; a request that was
 * answered is answered again, the same.
 */

export const HOST = {
  /** Signal `(HostRegistration)`, from the agent when it starts. */
  register: 'register',
  /** Signal `(LeaseRequest)`. Start the entity with it. */
  request: 'request',
  /** Signal `(LeaseRelease)`. */
  release: 'release',
  /** Query `() => HostStatus`. */
  status: 'status',
} as const;

/** Signal `(LeaseAnswer)`, sent to the holder. */
export const LEASE_ANSWER = 'lease-answer';

export const HOST_WAITING_LIMIT = 256;

/** What a host has, and what an operation needs of it. */
export interface HostResources {
  /** Operations at once. */
  readonly slots: number;
  /** Guests at once that we started: boot tests. */
  readonly domains: number;
  /** Overlays, copies before write, logs. */
  readonly scratchBytes: number;
}

export interface HostInput {
  readonly hostId: string;
  /** Set by the entity itself when it continues as new. */
  readonly state?: HostSnapshot;
  readonly pace?: HostPace;
}

export interface HostPace {
  /** Between two looks at the holders of leases, and two runs of the reaper. */
  readonly careIntervalMs: number;
  /** Messages handled before the entity continues as new, whatever the server suggests. */
  readonly continueAfter: number;
}

export interface HostRegistration {
  readonly capacity: HostResources;
  /** Raised when a verb's contract changes; the current one and the two before it are served. */
  readonly apiLevel: number;
}

export interface LeaseRequest {
  /** The workflow id of the operation: one lease each. */
  readonly holder: string;
  readonly need: HostResources;
  /** Operation ids the holder uses on this host; live from grant to release. */
  readonly opIds: readonly string[];
}

export interface LeaseRelease {
  readonly holder: string;
}

export type LeaseAnswer =
  | { readonly kind: 'granted'; readonly epoch: number }
  | { readonly kind: 'refused'; readonly reason: string };

export interface Lease extends LeaseRequest {
  /** The host's epoch right after it was granted. */
  readonly epoch: number;
  readonly grantedMs: number;
}

export interface HostStatus {
  readonly hostId: string;
  /** Absent: no agent has registered yet, and nothing is granted. */
  readonly capacity?: HostResources;
  readonly used: HostResources;
  /**
   * Rises with every grant and every end of a lease. It starts at the time (Unix ms) the entity was first started, so
   * that an entity that had to be started anew never counts below its predecessor.
   */
  readonly epoch: number;
  readonly leases: readonly Lease[];
  readonly waiting: readonly LeaseRequest[];
  readonly lastReap?: ReapNote;
}

export interface ReapNote {
  readonly atMs: number;
  readonly epoch: number;
  readonly removedOps: number;
  /** Why it failed; the next round tries again. */
  readonly failure?: string;
}

export interface HostSnapshot {
  readonly capacity?: HostResources;
  readonly epoch: number;
  readonly leases: readonly Lease[];
  readonly waiting: readonly LeaseRequest[];
  readonly answers: readonly { readonly holder: string; readonly answer: LeaseAnswer }[];
  readonly lastReap?: ReapNote;
}

export interface ReapInput {
  /** Every operation that may have something on the host. */
  readonly liveOps: readonly string[];
  /** What was admitted at a higher epoch is younger than this list and stays. */
  readonly epoch: number;
}

export interface ReapSummary {
  readonly removedOps: readonly string[];
}
