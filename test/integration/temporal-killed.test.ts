/**
 * kill -9 of agent, worker and Temporal server in the middle of an operation, at a step drawn from a printed seed: the
 * operation goes on under the same operation id and ends right. The agent's engine only counts, so that this runs in
 * seconds; the same is done with a real guest elsewhere.
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { BackupMachineResult } from '@lifeboat/contracts/workflow/operations';
import { systemCode } from '@lifeboat/foundation/errors';
import { STEPS } from '../support/counting-agent.ts';
import { testPoint } from '../support/fake-engine.ts';
import { startTestServer } from '../support/temporal-server.ts';
import type { TestServer } from '../support/temporal-server.ts';
import { backupRequest, eventually, HOST_ID, machineStatus, quietTemporal, submit } from '../support/temporal-stack.ts';

const AGENT = fileURLToPath(import.meta.resolve('../support/counting-agent.ts'));
const WORKER = fileURLToPath(import.meta.resolve('@lifeboat/worker/main'));

const seed = Number(process.env['LIFEBOAT_SEED'] ?? Date.now() % 1_000_000);
/** A step in the middle of the count, so that there is a before and an after. */
const stepOf = (test: number): number => 3 + ((seed + test * 7919) % (STEPS - 8));

let server: TestServer;
let directory: string;
let worker: ChildProcess;
const children: ChildProcess[] = [];

beforeAll(async () => {
  console.log(`LIFEBOAT_SEED=${seed}`);
  quietTemporal();
  server = await startTestServer();
  worker = startWorkerProcess();
});

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lifeboat-killed-'));
});

afterEach(async () => {
  for (const child of children.splice(0)) await kill(child);
  rmSync(directory, { recursive: true });
});

afterAll(async () => {
  await kill(worker);
  await server?.stop();
});

function startWorkerProcess(): ChildProcess {
  return fork(WORKER, [], { env: { ...process.env, LIFEBOAT_TEMPORAL_ADDRESS: server.address }, stdio: 'ignore' });
}

function startAgentProcess(): ChildProcess {
  const child = fork(AGENT, [server.address, HOST_ID, directory], { stdio: 'ignore' });
  children.push(child);
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

interface Event {
  readonly what: string;
  readonly pid: number;
  readonly opId: string;
  readonly count: number;
}

function events(): Event[] {
  let text: string;
  try {
    text = readFileSync(join(directory, 'events'), 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
  return text
    .trimEnd()
    .split('\n')
    .map((line) => line.split(' '))
    .map(([what = '', pid, opId = '', ...rest]) => ({ what, pid: Number(pid), opId, count: Number(rest.at(-1)) }));
}

async function reachesStep(step: number): Promise<void> {
  await eventually(
    async () => events().findLast(({ what }) => what === 'step')?.count ?? 0,
    (count) => count >= step,
    60_000,
  );
}

async function resultOf(workflowId: string): Promise<BackupMachineResult> {
  await eventually(
    () => server.client.workflow.getHandle(workflowId).describe(),
    () => true,
  );
  return (await server.client.workflow.getHandle(workflowId).result()) as BackupMachineResult;
}

/** Counted to the end, each number once, under one operation id, and nothing undone on the way. */
function expectOneWholeCount(): void {
  const seen = events();
  expect(new Set(seen.map(({ opId }) => opId)).size).toBe(1);
  const counts = seen.filter(({ what }) => what === 'step').map(({ count }) => count);
  expect(counts).toEqual(Array.from({ length: STEPS }, (_, n) => n + 1));
  expect(seen.filter(({ what }) => what === 'abandoned')).toEqual([]);
}

describe('kill -9 in the middle of an operation', () => {
  test('of the agent: the next agent goes on where it was', async () => {
    const first = startAgentProcess();
    const { workflowId } = await submit(server.client, backupRequest('agent-killed', 'b'));
    await reachesStep(stepOf(1));
    await kill(first);
    startAgentProcess();
    const { capture } = await resultOf(workflowId);
    expect(capture.pointId).toBe(testPoint(1).pointId);
    expectOneWholeCount();
    const attempts = events().filter(({ what }) => what === 'attempt');
    expect(attempts).toHaveLength(2);
    expect(attempts[1]?.count).toBeGreaterThanOrEqual(stepOf(1));
    expect(attempts[1]?.pid).not.toBe(first.pid);
  });

  test('of the worker: the agent counts on meanwhile, and the next worker takes its result', async () => {
    startAgentProcess();
    const { workflowId } = await submit(server.client, backupRequest('worker-killed', 'b'));
    await reachesStep(stepOf(2));
    await kill(worker);
    await reachesStep(STEPS);
    worker = startWorkerProcess();
    await resultOf(workflowId);
    expectOneWholeCount();
    expect(events().filter(({ what }) => what === 'attempt')).toHaveLength(1);
    const { recent } = await eventually(
      () => machineStatus(server.client, 'worker-killed'),
      (status) => status.recent.length === 1,
    );
    expect(recent[0]?.outcome).toBe('completed');
  });

  test('of the Temporal server: everybody waits for it, and nothing is lost', async () => {
    startAgentProcess();
    const { workflowId } = await submit(server.client, backupRequest('server-killed', 'b'));
    await submit(server.client, backupRequest('server-killed', 'c'));
    await reachesStep(stepOf(3));
    await server.killAndRestart();
    await resultOf(workflowId);
    const firstOp = events()[0]?.opId;
    const counts = events().filter(({ what, opId }) => what === 'step' && opId === firstOp);
    expect(counts.map(({ count }) => count)).toEqual(Array.from({ length: STEPS }, (_, n) => n + 1));
    // What waited in the queue when it died still runs.
    const { recent } = await eventually(
      () => machineStatus(server.client, 'server-killed'),
      (status) => status.recent.length === 2,
      60_000,
    );
    expect(recent.map(({ requestId, outcome }) => [requestId, outcome])).toEqual([
      ['b', 'completed'],
      ['c', 'completed'],
    ]);
    expect(events().filter(({ what }) => what === 'abandoned')).toEqual([]);
  });
});

test('an agent that is asked to stop cancels its verb; the operation itself goes on with the next agent', async () => {
  const first = startAgentProcess();
  const { workflowId } = await submit(server.client, backupRequest('agent-stopped', 'b'));
  // Early: the SDK gives a verb a second to end by itself, and what is left of the count has to take longer than that.
  await reachesStep(1);
  const gone = once(first, 'exit');
  first.kill('SIGTERM');
  const [code] = (await gone) as [number | null];
  expect(code).toBe(0);
  expect(events().at(-1)).toMatchObject({ what: 'undone', pid: first.pid });
  startAgentProcess();
  await resultOf(workflowId);
  const attempts = events().filter(({ what }) => what === 'attempt');
  expect(attempts).toHaveLength(2);
  expect(attempts[0]?.opId).toBe(attempts[1]?.opId);
  expect(events().filter(({ what }) => what === 'abandoned')).toEqual([]);
});
