/**
 * The machine entity: what happens to a machine happens one after the other, whatever gets lost. And, where that takes minutes, the
 * host entity: it waits for nobody who is gone.
 */
import { WorkflowFailedError } from '@temporalio/client';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { machineEvidence } from '@lifeboat/cli/operations/machine-evidence';
import { MACHINE } from '@lifeboat/contracts/workflow/machine';
import type { MachineStatus } from '@lifeboat/contracts/workflow/machine';
import { machineWorkflowId, operationWorkflowId } from '@lifeboat/contracts/workflow/names';
import { parseHostId } from '@lifeboat/foundation/ids';
import { loadConfiguration } from '@lifeboat/runtime/configuration';
import { captureSummary, FakeEngine, testPoint } from '../support/fake-engine.ts';
import { Gate } from '../support/gate.ts';
import {
  backupRequest,
  eventually,
  hostStatus,
  machineStatus,
  quietTemporal,
  startAgent,
  startWorker,
  submit,
  waitsForHost,
} from '../support/temporal-stack.ts';
import type { Running } from '../support/temporal-stack.ts';
import { timeSkippingServer } from '../support/time-skipping.ts';

let env: TestWorkflowEnvironment;
let worker: Running;
let agent: Running | undefined;

beforeAll(async () => {
  quietTemporal();
  env = await timeSkippingServer();
  worker = await startWorker(env.address);
});

afterEach(async () => {
  await agent?.stop();
  agent = undefined;
});

afterAll(async () => {
  await worker?.stop();
  await env?.teardown();
});

const backupId = (machineId: string, requestId: string): string =>
  operationWorkflowId('backup', { machineId, requestId });

const status = (machineId: string): Promise<MachineStatus> => machineStatus(env.client, machineId);

/** The entity hears of an end a moment after the operation's own result is there. */
const settled = (machineId: string, until: (found: MachineStatus) => boolean): Promise<MachineStatus> =>
  eventually(() => status(machineId), until);

describe('the machine entity', () => {
  // First, because time stands still while a reaper waits for an agent that an earlier test has stopped.
  test('an operation that ends without a word is found by looking', async () => {
    // Its host has no agent yet, so the first one waits for the host when it is killed. (Killed inside an activity, the
    // test server would never skip time again.) Terminated, none of its code runs any more: nobody is told.
    const hostId = parseHostId('lonely');
    const request = (requestId: string): ReturnType<typeof backupRequest> => {
      const made = backupRequest('lost', requestId);
      return { ...made, input: { ...made.input, hostId } };
    };
    await submit(env.client, request('killed'));
    await submit(env.client, request('next'));
    await settled('lost', ({ running }) => running?.requestId === 'killed');
    await waitsForHost(env.client, backupId('lost', 'killed'), hostId);
    const killed = env.client.workflow.getHandle(backupId('lost', 'killed'));
    await killed.terminate();
    const waitingFor = async (): Promise<string[]> =>
      (await hostStatus(env.client, hostId)).waiting.map(({ holder }) => holder);
    expect(await waitingFor()).toEqual([backupId('lost', 'killed')]);
    expect((await status('lost')).running?.requestId).toBe('killed');
    await env.sleep('6 minutes');
    const noticed = await settled('lost', ({ recent }) => recent.length === 1);
    expect(noticed.recent).toMatchObject([{ requestId: 'killed', outcome: 'lost' }]);
    // By the host, too, at the pace it has in earnest.
    await eventually(waitingFor, (holders) => holders[0] === backupId('lost', 'next'));
    expect(await waitingFor()).toEqual([backupId('lost', 'next')]);

    const engine = new FakeEngine({ listPoints: async () => [captureSummary(1), captureSummary(2)] });
    agent = startAgent(env.address, engine, { hostId });
    const after = await settled('lost', ({ recent, points }) => recent.length === 2 && points.length === 2);
    expect(after.recent[1]).toMatchObject({ requestId: 'next', outcome: 'completed' });
    // What the lost one did to the points is not known, so the repository was asked.
    expect(after.points.map(({ pointId }) => pointId)).toEqual([2, 1].map((n) => testPoint(n).pointId));
    expect(engine.callsOf('captureMachine')).toHaveLength(1);
  });

  test('operations wait for each other and run in the order they came', async () => {
    const gate = new Gate();
    let atOnce = 0;
    let most = 0;
    let made = 0;
    agent = startAgent(
      env.address,
      new FakeEngine({
        captureMachine: async (_, { signal }) => {
          most = Math.max(most, ++atOnce);
          await gate.pass(signal);
          atOnce--;
          return captureSummary(++made);
        },
      }),
    );
    const replies = [];
    for (const id of ['one', 'two', 'three']) replies.push(await submit(env.client, backupRequest('queue', id)));
    await gate.reached(1);
    expect(replies.map(({ ahead }) => ahead).slice(1)).toEqual([1, 2]);
    const waiting = await status('queue');
    expect(waiting.running?.requestId).toBe('one');
    expect(waiting.queue.map(({ requestId }) => requestId)).toEqual(['two', 'three']);
    const asked = {
      ...loadConfiguration({ environment: {} }),
      temporal: { address: env.address, namespace: 'default' },
    };
    // What a prune hears: it lets go of nothing of a machine that is at work. Of a machine without an entity it hears nothing.
    expect(await machineEvidence(asked, ['queue', 'nobody'])).toEqual(
      new Map([['queue', { booted: [], running: 'backup one' }]]),
    );

    gate.open();
    const after = await settled('queue', ({ recent }) => recent.length === 3);
    expect(after.recent.map(({ requestId, outcome }) => [requestId, outcome])).toEqual([
      ['one', 'completed'],
      ['two', 'completed'],
      ['three', 'completed'],
    ]);
    expect(most).toBe(1);
    expect(after.points.map(({ pointId }) => pointId)).toEqual([3, 2, 1].map((n) => testPoint(n).pointId));
    expect(after.newestInstantMs).toBe(testPoint(3).instantMs);
    expect(after.newestProvenInstantMs).toBeUndefined();
  });

  test('a request that is submitted twice runs once', async () => {
    const engine = new FakeEngine();
    agent = startAgent(env.address, engine);
    const first = await submit(env.client, backupRequest('twice', 'same'));
    expect(await submit(env.client, backupRequest('twice', 'same'))).toMatchObject({ workflowId: first.workflowId });
    await settled('twice', ({ recent }) => recent.length === 1);
    expect(await submit(env.client, backupRequest('twice', 'same'))).toEqual({
      workflowId: first.workflowId,
      ahead: 0,
    });
    await submit(env.client, backupRequest('twice', 'other'));
    await settled('twice', ({ recent }) => recent.length === 2);
    expect(engine.verbs()).toEqual(['captureMachine', 'captureMachine']);
  });

  test('a withdrawn request never starts when it waits, and is undone when it runs', async () => {
    const gate = new Gate();
    const order: string[] = [];
    const engine = new FakeEngine({
      captureMachine: async (_, { signal }) => {
        if (engine.callsOf('captureMachine').length > 1) return captureSummary(1);
        try {
          await gate.pass(signal);
          throw new Error('the gate was never opened');
        } finally {
          // The verb takes its time to undo; nothing else may happen to the machine meanwhile.
          await new Promise((resolve) => setTimeout(resolve, 500));
          order.push('verb has undone');
        }
      },
      abandonOperation: async () => {
        order.push('operation abandoned');
      },
    });
    agent = startAgent(env.address, engine);
    for (const id of ['runs', 'waits', 'stays']) await submit(env.client, backupRequest('withdraw', id));
    await gate.reached(1);
    const entity = env.client.workflow.getHandle(machineWorkflowId('withdraw'));
    await entity.signal(MACHINE.withdraw, { requestId: 'waits' });
    await entity.signal(MACHINE.withdraw, { requestId: 'runs' });

    const cancelled = env.client.workflow.getHandle(backupId('withdraw', 'runs')).result();
    await expect(cancelled).rejects.toThrow(WorkflowFailedError);
    await expect(cancelled).rejects.toMatchObject({ cause: { name: 'CancelledFailure' } });
    const after = await settled('withdraw', ({ recent }) => recent.length === 3);
    expect(after.recent.map(({ requestId, outcome }) => [requestId, outcome])).toEqual([
      ['waits', 'withdrawn'],
      ['runs', 'cancelled'],
      ['stays', 'completed'],
    ]);
    expect(engine.verbs()).toEqual(['captureMachine', 'abandonOperation', 'captureMachine']);
    expect(order).toEqual(['verb has undone', 'operation abandoned']);
    const [begun] = engine.callsOf('captureMachine');
    expect(engine.callsOf('abandonOperation')).toEqual([{ opId: begun?.['opId'], removeTargets: true }]);
  });
});
