/** Policies, holds and requests as a program is shown them. */
import {
  readyMs,
  requestState,
  type Hold,
  type LedgerState,
  type PolicyVersion,
  type Request,
  type RequestState,
} from '@lifeboat/repository/retention/ledger-state';

export { policyText } from '@lifeboat/repository/retention/policy';

export interface RetentionInfo {
  readonly fourEyes: boolean;
  readonly delayMs: number;
  readonly default: PolicyVersion | undefined;
  readonly machines: readonly (PolicyVersion & { readonly machineId: string })[];
  readonly holds: readonly Hold[];
  readonly requests: readonly RequestInfo[];
  readonly lost: LedgerState['lost'];
  readonly void: LedgerState['void'];
}

export interface RequestInfo extends Request {
  readonly state: RequestState;
  /** When it may be carried out, Unix ms, by what was signed; undefined: it waits for an approval. */
  readonly readyMs?: number;
}

export function retentionInfo(state: LedgerState, nowMs: number): RetentionInfo {
  return {
    ...state.guard,
    default: state.defaultPolicy,
    machines: [...state.policies].map(([machineId, version]) => ({ machineId, ...version })),
    holds: [...state.holds.values()],
    requests: [...state.requests.values()].map((request) => {
      const ready = readyMs(state.guard, request);
      const shown = requestState(state.guard, request, nowMs);
      return { ...request, state: shown, ...(ready === undefined ? {} : { readyMs: ready }) };
    }),
    lost: state.lost,
    void: state.void,
  };
}
