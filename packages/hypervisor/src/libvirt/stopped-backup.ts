/**
 * Backups of machines that are shut off: qemu-nbd serves each image read-only, one process and one socket per disk.
 *
 * The processes die with this one, so such a job is never found again by another: it is begun anew. While they run, QEMU's
 * image locks refuse a start of the machine; nothing can change, so all disks show one instant. No checkpoint can be
 * made while a machine is off, but the changes since the last one are exported from the bitmap in the image.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { startChild, type Child } from '@lifeboat/host/children';
import { greets } from '@lifeboat/host/nbd-greeting';
import { domainState } from '@lifeboat/libvirt/domain-calls';
import type { LibvirtConnection } from '@lifeboat/libvirt/connection';
import type { BackupDisk, BackupJob, BeginBackup } from '../port.ts';
import { checkpointName } from './backup-xml.ts';
import type { BackupMachine, SizedDisk } from './backup.ts';
import { writeJobRecord } from './job-record.ts';

const LISTEN_TIMEOUT_MS = 15_000;
const LISTEN_POLL_MS = 20;
/** Each sealing thread has a connection of its own. */
const CLIENTS_MAX = 32;
const UNTRACKED = 'a checkpoint can only be set while the machine runs';
/** libvirt's reason for "shut off": the guest shut itself down. */
const REASON_SHUTDOWN = 1;

export interface StoppedDeps {
  readonly connection: LibvirtConnection;
  readonly clock: Clock;
}

/** Exports that this process serves, by directory. */
export class StoppedBackups {
  readonly #running = new Map<string, { machineId: string; job: BackupJob; children: Child[] }>();

  /** The directory of a machine's exports. */
  directoryOf(machineId: string): string | undefined {
    return [...this.#running].find(([, entry]) => entry.machineId === machineId)?.[0];
  }

  jobIn(directory: string): BackupJob | undefined {
    return this.#running.get(directory)?.job;
  }

  /** Errors: `hypervisor.export-failed`. */
  async begin(
    deps: StoppedDeps,
    machine: BackupMachine,
    input: BeginBackup,
    options: { signal: AbortSignal },
  ): Promise<BackupJob> {
    const { domain, disks } = machine;
    const { directory, pointId, parentPointId } = input;
    const { reason } = await domainState(deps.connection, domain);
    const clean = reason === REASON_SHUTDOWN;
    const children: Child[] = [];
    try {
      const exported: BackupDisk[] = [];
      for (const disk of disks) {
        const bitmap =
          parentPointId !== undefined && input.incrementalDisks.includes(disk.name)
            ? checkpointName(parentPointId)
            : undefined;
        exported.push(await serve(deps, disk, { directory, bitmap, children, signal: options.signal }));
      }
      const job: BackupJob = {
        pointId,
        disks: exported,
        consistency: clean ? 'filesystem' : 'crash',
        consistencyReason: clean
          ? 'the machine is shut off, after its guest shut down'
          : 'the machine is shut off, and it is not known that its guest shut down in order',
        instantMs: deps.clock.nowMs(),
        diskFailedBefore: false,
      };
      await writeJobRecord(directory, domain.uuid, job);
      this.#running.set(directory, { machineId: domain.uuid, job, children });
      return job;
    } catch (error) {
      await Promise.all(children.map((child) => child.stop()));
      throw error;
    }
  }

  /** Idempotent. */
  async end(directory: string): Promise<void> {
    const entry = this.#running.get(directory);
    if (!entry) return;
    await Promise.all(entry.children.map((child) => child.stop()));
    this.#running.delete(directory);
    for (const { socketPath } of entry.job.disks) await rm(socketPath, { force: true });
  }

  async endAll(): Promise<void> {
    for (const directory of this.#running.keys()) await this.end(directory);
  }
}

async function serve(
  { clock }: StoppedDeps,
  disk: SizedDisk,
  options: { directory: string; bitmap: string | undefined; children: Child[]; signal: AbortSignal },
): Promise<BackupDisk> {
  const { directory, bitmap, children, signal } = options;
  const socketPath = path.join(directory, `nbd-${disk.name}.sock`);
  await rm(socketPath, { force: true });
  const child = await startChild(
    'qemu-nbd',
    [
      '--read-only',
      '--persistent',
      `--shared=${CLIENTS_MAX}`,
      `--socket=${socketPath}`,
      `--export-name=${disk.name}`,
      `--format=${disk.format}`,
      ...(bitmap === undefined ? [] : [`--bitmap=${bitmap}`]),
      disk.path,
    ],
    { directory, name: `qemu-nbd-${disk.name}` },
  );
  children.push(child);
  const deadlineMs = clock.monotonicMs() + LISTEN_TIMEOUT_MS;
  // It listens before it knows whether it can export, but greets only after.
  while (!(await greets(socketPath))) {
    if (child.exit || clock.monotonicMs() > deadlineMs) {
      throw new LifeboatError(
        'hypervisor.export-failed',
        `qemu-nbd does not export ${disk.path}: ${child.outputTail().trim() || 'it said nothing'}`,
        { context: { disk: disk.name, path: disk.path, code: child.exit?.code ?? undefined } },
      );
    }
    await clock.sleep(LISTEN_POLL_MS, signal);
  }
  return {
    name: disk.name,
    sizeBytes: disk.sizeBytes,
    socketPath,
    exportName: disk.name,
    ...(bitmap === undefined ? {} : { dirtyContext: `qemu:dirty-bitmap:${bitmap}` }),
    tracked: false,
    untrackedReason: UNTRACKED,
  };
}
