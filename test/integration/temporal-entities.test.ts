/** The host and machine entities on a real Temporal server: slots, order, leases of the dead, the live set, limits. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { HostInput, HostPace, HostResources } from '@lifeboat/contracts/workflow/host';
import {
  CENTRAL_TASK_QUEUE,
  hostWorkflowId,
  machineWorkflowId,
  operationWorkflowId,
  WORKFLOW_TYPES,
} from '@lifeboat/contracts/workflow/names';
import { MACHINE, MACHINE_QUEUE_LIMIT } from '@lifeboat/contracts/workflow/machine';
import { parseHostId } from '@lifeboat/foundation/ids';
import type { HostId } from '@lifeboat/foundation/ids';
import { captureSummary, FakeEngine } from '../support/fake-engine.ts';
import { Gate } from '../support/gate.ts';
import { startTestServer } from '../support/temporal-server.ts';
import type { TestServer } from '../support/temporal-server.ts';
import {
  backupRequest,
  eventually,
  GENEROUS,
  hostStatus,
  machineStatus,
  quietTemporal,
  startAgent,
  startWorker,
  submit,
} from '../support/temporal-stack.ts';
import type { Running } from '../support/temporal-stack.ts';

let server: TestServer;
let worker: Running;
let agent: Running | undefined;

beforeAll(async () => {
  quietTemporal();
  server = await startTestServer();
  worker = await startWorker(server.address);
});

afterEach(async () => {
  await agent?.stop();
  agent = undefined;
});

afterAll(async () => {
  await worker?.stop();
  await server?.stop();
});

/** Starts the host's entity with a pace of the test, before anybody else does with the product's. */
async function startHost(name: string, pace: HostPace): Promise<HostId> {
  const hostId = parseHostId(name);
  await server.client.workflow.start<(input: HostInput) => Promise<void>>(WORKFLOW_TYPES.host, {
    workflowId: hostWorkflowId(hostId),
    taskQueue: CENTRAL_TASK_QUEUE,
    args: [{ hostId, pace }],
  });
  return hostId;
}

type Backup = ReturnType<typeof backupRequest>;

const onHost = (hostId: HostId, request: Backup): Backup => ({ ...request, input: { ...request.input, hostId } });

const backup = (hostId: HostId, machineId: string): Backup => onHost(hostId, backupRequest(machineId, 'b'));

const backupId = (machineId: string): string => operationWorkflowId('backup', { machineId, requestId: 'b' });

const names = (prefix: string, count: number): string[] => Array.from({ length: count }, (_, n) => `${prefix}-${n}`);

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe('the host entity', () => {
  test('never lets more run than it has slots for, in the order they asked, across continue-as-new', async () => {
    const capacity: HostResources = { ...GENEROUS, slots: 2 };
    const hostId = await startHost('slots', { careIntervalMs: 60_000, continueAfter: 4 });
    let atOnce = 0;
    let most = 0;
    const engine = new FakeEngine({
      captureMachine: async () => {
        most = Math.max(most, ++atOnce);
        // The first waits for company, so that a slow machine cannot make the slots look unused; a third would still be seen.
        for (let waited = 0; most < capacity.slots && waited < 20_000; waited += 50) await pause(50);
        await pause(200);
        atOnce--;
        return captureSummary(1);
      },
    });
    const entity = server.client.workflow.getHandle(hostWorkflowId(hostId));
    const firstRun = (await entity.describe()).runId;
    const machines = names('slots', 7);
    for (const machine of machines) {
      await submit(server.client, backup(hostId, machine));
      await eventually(
        () => hostStatus(server.client, hostId),
        ({ waiting }) => waiting.some(({ holder }) => holder === backupId(machine)),
      );
    }
    agent = startAgent(server.address, engine, { hostId, capacity });
    for (const machine of machines) await server.client.workflow.getHandle(backupId(machine)).result();
    expect(most).toBe(2);
    // The epoch is the order of the grants; which of two at once the agent takes first is nobody's business.
    const granted = engine.callsOf('captureMachine').toSorted((a, b) => Number(a['epoch']) - Number(b['epoch']));
    expect(granted.map(({ machine }) => machine)).toEqual(machines);
    const after = await eventually(
      () => hostStatus(server.client, hostId),
      ({ leases }) => leases.length === 0,
    );
    expect(after.used).toEqual({ slots: 0, domains: 0, scratchBytes: 0 });
    await eventually(
      async () => (await entity.describe()).runId,
      (runId) => runId !== firstRun,
    );
  });

  test('takes back the lease of a holder that is gone, and tells the reaper who is left', async () => {
    const hostId = await startHost('dead', { careIntervalMs: 500, continueAfter: 1_000 });
    const gate = new Gate();
    const engine = new FakeEngine({
      captureMachine: async (_, { signal }) => {
        await gate.pass(signal);
        return captureSummary(1);
      },
    });
    agent = startAgent(server.address, engine, { hostId, capacity: { ...GENEROUS, slots: 2 } });
    const [killed, lives, next] = names('dead', 3) as [string, string, string];
    for (const machine of [killed, lives]) {
      await submit(server.client, backup(hostId, machine));
      await gate.reached(machine === killed ? 1 : 2);
    }
    await submit(server.client, backup(hostId, next));
    const opOf = (machine: string): unknown =>
      engine.callsOf('captureMachine').find((call) => call['machine'] === machine)?.['opId'];
    const before = await eventually(
      () => hostStatus(server.client, hostId),
      ({ waiting }) => waiting.length === 1,
    );
    expect(before.leases.flatMap(({ opIds }) => opIds)).toEqual([opOf(killed), opOf(lives)]);

    await server.client.workflow.getHandle(backupId(killed)).terminate();
    await gate.reached(3);
    const after = await hostStatus(server.client, hostId);
    expect(after.leases.map(({ holder }) => holder)).toEqual([backupId(lives), backupId(next)]);
    expect(after.epoch).toBe(before.epoch + 2);
    // What it admitted at an epoch is in every list of that epoch and later, until it ends.
    const [reap] = await eventually(
      async () => engine.callsOf('reap').filter(({ epoch }) => epoch === after.epoch),
      (calls) => calls.length > 0,
    );
    expect(reap?.['liveOps']).toEqual([opOf(lives), opOf(next)]);
    const [call] = engine.callsOf('captureMachine').filter(({ machine }) => machine === next);
    expect(call?.['epoch']).toBe(after.epoch);
    gate.open();
    for (const machine of [lives, next]) await server.client.workflow.getHandle(backupId(machine)).result();
  });

  test('does not wait for a reaper that hangs, not even when it should continue as new', async () => {
    const hostId = await startHost('hanging', { careIntervalMs: 60_000, continueAfter: 2 });
    const gate = new Gate();
    const engine = new FakeEngine({
      reap: async (_, { signal }) => {
        await gate.pass(signal);
        return { removedOps: [] };
      },
    });
    agent = startAgent(server.address, engine, { hostId });
    await gate.reached(1);
    await submit(server.client, backup(hostId, 'hanging'));
    await eventually(
      () => machineStatus(server.client, 'hanging'),
      ({ recent }) => recent[0]?.outcome === 'completed',
    );
    expect((await hostStatus(server.client, hostId)).lastReap).toBeUndefined();
    gate.open();
    await eventually(
      () => hostStatus(server.client, hostId),
      ({ lastReap }) => lastReap !== undefined,
    );
  });

  test('refuses what it can never give, with both numbers', async () => {
    const hostId = await startHost('small', { careIntervalMs: 60_000, continueAfter: 1_000 });
    const engine = new FakeEngine();
    agent = startAgent(server.address, engine, { hostId, capacity: { slots: 1, domains: 0, scratchBytes: 1_000 } });
    await submit(server.client, backup(hostId, 'small'));
    await eventually(
      () => machineStatus(server.client, 'small'),
      ({ recent }) => recent[0]?.outcome === 'failed',
    );
    await expect(server.client.workflow.getHandle(backupId('small')).result()).rejects.toMatchObject({
      cause: { type: 'lease.refused', message: expect.stringContaining('1000 bytes of scratch') },
    });
    expect(engine.verbs()).not.toContain('captureMachine');
  });

  test('an operation cancelled while it waits leaves the queue', async () => {
    const hostId = await startHost('patience', { careIntervalMs: 60_000, continueAfter: 1_000 });
    await submit(server.client, backup(hostId, 'patience'));
    await eventually(
      () => hostStatus(server.client, hostId),
      ({ waiting }) => waiting.length === 1,
    );
    await server.client.workflow.getHandle(machineWorkflowId('patience')).signal(MACHINE.withdraw, { requestId: 'b' });
    await eventually(
      () => hostStatus(server.client, hostId),
      ({ waiting }) => waiting.length === 0,
    );
    const { recent } = await eventually(
      () => machineStatus(server.client, 'patience'),
      ({ recent: ended }) => ended.length === 1,
    );
    expect(recent[0]?.outcome).toBe('cancelled');
  });
});

// Here and not in skipped time: the time-skipping server answers a rejected update with an unnamed error, and never
// answers a query that meets a continue-as-new.
describe('the machine entity', () => {
  test('it continues as new with work in the queue and loses nothing', async () => {
    const gate = new Gate();
    const engine = new FakeEngine({
      captureMachine: async (_, { signal }) => {
        await gate.pass(signal);
        return captureSummary(engine.callsOf('captureMachine').length);
      },
    });
    const hostId = parseHostId('anew');
    agent = startAgent(server.address, engine, { hostId });
    const pace = { recheckMs: 60_000, continueAfter: 2 };
    const ids = ['a', 'b', 'c', 'd', 'e'];
    for (const id of ids) await submit(server.client, onHost(hostId, backupRequest('anew', id)), pace);
    const entity = server.client.workflow.getHandle(machineWorkflowId('anew'));
    const runs = new Set([(await entity.describe()).runId]);
    await gate.reached(1);
    gate.open();
    const after = await eventually(
      () => machineStatus(server.client, 'anew'),
      ({ recent }) => recent.length === ids.length,
      60_000,
    );
    runs.add((await entity.describe()).runId);
    expect(after.recent.map(({ requestId, outcome }) => [requestId, outcome])).toEqual(
      ids.map((id) => [id, 'completed']),
    );
    expect(after.points).toHaveLength(ids.length);
    expect(engine.callsOf('captureMachine')).toHaveLength(ids.length);
    expect(runs.size).toBe(2);
  });

  test('rejects what it cannot take, with the reason', async () => {
    const gate = new Gate();
    const hostId = parseHostId('full');
    agent = startAgent(
      server.address,
      new FakeEngine({
        captureMachine: async (_, { signal }) => {
          await gate.pass(signal);
          return captureSummary(1);
        },
      }),
      { hostId },
    );
    const request = (requestId: string): Backup => onHost(hostId, backupRequest('full', requestId));
    await expect(submit(server.client, request('Not/Safe'))).rejects.toMatchObject({
      cause: { type: 'input.invalid' },
    });
    await submit(server.client, request('runs'));
    await gate.reached(1);
    for (const id of names('waits', MACHINE_QUEUE_LIMIT)) await submit(server.client, request(id));
    await expect(submit(server.client, request('too-many'))).rejects.toMatchObject({
      cause: {
        type: 'machine.queue-full',
        message: `machine full has ${MACHINE_QUEUE_LIMIT} operations waiting, the most it takes`,
      },
    });
    await server.client.workflow.getHandle(machineWorkflowId('full')).terminate();
    await server.client.workflow
      .getHandle(operationWorkflowId('backup', { machineId: 'full', requestId: 'runs' }))
      .cancel();
  });
});
