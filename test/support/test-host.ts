/**
 * A host of Lifeboat's own for one test file: state root, repository, engine on the real libvirt, and tiny machines to
 * work on. Everything carries the file's name and process id; `close` takes all of it away, whatever happened.
 */
import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { type MachineId, type OpId, parseHostId, parseOpId } from '@lifeboat/foundation/ids';
import { jsonLog } from '@lifeboat/foundation/log';
import type { ProgressSink, VerbContext } from '@lifeboat/foundation/progress';
import { MiB } from '@lifeboat/foundation/units';
import { attachedLoops } from '@lifeboat/host/loop-device';
import { mountsBeneath, unmount } from '@lifeboat/host/mounts';
import type { Controller } from '@lifeboat/hypervisor/port';
import { type Configuration, loadConfiguration } from '@lifeboat/runtime/configuration';
import { type HostRuntime, openHostRuntime } from '@lifeboat/runtime/host-runtime';
import { READY_STEPS, type Step, tinyBootSector } from './tiny-guest.ts';

const MEMORY_MIB = 32;
const TOOL_LIMIT_MS = 120_000;
/** Longer writes repeat it: longer than a chunk, so that no two chunks of a write are the same. */
const NOISE_BYTES = 4 * MiB + 4096;
/** The probe of KVM takes 10 s where KVM hangs; its answer holds for this boot and is shared by the test files. */
const PROBE = 'kvm-probe.json';

export interface DiskPlan {
  readonly format?: 'qcow2' | 'raw';
  /** Not needed with `image`. */
  readonly sizeBytes?: number;
  /** Runs of random bytes; none by default. */
  readonly random?: readonly { readonly offsetBytes: number; readonly lengthBytes: number }[];
  /** What stands at the beginning of the disk; on the first disk, the tiny guest unless given. */
  readonly start?: Buffer;
  /** A finished image instead, which becomes the machine's own. */
  readonly image?: string;
}

export interface MachinePlan {
  readonly name: string;
  /** The first one boots; none at all is a machine, too. */
  readonly disks: readonly DiskPlan[];
  readonly controller?: Extract<Controller, 'virtio-blk' | 'ahci'>;
  readonly steps?: readonly Step[];
  readonly start?: boolean;
  /** 32 unless given: what a tiny guest needs. */
  readonly memoryMiB?: number;
}

export class TestHost {
  readonly root: string;
  /** Begins every name that this host gives away. */
  readonly prefix: string;
  /** What the host logged, a JSON object a line. */
  readonly log: string[] = [];
  readonly configuration: Configuration;
  readonly #machines: TinyMachine[] = [];
  #runtime: HostRuntime | undefined;
  #operations = 0;

  private constructor(name: string, options: { repositoryDirectory?: string }) {
    this.prefix = `it-${name}-${process.pid}`;
    this.root = join(process.env['LIFEBOAT_STATE'] ?? '/var/lib/lifeboat', this.prefix);
    const { repositoryDirectory } = options;
    this.configuration = loadConfiguration({
      environment: {
        LIFEBOAT_STATE: this.root,
        ...(repositoryDirectory === undefined ? {} : { LIFEBOAT_REPOSITORY: repositoryDirectory }),
      },
    });
  }

  /** `repositoryDirectory` must exist; by default it lies in the state root. */
  static async open(name: string, options: { repositoryDirectory?: string } = {}): Promise<TestHost> {
    const host = new TestHost(name, options);
    mkdirSync(host.root, { recursive: true, mode: 0o711 });
    try {
      await host.reopen();
    } catch (error) {
      await host.close();
      throw error;
    }
    return host;
  }

  /** As after the end of the process: no connection, no memory. */
  async reopen(): Promise<void> {
    await this.#runtime?.close();
    takeProbe(join(this.root, PROBE));
    this.#runtime = await openHostRuntime(this.configuration, {
      makeRepository: true,
      log: jsonLog((line) => void this.log.push(line)),
    });
    await this.#runtime.hypervisor.describeHost();
    giveProbe(join(this.root, PROBE));
  }

  get runtime(): HostRuntime {
    if (!this.#runtime) throw new Error('the host is not open');
    return this.#runtime;
  }

  get engine(): HostRuntime['engine'] {
    return this.runtime.engine;
  }

  get hypervisor(): HostRuntime['hypervisor'] {
    return this.runtime.hypervisor;
  }

  /** An operation id that nobody else has. */
  op(label: string): OpId {
    this.#operations += 1;
    return parseOpId(`${this.prefix}-${this.#operations}-${label}`);
  }

  /** A file of fresh random bytes that QEMU can read. */
  noise(): string {
    const path = this.path('noise');
    writeFileSync(path, randomFillSync(Buffer.alloc(NOISE_BYTES)), { mode: 0o644 });
    return path;
  }

  path(...parts: readonly string[]): string {
    return join(this.root, ...parts);
  }

  async machine(plan: MachinePlan): Promise<TinyMachine> {
    const name = `${this.prefix}-${plan.name}`;
    const directory = this.path('machines', plan.name);
    mkdirSync(directory, { recursive: true, mode: 0o711 });
    const controller = plan.controller ?? 'virtio-blk';
    const disks = plan.disks.map((disk, index) => {
      const path = join(directory, `disk${index}.${disk.format ?? 'qcow2'}`);
      if (disk.image !== undefined) renameSync(disk.image, path);
      else
        makeDisk(path, disk, disk.start ?? (index === 0 ? tinyBootSector(plan.steps ?? READY_STEPS) : Buffer.alloc(0)));
      return { controller, path, format: disk.format ?? 'qcow2', serial: `tiny-${index}` } as const;
    });
    const id = await this.hypervisor.defineMachine({
      // Another host's, so that neither reaper nor compensation takes it for theirs.
      opId: parseOpId(this.prefix),
      hostId: parseHostId(`${this.prefix}-elsewhere`),
      name,
      memoryMiB: plan.memoryMiB ?? MEMORY_MIB,
      vcpus: 1,
      firmware: 'bios',
      disks,
      network: { kind: 'none' },
    });
    const machine = new TinyMachine({ host: this, id, name, controller, disks });
    this.#machines.push(machine);
    if (plan.start === true) await machine.start();
    return machine;
  }

  /**
   * Everything on this machine that carries our name and should not: domains and networks, processes, loop devices,
   * mounts, checkpoints, operation directories. Machines made by `machine` may be there and run.
   */
  async traces(): Promise<string[]> {
    const known = new Set(this.#machines.map(({ name }) => name));
    const domains = virsh('list', '--all', '--name').split('\n').filter(Boolean);
    const networks = virsh('net-list', '--all', '--name').split('\n').filter(Boolean);
    const isOurs = (text: string): boolean => text.includes(this.prefix);
    return [
      ...domains.filter((name) => isOurs(name) && !known.has(name)).map((name) => `domain ${name}`),
      ...networks.filter(isOurs).map((name) => `network ${name}`),
      ...[...known]
        .filter((name) => domains.includes(name))
        .flatMap((name) => virsh('checkpoint-list', name, '--name').split('\n').filter(Boolean))
        .map((checkpoint) => `checkpoint ${checkpoint}`),
      ...this.#machines.filter((machine) => machine.hasJob()).map(({ name }) => `backup job of ${name}`),
      ...processesWith(this.root)
        .filter(({ command }) => ![...known].some((name) => command.includes(`guest=${name},`)))
        .map(({ pid, command }) => `process ${pid} ${command.slice(0, 200)}`),
      ...(await attachedLoops()).filter(({ path }) => isOurs(path)).map(({ device }) => `loop device ${device}`),
      ...(await mountsBeneath(this.path('ops'))).map(({ path }) => `mount ${path}`),
      ...list(this.path('ops')).map((name) => `operation ${name}`),
    ];
  }

  async close(): Promise<void> {
    const failures: unknown[] = [];
    const step = async (run: () => unknown): Promise<void> => {
      try {
        await run();
      } catch (error) {
        failures.push(error);
      }
    };
    for (const machine of this.#machines) await step(() => machine.remove());
    const runtime = this.#runtime;
    if (runtime) {
      await step(async () => {
        for (const item of await runtime.hypervisor.listTagged()) {
          if (item.opId.startsWith(this.prefix)) await runtime.hypervisor.removeTagged(item);
        }
      });
      await step(() => runtime.close());
    }
    await step(() => {
      for (const name of virsh('list', '--all', '--name').split('\n')) {
        if (!name.includes(this.prefix)) continue;
        if (virsh('domstate', name).trim() !== 'shut off') virsh('destroy', name);
        virsh('undefine', name, '--checkpoints-metadata', '--nvram');
      }
    });
    await step(async () => {
      for (const { path } of (await mountsBeneath(this.root)).toReversed()) await unmount(path);
    });
    await step(() => rmSync(this.root, { recursive: true, force: true }));
    if (failures.length > 0) throw new AggregateError(failures, `${this.prefix} was not cleaned up`);
  }
}

export class TinyMachine {
  readonly id: MachineId;
  readonly name: string;
  readonly disks: readonly { readonly name: string; readonly path: string; readonly format: 'qcow2' | 'raw' }[];
  readonly #host: TestHost;
  readonly #controller: 'virtio-blk' | 'ahci';

  constructor(input: {
    host: TestHost;
    id: MachineId;
    name: string;
    controller: 'virtio-blk' | 'ahci';
    disks: readonly { path: string; format: 'qcow2' | 'raw' }[];
  }) {
    const { host, id, name, controller, disks } = input;
    this.id = id;
    this.name = name;
    this.#host = host;
    this.#controller = controller;
    const letters = controller === 'ahci' ? 'sd' : 'vd';
    this.disks = disks.map(({ path, format }, index) => ({
      name: `${letters}${String.fromCharCode(0x61 + index)}`,
      path,
      format,
    }));
  }

  start(): Promise<void> {
    return this.#host.hypervisor.start(this.id);
  }

  powerOff(): Promise<void> {
    return this.#host.hypervisor.destroy(this.id);
  }

  /** As the guest would do it: QEMU writes out everything and ends in order. */
  async shutDown(): Promise<void> {
    // `destroy --graceful` is SIGTERM, which QEMU takes as a request to quit.
    virsh('destroy', '--graceful', this.name);
    await Promise.resolve();
  }

  /** kill -9 of QEMU. */
  async killQemu(): Promise<void> {
    const qemu = processesWith(`guest=${this.name},`)[0];
    if (!qemu) throw new Error(`${this.name} does not run`);
    process.kill(qemu.pid, 'SIGKILL');
    while (virsh('domstate', this.name).trim() !== 'shut off') await new Promise((resolve) => setTimeout(resolve, 50));
  }

  get qemuPid(): number {
    const qemu = processesWith(`guest=${this.name},`)[0];
    if (!qemu) throw new Error(`${this.name} does not run`);
    return qemu.pid;
  }

  /**
   * New random bytes onto a disk of the running machine, as its own device writes them: seen by dirty bitmaps, and by a backup
   * job that must save the old ones first.
   */
  write(disk: number, offsetBytes: number, lengthBytes: number): void {
    this.qemuIo(disk, `write -s ${this.#host.noise()} ${offsetBytes} ${lengthBytes}`);
  }

  /** A command of qemu-io on the device of a running machine. */
  qemuIo(disk: number, command: string): void {
    const device =
      this.#controller === 'ahci' ? `sata0-0-${disk}` : `/machine/peripheral/virtio-disk${disk}/virtio-backend`;
    const answer = virsh('qemu-monitor-command', '--hmp', this.name, `qemu-io -d ${device} "${command}"`);
    // HMP has no error codes; what qemu-io says goes to QEMU's own output, and nothing comes here.
    if (answer.trim() !== '') throw new Error(`qemu-io: ${answer}`);
  }

  /** What all disks hold at one instant, read from the suspended machine by qemu-img. */
  copies(label: string): string[] {
    const running = virsh('domstate', this.name).trim() === 'running';
    if (running) virsh('suspend', this.name);
    try {
      return this.disks.map(({ name, path, format }) => {
        const copy = this.#host.path('copies', `${this.name}-${label}-${name}.qcow2`);
        mkdirSync(this.#host.path('copies'), { recursive: true });
        run('qemu-img', 'convert', '-U', '-f', format, '-O', 'qcow2', path, copy);
        return copy;
      });
    } finally {
      if (running) virsh('resume', this.name);
    }
  }

  hasJob(): boolean {
    if (!virsh('list', '--name').split('\n').includes(this.name)) return false;
    return !virsh('domjobinfo', this.name)
      .split('\n')
      .some((line) => /^Job type:\s+None\s*$/.test(line));
  }

  checkpoints(): string[] {
    return virsh('checkpoint-list', this.name, '--name').split('\n').filter(Boolean);
  }

  async remove(): Promise<void> {
    await this.#host.hypervisor.destroy(this.id);
    await this.#host.hypervisor.undefineMachine(this.id);
  }
}

/** A signal that never comes, unless given; progress goes nowhere, unless given. */
export function verbContext(options: { signal?: AbortSignal; progress?: ProgressSink } = {}): VerbContext {
  return { signal: options.signal ?? new AbortController().signal, progress: options.progress ?? (() => {}) };
}

export function virsh(...args: readonly string[]): string {
  return run('virsh', '--quiet', '--connect', 'qemu:///system', ...args);
}

/** Fails with what the program said. */
export function run(program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, {
    encoding: 'utf8',
    timeout: TOOL_LIMIT_MS,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C' },
  });
}

/** qemu-img's verdict on the contents of two disks: undefined when they read the same. */
export function difference(left: string, right: string): string | undefined {
  try {
    run('qemu-img', 'compare', '-U', left, right);
    return undefined;
  } catch (error) {
    return String((error as { stdout?: string }).stdout ?? error);
  }
}

/** Processes whose command line holds the text. */
export function processesWith(text: string): { readonly pid: number; readonly command: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((pid) => ({ pid: Number(pid), command: readIfThere(`/proc/${pid}/cmdline`).replaceAll('\0', ' ') }))
    .filter(({ command }) => command.includes(text));
}

/** UNIX sockets that somebody listens on or is connected to. */
export function socketsBeneath(directory: string): string[] {
  return readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .filter((line) => line.includes(directory))
    .map((line) => `socket ${line.trim().split(' ').at(-1)}`);
}

function makeDisk(
  path: string,
  { format = 'qcow2', sizeBytes = 64 * MiB, random = [] }: DiskPlan,
  start: Buffer,
): void {
  const raw = format === 'raw' ? path : `${path}.raw`;
  writeFileSync(raw, start);
  const file = openSync(raw, 'r+');
  try {
    const piece = Buffer.alloc(4 * MiB);
    for (const { offsetBytes, lengthBytes } of random) {
      for (let at = 0; at < lengthBytes; at += piece.length) {
        const bytes = randomFillSync(piece.subarray(0, Math.min(piece.length, lengthBytes - at)));
        writeSync(file, bytes, 0, bytes.length, offsetBytes + at);
      }
    }
  } finally {
    closeSync(file);
  }
  run('truncate', '-s', String(sizeBytes), raw);
  if (format === 'raw') return;
  run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, path);
  rmSync(raw);
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // never made
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return ''; // the process ended while we looked
  }
}

function takeProbe(to: string): void {
  if (existsSync(to) || !existsSync(sharedProbe())) return;
  copyFileSync(sharedProbe(), to);
}

function giveProbe(from: string): void {
  if (existsSync(sharedProbe()) || !existsSync(from)) return;
  mkdirSync(join(sharedProbe(), '..'), { recursive: true });
  const temporary = `${sharedProbe()}.${process.pid}`;
  copyFileSync(from, temporary);
  renameSync(temporary, sharedProbe());
}

function sharedProbe(): string {
  return join(loadConfiguration().cacheRoot, 'test-kvm-probe.json');
}
