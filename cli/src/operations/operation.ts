/**
 * One operation, from the command line's side:
 *
 *   1. submit to `machine/<id>` (update-with-start); the request id fixes the operation's workflow id,
 *   2. look at it a few times a second: queued? its stages (query), the position inside one (heartbeat), retries,
 *   3. its result, or its failure.
 *
 * An abort withdraws the request; the workflow then undoes what it began, and only when that is done does this return.
 * Not guaranteed: that the operation ends when this process does. It belongs to Temporal; started again, the stack goes
 * on with it.
 */
import {
  isGrpcServiceError,
  WithStartWorkflowOperation,
  WorkflowNotFoundError,
  type Client,
  type WorkflowHandle,
} from '@temporalio/client';
import { defaultPayloadConverter, type Workflow } from '@temporalio/common';
import { MACHINE, type MachineStatus, type SubmitReply } from '@lifeboat/contracts/workflow/machine';
import {
  CENTRAL_TASK_QUEUE,
  machineWorkflowId,
  operationWorkflowId,
  WORKFLOW_TYPES,
} from '@lifeboat/contracts/workflow/names';
import type {
  BackupMachineResult,
  OperationRequest,
  RedeployMachineResult,
  RestoreMachineResult,
  VerifyPointResult,
} from '@lifeboat/contracts/workflow/operations';
import {
  asHeartbeat,
  OPERATION_STATUS,
  type Heartbeat,
  type OperationStatus,
} from '@lifeboat/contracts/workflow/progress';
import type { Clock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';

const LOOK_MS = 400;
/** How long Temporal may be away while an operation is followed: a restart of the server takes seconds. */
const AWAY_LIMIT_MS = 60_000;
/** How long an operation may take to undo what it began: a guest to stop, files to remove. */
const UNDO_LIMIT_MS = 120_000;

export interface Results {
  backup: BackupMachineResult;
  verify: VerifyPointResult;
  restore: RestoreMachineResult;
  redeploy: RedeployMachineResult;
}

/** Where an operation stands, as far as it can be seen. */
export type Sighting =
  | { readonly kind: 'queued'; readonly ahead: number }
  | { readonly kind: 'running'; readonly status: OperationStatus; readonly activity?: ActivitySighting };

export interface ActivitySighting {
  readonly heartbeat?: Heartbeat;
  /** 1 for the first. */
  readonly attempt: number;
  readonly lastFailure?: string;
}

export interface OperationOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onSighting: (sighting: Sighting) => void;
}

export type RequestOf<K extends OperationRequest['kind']> = Extract<OperationRequest, { kind: K }>;

/**
 * Runs an operation to its end. Errors: what the operation failed with, wrapped as Temporal wraps it (`failureOf` reads it);
 * `operation.cancelled` after an abort; `temporal.unreachable` when Temporal stays away.
 */
export async function runOperation<K extends OperationRequest['kind']>(
  client: Client,
  request: RequestOf<K>,
  options: OperationOptions,
): Promise<Results[K]> {
  const { clock, signal } = options;
  signal.throwIfAborted();
  const { machineId } = request.input;
  const { ahead } = await submit(client, request);
  const handle = client.workflow.getHandle(
    operationWorkflowId(request.kind, { machineId, requestId: request.requestId }),
  );

  const follower = new AbortController();
  const withdraw = async (): Promise<void> => {
    await client.workflow
      .getHandle(machineWorkflowId(machineId))
      .signal(MACHINE.withdraw, { requestId: request.requestId });
  };
  const result = resultOf(client, handle, { request, ahead, options, stop: follower.signal });
  // The wait goes on after an abort, so that nothing returns while the operation still undoes.
  void result.catch(() => {});
  const aborted = onAbort(signal, follower.signal);
  try {
    const first = await Promise.race([result.then((value) => ({ value })), aborted.then(() => undefined)]);
    if (first) return first.value as Results[K];
    await withdraw();
    const end = await Promise.race([
      result.then(
        (value) => ({ value }),
        () => 'undone' as const,
      ),
      clock.sleep(UNDO_LIMIT_MS, follower.signal).then(() => 'late' as const),
    ]);
    // It was over before it could be broken off: nothing was undone, so that must not be claimed.
    if (typeof end === 'object') return end.value as Results[K];
    throw new LifeboatError(
      'operation.cancelled',
      end === 'undone'
        ? `${request.kind} of '${request.input.machine}' was broken off and undone`
        : `${request.kind} of '${request.input.machine}' was broken off; it had not finished undoing after ${UNDO_LIMIT_MS / 1000} s, and goes on with that when the stack runs`,
      { context: { workflowId: handle.workflowId } },
    );
  } finally {
    follower.abort();
  }
}

async function submit(client: Client, request: OperationRequest): Promise<SubmitReply> {
  const { machineId } = request.input;
  const start = new WithStartWorkflowOperation(WORKFLOW_TYPES.machine, {
    workflowId: machineWorkflowId(machineId),
    taskQueue: CENTRAL_TASK_QUEUE,
    args: [{ machineId }],
    workflowIdConflictPolicy: 'USE_EXISTING',
  });
  return await client.workflow.executeUpdateWithStart<Workflow, SubmitReply, [OperationRequest]>(MACHINE.submit, {
    updateId: request.requestId,
    args: [request],
    startWorkflowOperation: start,
  });
}

/** Looks until the operation has ended, then gives its result or throws its failure. */
async function resultOf(
  client: Client,
  handle: WorkflowHandle,
  watch: { request: OperationRequest; ahead: number; options: OperationOptions; stop: AbortSignal },
): Promise<unknown> {
  const { request, options, stop } = watch;
  const { clock, onSighting } = options;
  let awaySinceMs: number | undefined;
  let ahead = watch.ahead;
  for (;;) {
    try {
      const look = await lookAt(handle);
      if (look === 'absent') {
        ahead = await placeInQueue(client, request, ahead);
        onSighting({ kind: 'queued', ahead });
      } else {
        if (look.status) {
          onSighting({ kind: 'running', status: look.status, ...(look.activity ? { activity: look.activity } : {}) });
        }
        if (look.closed) return await handle.result();
      }
      awaySinceMs = undefined;
    } catch (error) {
      if (!isAway(error)) throw error;
      awaySinceMs ??= clock.monotonicMs();
      if (clock.monotonicMs() - awaySinceMs > AWAY_LIMIT_MS) throw error;
    }
    await clock.sleep(LOOK_MS, stop);
  }
}

interface Look {
  readonly closed: boolean;
  readonly status?: OperationStatus;
  readonly activity?: ActivitySighting;
}

async function lookAt(handle: WorkflowHandle): Promise<Look | 'absent'> {
  let description;
  try {
    description = await handle.describe();
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return 'absent';
    throw error;
  }
  const status = await statusOf(handle);
  const pending = description.raw.pendingActivities?.[0];
  const payload = pending?.heartbeatDetails?.payloads?.[0];
  const heartbeat = payload ? asHeartbeat(decoded(payload)) : undefined;
  return {
    closed: description.status.name !== 'RUNNING',
    ...(status ? { status } : {}),
    ...(pending
      ? {
          activity: {
            attempt: pending.attempt ?? 1,
            ...(heartbeat ? { heartbeat } : {}),
            ...(pending.lastFailure?.message ? { lastFailure: pending.lastFailure.message } : {}),
          },
        }
      : {}),
  };
}

/** The stages; undefined while no worker answers queries (it restarts): what was seen last stays on the display then. */
async function statusOf(handle: WorkflowHandle): Promise<OperationStatus | undefined> {
  try {
    return await handle.query<OperationStatus>(OPERATION_STATUS);
  } catch (error) {
    if (error instanceof Error && (isGrpcServiceError(error) || error.name === 'QueryNotRegisteredError'))
      return undefined;
    throw error;
  }
}

/** A heartbeat is a hint, and one of another encoding is none. */
function decoded(payload: Parameters<typeof defaultPayloadConverter.fromPayload>[0]): unknown {
  try {
    return defaultPayloadConverter.fromPayload(payload);
  } catch {
    return undefined;
  }
}

async function placeInQueue(client: Client, request: OperationRequest, before: number): Promise<number> {
  const entity = client.workflow.getHandle(machineWorkflowId(request.input.machineId));
  const status = await entity.query<MachineStatus>(MACHINE.status);
  const finished = status.recent.find((entry) => entry.requestId === request.requestId);
  if (finished) {
    throw new LifeboatError(
      'operation.cancelled',
      `${request.kind} of '${request.input.machine}' ended before it started: ${finished.outcome}`,
      { context: { requestId: request.requestId } },
    );
  }
  const place = status.queue.findIndex((entry) => entry.requestId === request.requestId);
  return place < 0 ? before : place + (status.running ? 1 : 0);
}

// grpc status codes: DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE
const AWAY_CODES = new Set([4, 8, 14]);

function isAway(error: unknown): boolean {
  for (let link = error; link instanceof Error; link = link.cause) {
    if (isGrpcServiceError(link) && AWAY_CODES.has(link.code)) return true;
  }
  return false;
}

function onAbort(signal: AbortSignal, over: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true, signal: over });
  });
}
