/** The pre-flight of every night: a schedule of Temporal's, one for each host. */
import { ScheduleNotFoundError, ScheduleOverlapPolicy, type Client } from '@temporalio/client';
import { CENTRAL_TASK_QUEUE, preflightScheduleId, WORKFLOW_TYPES } from '@lifeboat/contracts/workflow/names';
import type { PreflightRunInput } from '@lifeboat/contracts/workflow/operations';

/** A night that was missed, because nothing ran, is made up for within this time. */
const CATCH_UP = '20 hours';

/** Replaces what was asked before. Resolves with whether there was something. */
export async function setNightly(
  client: Client,
  wanted: PreflightRunInput & { readonly at: { readonly hour: number; readonly minute: number } },
): Promise<boolean> {
  const { hostId, profiles, at } = wanted;
  const was = await stopNightly(client, hostId);
  const input: PreflightRunInput = { hostId, profiles };
  await client.schedule.create({
    scheduleId: preflightScheduleId(hostId),
    // UTC, as every time of day here.
    spec: { calendars: [at] },
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: CATCH_UP },
    action: {
      type: 'startWorkflow',
      workflowType: WORKFLOW_TYPES.preflight,
      workflowId: preflightScheduleId(hostId),
      taskQueue: CENTRAL_TASK_QUEUE,
      args: [input],
    },
  });
  return was;
}

/** Idempotent. Resolves with whether there was something. */
export async function stopNightly(client: Client, hostId: string): Promise<boolean> {
  try {
    await client.schedule.getHandle(preflightScheduleId(hostId)).delete();
    return true;
  } catch (error) {
    if (error instanceof ScheduleNotFoundError) return false;
    throw error;
  }
}
