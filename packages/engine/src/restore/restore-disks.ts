/**
 * Restore: the disks of a point as new qcow2 images, or one disk onto a device that exists.
 *
 * What an attempt that was killed had made is cleared away by the next one, or by the clean-up; a file we did not make is
 * never touched (targets.ts).
 */
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { WritableBlockDevice } from '@lifeboat/foundation/block-device';
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { formatBytes } from '@lifeboat/foundation/units';
import { openFileDevice } from '@lifeboat/disk/file-device';
import { runTool } from '@lifeboat/host/children';
import { serveDiskImage } from '@lifeboat/host/disk-image-server';
import { ensureFree } from '@lifeboat/host/disk-space';
import type { Operation } from '@lifeboat/host/operation';
import { passageMode } from '@lifeboat/host/state';
import { NbdClient } from '@lifeboat/nbd/client';
import type { Point } from '@lifeboat/repository/read/point-reader';
import type { EngineDeps } from '../deps.ts';
import { failed, proven, recordEvidence } from '../evidence/record-evidence.ts';
import { beginOperation } from '../operations.ts';
import { findPoint } from '../points.ts';
import type { RestoredDisk, RestoreInput, RestoreSummary } from '../verbs.ts';
import { claimTarget } from './claim-target.ts';
import { copyDisk } from './copy-disk.ts';
import { makeTargets, removeTargets } from './targets.ts';

const TOOL_TIMEOUT_MS = 60_000;
/** A name becomes part of file names. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

export async function restoreDisks(
  deps: EngineDeps,
  input: RestoreInput,
  context: VerbContext,
): Promise<RestoreSummary> {
  const operation = await beginOperation(deps, input, { verb: 'restore', machine: input.machine }, context.signal);
  const own = { ...context, signal: operation.signal };
  try {
    const done = (await operation.recall('done')) as RestoreSummary | undefined;
    if (done) return done;
    const startedMs = deps.clock.monotonicMs();
    const beganMs = deps.clock.nowMs();
    const point = await findPoint(deps.repository, input.machine, input.pointId);
    const found = { operation: 'restore', operationId: input.opId, machineId: point.machineId, beganMs };
    const { disks, writtenBytes } = await restoreTo(deps, operation, { point, target: input.target }, own).catch(
      async (error: unknown) => {
        // A store that does not answer says nothing of the point.
        if (!hasCode(error, 'repository.chunk-damaged', 'repository.map-damaged')) throw error;
        const claims = [failed(point.pointId, 'content', { reason: error.message })];
        await recordEvidence(deps, { ...found, claims }, own.signal);
        throw error;
      },
    );
    const durationMs = Math.round(deps.clock.monotonicMs() - startedMs);
    // Every chunk that was written had been opened and compared with its id.
    const some = disks.length === point.disks.length ? [] : disks.map(({ name }) => name);
    const claims = proven(point.pointId, ['content'], some);
    await recordEvidence(deps, { ...found, readBytes: writtenBytes, claims }, own.signal);
    const summary = { pointId: point.pointId, disks, writtenBytes, durationMs };
    await operation.record('done', summary);
    return summary;
  } finally {
    await operation.close({ remove: false });
  }
}

function restoreTo(
  deps: EngineDeps,
  operation: Operation,
  { point, target }: { point: Point; target: RestoreInput['target'] },
  context: VerbContext,
): Promise<Restored> {
  return target.kind === 'directory'
    ? intoDirectory(deps, operation, { point, ...target }, context)
    : ontoDevice(deps, { point, disk: target.disk, path: resolve(target.path) }, context);
}

interface Restored {
  readonly disks: RestoredDisk[];
  readonly writtenBytes: number;
}

async function intoDirectory(
  deps: EngineDeps,
  operation: Operation,
  input: { point: Point; directory: string; name: string },
  context: VerbContext,
): Promise<Restored> {
  const { point, name } = input;
  if (!NAME.test(name)) {
    throw new LifeboatError('input.invalid', `'${name}' cannot be the name of a machine: expected ${String(NAME)}`);
  }
  const directory = resolve(input.directory);
  const disks = point.disks.map((disk): RestoredDisk => ({
    name: disk.name,
    path: join(directory, `${name}-${disk.name}.qcow2`),
    format: 'qcow2',
    sizeBytes: disk.root.sizeBytes,
  }));
  await removeTargets(operation);
  await mkdir(directory, { recursive: true, mode: passageMode() });
  await ensureFree(directory, await dataBytes(deps, point, context), `the disks of ${name}`);
  await makeTargets(
    operation,
    disks.map(({ path }) => path),
  );
  let writtenBytes = 0;
  try {
    for (const disk of disks) writtenBytes += await restoreImage(deps, operation, { point, disk }, context);
  } catch (error) {
    await removeTargets(operation);
    throw error;
  }
  return { disks, writtenBytes };
}

async function restoreImage(
  deps: EngineDeps,
  operation: Operation,
  { point, disk }: { point: Point; disk: RestoredDisk },
  context: VerbContext,
): Promise<number> {
  const { path, sizeBytes, name } = disk;
  const { signal } = context;
  await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(sizeBytes)], {
    timeoutMs: TOOL_TIMEOUT_MS,
    signal,
  });
  const server = await serveDiskImage(
    {
      image: { kind: 'image', path, format: 'qcow2', readOnly: false },
      nbd: { writable: true },
      directory: operation.directory,
      name: `to-${name}`,
    },
    { signal },
  );
  try {
    const socketPath = server.nbdSocketPath;
    if (!socketPath) throw new LifeboatError('internal.bug', `the server of ${path} has no socket`);
    const target = await NbdClient.connect({ socketPath, exportName: server.nbdExportName }, { signal });
    return await copyOnto(deps, { point, disk: name, target, targetIsBlank: true }, context);
  } catch (error) {
    // What refuses the bytes knows a socket; a person knows the file.
    if (!hasCode(error, 'disk.full')) throw error;
    throw new LifeboatError('disk.full', `${path} could not be restored: ${error.message}`, {
      context: { ...error.context, path },
      cause: error,
    });
  } finally {
    await server.stop();
  }
}

async function ontoDevice(
  deps: EngineDeps,
  input: { point: Point; disk: string; path: string },
  context: VerbContext,
): Promise<Restored> {
  const { point, path } = input;
  const disk = point.disks.find(({ name }) => name === input.disk);
  if (!disk) {
    const names = point.disks.map(({ name }) => name).join(', ');
    throw new LifeboatError('input.invalid', `point ${point.pointId} has no disk '${input.disk}'; it has: ${names}`);
  }
  const claim = await claimTarget(deps.hypervisor, path);
  try {
    const writtenBytes = await overwrite(deps, { point, disk, path }, context);
    return { disks: [{ name: disk.name, path, format: 'raw', sizeBytes: disk.root.sizeBytes }], writtenBytes };
  } finally {
    await claim.release();
  }
}

async function overwrite(
  deps: EngineDeps,
  { point, disk, path }: { point: Point; disk: Point['disks'][number]; path: string },
  context: VerbContext,
): Promise<number> {
  const target = await openFileDevice(path, { writable: true });
  const { sizeBytes } = disk.root;
  try {
    if (target.sizeBytes < sizeBytes) {
      throw new LifeboatError(
        'engine.target-too-small',
        `${path} has ${formatBytes(target.sizeBytes)} (${target.sizeBytes} bytes), disk ${disk.name} of ${point.pointId} needs ${formatBytes(sizeBytes)} (${sizeBytes} bytes)`,
        { context: { path, haveBytes: target.sizeBytes, needBytes: sizeBytes } },
      );
    }
  } catch (error) {
    await target.close();
    throw error;
  }
  try {
    return await copyOnto(deps, { point, disk: disk.name, target, targetIsBlank: false }, context);
  } catch (error) {
    if (!(error instanceof LifeboatError)) throw error;
    const { code, message, context: details } = error;
    throw new LifeboatError(code, `${message}. ${path} now holds a part of disk ${disk.name} and must not be used`, {
      context: details,
      cause: error,
    });
  }
}

/** Closes the target in any case. */
async function copyOnto(
  deps: EngineDeps,
  input: { point: Point; disk: string; target: WritableBlockDevice; targetIsBlank: boolean },
  context: VerbContext,
): Promise<number> {
  const { point, disk, target, targetIsBlank } = input;
  const source = deps.repository.openDisk(point, disk);
  try {
    return await copyDisk(source, target, { targetIsBlank, name: disk }, context);
  } finally {
    await source.close();
    await target.close();
  }
}

async function dataBytes(deps: EngineDeps, point: Point, context: VerbContext): Promise<number> {
  let total = 0;
  for (const { name, root } of point.disks) {
    const disk = deps.repository.openDisk(point, name);
    try {
      const extents = await disk.extents({ offsetBytes: 0, lengthBytes: root.sizeBytes }, { signal: context.signal });
      for (const { kind, lengthBytes } of extents) if (kind === 'data') total += lengthBytes;
    } finally {
      await disk.close();
    }
  }
  return total;
}
