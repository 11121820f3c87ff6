import { WorkflowNotFoundError } from '@temporalio/client';
import type { Client, WorkflowExecutionStatusName } from '@temporalio/client';
import type { WorkflowDirectory } from '@lifeboat/activities/central-activities';
import type { WorkflowStanding } from '@lifeboat/contracts/workflow/activities';

/** Temporal's client as central activities see it. */
export function workflowDirectory(client: Client): WorkflowDirectory {
  return {
    async standing(workflowId) {
      try {
        const { status } = await client.workflow.getHandle(workflowId).describe();
        return STANDINGS[status.name];
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return 'absent';
        throw error;
      }
    },
    async signalWithStart({ workflowType, workflowId, taskQueue, input, signal, argument }) {
      await client.workflow.signalWithStart(workflowType, {
        workflowId,
        taskQueue,
        args: [input],
        signal,
        signalArgs: [argument],
      });
    },
  };
}

const STANDINGS: Record<WorkflowExecutionStatusName, WorkflowStanding> = {
  RUNNING: 'running',
  COMPLETED: 'completed',
  FAILED: 'failed',
  CANCELLED: 'cancelled',
  TERMINATED: 'terminated',
  TIMED_OUT: 'timed-out',
  // The newest run is asked for, so these mean that another one is about to be.
  CONTINUED_AS_NEW: 'running',
  UNSPECIFIED: 'running',
  UNKNOWN: 'running',
  PAUSED: 'running',
};
