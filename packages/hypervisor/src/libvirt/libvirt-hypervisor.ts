/** The hypervisor port on libvirt and QEMU. The subjects have files of their own; this one joins them. */
import { chown, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '@lifeboat/foundation/clock';
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId, type MachineId, type PointId } from '@lifeboat/foundation/ids';
import type { Log } from '@lifeboat/foundation/log';
import { DEFAULT_URI, type LibvirtConnection } from '@lifeboat/libvirt/connection';
import {
  defineDomain,
  domainXml,
  isPersistent,
  listDomains,
  resumeDomain,
  startDomain,
  startTransientDomain,
  undefineDomain,
} from '@lifeboat/libvirt/domain-calls';
import { openConsole } from '@lifeboat/libvirt/guest-calls';
import { capabilities, hypervisorVersion, libvirtVersion } from '@lifeboat/libvirt/host-calls';
import type { DomainRef } from '@lifeboat/libvirt/references';
import type {
  BackupJob,
  BeginBackup,
  CurrentBackup,
  HostDescription,
  Hypervisor,
  MachineDescription,
  MachineSources,
  MachineShape,
  MachineState,
  RunningMachine,
  TaggedItem,
} from '../port.ts';
import { childrenOf, child, readXml, textOf } from '../xml/xml-reader.ts';
import { probeAcceleration } from './accelerator.ts';
import {
  attachBackup,
  beginBackup,
  currentBackup,
  endBackup,
  untrackedReason,
  type BackupDeps,
  type BackupMachine,
} from './backup.ts';
import { bitmapDoubt, deleteCheckpoint, listPoints } from './checkpoints.ts';
import { Connections } from './connections.ts';
import { inspectImage } from './disk-image.ts';
import { absentOn, domainIfThere, findDomain, isRunning, machineState } from './domains.ts';
import { firmwareFor } from './firmware.ts';
import { describeDomain, NVRAM_DIRECTORY } from './machine-description.ts';
import { sourcesOf } from './machine-sources.ts';
import { type FirmwareFiles, machineXml } from './machine-xml.ts';
import { ownerInXml } from './owner-tag.ts';
import { destroyIfActive, LibvirtRunningMachine } from './running-machine.ts';
import { StoppedBackups } from './stopped-backup.ts';
import { listTagged, removeTagged } from './tagged.ts';
import { describeEpoch, epochDoubt } from './tracking-epoch.ts';

export interface LibvirtHypervisorOptions {
  readonly socketPath?: string;
  readonly uri?: string;
  readonly log: Log;
  readonly clock: Clock;
  /** Where the answer of the KVM probe is kept; its directory must be reachable for QEMU. */
  readonly kvmProbeCacheFile?: string;
}

/** Connects at the first call. Errors of every call: those of `LibvirtConnection`. */
export function openLibvirtHypervisor(options: LibvirtHypervisorOptions): Hypervisor {
  return new LibvirtHypervisor(options);
}

class LibvirtHypervisor implements Hypervisor {
  readonly #options: LibvirtHypervisorOptions;
  readonly #uri: string;
  readonly #connections: Connections;
  readonly #stopped = new StoppedBackups();
  #host: Promise<HostDescription> | undefined;

  constructor(options: LibvirtHypervisorOptions) {
    this.#options = options;
    this.#uri = options.uri ?? DEFAULT_URI;
    const { socketPath } = options;
    this.#connections = new Connections({ uri: this.#uri, ...(socketPath === undefined ? {} : { socketPath }) });
  }

  /** Asked once per process: the accelerator does not change while the host runs. */
  describeHost(): Promise<HostDescription> {
    this.#host ??= this.#describeHost().catch((error: unknown) => {
      this.#host = undefined;
      throw error;
    });
    return this.#host;
  }

  /** A machine that cannot be described (a missing image, a disk of a kind we cannot read) is left out, with a warning. */
  async listMachines(): Promise<MachineDescription[]> {
    const connection = await this.#connections.shared();
    const machines: MachineDescription[] = [];
    for (const domain of await listDomains(connection)) {
      try {
        const machine = await absentOn(this.#describe(connection, domain));
        if (machine) machines.push(machine);
      } catch (error) {
        if (!hasCode(error, 'hypervisor.disk-unreadable', 'hypervisor.unsupported-disk', 'hypervisor.bad-xml'))
          throw error;
        this.#options.log.warn(`machine ${domain.name} is left out: ${error.message}`, { machine: domain.name });
      }
    }
    return machines;
  }

  async findMachine(nameOrUuid: string): Promise<MachineDescription> {
    const connection = await this.#connections.shared();
    return this.#describe(connection, await findDomain(connection, nameOrUuid));
  }

  async machineState(machineId: MachineId): Promise<MachineState> {
    const connection = await this.#connections.shared();
    const domain = await domainIfThere(connection, machineId);
    return domain ? machineState(connection, domain) : 'ended';
  }

  async listSources(): Promise<MachineSources[]> {
    const connection = await this.#connections.shared();
    const found: MachineSources[] = [];
    for (const domain of await listDomains(connection, { active: true })) {
      const xml = await absentOn(domainXml(connection, domain));
      if (xml !== undefined) found.push({ machine: domain.name, ...sourcesOf(xml) });
    }
    return found;
  }

  async trackingFor(
    machineId: MachineId,
    disk: string,
    parent: { readonly pointId: PointId; readonly epoch: string },
  ): Promise<{ readonly usable: true } | { readonly usable: false; readonly reason: string }> {
    const connection = await this.#connections.shared();
    const domain = await findDomain(connection, machineId);
    const { disks } = describeDomain(await domainXml(connection, domain));
    const found = disks.find(({ name }) => name === disk);
    if (!found) return { usable: false, reason: `the machine has no disk ${disk} any more` };
    const never = untrackedReason(found);
    if (never !== '') return { usable: false, reason: never };
    const image = await inspectImage(found.path, found.format);
    const reason =
      epochDoubt(parent.epoch, describeEpoch(domain.uuid, found.path, image)) ??
      (await bitmapDoubt(connection, domain, found, parent.pointId));
    return reason === undefined ? { usable: true } : { usable: false, reason };
  }

  async beginBackup(input: BeginBackup, options: { signal: AbortSignal }): Promise<BackupJob> {
    const deps = await this.#backupDeps();
    const domain = await findDomain(deps.connection, input.machineId);
    const machine = await this.#backupMachine(deps.connection, domain);
    if (await isRunning(deps.connection, domain)) return beginBackup(deps, machine, input, options);
    const running = this.#stopped.directoryOf(domain.uuid);
    if (running !== undefined) {
      throw new LifeboatError(
        'hypervisor.backup-running',
        `machine ${domain.name} is being backed up already, by Lifeboat in ${running}`,
        { context: { machine: domain.name, directory: running } },
      );
    }
    return this.#stopped.begin(deps, machine, input, options);
  }

  async currentBackup(machineId: MachineId): Promise<CurrentBackup | undefined> {
    const directory = this.#stopped.directoryOf(machineId);
    if (directory !== undefined) return { ours: true, directory };
    const deps = await this.#backupDeps();
    const domain = await domainIfThere(deps.connection, machineId);
    return domain && currentBackup(deps, domain);
  }

  async attachBackup(machineId: MachineId, directory: string): Promise<BackupJob> {
    const stopped = this.#stopped.jobIn(directory);
    if (stopped) return stopped;
    const deps = await this.#backupDeps();
    return attachBackup(deps, await findDomain(deps.connection, machineId), directory);
  }

  async endBackup(machineId: MachineId, directory: string): Promise<void> {
    await this.#stopped.end(directory);
    const deps = await this.#backupDeps();
    const domain = await domainIfThere(deps.connection, machineId);
    if (domain) await endBackup(deps, domain, directory);
  }

  async deleteCheckpoint(machineId: MachineId, pointId: PointId): Promise<void> {
    const deps = await this.#backupDeps();
    const { connection } = deps;
    const domain = await domainIfThere(connection, machineId);
    if (!domain) return;
    // It may be that of a job which is just being begun.
    await currentBackup(deps, domain);
    const { disks } = describeDomain(await domainXml(connection, domain));
    await deleteCheckpoint(connection, domain, disks, pointId);
  }

  async listCheckpoints(machineId: MachineId): Promise<PointId[]> {
    const connection = await this.#connections.shared();
    // Of a machine that is gone none is left, as `deleteCheckpoint` has it.
    const domain = await domainIfThere(connection, machineId);
    return domain ? listPoints(connection, domain) : [];
  }

  async startTransient(
    shape: MachineShape,
    options: { autoDestroy: boolean; signal: AbortSignal },
  ): Promise<RunningMachine> {
    const { autoDestroy, signal } = options;
    await this.#makeRoom(shape);
    await this.#grantPassthroughDisks(shape);
    const nvramPath = nvramBeside(shape);
    const xml = machineXml(shape, await this.describeHost(), await firmwareFiles(shape, nvramPath));
    await giveNvram(shape, nvramPath);
    const own = await this.#connections.own({ signal });
    try {
      // Paused until the console is open: the first byte of the firmware is seen. Not cut off by the signal: libvirt would
      // go on, and a machine would appear after we had looked for it.
      const domain = await startTransientDomain(own, xml, { paused: true, autoDestroy });
      try {
        signal.throwIfAborted();
        const stream = await openConsole(own, domain, { signal });
        const resets = await countResets(own, domain);
        await resumeDomain(own, domain, { signal });
        return this.#running({ domain, own, stream, resets, nvramPath });
      } catch (error) {
        await destroyIfActive(own, domain);
        throw error;
      }
    } catch (error) {
      await own.close();
      if (nvramPath !== undefined) await rm(nvramPath, { force: true });
      throw error;
    }
  }

  async renderMachine(shape: MachineShape): Promise<string> {
    return machineXml(shape, await this.describeHost());
  }

  /** Idempotent for the same operation. Errors: `hypervisor.name-taken`. */
  async defineMachine(shape: MachineShape): Promise<MachineId> {
    const connection = await this.#connections.shared();
    const existing = await this.#existingOf(connection, shape);
    await this.#grantPassthroughDisks(shape);
    const uuid = shape.uuid ?? existing?.uuid;
    const own = uuid === undefined ? shape : { ...shape, uuid };
    // Without variables of its own libvirt makes the file, in its own place.
    const nvramPath = shape.nvram && nvramBeside(own);
    const xml = machineXml(own, await this.describeHost(), await firmwareFiles(shape, nvramPath));
    await giveNvram(shape, nvramPath);
    return parseMachineId((await defineDomain(connection, xml)).uuid);
  }

  async start(machineId: MachineId): Promise<void> {
    const connection = await this.#connections.shared();
    const domain = await findDomain(connection, machineId);
    try {
      await startDomain(connection, domain);
    } catch (error) {
      // An earlier attempt started it, and its answer was lost.
      if (!hasCode(error, 'libvirt.wrong-state') || !(await isRunning(connection, domain))) throw error;
    }
  }

  async destroy(machineId: MachineId): Promise<void> {
    const connection = await this.#connections.shared();
    const domain = await domainIfThere(connection, machineId);
    if (domain) await destroyIfActive(connection, domain);
  }

  async undefineMachine(machineId: MachineId): Promise<void> {
    const connection = await this.#connections.shared();
    const domain = await domainIfThere(connection, machineId);
    if (!domain) return;
    const flags = { nvram: true, checkpointsMetadata: true, snapshotsMetadata: true, managedSave: true };
    await absentOn(undefineDomain(connection, domain, flags));
  }

  async openRunning(machineId: MachineId): Promise<RunningMachine> {
    const own = await this.#connections.own();
    try {
      const domain = await findDomain(own, machineId);
      // Taken over: whoever held it is an attempt before this one.
      const stream = await openConsole(own, domain, { force: true });
      const resets = await countResets(own, domain);
      return this.#running({ domain, own, stream, resets, nvramPath: undefined });
    } catch (error) {
      await own.close();
      throw error;
    }
  }

  async listTagged(): Promise<TaggedItem[]> {
    return listTagged(await this.#connections.shared());
  }

  async removeTagged(item: TaggedItem): Promise<void> {
    await removeTagged(await this.#connections.shared(), item);
  }

  /** Running backup jobs of running machines go on; exports of shut-off ones end, since this process serves them. */
  async close(): Promise<void> {
    await this.#stopped.endAll();
    await this.#connections.close();
  }

  async #describeHost(): Promise<HostDescription> {
    const connection = await this.#connections.shared();
    const qemuVersion = await hypervisorVersion(connection);
    const { log, kvmProbeCacheFile } = this.#options;
    const { accelerator, reason } = await probeAcceleration({
      connections: this.#connections,
      qemuVersion,
      log,
      ...(kvmProbeCacheFile === undefined ? {} : { cacheFile: kvmProbeCacheFile }),
    });
    return {
      uri: this.#uri,
      libvirtVersion: await libvirtVersion(connection),
      qemuVersion,
      accelerator,
      acceleratorReason: reason,
    };
  }

  async #describe(connection: LibvirtConnection, domain: DomainRef): Promise<MachineDescription> {
    const { disks, ...machine } = describeDomain(await domainXml(connection, domain));
    const described = [];
    for (const { readOnly: _readOnly, serial, ...disk } of disks) {
      const image = await inspectImage(disk.path, disk.format);
      described.push({
        ...disk,
        ...(serial === undefined ? {} : { serial }),
        sizeBytes: image.sizeBytes,
        epoch: describeEpoch(domain.uuid, disk.path, image),
      });
    }
    return { ...machine, running: await isRunning(connection, domain), disks: described };
  }

  async #backupMachine(connection: LibvirtConnection, domain: DomainRef): Promise<BackupMachine> {
    const xml = await domainXml(connection, domain);
    const { disks } = describeDomain(xml);
    const sized = [];
    for (const disk of disks) {
      sized.push({ ...disk, sizeBytes: (await inspectImage(disk.path, disk.format)).sizeBytes });
    }
    const all = childrenOf(child(readXml(xml), 'devices'), 'disk').map(
      (disk) => child(disk, 'target')?.attributes.get('dev') ?? '',
    );
    const otherDisks = all.filter((name) => name !== '' && !disks.some((disk) => disk.name === name));
    return { domain, disks: sized, otherDisks, persistent: await isPersistent(connection, domain) };
  }

  async #backupDeps(): Promise<BackupDeps> {
    const { log, clock, socketPath } = this.#options;
    return { connection: await this.#connections.shared(), log, clock, virshUri: virshUri(this.#uri, socketPath) };
  }

  #running(
    parts: Pick<ConstructorParameters<typeof LibvirtRunningMachine>[0], 'domain' | 'own' | 'stream' | 'resets'> & {
      nvramPath: string | undefined;
    },
  ): RunningMachine {
    const { nvramPath, ...rest } = parts;
    return new LibvirtRunningMachine({
      ...rest,
      connections: this.#connections,
      clock: this.#options.clock,
      ...(nvramPath === undefined ? {} : { afterDestroy: () => rm(nvramPath, { force: true }) }),
    });
  }

  /** A machine of this name that an earlier attempt of the same operation left running is ended; another's is not. */
  async #makeRoom(shape: MachineShape): Promise<void> {
    const connection = await this.#connections.shared();
    const existing = await this.#existingOf(connection, shape);
    if (existing) await destroyIfActive(connection, existing);
  }

  async #existingOf(connection: LibvirtConnection, shape: MachineShape): Promise<DomainRef | undefined> {
    const existing = await domainIfThere(connection, shape.name);
    if (!existing) return undefined;
    const xml = await absentOn(domainXml(connection, existing));
    if (xml === undefined) return undefined;
    const owner = ownerInXml(xml);
    if (owner?.opId === shape.opId && owner.hostId === shape.hostId) return existing;
    throw new LifeboatError(
      'hypervisor.name-taken',
      `a machine '${shape.name}' exists and is not of operation ${shape.opId}`,
      { context: { machine: shape.name, opId: shape.opId, owner: owner?.opId } },
    );
  }

  /** libvirt hands over the images it knows to QEMU's user; those passed as arguments it does not know. */
  async #grantPassthroughDisks({ disks }: MachineShape): Promise<void> {
    const passed = disks.filter(({ controller }) => controller === 'nvme');
    if (passed.length === 0 || process.getuid?.() !== 0) return;
    const account = await this.#qemuAccount();
    if (!account) return;
    for (const { path: image, backing } of passed) {
      await chown(image, account.uid, account.gid);
      if (backing && 'path' in backing) await chown(backing.path, account.uid, account.gid);
    }
  }

  async #qemuAccount(): Promise<{ uid: number; gid: number } | undefined> {
    const host = child(readXml(await capabilities(await this.#connections.shared())), 'host');
    const dac = childrenOf(host, 'secmodel').find((model) => textOf(model, 'model') === 'dac');
    const match = /^\+(\d+):\+(\d+)$/.exec(textOf(dac, 'baselabel') ?? '');
    return match ? { uid: Number(match[1]), gid: Number(match[2]) } : undefined;
  }
}

/** On the machine's own connection: it counts as long as the machine is held. */
async function countResets(own: LibvirtConnection, domain: DomainRef): Promise<() => number> {
  let resets = 0;
  await own.subscribe('reboot', () => (resets += 1), { domain });
  return () => resets;
}

/**
 * Beside the first disk, which moves with it; a disk that is a device has libvirt's own place. Named by the UUID where it is
 * known, so that it is no other machine's: whatever lies there is of an earlier attempt.
 */
function nvramBeside({ firmware, disks, name, uuid }: MachineShape): string | undefined {
  const [first] = disks;
  if (firmware !== 'uefi' || !first) return undefined;
  const directory = path.dirname(first.path);
  return path.join(directory.startsWith('/dev') ? NVRAM_DIRECTORY : directory, `${uuid ?? name}_VARS.fd`);
}

/** Errors: `hypervisor.no-firmware`. */
async function firmwareFiles({ nvram }: MachineShape, nvramPath: string | undefined): Promise<FirmwareFiles> {
  if (nvramPath === undefined) return {};
  return nvram ? { nvramPath, codePath: (await firmwareFor(nvram)).codePath } : { nvramPath };
}

/** A file that is there is what libvirt uses, instead of the firmware's template; its owner becomes QEMU's account. */
async function giveNvram({ nvram }: MachineShape, file: string | undefined): Promise<void> {
  if (nvram && file !== undefined) await writeFile(file, nvram, { mode: 0o600 });
}

/** The same daemon for virsh, which takes the socket inside the URI. */
function virshUri(uri: string, socketPath: string | undefined): string {
  if (socketPath === undefined) return uri;
  const [scheme, rest = ''] = uri.split('://');
  return `${scheme}+unix://${rest}?socket=${encodeURIComponent(socketPath)}`;
}
