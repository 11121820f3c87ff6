import type { CentralActivities, WorkflowStanding } from '@lifeboat/contracts/workflow/activities';
import { HOST } from '@lifeboat/contracts/workflow/host';
import { CENTRAL_TASK_QUEUE, hostWorkflowId, WORKFLOW_TYPES } from '@lifeboat/contracts/workflow/names';

/** The part of the Temporal client that activities need. Implemented by the worker. */
export interface WorkflowDirectory {
  standing(workflowId: string): Promise<WorkflowStanding>;
  /** Starts the workflow if it is not running, and delivers the signal in either case. */
  signalWithStart(call: {
    readonly workflowType: string;
    readonly workflowId: string;
    readonly taskQueue: string;
    readonly input: unknown;
    readonly signal: string;
    readonly argument: unknown;
  }): Promise<void>;
}

/** Lookups at once; the host's entity asks for all its holders in one call. */
const CONCURRENCY = 8;

export function createCentralActivities({ workflows }: { readonly workflows: WorkflowDirectory }): CentralActivities {
  return {
    async describeWorkflows({ workflowIds }) {
      const standings: WorkflowStanding[] = [];
      for (let first = 0; first < workflowIds.length; first += CONCURRENCY) {
        const batch = workflowIds.slice(first, first + CONCURRENCY);
        standings.push(...(await Promise.all(batch.map((workflowId) => workflows.standing(workflowId)))));
      }
      return standings;
    },
    async requestLease({ hostId, request }) {
      await workflows.signalWithStart({
        workflowType: WORKFLOW_TYPES.host,
        workflowId: hostWorkflowId(hostId),
        taskQueue: CENTRAL_TASK_QUEUE,
        input: { hostId },
        signal: HOST.request,
        argument: request,
      });
    },
  };
}
