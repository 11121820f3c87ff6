import {
  allHandlersFinished,
  ApplicationFailure,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  defineUpdate,
  getExternalWorkflowHandle,
  isCancellation,
  log,
  ParentClosePolicy,
  setHandler,
  startChild,
  TemporalFailure,
  workflowInfo,
} from '@temporalio/workflow';
import type { WorkflowStanding } from '@lifeboat/contracts/workflow/activities';
import { MACHINE, MACHINE_POINT_LIMIT } from '@lifeboat/contracts/workflow/machine';
import type {
  MachineInput,
  MachineStatus,
  OperationEntry,
  OperationFinished,
  OperationOutcome,
  SubmitReply,
  Withdrawal,
} from '@lifeboat/contracts/workflow/machine';
import { operationWorkflowId, WORKFLOW_TYPES } from '@lifeboat/contracts/workflow/names';
import type { OperationRequest, OperationTarget } from '@lifeboat/contracts/workflow/operations';
import { central, hostVerbs } from './activity-proxies.ts';
import { MachineState } from './machine-state.ts';

const submitUpdate = defineUpdate<SubmitReply, [OperationRequest]>(MACHINE.submit);
const withdrawSignal = defineSignal<[Withdrawal]>(MACHINE.withdraw);
const finishedSignal = defineSignal<[OperationFinished]>(MACHINE.finished);
const statusQuery = defineQuery<MachineStatus>(MACHINE.status);

const PACE = { recheckMs: 5 * 60_000, continueAfter: 400 };

/**
 * `machine/<id>`. Handlers only change the state; this loop alone acts on it, one thing at a time:
 * withdraw, start, look up what is silent, refresh, or wait. It continues as new between two of these.
 */
export async function Machine(input: MachineInput): Promise<void> {
  const state = new MachineState(input);
  const pace = input.pace ?? PACE;
  let handled = 0;
  const full = (): boolean => handled >= pace.continueAfter || workflowInfo().continueAsNewSuggested;

  setHandler(statusQuery, () => state.status());
  setHandler(
    submitUpdate,
    (request) => {
      handled++;
      return state.submit(request);
    },
    {
      validator: (request) => {
        const refusal = state.refusal(request);
        if (refusal) throw ApplicationFailure.nonRetryable(refusal.message, refusal.code);
      },
    },
  );
  setHandler(withdrawSignal, ({ requestId }) => {
    handled++;
    state.withdraw(requestId, Date.now());
  });
  setHandler(finishedSignal, (finished) => {
    handled++;
    state.finished(finished, Date.now());
  });

  while (!full()) {
    const withdrawn = state.takeWithdrawn();
    if (withdrawn) {
      await cancel(withdrawn);
      continue;
    }
    const next = state.startNext(Date.now());
    if (next && (await start(next))) continue;
    const { running } = state;
    if (running) {
      const told = next ? false : await condition(() => state.mustAct(running) || full(), pace.recheckMs);
      if (!told) await lookUp(state, running);
      continue;
    }
    const target = state.refreshThrough;
    if (target) state.refreshed(await readPoints(target));
    else await condition(() => state.canStart || full());
  }
  await condition(allHandlersFinished);
  await continueAsNew<typeof Machine>({ ...input, state: state.snapshot() });
}

/** False: a workflow of this id was started before (by an entity that forgot it), and may be closed already. */
async function start(request: OperationRequest): Promise<boolean> {
  const { kind, requestId, input } = request;
  try {
    await startChild(WORKFLOW_TYPES[kind], {
      workflowId: operationWorkflowId(kind, { machineId: input.machineId, requestId }),
      args: [input],
      parentClosePolicy: ParentClosePolicy.ABANDON,
      workflowIdReusePolicy: 'REJECT_DUPLICATE',
    });
    return true;
  } catch (error) {
    if (error instanceof TemporalFailure && error.name === 'WorkflowExecutionAlreadyStartedError') return false;
    throw error;
  }
}

async function cancel({ workflowId }: OperationEntry): Promise<void> {
  try {
    await getExternalWorkflowHandle(workflowId).cancel();
  } catch (error) {
    if (isCancellation(error)) throw error;
    log.warn('the withdrawn operation could not be cancelled; it may have ended', { workflowId, error });
  }
}

/** For when "finished" was lost: its workflow was terminated, or sent it to an entity that is no more. */
async function lookUp(state: MachineState, { requestId, workflowId }: OperationEntry): Promise<void> {
  try {
    const [standing] = await central.describeWorkflows({ workflowIds: [workflowId] });
    const outcome = standing && OUTCOMES[standing];
    if (outcome) state.lost(requestId, outcome, Date.now());
  } catch (error) {
    if (isCancellation(error)) throw error;
    log.warn('the running operation could not be looked up; tried again later', { workflowId, error });
  }
}

const OUTCOMES: Record<WorkflowStanding, OperationOutcome | undefined> = {
  running: undefined,
  completed: 'completed',
  failed: 'failed',
  cancelled: 'cancelled',
  terminated: 'lost',
  'timed-out': 'lost',
  absent: 'lost',
};

async function readPoints({ hostId, machine }: OperationTarget): ReturnType<typeof knownPoints> {
  try {
    return await knownPoints(hostId, machine);
  } catch (error) {
    if (isCancellation(error)) throw error;
    log.warn('the points of the machine could not be read; tried again after the next operation', { machine, error });
    return undefined;
  }
}

async function knownPoints(
  hostId: string,
  machine: string,
): Promise<{ pointId: string; instantMs: number; damaged?: true }[] | undefined> {
  const points = await hostVerbs(hostId).listPoints({ machine, limit: MACHINE_POINT_LIMIT });
  return points.map(({ pointId, instantMs, damage }) => ({ pointId, instantMs, ...(damage ? { damaged: true } : {}) }));
}
