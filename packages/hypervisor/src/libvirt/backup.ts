/**
 * Backup jobs of running machines (pull mode): the guest runs on, an NBD export shows one instant of all its disks.
 *
 *   begin:  own left-overs removed ─► freeze ─► record written ─► job + checkpoint, one call, one instant ─► thaw ─► recorded
 *   attach: the job still runs and its files lie in our directory ─► the record says the rest
 *   end:    the job's files lie in our directory ─► abort (the normal end of a pull job) ─► guest resumed ─► files removed
 *
 * Before the guest overwrites a block, QEMU copies it into the scratch file. When that is full, the guest's write fails:
 * QEMU stops the guest, or, where its definition says so, hands it the error. The export stays as it was. Once the job has
 * ended the guest can go on, and QEMU repeats the write.
 *
 * QEMU 7.2 hangs for good, and the guest with it, if its NBD server is stopped while a client shakes hands. So whoever reads
 * an export has closed before the job is ended, and nobody connects only to see whether it is there.
 *
 * A call that begins a job goes on in libvirtd when its caller dies. While it does, the job must not be touched: libvirt
 * 9.0 crashes when a job is aborted, or its checkpoint deleted, before it is whole. So `currentBackup` waits for that.
 *
 * Whose a job is says the directory of its socket and scratch files, and the record in it: any other job is never
 * touched. A job survives a restart of libvirtd, but not the end of the guest.
 */
import { access, rm, stat } from 'node:fs/promises';
import type { Clock } from '@lifeboat/foundation/clock';
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import {
  abortJob,
  backupXml as runningJobXml,
  beginBackup as beginJob,
  jobStats,
} from '@lifeboat/libvirt/backup-calls';
import type { LibvirtConnection } from '@lifeboat/libvirt/connection';
import { resumeDomain } from '@lifeboat/libvirt/domain-calls';
import { monitorCommand } from '@lifeboat/libvirt/guest-calls';
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
import { absentOn, machineState } from './domains.ts';
import { whileFrozen } from './freeze.ts';
import { type JobRecord, readJobRecord, removeJobRecord, writeJobRecord } from './job-record.ts';
import type { DomainDisk } from './machine-description.ts';

/**
 * An aborted job is gone within milliseconds, but libvirt has one thread for the block job events of all machines, and that
 * waits up to 30 s for a machine whose QEMU does not answer.
 */
const END_TIMEOUT_MS = 120_000;
/** The same for one that begins. */
const SETTLE_TIMEOUT_MS = 30_000;
const POLL_MS = 50;
/** VIR_DOMAIN_JOB_OPERATION_BACKUP */
const OPERATION_BACKUP = 9;

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
  const current = await currentBackup(deps, domain);
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
    diskFailedBefore: (await machineState(deps.connection, domain)) === 'disk-failed',
    disks: disks.map((disk, index) => exportOf(directory, disk, { plan: planned[index], machine })),
  };

  const begin = async (): Promise<BackupJob> => {
    signal.throwIfAborted();
    const job: BackupJob = {
      ...base,
      consistency: 'crash',
      consistencyReason: 'the process that began the job ended before it could see whether the guest had stayed frozen',
      // Taken before the call: whatever was written until now is in the point.
      instantMs: deps.clock.nowMs(),
    };
    await writeJobRecord(directory, domain.uuid, job);
    await beginJob(deps.connection, domain, xml);
    return job;
  };
  try {
    const { result, consistency, reason } = input.freeze
      ? await whileFrozen(deps, domain, begin)
      : { result: await begin(), consistency: 'crash' as const, reason: 'no freeze was asked for' };
    signal.throwIfAborted();
    const job: BackupJob = { ...result, consistency, consistencyReason: reason };
    await writeJobRecord(directory, domain.uuid, job);
    return job;
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

/**
 * Undefined when no backup runs on the domain, or there is no such domain. Answers when no job is on its way to begin or to
 * end. Errors: `libvirt.timeout`.
 */
export async function currentBackup(
  { connection, clock }: Pick<BackupDeps, 'connection' | 'clock'>,
  domain: DomainRef,
): Promise<CurrentBackup | undefined> {
  const deadlineMs = clock.monotonicMs() + SETTLE_TIMEOUT_MS;
  for (;;) {
    const job = await runningJob(connection, domain);
    const late = clock.monotonicMs() > deadlineMs;
    if (job) {
      const { record, ...current } = job;
      // What never gets whole has lost its exports; it may be ended.
      if (!record || late || (await isWhole(connection, domain, record))) return current;
    } else {
      if (!(await backupOnItsWay(connection, domain))) return undefined;
      if (late) {
        throw new LifeboatError('libvirt.timeout', `a backup job of ${domain.name} neither began nor failed`, {
          context: { machine: domain.name, timeoutMs: SETTLE_TIMEOUT_MS },
        });
      }
    }
    await clock.sleep(POLL_MS);
  }
}

interface RunningJob extends CurrentBackup {
  /** Of a job that is ours. */
  readonly record?: JobRecord;
}

async function runningJob(connection: LibvirtConnection, domain: DomainRef): Promise<RunningJob | undefined> {
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
  return record?.machineId === domain.uuid ? { ours: true, directory, record } : { ours: false, directory };
}

/** The exports are what libvirt adds last when a job begins, and removes first when it ends. */
async function isWhole(connection: LibvirtConnection, domain: DomainRef, { job }: JobRecord): Promise<boolean> {
  const command = JSON.stringify({ execute: 'query-block-exports' });
  try {
    const answer = JSON.parse(await monitorCommand(connection, domain, command)) as {
      return: readonly { type: string; 'shutting-down': boolean }[];
    };
    const serving = answer.return.filter((item) => item.type === 'nbd' && !item['shutting-down']);
    return serving.length >= job.disks.length;
  } catch (error) {
    // QEMU ends, and the job with it, or does not answer now: asked again until libvirt has noticed.
    if (hasCode(error, 'libvirt.wrong-state', 'libvirt.no-such-domain', 'libvirt.busy')) return false;
    if (hasCode(error, 'libvirt.operation-failed', 'libvirt.call-failed')) return false;
    throw error;
  }
}

/** A job of which libvirt has no description: it prepares it, or takes it down. */
async function backupOnItsWay(connection: LibvirtConnection, domain: DomainRef): Promise<boolean> {
  try {
    const stats = await absentOn(jobStats(connection, domain));
    return stats !== undefined && stats.type !== 0 && stats.parameters.get('operation') === OPERATION_BACKUP;
  } catch (error) {
    if (hasCode(error, 'libvirt.wrong-state')) return false;
    // Its way of saying that there is such a job, but nothing to count yet, or any more.
    if (hasCode(error, 'libvirt.call-failed') && error.message.includes('backup job data missing')) return true;
    throw error;
  }
}

/** Errors: `hypervisor.no-backup-job`. */
export async function attachBackup(
  deps: Pick<BackupDeps, 'connection' | 'clock'>,
  domain: DomainRef,
  directory: string,
): Promise<BackupJob> {
  const current = await currentBackup(deps, domain);
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

/**
 * Idempotent; leaves alone what is not in `directory`. Lets the guest go on if a failed write stopped it while the job ran.
 * Errors: `libvirt.timeout` when the job does not end.
 */
export async function endBackup(
  deps: Pick<BackupDeps, 'connection' | 'clock' | 'log'>,
  domain: DomainRef,
  directory: string,
): Promise<void> {
  const { connection, clock } = deps;
  const deadlineMs = clock.monotonicMs() + END_TIMEOUT_MS;
  const record = await readJobRecord(directory);
  let aborted = false;
  for (;;) {
    const current = await currentBackup(deps, domain);
    if (!current?.ours || current.directory !== directory) break;
    if (!aborted) {
      aborted = true;
      await abortOnce(connection, domain);
    } else if (clock.monotonicMs() > deadlineMs) {
      throw new LifeboatError('libvirt.timeout', `the backup job of ${domain.name} did not end`, {
        context: { machine: domain.name, directory, timeoutMs: END_TIMEOUT_MS },
      });
    } else {
      await clock.sleep(POLL_MS);
    }
  }
  // Without a record the files in there are not known to be ours.
  if (record?.machineId !== domain.uuid) return;
  const { disks, diskFailedBefore } = record.job;
  if (!diskFailedBefore) await letGoOn(deps, domain);
  await removeJobFiles(directory, disks);
  // Last: while it is there, an end that was cut off is made good by the next one.
  await removeJobRecord(directory);
}

/** Harmless where the job was not the cause: what failed for another reason fails again, and stops the guest again. */
async function letGoOn({ connection, log }: Pick<BackupDeps, 'connection' | 'log'>, domain: DomainRef): Promise<void> {
  if ((await machineState(connection, domain)) !== 'disk-failed') return;
  log.warn(`${domain.name} was stopped by a failed write while its backup job ran; it goes on now`, {
    machine: domain.name,
  });
  try {
    await absentOn(resumeDomain(connection, domain));
  } catch (error) {
    // Somebody else was faster, or ended it.
    if (!hasCode(error, 'libvirt.wrong-state')) throw error;
  }
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
