/**
 * kill -9 of every process of the stack, in the middle of every kind of work, on the real thing: Temporal's server, worker and
 * agent as `npm run stage` makes them, libvirt, QEMU. Whatever is killed, operations end as if nothing had been, and nothing
 * stays behind.
 *
 * Heartbeats carry no details here (observed-agent.ts). What a point must hold was copied from the suspended machine before
 * its capture; what the guest writes later must not be in it. Moments come from a seed: KILL_SEED repeats a run.
 */
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CaptureSummary } from '@lifeboat/contracts/workflow/verbs';
import { MiB } from '@lifeboat/foundation/units';
import { seededRandom } from '@lifeboat/repository/testing/disks';
import type { Hold } from '../support/kill-9/holds.ts';
import { KillStack, type ProcessName, type Submitted, until } from '../support/kill-9/kill-stack.ts';
import { goOn } from '../support/stopped-process.ts';
import { difference, type TinyMachine } from '../support/test-host.ts';
import { type Step, TINY_READY } from '../support/tiny-guest.ts';

const seed = Number(process.env['KILL_SEED'] ?? Date.now() % 1_000_000);
console.log(`KILL_SEED=${seed}`);
const random = seededRandom(seed);
const between = (from: number, to: number): number => from + Math.floor(random() * (to - from));

const DATA_BYTES = 96 * MiB;
const DISK_BYTES = DATA_BYTES + 64 * MiB;
/** Written between two captures. */
const CHANGED_BYTES = 32 * MiB;
/** What the guest under test reads, a piece after each pause; progress is reported every 2 s. */
const BOOT_PIECES = 4;
const BOOT_PIECE_BYTES = 2 * MiB;
const BOOT_PAUSE_SECONDS = 1.5;
const BOOT_BYTES = BOOT_PIECES * BOOT_PIECE_BYTES;

const RANDOM_MS = 45_000;
/** A verb that is not held back reports progress after less than this. */
const WOULD_WORK_MS = 3_000;

let stack: KillStack;
/** Of every machine, the newest point: its checkpoint, and no other, stays. */
const newest = new Map<TinyMachine, string | undefined>();
let restores = 0;
/** Backed up once, and restored by many. */
let kept: { machine: TinyMachine; copy: string; pointId: string };
/** Takes some seconds to boot. */
let bootable: TinyMachine;

beforeAll(async () => {
  stack = await KillStack.start('kill');
  const machine = await machineWithData('kept');
  bootable = await stack.host.machine({
    name: 'boots',
    disks: [{ sizeBytes: 16 * MiB, random: [{ offsetBytes: MiB, lengthBytes: BOOT_BYTES }] }],
    steps: [
      { do: 'say', text: 'TINY-BOOTS\r\n' },
      ...Array.from({ length: BOOT_PIECES }, (_, piece) => bootPiece(MiB + piece * BOOT_PIECE_BYTES)).flat(),
      { do: 'say', text: `${TINY_READY}\r\n` },
    ],
    start: true,
  });
  const copy = copyOf(machine, 'kept');
  const [capture] = await Promise.all([backup(machine), backup(bootable)]);
  kept = { machine, copy, pointId: capture.pointId };
});

afterAll(async () => {
  await stack?.close();
});

function bootPiece(fromBytes: number): Step[] {
  return [
    { do: 'read', fromBytes, toBytes: fromBytes + BOOT_PIECE_BYTES },
    { do: 'wait', seconds: BOOT_PAUSE_SECONDS },
  ];
}

async function machineWithData(name: string, bytes = DATA_BYTES): Promise<TinyMachine> {
  const machine = await stack.host.machine({
    name,
    disks: [{ sizeBytes: DISK_BYTES, random: [{ offsetBytes: MiB, lengthBytes: bytes }] }],
    start: true,
  });
  newest.set(machine, undefined);
  return machine;
}

async function backup(machine: TinyMachine): Promise<CaptureSummary> {
  return await captured(machine, stack.submit('backup', machine, {}));
}

async function captured(machine: TinyMachine, operation: Submitted<'backup'>): Promise<CaptureSummary> {
  const { capture } = await operation.result;
  newest.set(machine, capture.pointId);
  return capture;
}

const capturePidFile = (machine: TinyMachine): string => `/run/libvirt/qemu/${machine.name}.pid`;

/** QEMU, which the bytes come from, stands still at a byte of the first three quarters. */
function holdCapture(machine: TinyMachine, totalBytes = DATA_BYTES): Hold {
  const hold = {
    verb: 'captureMachine',
    machine: machine.id,
    phase: 'write',
    atBytes: between(1, totalBytes * 0.75),
    pidFile: capturePidFile(machine),
  } as const;
  stack.hold(hold);
  return hold;
}

/** The server of the target image stands still. */
function holdRestore(machine: TinyMachine): Hold {
  const pidFile = stack.host.path('ops', '{opId}', 'to-vda.pid');
  const hold = {
    verb: 'restoreDisks',
    machine: machine.id,
    phase: 'restore',
    atBytes: between(1, DATA_BYTES * 0.75),
    pidFile,
  } as const;
  stack.hold(hold);
  return hold;
}

/** The guest under test stands still after a byte of the first three quarters of what it reads. */
function holdBoot(machine: TinyMachine): Hold {
  const pidFile = '/run/libvirt/qemu/lb-{opId}.pid';
  const atBytes = between(1, BOOT_BYTES * 0.75);
  const hold = { verb: 'bootTest', machine: machine.id, phase: 'boot', atBytes, pidFile } as const;
  stack.hold(hold);
  return hold;
}

interface Restoring {
  readonly operation: Submitted<'restore'>;
  readonly image: string;
  readonly directory: string;
}

function restore(machine: TinyMachine, pointId: string): Restoring {
  const name = `r${++restores}`;
  const directory = stack.host.path('restored', name);
  const target = { kind: 'directory', directory, name } as const;
  const operation = stack.submit('restore', machine, { pointId, target, disks: 'keep' });
  return { operation, directory, image: `${directory}/${name}-vda.qcow2` };
}

/** qemu-img's word on what a restore brought back; undefined when it reads the same. */
async function differenceFrom(copy: string, restoring: Restoring): Promise<string | undefined> {
  await restoring.operation.result;
  const found = difference(restoring.image, copy);
  rmSync(restoring.directory, { recursive: true });
  return found;
}

function verify(machine: TinyMachine): Submitted<'verify'> {
  return stack.submit('verify', machine, {
    level: 'content',
    boot: { readyPattern: TINY_READY, timeoutMs: 120_000 },
  });
}

function copyOf(machine: TinyMachine, label: string): string {
  return machine.copies(label)[0] as string;
}

describe('killed in the middle of a capture, a restore and a boot test', () => {
  test.each<ProcessName>(['worker', 'agent', 'temporal'])('the %s: all three go on and end right', async (victim) => {
    const changing = await machineWithData(`for-${victim}`);
    const copy = copyOf(changing, 'before');
    const holds = [holdCapture(changing), holdRestore(kept.machine), holdBoot(bootable)] as const;
    const capturing = stack.submit('backup', changing, {});
    const restoring = restore(kept.machine, kept.pointId);
    const verifying = verify(bootable);
    const held = await Promise.all([
      stack.held(holds[0], capturing),
      stack.held(holds[1], restoring.operation),
      stack.held(holds[2], verifying),
    ]);
    const begun = stack.begunPoint(held[0].opId);
    await stack.kill(victim);
    for (const { stoppedPid } of held) goOn(stoppedPid);
    // Before what was read, around it, and behind it: the job keeps what it must show.
    for (const offset of [2, 40, 80]) changing.write(0, offset * MiB, 4 * MiB);

    const capture = await captured(changing, capturing);
    expect(await differenceFrom(kept.copy, restoring)).toBeUndefined();
    expect(await verifying.result).toMatchObject({ verdict: 'proven', boot: { finding: 'ready' } });
    // The job was found again: it is the same instant.
    expect(capture.pointId).toBe(begun);
    expect(await differenceFrom(copy, restore(changing, capture.pointId))).toBeUndefined();
    const attempts = [
      await stack.lastAttempt(capturing.workflowId, 'captureMachine'),
      await stack.lastAttempt(restoring.operation.workflowId, 'restoreDisks'),
      await stack.lastAttempt(verifying.workflowId, 'bootTest'),
    ];
    // The verbs run in the agent; the death of the others need not, but may, cost an attempt.
    expect(Math.min(...attempts)).toBeGreaterThan(victim === 'agent' ? 1 : 0);
    expect(await stack.leftovers(newest)).toEqual([]);
  });
});

describe('the agent and QEMU killed in the middle of a capture', () => {
  test('the instant is lost; another is taken, with everything compared', async () => {
    const machines = await Promise.all(['again', 'off'].map((name) => machineWithData(name)));
    const [again, off] = machines as [TinyMachine, TinyMachine];
    await Promise.all(machines.map((machine) => backup(machine)));
    for (const machine of machines) machine.write(0, 8 * MiB, CHANGED_BYTES);
    const copies = machines.map((machine) => copyOf(machine, 'before'));
    const runs = machines.map((machine) => ({
      machine,
      hold: holdCapture(machine, CHANGED_BYTES),
      operation: stack.submit('backup', machine, {}),
    }));
    const held = await Promise.all(runs.map(({ hold, operation }) => stack.held(hold, operation)));
    const begun = held.map(({ opId }) => stack.begunPoint(opId));
    const killed = stack.kill('agent');
    for (const machine of machines) await machine.killQemu();
    await again.start();
    await killed;

    const captures = await Promise.all(runs.map(({ machine, operation }) => captured(machine, operation)));
    for (const [index, capture] of captures.entries()) {
      expect(capture.pointId).not.toBe(begun[index]);
      expect(capture.disks[0]).toMatchObject({ method: 'comparison', reason: expect.stringContaining('bitmap') });
    }
    // Bitmaps are made only while a machine runs.
    newest.set(off, undefined);
    await off.start();
    for (const [index, machine] of machines.entries()) {
      const { pointId } = captures[index] as CaptureSummary;
      expect(await differenceFrom(copies[index] as string, restore(machine, pointId))).toBeUndefined();
    }
    expect(await stack.leftovers(newest)).toEqual([]);
  });
});

describe('two agents for one host', () => {
  test('the second takes over from the first, which lost its way to Temporal and goes on working', async () => {
    const machine = await machineWithData('two');
    await backup(machine);
    machine.write(0, 8 * MiB, CHANGED_BYTES);
    const copy = copyOf(machine, 'before');
    const holds = [holdCapture(machine, CHANGED_BYTES), holdRestore(kept.machine)] as const;
    const capturing = stack.submit('backup', machine, {});
    const restoring = restore(kept.machine, kept.pointId);
    const held = await Promise.all([stack.held(holds[0], capturing), stack.held(holds[1], restoring.operation)]);
    const begun = stack.begunPoint(held[0].opId);
    const first = held[0].agentPid;
    const second = await stack.secondAgent();
    // How many of the two operations an agent has said this of.
    const count = (pid: number, message: string): number =>
      stack.logOf(pid).filter((line) => line['message'] === message && held.some(({ opId }) => opId === line['opId']))
        .length;

    stack.agentProxy.sever();
    await until('the second agent was given both', 60_000, () => count(second.pid, 'activity started') === 2);
    // The first holds the locks, so the second waits. Then the first hears that the work is not its any more.
    await sleep(WOULD_WORK_MS);
    expect(count(first, 'activity ended without a result')).toBe(0);
    expect(count(second.pid, 'verb works')).toBe(0);
    stack.agentProxy.heal();
    await until('the first agent heard', 60_000, () => count(first, 'verb told to stop') === 2);
    for (const { stoppedPid } of held) goOn(stoppedPid);

    const capture = await captured(machine, capturing);
    expect(await differenceFrom(kept.copy, restoring)).toBeUndefined();
    expect(count(first, 'activity ended without a result')).toBe(2);
    // It let go and undid nothing of the job: the same instant, by the same dirty bitmap.
    expect(capture).toMatchObject({ pointId: begun, disks: [{ method: 'incremental' }] });
    expect(await differenceFrom(copy, restore(machine, capture.pointId))).toBeUndefined();
    await second.stop();
    expect(await stack.leftovers(newest)).toEqual([]);
  });
});

describe('killed at random moments', () => {
  test('backups, restores and boot tests go on, whatever dies when', async () => {
    const machine = await machineWithData('random');
    const untilMs = Date.now() + RANDOM_MS;
    const moments: string[] = [];
    const killing = (async () => {
      for (;;) {
        await sleep(between(1_000, 12_000));
        if (Date.now() > untilMs) return;
        const victim = (['worker', 'agent', 'temporal'] as const)[between(0, 3)] as ProcessName;
        moments.push(`${victim} at ${Math.round((RANDOM_MS - (untilMs - Date.now())) / 1000)} s`);
        await stack.kill(victim);
      }
    })();
    const capturing = (async () => {
      for (let round = 0; Date.now() < untilMs; round++) {
        machine.write(0, between(1, 60) * MiB, between(1, 16) * MiB);
        const copy = copyOf(machine, `round-${round}`);
        const { pointId } = await backup(machine);
        expect(await differenceFrom(copy, restore(machine, pointId))).toBeUndefined();
      }
    })();
    const booting = (async () => {
      while (Date.now() < untilMs) {
        expect(await verify(bootable).result).toMatchObject({ verdict: 'proven' });
      }
    })();
    await Promise.all([killing, capturing, booting]);
    console.log(`killed: ${moments.join(', ')}`);
    expect(moments).not.toEqual([]);
    expect(await stack.leftovers(newest)).toEqual([]);
  });
});

test('nothing died but what was killed here', () => {
  const deaths = stack.said.filter((text) => text.includes('although nobody asked'));
  expect(deaths.filter((text) => !text.includes('(SIGKILL)'))).toEqual([]);
  expect(deaths).toHaveLength(stack.kills);
});
