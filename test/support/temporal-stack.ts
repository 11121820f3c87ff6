import type { Client } from '@temporalio/client';
import { DefaultLogger, Runtime } from '@temporalio/worker';
import { WithStartWorkflowOperation, WorkflowNotFoundError } from '@temporalio/client';
import type { Engine } from '@lifeboat/engine/verbs';
import type { HostCare } from '@lifeboat/activities/host-activities';
import { runAgent } from '@lifeboat/agent/agent-process';
import { HOST } from '@lifeboat/contracts/workflow/host';
import type { HostResources, HostStatus } from '@lifeboat/contracts/workflow/host';
import { MACHINE } from '@lifeboat/contracts/workflow/machine';
import type { MachineInput, MachineStatus, SubmitReply } from '@lifeboat/contracts/workflow/machine';
import {
  CENTRAL_TASK_QUEUE,
  hostWorkflowId,
  machineWorkflowId,
  WORKFLOW_TYPES,
} from '@lifeboat/contracts/workflow/names';
import type { OperationRequest } from '@lifeboat/contracts/workflow/operations';
import { parseHostId } from '@lifeboat/foundation/ids';
import { silentLog } from '@lifeboat/foundation/log';
import { runWorker } from '@lifeboat/worker/worker-process';
import { workflowBundle } from '@lifeboat/worker/workflow-bundle';

export const HOST_ID = parseHostId('host-a');

export const GENEROUS: HostResources = { slots: 8, domains: 8, scratchBytes: 1024 ** 4 };

/** Once per test file, before anything else of the SDK. */
export function quietTemporal(): void {
  Runtime.install({ logger: new DefaultLogger('ERROR'), shutdownSignals: [] });
}

export interface Running {
  stop(): Promise<void>;
}

/** The product's central worker, in this process. */
export async function startWorker(address: string): Promise<Running> {
  const bundle = await workflowBundle(
    process.env['LIFEBOAT_CACHE'] ? { cacheDirectory: process.env['LIFEBOAT_CACHE'] } : {},
  );
  return running((signal) =>
    runWorker({ address, namespace: 'default', bundle, log: silentLog, signal, identity: 'worker' }),
  );
}

/** The product's agent around an engine of the test, in this process. */
export function startAgent(
  address: string,
  engine: Engine & HostCare,
  options: { hostId?: typeof HOST_ID; capacity?: HostResources } = {},
): Running {
  return running((signal) =>
    runAgent({
      address,
      namespace: 'default',
      hostId: options.hostId ?? HOST_ID,
      capacity: options.capacity ?? GENEROUS,
      engine,
      hostCare: engine,
      log: silentLog,
      signal,
      identity: 'agent',
    }),
  );
}

function running(run: (signal: AbortSignal) => Promise<void>): Running {
  const abort = new AbortController();
  const done = run(abort.signal);
  // Whoever stops it hears of its failure; until then it must not end the process.
  done.catch(() => undefined);
  return {
    async stop() {
      abort.abort(new Error('the test is over'));
      await done;
    },
  };
}

/** What a front end does to hand an operation to a machine. */
export async function submit(
  client: Client,
  request: OperationRequest,
  pace?: MachineInput['pace'],
): Promise<SubmitReply> {
  const { machineId } = request.input;
  const input: MachineInput = pace ? { machineId, pace } : { machineId };
  return await client.workflow.executeUpdateWithStart<
    (input: MachineInput) => Promise<void>,
    SubmitReply,
    [OperationRequest]
  >(MACHINE.submit, {
    args: [request],
    startWorkflowOperation: new WithStartWorkflowOperation(WORKFLOW_TYPES.machine, {
      workflowId: machineWorkflowId(machineId),
      taskQueue: CENTRAL_TASK_QUEUE,
      args: [input],
      workflowIdConflictPolicy: 'USE_EXISTING',
    }),
  });
}

/** A backup of `machineId` on the test's host. */
export function backupRequest(machineId: string, requestId: string): OperationRequest & { kind: 'backup' } {
  return { kind: 'backup', requestId, input: { hostId: HOST_ID, machineId, machine: machineId } };
}

/** Looks until `good`; for what is true a moment after something else was seen. A workflow that is not there yet is no answer. */
export async function eventually<T>(look: () => Promise<T>, good: (seen: T) => boolean, limitMs = 20_000): Promise<T> {
  const deadlineMs = Date.now() + limitMs;
  for (;;) {
    const seen = await look().catch((error: unknown) => {
      if (error instanceof WorkflowNotFoundError) return error;
      throw error;
    });
    if (!(seen instanceof WorkflowNotFoundError) && good(seen)) return seen;
    if (Date.now() > deadlineMs) throw new Error(`not within ${limitMs} ms; last seen: ${JSON.stringify(seen)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export async function machineStatus(client: Client, machineId: string): Promise<MachineStatus> {
  return await client.workflow.getHandle(machineWorkflowId(machineId)).query<MachineStatus>(MACHINE.status);
}

export async function hostStatus(client: Client, hostId: string = HOST_ID): Promise<HostStatus> {
  return await client.workflow.getHandle(hostWorkflowId(hostId)).query<HostStatus>(HOST.status);
}

/** Waits until the operation sits in the host's queue and none of its activities is under way. */
export async function waitsForHost(client: Client, workflowId: string, hostId: string = HOST_ID): Promise<void> {
  await eventually(
    async () => ({
      waiting: (await hostStatus(client, hostId)).waiting.map(({ holder }) => holder),
      pending: (await client.workflow.getHandle(workflowId).describe()).raw.pendingActivities?.length ?? 0,
    }),
    ({ waiting, pending }) => waiting.includes(workflowId) && pending === 0,
  );
}
