/**
 * Restore: the disks of a point as new qcow2 images, or one disk onto a device that exists; byte for byte, or one of them with its
 * partitions laid out anew (lay-out-disk.ts), which is planned and refused before anything is written.
 *
 * What an attempt that was killed had made is cleared away by the next one, or by the clean-up; a file we did not make is
 * never touched (targets.ts).
 */
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { BlockDevice, WritableBlockDevice } from '@lifeboat/foundation/block-device';
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { formatBytes } from '@lifeboat/foundation/units';
import { renderLayout } from '@lifeboat/disk/layout/render-layout';
import { readPartitionTable } from '@lifeboat/disk/partition-table';
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
import type { RestoredDisk, RestoreInput, RestoreLayout, RestoreSummary } from '../verbs.ts';
import { chooseTarget, type ClaimedTarget, claimTarget } from './claim-target.ts';
import { copyDisk } from './copy-disk.ts';
import { type DeviceTarget, diskOf, layoutDisk, requestFor } from './layout-request.ts';
import { type LaidOutDisk, layOutDisk } from './lay-out-disk.ts';
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
    const { disks, writtenBytes, layout } = await restoreTo(deps, operation, { point, input }, own).catch(
      async (error: unknown) => {
        // A store that does not answer says nothing of the point.
        if (!hasCode(error, 'repository.chunk-damaged', 'repository.map-damaged')) throw error;
        const claims = [failed(point.pointId, 'content', { reason: error.message })];
        await recordEvidence(deps, { ...found, claims }, own.signal);
        throw error;
      },
    );
    const durationMs = Math.round(deps.clock.monotonicMs() - startedMs);
    // Every chunk that was written had been opened and compared with its id. Of a disk that was laid out anew, perhaps not all were.
    const whole = disks.filter(({ name }) => name !== layout?.disk).map(({ name }) => name);
    const some = whole.length === point.disks.length ? [] : whole;
    const claims = whole.length === 0 ? [] : proven(point.pointId, ['content'], some);
    await recordEvidence(deps, { ...found, readBytes: writtenBytes, claims }, own.signal);
    const summary = { pointId: point.pointId, disks, ...(layout ? { layout } : {}), writtenBytes, durationMs };
    await operation.record('done', summary);
    return summary;
  } finally {
    await operation.close({ remove: false });
  }
}

function restoreTo(
  deps: EngineDeps,
  operation: Operation,
  { point, input }: { point: Point; input: RestoreInput },
  context: VerbContext,
): Promise<Restored> {
  const { target, layout } = input;
  return target.kind === 'directory'
    ? intoDirectory(deps, operation, { point, ...target, layout }, context)
    : ontoDevice(deps, operation, { point, target, layout }, context);
}

interface Restored {
  readonly disks: RestoredDisk[];
  readonly writtenBytes: number;
  readonly layout?: NonNullable<RestoreSummary['layout']>;
}

async function intoDirectory(
  deps: EngineDeps,
  operation: Operation,
  input: { point: Point; directory: string; name: string; layout: RestoreLayout | undefined },
  context: VerbContext,
): Promise<Restored> {
  const { point, name, layout } = input;
  if (!NAME.test(name)) {
    throw new LifeboatError('input.invalid', `'${name}' cannot be the name of a machine: expected ${String(NAME)}`);
  }
  const directory = resolve(input.directory);
  const laidOut = layout && layoutDisk(point, layout);
  const disks = point.disks.map((disk): RestoredDisk => ({
    name: disk.name,
    path: join(directory, `${name}-${disk.name}.qcow2`),
    format: 'qcow2',
    sizeBytes: (disk === laidOut ? layout?.sizeBytes : undefined) ?? disk.root.sizeBytes,
  }));
  await removeTargets(operation);
  let written: NonNullable<RestoreSummary['layout']> | undefined;
  const sources = await openSources(deps, operation, { point, layout, laidOut }, context);
  try {
    await mkdir(directory, { recursive: true, mode: passageMode() });
    await ensureFree(directory, await dataBytes(sources, context), `the disks of ${name}`);
    await makeTargets(
      operation,
      disks.map(({ path }) => path),
    );
    let writtenBytes = 0;
    try {
      for (const [index, disk] of disks.entries()) {
        const source = sources[index] as DiskSource;
        writtenBytes += await restoreImage(operation, { disk, source }, context);
        if (source.laidOut) written = summaryOf(source.laidOut);
      }
    } catch (error) {
      await removeTargets(operation);
      throw error;
    }
    return { disks, writtenBytes, ...(written ? { layout: written } : {}) };
  } finally {
    await closeAll(sources);
  }
}

/** A disk to be copied: the point's, or one put together from it. */
interface DiskSource {
  readonly device: BlockDevice;
  readonly laidOut?: LaidOutDisk;
  close(): Promise<void>;
}

async function openSources(
  deps: EngineDeps,
  operation: Operation,
  {
    point,
    layout,
    laidOut,
  }: { point: Point; layout: RestoreLayout | undefined; laidOut: Point['disks'][number] | undefined },
  context: VerbContext,
): Promise<DiskSource[]> {
  const sources: DiskSource[] = [];
  try {
    for (const disk of point.disks) {
      const size = layout?.sizeBytes ?? disk.root.sizeBytes;
      const one = { point, disk, layout: disk === laidOut ? layout : undefined };
      sources.push(await openSource(deps, operation, { ...one, target: { sizeBytes: size } }, context));
    }
    return sources;
  } catch (error) {
    await closeAll(sources);
    throw error;
  }
}

async function openSource(
  deps: EngineDeps,
  operation: Operation,
  input: {
    point: Point;
    disk: Point['disks'][number];
    layout: RestoreLayout | undefined;
    target: { sizeBytes: number; sectorBytes?: number };
  },
  context: VerbContext,
): Promise<DiskSource> {
  const { point, disk, layout, target } = input;
  const source = deps.repository.openDisk(point, disk.name);
  if (!layout) return { device: source, close: () => source.close() };
  try {
    const request = await requestFor(layout, target, source, context.signal);
    const laidOut = await layOutDisk(deps, operation, { point, disk: disk.name, source, request }, context);
    const close = async (): Promise<void> => {
      await laidOut.close();
      await source.close();
    };
    return { device: laidOut.device, laidOut, close };
  } catch (error) {
    await source.close();
    throw error;
  }
}

async function closeAll(sources: readonly DiskSource[]): Promise<void> {
  for (const source of sources) await source.close();
}

function summaryOf({ plan }: LaidOutDisk): NonNullable<RestoreSummary['layout']> {
  return { disk: plan.disk, lines: renderLayout(plan), warnings: plan.warnings };
}

async function restoreImage(
  operation: Operation,
  { disk, source }: { disk: RestoredDisk; source: DiskSource },
  context: VerbContext,
): Promise<number> {
  const { path, sizeBytes, name } = disk;
  const { signal } = context;
  await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(sizeBytes)], {
    timeoutMs: TOOL_TIMEOUT_MS,
    signal,
  });
  const { directory } = operation;
  const image = { kind: 'image', path, format: 'qcow2', readOnly: false } as const;
  const server = await serveDiskImage({ image, nbd: { writable: true }, directory, name: `to-${name}` }, { signal });
  let writtenBytes: number;
  try {
    const socketPath = server.nbdSocketPath;
    if (!socketPath) throw new LifeboatError('internal.bug', `the server of ${path} has no socket`);
    const target = await NbdClient.connect({ socketPath, exportName: server.nbdExportName }, { signal });
    writtenBytes = await copyOnto({ source, disk: name, target, targetIsBlank: true }, context);
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
  if (source.laidOut && grows(source.laidOut)) {
    context.progress({ phase: 'grow', doneBytes: 0, detail: name });
    const asFile = await serveDiskImage(
      { image, fuse: { writable: true }, directory, name: `grow-${name}` },
      { signal },
    );
    try {
      await source.laidOut.grow(asFile.fusePath as string);
    } finally {
      await asFile.stop();
    }
  }
  return writtenBytes;
}

function grows({ plan }: LaidOutDisk): boolean {
  return plan.partitions.some(({ volume }) => volume?.change === 'grow');
}

async function ontoDevice(
  deps: EngineDeps,
  operation: Operation,
  input: { point: Point; target: DeviceTarget; layout: RestoreLayout | undefined },
  context: VerbContext,
): Promise<Restored> {
  const { point, target, layout } = input;
  const disk = diskOf(point, target.disk);
  if (layout?.sizeBytes !== undefined) throw new LifeboatError('input.invalid', 'a device has its own size');
  const path = await chooseTarget(target.path);
  const claim = await claimTarget(deps.hypervisor, path);
  try {
    if (target.identity) await claim.assertSame(target.identity);
    const source = await openSource(deps, operation, { point, disk, layout, target: claim.identity }, context);
    try {
      if (!layout) await assertFits(source.device, { point, disk, claim }, context.signal);
      // Planning took its time, and shrinking may have taken hours.
      await claim.assertSame(target.identity ?? claim.identity);
      const writtenBytes = await overwrite({ source, disk: disk.name, claim }, context);
      const { laidOut } = source;
      const sizeBytes = laidOut?.plan.sizeBytes ?? disk.root.sizeBytes;
      return {
        disks: [{ name: disk.name, path, format: 'raw', sizeBytes }],
        writtenBytes,
        ...(laidOut ? { layout: summaryOf(laidOut) } : {}),
      };
    } finally {
      await source.close();
    }
  } finally {
    await claim.release();
  }
}

/** A disk as it was, byte for byte. */
async function assertFits(
  source: BlockDevice,
  { point, disk, claim }: { point: Point; disk: Point['disks'][number]; claim: ClaimedTarget },
  signal: AbortSignal,
): Promise<void> {
  const { path, identity } = claim;
  const { sizeBytes } = disk.root;
  if (identity.sizeBytes < sizeBytes) {
    throw new LifeboatError(
      'engine.target-too-small',
      `${path} has ${formatBytes(identity.sizeBytes)} (${identity.sizeBytes} bytes), disk ${disk.name} of ${point.pointId} needs ${formatBytes(sizeBytes)} (${sizeBytes} bytes)`,
      { context: { path, haveBytes: identity.sizeBytes, needBytes: sizeBytes } },
    );
  }
  const { scheme, sectorBytes } = await readPartitionTable(source, { signal });
  if (scheme === 'none' || identity.sectorBytes === undefined || identity.sectorBytes === sectorBytes) return;
  throw new LifeboatError(
    'layout.sector-size',
    `Disk ${disk.name} has sectors of ${sectorBytes} bytes and ${path} of ${identity.sectorBytes}`,
    { context: { path, haveBytes: identity.sectorBytes, needBytes: sectorBytes } },
  );
}

async function overwrite(
  { source, disk, claim }: { source: DiskSource; disk: string; claim: ClaimedTarget },
  context: VerbContext,
): Promise<number> {
  const { path } = claim;
  try {
    const writtenBytes = await copyOnto({ source, disk, target: claim.asDisk(), targetIsBlank: false }, context);
    if (source.laidOut && grows(source.laidOut)) {
      context.progress({ phase: 'grow', doneBytes: 0, detail: disk });
      await source.laidOut.grow(claim.ownPath);
    }
    return writtenBytes;
  } catch (error) {
    if (!(error instanceof LifeboatError)) throw error;
    const { code, message, context: details } = error;
    throw new LifeboatError(code, `${message}. ${path} now holds a part of disk ${disk} and must not be used`, {
      context: details,
      cause: error,
    });
  }
}

async function copyOnto(
  input: { source: DiskSource; disk: string; target: WritableBlockDevice; targetIsBlank: boolean },
  context: VerbContext,
): Promise<number> {
  const { source, disk, target, targetIsBlank } = input;
  try {
    return await copyDisk(source.device, target, { targetIsBlank, name: disk }, context);
  } finally {
    await target.close();
  }
}

async function dataBytes(sources: readonly DiskSource[], { signal }: VerbContext): Promise<number> {
  let total = 0;
  for (const { device } of sources) {
    const extents = await device.extents({ offsetBytes: 0, lengthBytes: device.sizeBytes }, { signal });
    for (const { kind, lengthBytes } of extents) if (kind === 'data') total += lengthBytes;
  }
  return total;
}
