/**
 * The frame every operation runs in:
 *
 *   1. wait for room on the host (the lease names the operation ids, so the reaper knows them before they exist),
 *   2. the body: stages, each with its compensation registered before it begins,
 *   3. on failure or cancellation: compensations, newest first,
 *   4. in any case, and though cancelled: give up the lease, tell the machine. In this order, so that the host's live set
 *      still holds the operation while it is undone, and the next operation starts after the last trace is gone.
 *
 * Not guaranteed: 3 and 4 when the workflow is terminated instead of cancelled. The host then finds the closed holder,
 * drops its lease, and the reaper takes back what is half made and removes the rest; the machine finds the closed child.
 * What was finished stays then: disks that were restored to the end, a machine that was defined.
 */
import {
  CancellationScope,
  defineQuery,
  defineSignal,
  getExternalWorkflowHandle,
  isCancellation,
  log,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import type { HostActivities } from '@lifeboat/contracts/workflow/activities';
import type { HostResources } from '@lifeboat/contracts/workflow/host';
import { MACHINE } from '@lifeboat/contracts/workflow/machine';
import type { OperationFinished } from '@lifeboat/contracts/workflow/machine';
import { machineWorkflowId } from '@lifeboat/contracts/workflow/names';
import type { OperationKind } from '@lifeboat/contracts/workflow/names';
import type { OperationTarget } from '@lifeboat/contracts/workflow/operations';
import { OPERATION_STATUS } from '@lifeboat/contracts/workflow/progress';
import type { OperationStatus } from '@lifeboat/contracts/workflow/progress';
import { hostVerbs } from './activity-proxies.ts';
import { Compensations } from './compensations.ts';
import { namedFailure } from './failure-naming.ts';
import { acquireLease, releaseLease } from './host-lease.ts';
import { StageList } from './stage-list.ts';

const statusQuery = defineQuery<OperationStatus>(OPERATION_STATUS);
const finishedSignal = defineSignal<[OperationFinished]>(MACHINE.finished);

/** What the machine remembers of a finished operation. */
export type Finding = Pick<OperationFinished, 'point' | 'provenRtoMs'>;

export interface Operation {
  readonly verbs: HostActivities;
  readonly stages: StageList;
  readonly undo: Compensations;
  /** Goes with every verb that creates something. */
  readonly epoch: number;
}

const WAITING = 'wait for the host';

export async function runOperation<R>(
  plan: {
    readonly kind: OperationKind;
    readonly target: OperationTarget;
    readonly need: HostResources;
    readonly opIds: readonly string[];
    readonly stages: readonly string[];
  },
  body: (operation: Operation) => Promise<R>,
  findingOf: (result: R) => Finding,
): Promise<R> {
  const { hostId, machineId } = plan.target;
  const holder = workflowInfo().workflowId;
  const stages = new StageList([WAITING, ...plan.stages]);
  const undo = new Compensations();
  setHandler(statusQuery, () => ({ kind: plan.kind, machineId, hostId, stages: stages.all }));

  let outcome: OperationFinished['outcome'] = 'failed';
  let finding: Finding = {};
  try {
    const epoch = await stages.run(WAITING, () => acquireLease(hostId, { holder, need: plan.need, opIds: plan.opIds }));
    const result = await body({ verbs: hostVerbs(hostId), stages, undo, epoch });
    outcome = 'completed';
    finding = findingOf(result);
    return result;
  } catch (error) {
    if (isCancellation(error)) outcome = 'cancelled';
    await undo.run();
    throw namedFailure(error, hostId);
  } finally {
    stages.close();
    await releaseLease(hostId, holder);
    await tellMachine(machineId, { requestId: requestIdOf(holder), outcome, ...finding });
  }
}

/** The last part of `operationWorkflowId`. */
function requestIdOf(workflowId: string): string {
  return workflowId.slice(workflowId.lastIndexOf('/') + 1);
}

async function tellMachine(machineId: string, finished: OperationFinished): Promise<void> {
  await CancellationScope.nonCancellable(async () => {
    try {
      await getExternalWorkflowHandle(machineWorkflowId(machineId)).signal(finishedSignal, finished);
    } catch (error) {
      log.warn('the machine could not be told that an operation finished', { machineId, error });
    }
  });
}
