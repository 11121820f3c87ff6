/**
 * Capture: a running (or stopped) virtual machine becomes a recovery point.
 *
 *   1. take the operation's directory and lock; an attempt before us may have left facts there
 *   2. re-attach to its backup job if that still runs; if it is gone, that instant is lost: drop its checkpoint and begin
 *      again under a new point id (packs it sent already are found again by the writer session)
 *   3. begin the job: one instant for all disks, a checkpoint `lb-<pointId>`, the dirty bitmap since the parent's
 *   4. per disk: changed extents -> chunks -> packs, audited (capture-disk.ts); then older points are led away from known damage
 *      meanwhile the inventory is taken (capture-inventory.ts), and the scratch files are watched: rather no point than a machine that cannot write (scratch-watch.ts)
 *   5. commit the point, end the job, and only then delete older checkpoints
 *
 * Killed anywhere, the same `opId` goes on: before 5 no point is visible, after it the summary is found in the directory.
 * Not guaranteed: that the file systems inside are at rest. `consistency` says what was reached and why not more.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';
import { newPointId, parseMachineId, parsePointId } from '@lifeboat/foundation/ids';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { INVENTORY_FILE } from '@lifeboat/guest/inventory/machine-inventory';
import { ensureFree } from '@lifeboat/host/disk-space';
import type { Operation } from '@lifeboat/host/operation';
import type { BackupJob, MachineDescription } from '@lifeboat/hypervisor/port';
import type { EngineDeps } from '../deps.ts';
import type { JsonValue } from '@lifeboat/repository/json';
import type { Point } from '@lifeboat/repository/read/point-reader';
import type { HealingOutcome } from '@lifeboat/repository/write/healing';
import type { CommitInput, WriterSession } from '@lifeboat/repository/write/session';
import { type CaptureRecord, captureSummaryOf, type MachineRecord, NVRAM_FILE } from '../points.ts';
import { recordMachine } from '../machine/machine-records.ts';
import { beginOperation } from '../operations.ts';
import type { CaptureInput, CaptureSummary } from '../verbs.ts';
import { beginInventory, type InventoryOutcome } from './capture-inventory.ts';
import { captureDisk, type DiskCapture } from './capture-disk.ts';
import { type Parent, parentFor, parentOfJob } from './parent.ts';
import { SCRATCH_FLOOR_BYTES, whileScratchLasts } from './scratch-watch.ts';

/** What an attempt writes down before its job runs, so that the next attempt, or the clean-up, can find it. */
export interface Begun {
  readonly pointId: string;
  readonly machineId: string;
  /** The point whose bitmaps the job exports. */
  readonly parentPointId?: string;
}

export async function captureMachine(
  deps: EngineDeps,
  input: CaptureInput,
  context: VerbContext,
): Promise<CaptureSummary> {
  const operation = await beginOperation(deps, input, { verb: 'capture', machine: input.machine }, context.signal);
  const own = { ...context, signal: operation.signal };
  try {
    const point = (await alreadyCommitted(deps, operation)) ?? (await capture(deps, operation, input, own));
    const summary = captureSummaryOf(point);
    await finish(deps, operation, summary);
    return summary;
  } catch (error) {
    // Superseded, the job is the next attempt's to re-attach to.
    if (context.signal.aborted && !hasCode(context.signal.reason, 'host.operation-superseded')) {
      await undoCapture(deps, operation);
    }
    throw error;
  } finally {
    await operation.close({ remove: false });
  }
}

/** Ends the job and drops the checkpoint of a point that will never be; of one that was committed, those before it. Idempotent. */
export async function undoCapture(deps: EngineDeps, operation: Operation): Promise<void> {
  const begun = await recallBegun(operation);
  if (!begun) return;
  const machineId = parseMachineId(begun.machineId);
  await deps.hypervisor.endBackup(machineId, operation.qemuDirectory);
  const pointId = parsePointId(begun.pointId);
  const isCommitted = (await readIfThere(deps, begun)) !== undefined;
  for (const checkpoint of await deps.hypervisor.listCheckpoints(machineId)) {
    // Ids of points sort by time. What is newer belongs to somebody else.
    const goes = isCommitted ? checkpoint < pointId : checkpoint === pointId;
    if (goes) await deps.hypervisor.deleteCheckpoint(machineId, checkpoint);
  }
}

/** The point of an attempt that was killed after its commit. */
async function alreadyCommitted(deps: EngineDeps, operation: Operation): Promise<Point | undefined> {
  const begun = await recallBegun(operation);
  return begun && readIfThere(deps, begun);
}

/** Undefined: it is not there, or cannot be read. */
async function readIfThere({ repository }: EngineDeps, { machineId, pointId }: Begun): Promise<Point | undefined> {
  try {
    return await repository.readPoint(parseMachineId(machineId), parsePointId(pointId));
  } catch (error) {
    const isNone = hasCode(
      error,
      'repository.point-missing',
      'repository.point-damaged',
      'repository.agent-revoked',
      'repository.newer-version',
    );
    if (!isNone) throw error;
    return undefined;
  }
}

async function recallBegun(operation: Pick<Operation, 'recall'>): Promise<Begun | undefined> {
  return (await operation.recall('begun')) as Begun | undefined;
}

async function capture(
  deps: EngineDeps,
  operation: Operation,
  input: CaptureInput,
  context: VerbContext,
): Promise<Point> {
  const { hypervisor, repository } = deps;
  const startedMs = deps.clock.monotonicMs();
  const machine = await hypervisor.findMachine(input.machine);
  if (machine.disks.length === 0) {
    throw new LifeboatError('engine.no-disk', `machine ${machine.name} has no disk that can be backed up`, {
      context: { machine: machine.name },
    });
  }
  const { job, findParent } = (await resumeJob(deps, operation, machine)) ?? (await beginJob(deps, operation, machine));
  const { signal } = context;
  // The exports of a machine that is off have no scratch files.
  const watched = { machine, job, directory: operation.qemuDirectory };
  const watch: typeof whileScratchLasts = machine.running
    ? whileScratchLasts
    : (_deps, _watched, _options, work) => work(signal);
  const held: { session?: WriterSession } = {};
  try {
    const { parent, captures, inventory, session } = await watch(
      deps,
      watched,
      { signal, reads: true },
      async (own) => {
        const found = await findParent();
        const begun = await repository.beginSession({
          machineId: machine.id,
          directory: join(operation.directory, 'session'),
          parent: found?.point.pointId,
          signal: own,
        });
        held.session = begun;
        const pending = beginInventory(deps, { job, machine, parent: found?.point }, own);
        try {
          const read = await readDisks(deps, { job, parent: found, session: begun }, { ...context, signal: own });
          return { parent: found, captures: read, inventory: await pending.finish(), session: begun };
        } finally {
          await pending.cancel();
        }
      },
    );
    const point = await watch(deps, watched, { signal, reads: false }, async () => {
      const healed = await session.heal({ signal });
      const found = { machine, job, parent, captures, inventory, startedMs, healed };
      return session.commit(await commitInput(deps, found));
    });
    await recordMachine(deps, machine);
    return point;
  } finally {
    await held.session?.detach();
  }
}

async function commitInput(
  deps: EngineDeps,
  input: {
    readonly machine: MachineDescription;
    readonly job: BackupJob;
    readonly parent: Parent | undefined;
    readonly captures: readonly DiskCapture[];
    readonly inventory: InventoryOutcome;
    readonly startedMs: number;
    readonly healed: HealingOutcome;
  },
): Promise<CommitInput> {
  const { machine, job, parent, captures, inventory, startedMs, healed } = input;
  const host = await deps.hypervisor.describeHost();
  const record: CaptureRecord = {
    version: 1,
    machineName: machine.name,
    ...(parent ? { parentPointId: parent.point.pointId } : {}),
    instantMs: job.instantMs,
    consistency: job.consistency,
    consistencyReason: job.consistencyReason,
    hypervisor: { libvirtVersion: host.libvirtVersion, qemuVersion: host.qemuVersion },
    durationMs: deps.clock.monotonicMs() - startedMs,
    ...(healed.chunks > 0 ? { healedChunks: healed.chunks } : {}),
    ...(healed.failure === undefined ? {} : { healingFailure: healed.failure }),
    ...('problem' in inventory ? { noInventory: inventory.problem } : {}),
    inventoryBytes: inventory.readBytes,
    disks: captures.map(({ disk, nextSweepChunk }) => ({
      ...disk,
      nextSweepChunk,
      epoch: machine.disks.find(({ name }) => name === disk.name)?.epoch ?? '',
    })),
  };
  const { domainXml, ...machineRecord } = machine;
  const nvram = await readNvram(machine);
  return {
    pointId: job.pointId,
    machine: json(machineRecord satisfies MachineRecord),
    capture: json(record),
    disks: captures.map(({ disk, root }) => ({ name: disk.name, root })),
    files: [
      { name: 'domain.xml', content: Buffer.from(domainXml) },
      ...(nvram ? [{ name: NVRAM_FILE, content: nvram }] : []),
      ...('content' in inventory ? [{ name: INVENTORY_FILE, content: inventory.content }] : []),
    ],
  };
}

/** UEFI variables; undefined where there are none: a BIOS machine, or one that was never started. Errors: `device.read-failed`. */
async function readNvram({ name, nvramPath }: MachineDescription): Promise<Uint8Array | undefined> {
  if (nvramPath === undefined) return undefined;
  try {
    return await readFile(nvramPath);
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return undefined;
    throw new LifeboatError('device.read-failed', `the UEFI variables of machine ${name}: ${messageOf(cause)}`, {
      cause,
      context: { machine: name, path: nvramPath },
    });
  }
}

async function readDisks(
  deps: EngineDeps,
  { job, parent, session }: { job: BackupJob; parent: Parent | undefined; session: WriterSession },
  context: VerbContext,
): Promise<DiskCapture[]> {
  const captures: DiskCapture[] = [];
  for (const exported of job.disks) {
    const from = parent?.disks.get(exported.name);
    const progress: VerbContext['progress'] = (report) => context.progress({ ...report, detail: exported.name });
    captures.push(
      await captureDisk(
        { ...deps, chunkSizeBytes: deps.repository.chunkSizeBytes },
        { exported, session, ...(from ? { parent: from } : {}) },
        { signal: context.signal, progress },
      ),
    );
  }
  return captures;
}

/** A job that runs, and the way to the point that it stands on. */
interface RunningJob {
  readonly job: BackupJob;
  readonly findParent: () => Promise<Parent | undefined>;
}

/**
 * Re-attaches to the job of an earlier attempt. If that is gone its checkpoint goes, too, and the answer is undefined.
 * Errors: `engine.machine-busy`.
 */
async function resumeJob(
  deps: EngineDeps,
  operation: Operation,
  machine: MachineDescription,
): Promise<RunningJob | undefined> {
  const { hypervisor } = deps;
  const begun = await recallBegun(operation);
  const current = await hypervisor.currentBackup(machine.id);
  const directory = operation.qemuDirectory;
  if (current?.directory === directory && begun) {
    deps.log.info('re-attached to the running backup job', { machine: machine.name, pointId: begun.pointId });
    return {
      job: await hypervisor.attachBackup(machine.id, directory),
      // Later, for the job fills its scratch while a slow repository is asked.
      findParent: async () => parentOfJob(await parentFor(deps, machine), begun.parentPointId),
    };
  }
  if (current && current.directory !== directory) {
    throw new LifeboatError(
      'engine.machine-busy',
      `machine ${machine.name} is being backed up already, by ${current.ours ? 'another operation of Lifeboat' : 'another program'}`,
      { context: { machine: machine.name, directory: current.directory } },
    );
  }
  if (current) await hypervisor.endBackup(machine.id, directory);
  if (begun) await hypervisor.deleteCheckpoint(machine.id, parsePointId(begun.pointId));
  return undefined;
}

async function beginJob(deps: EngineDeps, operation: Operation, machine: MachineDescription): Promise<RunningJob> {
  const { hypervisor, clock, random } = deps;
  // Judged only now: the checkpoint of a lost instant would stand between the machine and the parent's.
  const parent = await parentFor(deps, machine);
  if (machine.running) {
    await ensureFree(
      operation.qemuDirectory,
      SCRATCH_FLOOR_BYTES,
      `The scratch of a backup of machine ${machine.name}`,
    );
  }
  const pointId = newPointId(clock.nowMs(), random);
  const parentPointId = parent && { parentPointId: parent.point.pointId };
  await operation.record('begun', { pointId, machineId: machine.id, ...parentPointId } satisfies Begun);
  const job = await hypervisor.beginBackup(
    {
      machineId: machine.id,
      pointId,
      ...parentPointId,
      incrementalDisks: machine.disks
        .filter(({ name }) => parent?.disks.get(name)?.doubt === '')
        .map(({ name }) => name),
      directory: operation.qemuDirectory,
      freeze: machine.guestAgentChannel,
    },
    { signal: operation.signal },
  );
  return { job, findParent: async () => parent };
}

/** After the commit: nothing here can lose the point, and all of it may run twice. */
async function finish(deps: EngineDeps, operation: Operation, summary: CaptureSummary): Promise<void> {
  const { hypervisor } = deps;
  await hypervisor.endBackup(summary.machineId, operation.qemuDirectory);
  for (const pointId of await hypervisor.listCheckpoints(summary.machineId)) {
    if (pointId !== summary.pointId) await hypervisor.deleteCheckpoint(summary.machineId, pointId);
  }
}

/** Drops `undefined` members, which JSON has no word for. */
function json(value: object): JsonValue {
  return JSON.parse(JSON.stringify(value)) as JsonValue;
}
