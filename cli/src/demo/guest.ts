/** The demo's own machine: a copy of the cached guest, defined in libvirt on AHCI. */
import { constants } from 'node:fs';
import { chmod, copyFile, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseHostId, parseOpId, type MachineId } from '@lifeboat/foundation/ids';
import type { HostRuntime } from '@lifeboat/runtime/host-runtime';
import { consoleExcerpt } from './console-excerpt.ts';

/** What the guest prints on its serial console once multi-user.target is reached; see scripts/build-guest.sh. */
export const GUEST_READY = 'GUEST-BOOT-OK';
/** Under software emulation 21 s on two idle cores, and 200 s on two that six others wanted too. */
export const GUEST_BOOT_LIMIT_MS = 600_000;
const AGENT_LIMIT_MS = 120_000;
const AGENT_ASK_MS = 10_000;
const AGENT_PAUSE_MS = 500;
const COMMAND_LIMIT_MS = 300_000;
const MEMORY_MIB = 512;
const VCPUS = 1;
/** Console text that is kept in memory to look for the marker: a line and some. */
const TAIL_CHARACTERS = 4096;

type Hypervisor = HostRuntime['hypervisor'];
type RunningMachine = Awaited<ReturnType<Hypervisor['openRunning']>>;

export interface Guest {
  readonly machineId: MachineId;
  readonly name: string;
  readonly diskPath: string;
  /** From power-on to the marker. */
  readonly bootMs: number;
  /** Runs a shell command in the guest; it must end with 0. Errors: `demo.guest-not-started` when it does not. */
  run(command: string): Promise<string>;
  screenshot(): Promise<Uint8Array>;
  powerOff(): Promise<void>;
  close(): Promise<void>;
}

export function guestName(runName: string): string {
  return `lb-demo-${runName}`;
}

/** Marks the guest as the run's: the agent's reaper, which removes what an operation left, knows another host id. */
function guestOwner(runName: string) {
  return { opId: parseOpId(`demo-${runName}`), hostId: parseHostId(`demo-${runName}`) };
}

/** Errors: `demo.guest-not-started`; what the hypervisor says; the signal's reason. */
export async function startGuest(options: {
  readonly hypervisor: Hypervisor;
  readonly imagePath: string;
  /** The run's directory. */
  readonly directory: string;
  readonly runName: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Told the console's last line while the guest starts. */
  readonly onConsole: (line: string) => void;
}): Promise<Guest> {
  const { hypervisor, imagePath, directory, runName, clock, signal, onConsole } = options;
  const name = guestName(runName);
  const diskPath = await copyImage(imagePath, join(directory, 'guest'));
  const machineId = await hypervisor.defineMachine({
    ...guestOwner(runName),
    name,
    memoryMiB: MEMORY_MIB,
    vcpus: VCPUS,
    firmware: 'bios',
    disks: [{ controller: 'ahci', path: diskPath, format: 'qcow2', serial: 'lifeboat-demo' }],
    network: { kind: 'none' },
  });
  signal.throwIfAborted();
  const beganMs = clock.monotonicMs();
  await hypervisor.start(machineId);
  const machine = await hypervisor.openRunning(machineId);
  try {
    await untilMarker(machine, { consolePath: join(directory, 'guest', 'console.log'), clock, signal, onConsole });
    onConsole('waiting for its guest agent');
    const bootMs = clock.monotonicMs() - beganMs;
    await untilAgent(machine, { clock, signal });
    return {
      machineId,
      name,
      diskPath,
      bootMs,
      run: (command) => runIn(machine, command, signal),
      screenshot: () => machine.screenshot(),
      powerOff: () => machine.destroy(),
      close: () => machine.close(),
    };
  } catch (error) {
    await machine.close();
    throw error;
  }
}

/** The cached image stays as it is, so the guest gets a copy; one that shares blocks where the filesystem can. */
async function copyImage(imagePath: string, directory: string): Promise<string> {
  await mkdir(directory, { recursive: true, mode: 0o711 });
  const path = join(directory, 'sda.qcow2');
  await copyFile(imagePath, path, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  await chmod(path, 0o600);
  return path;
}

async function untilMarker(
  machine: RunningMachine,
  options: { consolePath: string; clock: Clock; signal: AbortSignal; onConsole: (line: string) => void },
): Promise<void> {
  const { consolePath, clock, signal, onConsole } = options;
  const limit = new AbortController();
  const log = await open(consolePath, 'w', 0o600);
  let tail = '';
  const read = async (): Promise<'marker' | 'ended'> => {
    const decoder = new TextDecoder();
    for await (const bytes of machine.console()) {
      await log.write(bytes);
      tail = (tail + decoder.decode(bytes, { stream: true })).slice(-TAIL_CHARACTERS);
      if (tail.includes(GUEST_READY)) return 'marker';
      onConsole(consoleExcerpt(tail, 1));
      if (limit.signal.aborted) break;
    }
    return 'ended';
  };
  const timeout = clock
    .sleep(GUEST_BOOT_LIMIT_MS, AbortSignal.any([signal, limit.signal]))
    .then(() => 'timeout' as const);
  try {
    const outcome = await Promise.race([read(), timeout]);
    if (outcome === 'marker') return;
    const why = outcome === 'ended' ? 'its console ended' : `${GUEST_BOOT_LIMIT_MS / 1000} s passed`;
    throw new LifeboatError(
      'demo.guest-not-started',
      `${machine.name} did not print ${GUEST_READY}: ${why}. Its console (${consolePath}) ends with: ${consoleExcerpt(tail, 3)}`,
      { context: { machine: machine.name, consolePath } },
    );
  } finally {
    limit.abort();
    // It lost the race, or was cancelled with it.
    await timeout.catch(() => {});
    await log.close();
  }
}

/** The marker is printed while other services still start, so the guest agent may need a moment longer. */
async function untilAgent(machine: RunningMachine, options: { clock: Clock; signal: AbortSignal }): Promise<void> {
  const { clock, signal } = options;
  const deadlineMs = clock.monotonicMs() + AGENT_LIMIT_MS;
  for (;;) {
    try {
      await machine.runInGuest('true', { timeoutMs: AGENT_ASK_MS, signal });
      return;
    } catch (cause) {
      signal.throwIfAborted();
      if (clock.monotonicMs() > deadlineMs) {
        throw new LifeboatError(
          'demo.guest-not-started',
          `the guest agent of ${machine.name} did not answer within ${AGENT_LIMIT_MS / 1000} s`,
          { cause, context: { machine: machine.name } },
        );
      }
    }
    await clock.sleep(AGENT_PAUSE_MS, signal);
  }
}

async function runIn(machine: RunningMachine, command: string, signal: AbortSignal): Promise<string> {
  const { exitCode, output } = await machine.runInGuest(command, { timeoutMs: COMMAND_LIMIT_MS, signal });
  if (exitCode !== 0) {
    throw new LifeboatError(
      'demo.guest-not-started',
      `'${command}' in ${machine.name} ended with ${exitCode}: ${output}`,
      {
        context: { machine: machine.name, exitCode },
      },
    );
  }
  return output;
}
