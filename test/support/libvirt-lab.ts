/** A place for tests on the real libvirt: images where QEMU reaches them, machines with one name prefix, all removed at the end. */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { parseHostId, parseOpId } from '@lifeboat/foundation/ids';
import { silentLog, type Log } from '@lifeboat/foundation/log';
import { openLibvirtHypervisor } from '@lifeboat/hypervisor/libvirt/libvirt-hypervisor';
import type { Hypervisor, MachineShape, ShapeDisk } from '@lifeboat/hypervisor/port';

const LAB_HOST = parseHostId(`lab-${process.pid}`);
const STATE = '/var/lib/lifeboat';

export class LibvirtLab {
  readonly directory: string;
  readonly prefix: string;
  readonly warnings: string[] = [];
  readonly hypervisor: Hypervisor;
  #unique = 0;
  readonly #opened: Hypervisor[] = [];

  constructor(name: string) {
    mkdirSync(STATE, { recursive: true });
    this.directory = mkdtempSync(path.join(STATE, `${name}-`));
    chmodSync(this.directory, 0o711);
    this.prefix = `${name}-${process.pid}`;
    this.hypervisor = this.open();
  }

  /** Another one on the same libvirt, as another process would have it. */
  open(options: { kvmProbeCacheFile?: string } = {}): Hypervisor {
    const warn = (message: string): void => void this.warnings.push(message);
    const log: Log = { ...silentLog, warn, error: warn };
    const hypervisor = openLibvirtHypervisor({
      log,
      clock: systemClock,
      kvmProbeCacheFile: options.kvmProbeCacheFile ?? path.join(this.directory, 'kvm.json'),
    });
    this.#opened.push(hypervisor);
    return hypervisor;
  }

  name(): string {
    this.#unique += 1;
    return `${this.prefix}-${this.#unique}`;
  }

  path(...parts: readonly string[]): string {
    return path.join(this.directory, ...parts);
  }

  image(name: string, size = '16M', format: 'qcow2' | 'raw' = 'qcow2'): string {
    const file = this.path(name);
    execFileSync('qemu-img', ['create', '-q', '-f', format, file, size]);
    return file;
  }

  /** What an operation offers for sockets and scratch files: QEMU's user may write there. */
  qemuDirectory(): string {
    const directory = this.path(`op${(this.#unique += 1)}`);
    mkdirSync(directory, { mode: 0o755 });
    chownSync(directory, qemuUid(), 0);
    return directory;
  }

  shape(disks: readonly Pick<ShapeDisk, 'path' | 'format' | 'controller' | 'backing'>[]): MachineShape {
    const name = this.name();
    return {
      opId: parseOpId(`op-${name}`),
      hostId: LAB_HOST,
      name,
      memoryMiB: 32,
      vcpus: 1,
      firmware: 'bios',
      disks: disks.map((disk, index) => ({ ...disk, serial: `disk${index}` })),
      network: { kind: 'none' },
    };
  }

  async close(): Promise<void> {
    for (const name of virsh('list', '--all', '--name').split('\n')) {
      if (!name.startsWith(this.prefix)) continue;
      quietly(() => virsh('destroy', name));
      quietly(() => virsh('undefine', name, '--nvram', '--checkpoints-metadata', '--snapshots-metadata'));
    }
    for (const name of virsh('net-list', '--all', '--name').split('\n')) {
      if (name.startsWith(this.prefix)) quietly(() => virsh('net-destroy', name));
    }
    for (const hypervisor of this.#opened) await hypervisor.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export function virsh(...args: readonly string[]): string {
  return execFileSync('virsh', ['-q', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    .toString()
    .trim();
}

function qemuUid(): number {
  return Number(execFileSync('id', ['-u', 'libvirt-qemu']).toString());
}

/** A transient domain is gone once it was destroyed, so the second step of a clean-up may find nothing. */
function quietly(step: () => unknown): void {
  try {
    step();
  } catch (error) {
    if (!(error instanceof Error) || !/failed to get|not running|not found/.test(String(error))) throw error;
  }
}

/** Ranges of an export as nbdinfo sees them, in one context. */
export function nbdMap(
  socketPath: string,
  exportName: string,
  context = 'base:allocation',
): { offset: number; length: number; type: number; description: string }[] {
  const uri = `nbd+unix:///${exportName}?socket=${socketPath}`;
  const output = execFileSync('nbdinfo', ['--json', `--map=${context}`, uri]).toString();
  return JSON.parse(output) as { offset: number; length: number; type: number; description: string }[];
}

/** A write of the running guest, as far as its disk can tell. Sizes as qemu-io takes them: `1M`. */
export function guestWrites(machine: string, device: string, offset: string, length: string, pattern = 0x5a): void {
  const command = `qemu-io -d ${device} "write -P ${pattern} ${offset} ${length}"`;
  const answer = virsh('qemu-monitor-command', machine, '--hmp', command);
  if (/error|fail/i.test(answer)) throw new Error(`${command}: ${answer}`);
}
