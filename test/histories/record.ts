/**
 * Records the histories that the replay test plays: `node test/histories/record.ts`, with LIFEBOAT_TEMPORAL set. Run it when
 * a workflow gets a path that no history takes yet, with a request of a new name. A file that is there stays as it is: it is a
 * workflow that may be in flight when the code changes.
 *
 * What names this machine is taken out: stack traces, and the identities of worker, agent and client are given here.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { Client } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import {
  CENTRAL_TASK_QUEUE,
  hostWorkflowId,
  machineWorkflowId,
  operationWorkflowId,
  preflightScheduleId,
  WORKFLOW_TYPES,
} from '@lifeboat/contracts/workflow/names';
import type { OperationRequest } from '@lifeboat/contracts/workflow/operations';
import { bootSummary, captureSummary, FakeEngine, planSummary } from '../support/fake-engine.ts';
import { Gate } from '../support/gate.ts';
import { startTestServer } from '../support/temporal-server.ts';
import {
  backupRequest,
  eventually,
  HOST_ID,
  machineStatus,
  quietTemporal,
  startAgent,
  startWorker,
  submit,
} from '../support/temporal-stack.ts';

const target = { hostId: HOST_ID, machineId: 'web-1', machine: 'web-1' };
const boot = { readyPattern: 'login:', timeoutMs: 60_000 };
const disks = { kind: 'directory', directory: '/restored', name: 'copy' } as const;
const redeploy = { ...target, target: disks, profile: 'virtio-blk', boot, define: { name: 'copy', start: true } };

/** Each is one history of the operation, under its request id; in this order, on one machine. */
const requests: readonly OperationRequest[] = [
  backupRequest('web-1', 'backup'),
  backupRequest('web-1', 'backup-retried'),
  backupRequest('web-1', 'backup-withdrawn'),
  backupRequest('web-1', 'backup-linked'),
  backupRequest('web-1', 'backup-unlinked'),
  { kind: 'verify', requestId: 'verify', input: { ...target, level: 'content', boot } },
  {
    kind: 'verify',
    requestId: 'verify-filesystems',
    input: { ...target, level: 'content', filesystems: { programs: [] }, boot },
  },
  { kind: 'verify', requestId: 'verify-damaged', input: { ...target, level: 'content', boot } },
  {
    kind: 'restore',
    requestId: 'restore',
    input: { ...target, target: disks, boot, define: { name: 'copy', start: true }, disks: 'keep' },
  },
  { kind: 'restore', requestId: 'restore-dark', input: { ...target, target: disks, boot, disks: 'discard' } },
  { kind: 'redeploy', requestId: 'redeploy', input: { ...redeploy, compare: true } },
  { kind: 'redeploy', requestId: 'redeploy-refused', input: redeploy },
  { kind: 'redeploy', requestId: 'redeploy-undone', input: redeploy },
];

const withdrawn = new Gate();
let running = '';

const engine = new FakeEngine({
  captureMachine: async (_, { signal }) => {
    if (running === 'backup-withdrawn') await withdrawn.pass(signal);
    if (running === 'backup-retried' && engine.callsOf('captureMachine').length === 2) {
      throw new LifeboatError('device.read-failed', 'vda did not answer');
    }
    return captureSummary(1);
  },
  linkPoints: async () => {
    if (running === 'backup-unlinked') throw new LifeboatError('repository.store-denied', 'no link may be put');
    return { linked: [captureSummary(1).pointId] };
  },
  checkPoint: async ({ level }) => ({
    pointId: captureSummary(1).pointId,
    level,
    checkedBytes: 1,
    durationMs: 1,
    damage:
      running === 'verify-damaged'
        ? [{ disk: 'vda', offsetBytes: 0, lengthBytes: 1, what: 'chunk does not open' }]
        : [],
  }),
  bootTest: async () => {
    if (running === 'redeploy-undone') throw new LifeboatError('disk.full', 'no space for the overlay of copy');
    return bootSummary(running === 'restore-dark' ? 'no-boot-device' : 'ready');
  },
  planRedeploy: async () => planSummary(running === 'redeploy-refused' ? ['needs a driver nobody has'] : []),
});

quietTemporal();
const server = await startTestServer();
try {
  const worker = await startWorker(server.address);
  const agent = startAgent(server.address, engine);
  const client = new Client({ connection: server.client.connection, identity: 'client' });
  const entity = client.workflow.getHandle(machineWorkflowId('web-1'));
  for (const request of requests) {
    running = request.requestId;
    await submit(client, request, { recheckMs: 60_000, continueAfter: 12 });
    if (running === 'backup-withdrawn') {
      await withdrawn.reached(1);
      await entity.signal('withdraw', { requestId: running });
    }
    await eventually(
      () => machineStatus(client, 'web-1'),
      ({ recent }) => recent.some(({ requestId }) => requestId === request.requestId),
    );
  }
  await client.workflow.execute(WORKFLOW_TYPES.preflight, {
    workflowId: preflightScheduleId(HOST_ID),
    taskQueue: CENTRAL_TASK_QUEUE,
    args: [{ hostId: HOST_ID, profiles: ['nvme'] }],
  });
  await save(client, 'preflight', preflightScheduleId(HOST_ID));
  const firstRun = await firstRunOf(client, machineWorkflowId('web-1'));
  await save(client, 'machine', machineWorkflowId('web-1'), firstRun);
  await save(client, 'machine-continued', machineWorkflowId('web-1'));
  await save(client, 'host', hostWorkflowId(HOST_ID));
  for (const { kind, requestId } of requests) {
    await save(client, requestId, operationWorkflowId(kind, { machineId: 'web-1', requestId }));
  }
  await agent.stop();
  await worker.stop();
} finally {
  await server.stop();
}

/** The run an entity began with, before it continued as new. */
async function firstRunOf(client: Client, workflowId: string): Promise<string> {
  const { events } = await client.workflow.getHandle(workflowId).fetchHistory();
  const first = events?.[0]?.workflowExecutionStartedEventAttributes?.firstExecutionRunId;
  if (!first) throw new Error(`${workflowId} does not say which run was its first`);
  return first;
}

async function save(client: Client, name: string, workflowId: string, runId?: string): Promise<void> {
  const history = await client.workflow.getHandle(workflowId, runId).fetchHistory();
  const recorded: unknown = JSON.parse(historyToJSON(history));
  const text = JSON.stringify({ workflowId, history: recorded }, withoutStackTraces, 1);
  for (const local of [`@${hostname()}`, process.cwd(), server.directory]) {
    if (text.includes(local)) throw new Error(`the history of ${workflowId} names this machine: ${local}`);
  }
  const directory = join(import.meta.dirname, 'recorded');
  await mkdir(directory, { recursive: true });
  try {
    await writeFile(join(directory, `${name}.json`), `${text}\n`, { flag: 'wx' });
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
  }
}

function withoutStackTraces(key: string, value: unknown): unknown {
  return key === 'stackTrace' ? '' : value;
}
