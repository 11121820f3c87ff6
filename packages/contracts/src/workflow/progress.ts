/**
 * How far an operation is. Two sources, both cheap:
 *   - the workflow answers the query `OPERATION_STATUS` with its stages (what was done, what runs, what comes),
 *   - the position within the running stage is in the activity's heartbeat: `describe()` returns it raw in
 *     `pendingActivities[].heartbeatDetails`; `asHeartbeat` narrows what was decoded from it.
 */

export const OPERATION_STATUS = 'status';

/** `skipped`: not asked for, or made pointless by an earlier finding. `undone`: its effect was removed again. */
export type StageState = 'pending' | 'running' | 'done' | 'failed' | 'skipped' | 'undone';

export interface Stage {
  readonly name: string;
  readonly state: StageState;
  readonly startedMs?: number;
  readonly endedMs?: number;
  /** Lines for a person: a plan, a finding, what is waited for. */
  readonly notes: readonly string[];
}

export interface OperationStatus {
  readonly kind: string;
  readonly machineId: string;
  readonly hostId: string;
  readonly stages: readonly Stage[];
}

/** The position of a verb. A hint: throttled, and lost when the server is killed; durable progress is in the store. */
export interface Heartbeat {
  readonly verb: string;
  readonly opId?: string;
  readonly phase: string;
  readonly doneBytes: number;
  readonly totalBytes?: number;
  readonly detail?: string;
}

/** Heartbeats come from agents, so they are untrusted: anything that is not of the form is no heartbeat. */
export function asHeartbeat(value: unknown): Heartbeat | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { verb, opId, phase, doneBytes, totalBytes, detail } = value as Partial<Record<keyof Heartbeat, unknown>>;
  if (typeof verb !== 'string' || typeof phase !== 'string' || !isCount(doneBytes)) return undefined;
  return {
    verb,
    phase,
    doneBytes,
    ...(typeof opId === 'string' ? { opId } : {}),
    ...(isCount(totalBytes) ? { totalBytes } : {}),
    ...(typeof detail === 'string' ? { detail } : {}),
  };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}
