/**
 * Backup jobs of running machines (pull mode): the guest runs on, an NBD export shows one instant of all its disks.
 *
 *   begin:  own left-overs removed ─► freeze ─► record written ─► job + checkpoint, one call, one instant ─► thaw
 *   attach: the job still runs and its files lie in our directory ─► the record says the rest
 *   end:    the job's files lie in our directory ─► abort (the normal end of a pull job) ─► files removed
 *
 * Whose a job is says the directory of its socket and scratch files, and the record in it: any other job is never
 * touched. A job survives a restart of libvirtd, but not the end of the guest.
 */
import { access, rm, stat } from 'node:fs/promises';
import type { Clock } from '@lifeboat/foundation/clock';
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import { abortJob, backupXml as runningJobXml, beginBackup as beginJob } from '@lifeboat/libvirt/backup-calls';
import type { LibvirtConnection } from '@lifeboat/libvirt/connection';
import type { DomainRef } from '@lifeboat/libvirt/references';
import type { BackupDisk, BackupJob, BeginBackup, CurrentBackup } from '../port.ts';
import {
  backupXml,
  checkpointName,
  checkpointXml,
  directoryOfJob,
  dirtyBitmapOf,
  scratchPathIn,
  socketPathIn,
  type PlannedDisk,
} from './backup-xml.ts';
import { absentOn } from './domains.ts';
import { whileFrozen } from './freeze.ts';
import { readJobRecord, writeJobRecord } from './job-record.ts';
import type { DomainDisk } from './machine-description.ts';

/** An aborted job is gone within milliseconds; QEMU under load has needed seconds. */
const END_TIMEOUT_MS = 30_000;
const END_POLL_MS = 50;

export interface BackupDeps {
  readonly connection: LibvirtConnection;
  readonly clock: Clock;
  readonly log: Log;
  readonly virshUri: string;
}

/** A disk with what its image said about its size. */
export interface SizedDisk extends DomainDisk {
  readonly sizeBytes: number;
}

export interface BackupMachine {
  readonly domain: DomainRef;
  readonly disks: readonly SizedDisk[];
  /** Whether its definition outlives its run. */
  readonly persistent: boolean;
  /** Names of the domain's other disks (CD-ROMs, floppies). */
  readonly otherDisks: readonly string[];
}

/** Why a disk can never carry a checkpoint; empty when it can. */
export function untrackedReason(disk: DomainDisk): string {
  if (disk.format === 'raw') return 'raw images hold no dirty bitmap';
  return disk.readOnly ? 'the disk is read-only' : '';
}

/** The same for a disk of this machine as it runs now. */
function untrackedNow(disk: DomainDisk, { persistent }: Pick<BackupMachine, 'persistent'>): string {
  return untrackedReason(disk) || (persistent ? '' : 'libvirt keeps no checkpoints of a transient machine');
}

/** Errors: `hypervisor.backup-running`, `hypervisor.bad-directory`, and libvirt's. After an error no job of ours runs. */
export async function beginBackup(
  deps: BackupDeps,
  machine: BackupMachine,
  input: BeginBackup,
  options: { signal: AbortSignal },
): Promise<BackupJob> {
  const { domain, disks, otherDisks } = machine;
  const { directory, pointId, parentPointId } = input;
  const { signal } = options;
  await assertDirectory(directory);
  const current = await currentBackup(deps.connection, domain);
  if (current) {
    throw new LifeboatError(
      'hypervisor.backup-running',
      `machine ${domain.name} is being backed up already, by ${current.ours ? `Lifeboat in ${current.directory}` : 'another program'}`,
      { context: { machine: domain.name, directory: current.directory } },
    );
  }
  await removeJobFiles(directory, disks);

  const planned: PlannedDisk[] = disks.map((disk) => ({
    name: disk.name,
    tracked: untrackedNow(disk, machine) === '',
    incrementalFrom:
      parentPointId !== undefined && input.incrementalDisks.includes(disk.name)
        ? checkpointName(parentPointId)
        : undefined,
  }));
  const xml = {
    backup: backupXml(directory, planned, otherDisks),
    checkpoint: checkpointXml(pointId, planned, otherDisks),
  };
  const base = {
    pointId,
    disks: disks.map((disk, index) => exportOf(directory, disk, { plan: planned[index], machine })),
  };

  const begin = async (state: Pick<BackupJob, 'consistency'> & { reason: string }): Promise<BackupJob> => {
    signal.throwIfAborted();
    const job: BackupJob = {
      ...base,
      consistency: state.consistency,
      consistencyReason: state.reason,
      // Taken before the call: whatever was written until now is in the point.
      instantMs: deps.clock.nowMs(),
    };
    await writeJobRecord(directory, domain.uuid, job);
    await beginJob(deps.connection, domain, xml);
    return job;
  };
  try {
    const { result } = input.freeze
      ? await whileFrozen(deps, domain, begin)
      : { result: await begin({ consistency: 'crash', reason: 'no freeze was asked for' }) };
    signal.throwIfAborted();
    return result;
  } catch (error) {
    // A call that timed out or was cut off may have begun the job all the same.
    await endBackup(deps, domain, directory).catch((cause: unknown) => {
      deps.log.error('a backup job that failed to begin could not be ended', {
        machine: domain.name,
        directory,
        error: String(cause),
      });
    });
    throw error;
  }
}

/** Undefined when no backup runs on the domain, or there is no such domain. */
export async function currentBackup(
  connection: LibvirtConnection,
  domain: DomainRef,
): Promise<CurrentBackup | undefined> {
  let xml: string | undefined;
  try {
    xml = await absentOn(runningJobXml(connection, domain));
  } catch (error) {
    // A shut-off domain has no job either, and libvirt says so in another way.
    if (hasCode(error, 'libvirt.no-backup-job', 'libvirt.wrong-state')) return undefined;
    throw error;
  }
  if (xml === undefined) return undefined;
  const directory = directoryOfJob(xml);
  if (directory === undefined) return { ours: false };
  const record = await readJobRecord(directory);
  return { ours: record?.machineId === domain.uuid, directory };
}

/** Errors: `hypervisor.no-backup-job`. */
export async function attachBackup(
  connection: LibvirtConnection,
  domain: DomainRef,
  directory: string,
): Promise<BackupJob> {
  const current = await currentBackup(connection, domain);
  const record = await readJobRecord(directory);
  if (!current?.ours || current.directory !== directory || !record) {
    throw new LifeboatError(
      'hypervisor.no-backup-job',
      `machine ${domain.name} runs no backup job of Lifeboat in ${directory}`,
      { context: { machine: domain.name, directory, running: current?.directory } },
    );
  }
  return record.job;
}

/** Idempotent; leaves alone what is not in `directory`. Errors: `libvirt.timeout` when the job does not end. */
export async function endBackup(
  deps: Pick<BackupDeps, 'connection' | 'clock'>,
  domain: DomainRef,
  directory: string,
): Promise<void> {
  const { connection, clock } = deps;
  const deadlineMs = clock.monotonicMs() + END_TIMEOUT_MS;
  const record = await readJobRecord(directory);
  let aborted = false;
  for (;;) {
    const current = await currentBackup(connection, domain);
    if (!current?.ours || current.directory !== directory) break;
    if (!aborted) {
      aborted = true;
      await abortOnce(connection, domain);
    } else if (clock.monotonicMs() > deadlineMs) {
      throw new LifeboatError('libvirt.timeout', `the backup job of ${domain.name} did not end`, {
        context: { machine: domain.name, directory, timeoutMs: END_TIMEOUT_MS },
      });
    } else {
      await clock.sleep(END_POLL_MS);
    }
  }
  // Without a record the files in there are not known to be ours.
  if (record?.machineId === domain.uuid) await removeJobFiles(directory, record.job.disks);
}

async function abortOnce(connection: LibvirtConnection, domain: DomainRef): Promise<void> {
  try {
    await absentOn(abortJob(connection, domain));
  } catch (error) {
    // It ended by itself in between: the guest stopped, or another attempt was faster.
    if (!hasCode(error, 'libvirt.wrong-state', 'libvirt.no-backup-job')) throw error;
  }
}

function exportOf(
  directory: string,
  disk: SizedDisk,
  { plan, machine }: { plan: PlannedDisk | undefined; machine: BackupMachine },
): BackupDisk {
  const reason = untrackedNow(disk, machine);
  return {
    name: disk.name,
    sizeBytes: disk.sizeBytes,
    socketPath: socketPathIn(directory),
    exportName: disk.name,
    ...(plan?.incrementalFrom === undefined ? {} : { dirtyContext: `qemu:dirty-bitmap:${dirtyBitmapOf(disk.name)}` }),
    tracked: reason === '',
    untrackedReason: reason,
  };
}

/** A scratch file that is there already makes libvirt refuse to begin. */
async function removeJobFiles(directory: string, disks: readonly { name: string }[]): Promise<void> {
  const files = [socketPathIn(directory), ...disks.map(({ name }) => scratchPathIn(directory, name))];
  for (const file of files) await rm(file, { force: true });
}

async function assertDirectory(directory: string): Promise<void> {
  try {
    await access(directory);
    if ((await stat(directory)).isDirectory()) return;
  } catch (cause) {
    throw new LifeboatError('hypervisor.bad-directory', `the directory ${directory} cannot be used`, {
      cause,
      context: { directory },
    });
  }
  throw new LifeboatError('hypervisor.bad-directory', `${directory} is not a directory`, { context: { directory } });
}
