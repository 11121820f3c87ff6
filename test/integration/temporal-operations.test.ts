/** The operations: stages in order, findings as results, and what was begun undone in reverse when a stage fails. */
import type { Client } from '@temporalio/client';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { machineEvidence } from '@lifeboat/cli/operations/machine-evidence';
import type { BootPlan, OperationRequest, RedeployMachineInput } from '@lifeboat/contracts/workflow/operations';
import {
  CENTRAL_TASK_QUEUE,
  operationWorkflowId,
  preflightScheduleId,
  WORKFLOW_TYPES,
} from '@lifeboat/contracts/workflow/names';
import { OPERATION_STATUS } from '@lifeboat/contracts/workflow/progress';
import type { OperationStatus } from '@lifeboat/contracts/workflow/progress';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { loadConfiguration } from '@lifeboat/runtime/configuration';
import {
  bootSummary,
  filesystemsSummary,
  captureSummary,
  FakeEngine,
  planSummary,
  testPoint,
} from '../support/fake-engine.ts';
import {
  backupRequest,
  eventually,
  HOST_ID,
  hostStatus,
  machineStatus,
  quietTemporal,
  startAgent,
  startWorker,
  submit,
} from '../support/temporal-stack.ts';
import type { Running } from '../support/temporal-stack.ts';
import { timeSkippingServer } from '../support/time-skipping.ts';

let env: TestWorkflowEnvironment;
let client: Client;
let worker: Running;
let agent: Running | undefined;

beforeAll(async () => {
  quietTemporal();
  env = await timeSkippingServer();
  client = env.client;
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

const boot: BootPlan = { readyPattern: 'login:', timeoutMs: 60_000 };

function redeployRequest(machineId: string, change: Partial<RedeployMachineInput> = {}): OperationRequest {
  return {
    kind: 'redeploy',
    requestId: 'r',
    input: {
      hostId: HOST_ID,
      machineId,
      machine: machineId,
      target: { kind: 'directory', directory: '/restored', name: 'copy' },
      profile: 'virtio-blk',
      compare: true,
      boot: { readyPattern: 'login:', timeoutMs: 60_000 },
      define: { name: 'copy', start: true },
      ...change,
    },
  };
}

/** Runs an operation around `engine` to its end, whatever that is. */
async function run(engine: FakeEngine, request: OperationRequest): Promise<{ result?: unknown; failure?: unknown }> {
  agent = startAgent(env.address, engine);
  const { workflowId } = await submit(client, request);
  // The machine's entity starts it a moment after it was submitted.
  const { machineId, requestId } = { machineId: request.input.machineId, requestId: request.requestId };
  await eventually(
    () => machineStatus(client, machineId),
    ({ running, recent }) => running?.requestId === requestId || recent.some((entry) => entry.requestId === requestId),
  );
  const handle = client.workflow.getHandle(workflowId);
  await eventually(
    () => handle.describe(),
    () => true,
  );
  try {
    return { result: await handle.result() };
  } catch (failure) {
    return { failure };
  }
}

describe('a redeploy', () => {
  test('runs its stages in order and defines the machine last', async () => {
    const engine = new FakeEngine();
    const { result } = await run(engine, redeployRequest('ordered'));
    expect(engine.verbs()).toEqual([
      'restoreDisks',
      'planRedeploy',
      'applyRedeploy',
      'compareFiles',
      'bootTest',
      'defineMachine',
    ]);
    expect(result).toMatchObject({ verdict: 'proven', define: { name: 'copy', started: true } });
    // Plan and edits are one operation on the host; every other verb has its own, all admitted at one epoch.
    const opIds = engine.calls.filter(({ verb }) => verb !== 'reap').map(({ input }) => input['opId']);
    expect(new Set(opIds.slice(0, 6)).size).toBe(5);
    expect(engine.callsOf('planRedeploy')[0]?.['opId']).toBe(engine.callsOf('applyRedeploy')[0]?.['opId']);
    const epochs = engine.calls.map(({ input }) => input['epoch']).filter((epoch) => epoch !== undefined);
    expect(new Set(epochs.slice(-6)).size).toBe(1);
    const status = await client.workflow
      .getHandle(operationWorkflowId('redeploy', { machineId: 'ordered', requestId: 'r' }))
      .query<OperationStatus>(OPERATION_STATUS);
    expect(status.stages.map(({ name, state }) => [name, state])).toEqual([
      ['wait for the host', 'done'],
      ['restore disks', 'done'],
      ['plan', 'done'],
      ['inject drivers', 'done'],
      ['compare files', 'done'],
      ['boot test', 'done'],
      ['define machine', 'done'],
    ]);
  });

  test('that fails is undone from the last step to the first, and the failing step too', async () => {
    const engine = new FakeEngine({
      bootTest: async () => {
        throw new LifeboatError('disk.full', 'no space for the overlay of copy');
      },
    });
    const { failure } = await run(engine, redeployRequest('undone'));
    expect(failure).toMatchObject({
      cause: { cause: { type: 'disk.full', message: 'no space for the overlay of copy', nonRetryable: true } },
    });
    const begun = ['bootTest', 'compareFiles', 'applyRedeploy', 'restoreDisks'] as const;
    expect(engine.callsOf('abandonOperation')).toEqual(
      begun.map((verb) => ({
        opId: engine.callsOf(verb)[0]?.['opId'],
        removeTargets: verb === 'bootTest' || verb === 'restoreDisks',
      })),
    );
    expect(engine.verbs()).not.toContain('defineMachine');
    // The host heard of the end, and so did the machine.
    await eventually(
      () => hostStatus(client),
      ({ leases }) => leases.length === 0,
    );
    const { recent } = await eventually(
      () => machineStatus(client, 'undone'),
      (seen) => seen.recent.length === 1,
    );
    expect(recent[0]?.outcome).toBe('failed');
  });

  test('a compensation that fails keeps none of the others from running, nor hides the first error', async () => {
    const engine = new FakeEngine({
      planRedeploy: async () => {
        throw new LifeboatError('input.invalid', 'no such profile');
      },
      abandonOperation: async ({ removeTargets }) => {
        if (!removeTargets) throw new LifeboatError('internal.bug', 'cannot be abandoned');
      },
    });
    const { failure } = await run(engine, redeployRequest('stubborn'));
    expect(failure).toMatchObject({ cause: { cause: { type: 'input.invalid' } } });
    expect(engine.callsOf('abandonOperation').map(({ removeTargets }) => removeTargets)).toEqual([false, true]);
  });

  test('whose plan is refused changes nothing, takes the disks away, and says why', async () => {
    const engine = new FakeEngine({ planRedeploy: async () => planSummary(['the profile needs a driver nobody has']) });
    const { result } = await run(engine, redeployRequest('refused'));
    expect(result).toMatchObject({
      verdict: 'refused',
      plan: { refusals: ['the profile needs a driver nobody has'] },
    });
    expect(engine.verbs()).toEqual(['restoreDisks', 'planRedeploy', 'abandonOperation', 'abandonOperation']);
    expect(engine.callsOf('abandonOperation').at(-1)).toEqual({
      opId: engine.callsOf('restoreDisks')[0]?.['opId'],
      removeTargets: true,
    });
  });

  test('after which files differ that were not edited is not proven, and nothing is defined', async () => {
    const differing = ['/boot/initrd.img-6.1.0', '/etc/fstab'];
    const engine = new FakeEngine({
      compareFiles: async () => ({
        comparedFiles: 2,
        comparedBytes: 2,
        differing,
        notCompared: ['/boot/efi: no vfat'],
        durationMs: 1,
      }),
    });
    const { result } = await run(engine, redeployRequest('differing'));
    expect(result).toMatchObject({ verdict: 'differing', boot: { finding: 'ready' }, compare: { differing } });
    expect(engine.verbs()).not.toContain('defineMachine');
    expect(engine.verbs()).not.toContain('abandonOperation');
  });

  test('for a boot test only defines nothing, and removes its disks, whatever the guest did', async () => {
    const engine = new FakeEngine({ bootTest: async () => bootSummary('initramfs-shell') });
    const { result } = await run(engine, redeployRequest('spare', { disks: 'discard' }));
    expect(result).toMatchObject({ verdict: 'not-booting', boot: { finding: 'initramfs-shell' } });
    expect(engine.verbs()).not.toContain('defineMachine');
    expect(engine.verbs().at(-1)).toBe('abandonOperation');
    expect(engine.callsOf('abandonOperation')).toMatchObject([{ removeTargets: true }]);
  });

  test('whose guest does not start is no failure: the finding is the result, nothing is defined, disks are kept', async () => {
    const engine = new FakeEngine({ bootTest: async () => bootSummary('initramfs-shell') });
    const { result } = await run(engine, redeployRequest('dark'));
    expect(result).toMatchObject({ verdict: 'not-booting', boot: { finding: 'initramfs-shell' } });
    expect(engine.verbs()).not.toContain('defineMachine');
    expect(engine.verbs()).not.toContain('abandonOperation');
  });
});

describe('a verification', () => {
  const request = (machineId: string): OperationRequest => ({
    kind: 'verify',
    requestId: 'v',
    input: { hostId: HOST_ID, machineId, machine: machineId, level: 'content', boot },
  });

  test('boots the very point that was checked, and the machine remembers the proof', async () => {
    const engine = new FakeEngine({ listPoints: async () => [captureSummary(1)] });
    const { result } = await run(engine, request('proven'));
    expect(result).toMatchObject({ verdict: 'proven', proof: ['stored', 'content', 'booted'] });
    expect(engine.callsOf('bootTest')[0]?.['source']).toEqual({ kind: 'point', pointId: testPoint(1).pointId });
    const status = await eventually(
      () => machineStatus(client, 'proven'),
      ({ recent }) => recent.length === 1,
    );
    expect(status).toMatchObject({ newestProvenInstantMs: testPoint(1).instantMs, provenRtoMs: 20_000 });
    // It is what keeps the point when policies are applied.
    const asked = {
      ...loadConfiguration({ environment: {} }),
      temporal: { address: env.address, namespace: 'default' },
    };
    expect(await machineEvidence(asked, ['proven'])).toEqual(new Map([['proven', { booted: [testPoint(1).pointId] }]]));
  });

  test.each([
    ['present', ['stored']],
    ['ciphertext', ['stored', 'ciphertext']],
    ['content', ['stored', 'content']],
  ] as const)(
    'of level %s without a boot is sound, not proven, and claims only what was looked at',
    async (level, proof) => {
      const machineId = `sound-${level}`;
      const input = { hostId: HOST_ID, machineId, machine: machineId, level };
      const { result } = await run(new FakeEngine(), { kind: 'verify', requestId: 'v', input });
      expect(result).toMatchObject({ verdict: 'sound', proof });
      expect(await machineStatus(client, machineId)).not.toHaveProperty('newestProvenInstantMs');
    },
  );

  test.each([
    ['sound', 'proven', ['checkPoint', 'checkFilesystems', 'bootTest']],
    ['damaged', 'inconsistent', ['checkPoint', 'checkFilesystems']],
    ['not-checked', 'unproven', ['checkPoint', 'checkFilesystems']],
  ] as const)('whose filesystems are %s is %s', async (result, verdict, verbs) => {
    const engine = new FakeEngine({ checkFilesystems: async () => filesystemsSummary(result) });
    const machineId = `filesystems-${result}`;
    const { input } = request(machineId);
    const asked = { kind: 'verify', requestId: 'v', input: { ...input, filesystems: { programs: [] } } };
    const found = await run(engine, asked as OperationRequest);
    expect(found.result).toMatchObject({ verdict, filesystems: { volumes: [{ result }] } });
    expect((found.result as { proof: string[] }).proof.includes('filesystem')).toBe(result === 'sound');
    expect(engine.verbs()).toEqual(verbs);
  });

  test('a damaged point is not booted and counts for no recovery number', async () => {
    const damage = [{ disk: 'vda', offsetBytes: 0, lengthBytes: 4096, what: 'chunk does not open' }];
    const engine = new FakeEngine({
      checkPoint: async ({ level }) => ({
        pointId: testPoint(1).pointId,
        level,
        checkedBytes: 1,
        durationMs: 1,
        damage,
      }),
    });
    const { result } = await run(engine, request('damaged'));
    expect(result).toMatchObject({ verdict: 'damaged', check: { damage }, proof: [] });
    expect(engine.verbs()).toEqual(['checkPoint']);
  });
});

describe('a restore', () => {
  test('for a test only removes its disks at the end, whatever the guest did', async () => {
    const engine = new FakeEngine({ bootTest: async () => bootSummary('no-boot-device') });
    const { result } = await run(engine, {
      kind: 'restore',
      requestId: 'p',
      input: {
        hostId: HOST_ID,
        machineId: 'proof',
        machine: 'proof',
        target: { kind: 'directory', directory: '/restored', name: 'proof' },
        boot: { ...boot, profile: 'nvme' },
        define: { name: 'proof', start: false },
        disks: 'discard',
      },
    });
    expect(result).toMatchObject({ verdict: 'not-booting' });
    expect(engine.verbs()).toEqual(['restoreDisks', 'bootTest', 'abandonOperation']);
    expect(engine.callsOf('bootTest')[0]).toMatchObject({ profile: 'nvme', source: { kind: 'disks' } });
  });
});

test('the pre-flight of a night takes its place on the host, and gives it up', async () => {
  const engine = new FakeEngine();
  agent = startAgent(env.address, engine);
  const found = await client.workflow.execute(WORKFLOW_TYPES.preflight, {
    workflowId: preflightScheduleId(HOST_ID),
    taskQueue: CENTRAL_TASK_QUEUE,
    args: [{ hostId: HOST_ID, profiles: ['nvme'] }],
  });
  expect(found).toMatchObject({ machines: [{ machineName: 'web', answers: [{ profile: 'nvme', verdict: 'yes' }] }] });
  expect(engine.callsOf('preflight')).toMatchObject([
    { profiles: ['nvme'], opId: expect.stringMatching(/^pre-/) as string },
  ]);
  await eventually(
    () => hostStatus(client, HOST_ID),
    ({ leases }) => leases.length === 0,
  );
});

describe('errors', () => {
  test('what may pass is tried again, what cannot is not', async () => {
    let tries = 0;
    const engine = new FakeEngine({
      captureMachine: async () => {
        if (++tries < 3) throw new LifeboatError('device.read-failed', 'vda did not answer');
        throw new LifeboatError('device.write-failed', 'the store is gone for good');
      },
    });
    const { failure } = await run(engine, backupRequest('retry', 'b'));
    expect(tries).toBe(3);
    expect(failure).toMatchObject({ cause: { cause: { type: 'device.write-failed' } } });
  });
});
