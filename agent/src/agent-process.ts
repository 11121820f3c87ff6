import { Client } from '@temporalio/client';
import { NativeConnection, Worker } from '@temporalio/worker';
import { createHostActivities } from '@lifeboat/activities/host-activities';
import type { HostActivityDependencies } from '@lifeboat/activities/host-activities';
import { HOST } from '@lifeboat/contracts/workflow/host';
import type { HostInput, HostRegistration, HostResources } from '@lifeboat/contracts/workflow/host';
import { agentTaskQueue, CENTRAL_TASK_QUEUE, hostWorkflowId, WORKFLOW_TYPES } from '@lifeboat/contracts/workflow/names';
import { systemClock } from '@lifeboat/foundation/clock';
import type { HostId } from '@lifeboat/foundation/ids';
import { reachTemporal } from '@lifeboat/runtime/temporal-reach';

const REACH_LIMIT_MS = 30_000;
/** From the abort to the cancellation of the verbs at hand, then to giving up on their undoing. */
const GRACE_MS = 1_000;
const FORCE_MS = 60_000;
/** Heartbeats carry the position and bring back cancellations; the SDK would hold them back for up to 10 s. */
const HEARTBEAT_THROTTLE_MS = 2_000;
/** More than any host has slots for: the host's entity decides how much runs, this only bounds a mistake of its. */
const MAX_ACTIVITIES = 32;

const API_LEVEL = 1;

export interface AgentOptions extends HostActivityDependencies {
  /** `host:port` of the Temporal server. */
  readonly address: string;
  readonly namespace: string;
  readonly hostId: HostId;
  readonly capacity: HostResources;
  readonly signal: AbortSignal;
  /** How the server names this process. Default: pid and host name. */
  readonly identity?: string;
}

/**
 * The agent of a host: listens on no port, asks for work on `agent/<hostId>`, and has registered with the host's entity
 * (which lets the reaper run) before it takes any. Runs until `signal` aborts: then the verbs at hand are cancelled, undo
 * what they began, and are tried again by the next agent. Errors: `temporal.unreachable` at the start.
 */
export async function runAgent(options: AgentOptions): Promise<void> {
  const over = new AbortController();
  // Also while Temporal is away, and while the verbs undo what they began.
  const watching = options.hostCare.watchJobs(over.signal);
  try {
    await work(options);
  } finally {
    over.abort();
    await watching;
  }
}

async function work(options: AgentOptions): Promise<void> {
  const { address, namespace, hostId, capacity, signal, log, identity } = options;
  const identified = identity ? { identity } : {};
  const connection = await reachTemporal(() => NativeConnection.connect({ address }), {
    address,
    limitMs: REACH_LIMIT_MS,
    clock: systemClock,
    signal,
  });
  try {
    const taskQueue = agentTaskQueue(hostId);
    const worker = await Worker.create({
      connection,
      namespace,
      taskQueue,
      activities: createHostActivities(options),
      maxConcurrentActivityTaskExecutions: MAX_ACTIVITIES,
      maxHeartbeatThrottleInterval: HEARTBEAT_THROTTLE_MS,
      defaultHeartbeatThrottleInterval: HEARTBEAT_THROTTLE_MS,
      shutdownGraceTime: GRACE_MS,
      shutdownForceTime: FORCE_MS,
      ...identified,
    });
    await register(new Client({ connection, namespace, ...identified }), hostId, { capacity, apiLevel: API_LEVEL });
    log.info('agent runs', { address, namespace, taskQueue });
    await worker.runUntil(aborted(signal));
    log.info('agent stopped', { address, taskQueue });
  } finally {
    await connection.close();
  }
}

async function register(client: Client, hostId: HostId, registration: HostRegistration): Promise<void> {
  await client.workflow.signalWithStart<(input: HostInput) => Promise<void>, [HostRegistration]>(WORKFLOW_TYPES.host, {
    workflowId: hostWorkflowId(hostId),
    taskQueue: CENTRAL_TASK_QUEUE,
    args: [{ hostId }],
    signal: HOST.register,
    signalArgs: [registration],
  });
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
