/** The demo's guest as a machine to measure: paused, where its disk is all that matters, or running. */
import { chmod, constants, copyFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseHostId, parseOpId, type MachineId } from '@lifeboat/foundation/ids';
import { runTool } from '@lifeboat/host/children';
import type { MachineShape } from '@lifeboat/hypervisor/port';
import { type BenchLab, removeMachine } from './bench-lab.ts';

const MEMORY_MIB = 512;
const VIRSH_LIMIT_MS = 60_000;
/** Under software emulation 30 s on an idle machine; more than five minutes were seen at a load of 20 on two cores. */
const BOOT_LIMIT_MS = 900_000;
const ASK_MS = 10_000;
const PAUSE_MS = 1000;
const COMMAND_LIMIT_MS = 600_000;
const AGENT_CHANNEL = /<channel[\s\S]*?<\/channel>/;

export interface BenchGuest {
  readonly id: MachineId;
  readonly name: string;
  readonly diskPath: string;
  remove(): Promise<void>;
}

export interface RunningGuest extends BenchGuest {
  /** Runs a shell command in the guest; it must end with 0. */
  run(command: string): Promise<string>;
}

/**
 * Started and paused before its first instruction: QEMU has the disk open and takes no CPU time. It has no channel for
 * the guest agent, which could not answer, so that a capture does not wait for it.
 */
export async function pausedGuest(lab: BenchLab): Promise<BenchGuest> {
  const { shape, diskPath } = await makeShape(lab, 'paused');
  const xml = await lab.hypervisor.renderMachine(shape);
  const xmlPath = join(await lab.directory('guest-paused'), 'domain.xml');
  await writeFile(xmlPath, xml.replace(AGENT_CHANNEL, ''));
  await virsh(lab, 'define', xmlPath);
  await virsh(lab, 'start', '--paused', shape.name);
  const { id } = await lab.hypervisor.findMachine(shape.name);
  return benchGuest(lab, { id, name: shape.name, diskPath });
}

/** Booted, with the guest agent answering. */
export async function runningGuest(lab: BenchLab): Promise<RunningGuest> {
  const { hypervisor, signal } = lab;
  const { shape, diskPath } = await makeShape(lab, 'running');
  const id = await hypervisor.defineMachine(shape);
  await hypervisor.start(id);
  const machine = await hypervisor.openRunning(id);
  const guest = benchGuest(lab, { id, name: shape.name, diskPath });
  const deadlineMs = systemClock.monotonicMs() + BOOT_LIMIT_MS;
  for (;;) {
    try {
      await machine.runInGuest('true', { timeoutMs: ASK_MS, signal });
      break;
    } catch (error) {
      signal.throwIfAborted();
      // The agent starts late in a boot; until then it does not answer.
      if (systemClock.monotonicMs() > deadlineMs) throw error;
    }
    await systemClock.sleep(PAUSE_MS, signal);
  }
  return {
    ...guest,
    async run(command) {
      const { exitCode, output } = await machine.runInGuest(command, { timeoutMs: COMMAND_LIMIT_MS, signal });
      if (exitCode === 0) return output;
      throw new LifeboatError('demo.guest-not-started', `'${command}' in the guest ended with ${exitCode}: ${output}`);
    },
    async remove() {
      await machine.close();
      await guest.remove();
    },
  };
}

async function makeShape(lab: BenchLab, label: string): Promise<{ shape: MachineShape; diskPath: string }> {
  const diskPath = join(await lab.directory(`guest-${label}`), 'sda.qcow2');
  await copyFile(lab.imagePath, diskPath, constants.COPYFILE_FICLONE);
  await chmod(diskPath, 0o600);
  const shape: MachineShape = {
    // Another host's, so that no reaper takes a machine for something an operation left.
    opId: parseOpId('bench'),
    hostId: parseHostId(`bench-${process.pid}`),
    name: lab.machineName(label),
    memoryMiB: MEMORY_MIB,
    vcpus: 1,
    firmware: 'bios',
    disks: [{ controller: 'ahci', path: diskPath, format: 'qcow2', serial: 'lifeboat-bench' }],
    network: { kind: 'none' },
  };
  return { shape, diskPath };
}

function benchGuest(lab: BenchLab, guest: Omit<BenchGuest, 'remove'>): BenchGuest {
  return {
    ...guest,
    async remove() {
      await removeMachine(lab.hypervisor, guest.id);
      await rm(guest.diskPath, { force: true });
    },
  };
}

async function virsh(lab: BenchLab, ...args: readonly string[]): Promise<void> {
  await runTool('virsh', ['-q', '-c', lab.libvirtUri, ...args], { timeoutMs: VIRSH_LIMIT_MS, signal: lab.signal });
}
