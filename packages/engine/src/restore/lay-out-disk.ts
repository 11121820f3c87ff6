/**
 * A disk of a point as it is to lie on a target: planned, and put together to be copied like any disk.
 *
 *   1. read the table, the volumes and the boot code; plan; a refusal ends it
 *   2. shrink, in an overlay over the point, with the filesystem's own tools      ── until here the target is untouched
 *   3. put together: the gap, the partitions at their places, boot sectors, loaders, the table
 *   4. (the caller copies it)
 *   5. grow, on the target, with the filesystem's own tools
 *
 * A restore that is repeated writes the same ids. What is laid out is not in the journal of a redeploy: that takes back what was done
 * to the restored disk, and this is how it was restored.
 */
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readRun, sliceDevice } from '@lifeboat/disk/bytes';
import { openFileDevice } from '@lifeboat/disk/file-device';
import { assembledDisk, type DiskPart } from '@lifeboat/disk/layout/assembled-disk';
import { encodeTable, withIds, type NumberedPlan } from '@lifeboat/disk/layout/encode-table';
import { movedBootSectors } from '@lifeboat/disk/layout/hidden-sectors';
import type { LayoutPlan, LayoutRequest, LayoutSource } from '@lifeboat/disk/layout/layout-plan';
import { planLayout } from '@lifeboat/disk/layout/plan-layout';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { KiB, MiB } from '@lifeboat/foundation/units';
import {
  copyWithFiles,
  loadersFor,
  makeEfiSystemPartition,
  missingFallback,
} from '@lifeboat/guest/boot-chain/efi-system-partition';
import { findGrub, type GuestGrub } from '@lifeboat/guest/boot-chain/find-grub';
import { BOOT_CODE_BYTES, bootCodeFor, coreAt } from '@lifeboat/guest/boot-chain/grub-core';
import { makeBiosCore } from '@lifeboat/guest/boot-chain/make-image';
import { serveDiskImage } from '@lifeboat/host/disk-image-server';
import { loopDevice } from '@lifeboat/host/loop-device';
import type { Operation } from '@lifeboat/host/operation';
import { NbdClient } from '@lifeboat/nbd/client';
import type { Point } from '@lifeboat/repository/read/point-reader';
import type { EngineDeps } from '../deps.ts';
import { readLayoutSource } from './layout-source.ts';
import { resizeVolume } from './resize-volume.ts';

/** Loaders lie scattered on their partition; its empty runs are not written. */
const PIECE_BYTES = 64 * KiB;
const OVERLAY_CLUSTER_BYTES = 64 * KiB;

export interface LaidOutDisk {
  readonly plan: NumberedPlan;
  /** To be copied onto the target. */
  readonly device: BlockDevice;
  /** On the target, once the copy is durable: a raw file or a block device of the planned size. */
  grow(targetPath: string): Promise<void>;
  /** Does not close the disk it was made from. */
  close(): Promise<void>;
}

interface Input {
  readonly point: Point;
  readonly disk: string;
  /** The point's disk, and the fitting request. */
  readonly source: BlockDevice;
  readonly request: LayoutRequest;
}

/** Errors: `layout.*`, before anything is written; those of the devices and tools. */
export async function layOutDisk(
  deps: Pick<EngineDeps, 'exporter' | 'random'>,
  operation: Pick<Operation, 'directory' | 'qemuDirectory' | 'record' | 'recall'>,
  input: Input,
  context: VerbContext,
): Promise<LaidOutDisk> {
  const { disk, source, request } = input;
  const { signal } = context;
  const { directory } = operation;
  context.progress({ phase: 'plan', doneBytes: 0, detail: disk });
  const from = await readLayoutSource(disk, source, { signal });
  const fact = `layout-${disk}`;
  const known = (await operation.recall(fact)) as NumberedPlan | undefined;
  const plan = known ?? withIds(assertPlanned(planLayout(from, request)), deps.random);
  if (!known) await operation.record(fact, plan);

  const closing: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (const each of closing.splice(0).toReversed()) await each();
  };
  try {
    const shrunk = await shrink(deps, operation, { ...input, plan, closing }, context);
    const parts = await partsOf({ from, plan, source, shrunk: shrunk ?? source, directory, closing }, signal);
    return {
      plan,
      device: assembledDisk(plan.sizeBytes, parts),
      grow: (path) => growAll(plan, path, { directory, signal }),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Errors: the first refusal's code, with the text of all. */
export function assertPlanned(plan: LayoutPlan): LayoutPlan {
  const [first] = plan.refusals;
  if (!first) return plan;
  throw new LifeboatError(first.code, plan.refusals.map(({ text }) => text).join(' '), {
    context: { disk: plan.disk },
  });
}

// ---------------------------------------------------------------- shrink and grow

/** The disk with its filesystems made smaller, in an overlay; undefined when none is to be. */
async function shrink(
  { exporter }: Pick<EngineDeps, 'exporter'>,
  operation: Pick<Operation, 'directory' | 'qemuDirectory'>,
  { plan, point, disk, closing }: Input & { plan: NumberedPlan; closing: (() => Promise<void>)[] },
  { signal, progress }: VerbContext,
): Promise<BlockDevice | undefined> {
  const shrinking = plan.partitions.filter(({ volume }) => volume?.change === 'shrink');
  if (shrinking.length === 0) return undefined;
  const { directory, qemuDirectory } = operation;
  const { machineId, pointId } = point;
  const served = await exporter({ machineId, pointId, directory, qemuDirectory }, { signal });
  closing.push(() => served.stop());
  const overlay = join(directory, 'shrink.overlay');
  await rm(overlay, { force: true }); // a dead attempt's: worthless
  closing.push(() => rm(overlay, { force: true }));
  const backing = { nbdSocketPath: served.socketPath, nbdExportName: disk };
  const image = { kind: 'overlay', path: overlay, clusterSizeBytes: OVERLAY_CLUSTER_BYTES, backing } as const;
  const server = await serveDiskImage({ image, fuse: { writable: true }, directory, name: 'shrink' }, { signal });
  try {
    for (const { number, from, lengthBytes, volume } of shrinking) {
      if (!from || !volume) continue;
      progress({ phase: 'shrink', doneBytes: 0, detail: `partition ${number}` });
      const run = { offsetBytes: from.startBytes, sizeLimitBytes: from.lengthBytes };
      await onLoop({ path: server.fusePath as string, ...run, directory, name: `shrink${number}`, signal }, (device) =>
        resizeVolume({ device, number, ...volume, toBytes: lengthBytes, directory, signal }),
      );
    }
    await flush(server.fusePath as string);
  } catch (error) {
    // What the tools say of a disk that is not served any more is not the filesystem's fault.
    if (!signal.aborted) served.assertServing();
    throw error;
  } finally {
    await server.stop();
  }
  const again = await serveDiskImage(
    {
      // Its header names what it lies over: the export that this operation serves itself.
      image: { kind: 'image', path: overlay, format: 'qcow2', readOnly: true, followHeader: true },
      nbd: { writable: false },
      directory,
      name: 'shrunk',
    },
    { signal },
  );
  closing.push(() => again.stop());
  const client = await NbdClient.connect(
    { socketPath: again.nbdSocketPath as string, exportName: again.nbdExportName },
    { signal },
  );
  closing.push(() => client.close());
  return client;
}

async function growAll(
  plan: NumberedPlan,
  path: string,
  { directory, signal }: { directory: string; signal: AbortSignal },
): Promise<void> {
  for (const { number, startBytes, lengthBytes, volume } of plan.partitions) {
    if (volume?.change !== 'grow') continue;
    const run = { offsetBytes: startBytes, sizeLimitBytes: lengthBytes };
    await onLoop({ path, ...run, directory, name: `grow${number}`, signal }, (device) =>
      resizeVolume({ device, number, ...volume, toBytes: lengthBytes, directory, signal }),
    );
  }
  await flush(path);
}

async function onLoop(
  options: Omit<Parameters<typeof loopDevice>[0], 'readOnly'>,
  use: (device: string) => Promise<void>,
): Promise<void> {
  const loop = await loopDevice({ ...options, readOnly: false });
  try {
    await use(loop.path);
  } finally {
    await loop.detach();
  }
}

async function flush(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

// ---------------------------------------------------------------- put together

interface Assembly {
  readonly from: LayoutSource;
  readonly plan: NumberedPlan;
  readonly source: BlockDevice;
  /** The same disk, with what became smaller. */
  readonly shrunk: BlockDevice;
  readonly directory: string;
  readonly closing: (() => Promise<void>)[];
}

async function partsOf(assembly: Assembly, signal: AbortSignal): Promise<DiskPart[]> {
  const { from, plan, source, shrunk } = assembly;
  const parts: DiskPart[] = gapOf(assembly);
  for (const partition of plan.partitions) {
    const { from: old, startBytes, volume, role } = partition;
    if (!old) continue;
    const lengthBytes = Math.min(old.lengthBytes, partition.lengthBytes);
    const device = volume?.change === 'shrink' ? shrunk : source;
    parts.push({ offsetBytes: startBytes, lengthBytes, device, at: old.startBytes });
    if (old.startBytes === startBytes) continue;
    const isLogical =
      role === 'logical' || from.table.partitions.some((one) => one.number === old.number && one.role === 'logical');
    const move = { fromBytes: old.startBytes, toBytes: startBytes, isLogical };
    const volumeDevice = sliceDevice(device, { offsetBytes: old.startBytes, lengthBytes });
    for (const piece of await movedBootSectors(volumeDevice, move, { signal })) {
      parts.push({ offsetBytes: startBytes + piece.offsetBytes, bytes: piece.bytes });
    }
  }
  const grub = await grubOf(assembly, signal);
  parts.push(...(await efiSystemParts(assembly, grub, signal)));
  const boot = await bootParts(assembly, grub, signal);
  return [...parts, ...boot.parts, ...encodeTable(plan, boot.code)];
}

/** Between the table and the first partition of an MBR lie boot loaders. */
function gapOf({ from, plan, source }: Assembly): DiskPart[] {
  if (from.table.scheme !== 'mbr' || plan.scheme !== 'mbr') return [];
  const { sectorBytes, partitions } = from.table;
  const end = Math.min(MiB, ...[...partitions, ...plan.partitions].map(({ startBytes }) => startBytes));
  if (end <= sectorBytes) return [];
  return [{ offsetBytes: sectorBytes, lengthBytes: end - sectorBytes, device: source, at: sectorBytes }];
}

async function grubOf({ from, plan, source }: Assembly, signal: AbortSignal): Promise<GuestGrub | undefined> {
  if (plan.boot.kind !== 'new-core' && plan.efiSystemPartition === undefined) return undefined;
  const volumes = from.table.partitions.flatMap(({ number, startBytes: offsetBytes, lengthBytes }) => {
    const content = from.contents.get(number);
    const comes = plan.partitions.some((one) => one.from?.number === number);
    if (content?.kind !== 'filesystem' || !comes) return [];
    return [{ device: sliceDevice(source, { offsetBytes, lengthBytes }), type: content.type, uuid: content.uuid }];
  });
  return findGrub(volumes, { signal });
}

async function bootParts(
  { from, plan, source, directory }: Assembly,
  grub: GuestGrub | undefined,
  signal: AbortSignal,
): Promise<{ code: Uint8Array; parts: DiskPart[] }> {
  const { boot } = plan;
  const sector = await readRun(source, 0, from.table.sectorBytes, { signal });
  if (boot.kind === 'copy') return { code: sector.subarray(0, BOOT_CODE_BYTES), parts: [] };
  if (boot.kind === 'move-core') {
    const { core } = from.boot;
    if (!core || core.offsetBytes === boot.offsetBytes) return { code: sector.subarray(0, BOOT_CODE_BYTES), parts: [] };
    const image = await readRun(source, core.offsetBytes, core.lengthBytes, { signal });
    const bytes = coreAt(image, { offsetBytes: boot.offsetBytes, roomBytes: core.lengthBytes });
    return { code: bootCodeFor(sector, boot.offsetBytes), parts: [{ offsetBytes: boot.offsetBytes, bytes }] };
  }
  const made = await makeBiosCore(assertGrub(grub, plan), { directory, signal });
  return {
    code: bootCodeFor(made.bootImage, boot.offsetBytes),
    parts: [{ offsetBytes: boot.offsetBytes, bytes: coreAt(made.core, boot) }],
  };
}

async function efiSystemParts(
  { plan, source, directory, closing }: Assembly,
  grub: GuestGrub | undefined,
  signal: AbortSignal,
): Promise<DiskPart[]> {
  const partition = plan.partitions.find(({ number }) => number === plan.efiSystemPartition);
  if (!partition) return [];
  const work = { directory, signal };
  const path = join(directory, 'esp.img');
  await rm(path, { force: true }); // a dead attempt's
  closing.push(() => rm(path, { force: true }));
  const { from, startBytes, lengthBytes } = partition;
  if (from) {
    const old = sliceDevice(source, { offsetBytes: from.startBytes, lengthBytes: from.lengthBytes });
    const missing = (await missingFallback(old)) ?? (await loadersFor(assertGrub(grub, plan), work));
    if (missing.size === 0) return [];
    await copyWithFiles({ path, partition: old, files: missing }, work);
  } else {
    const files = await loadersFor(assertGrub(grub, plan), work);
    await makeEfiSystemPartition({ path, sizeBytes: lengthBytes, startBytes, files }, work);
  }
  const device = await openFileDevice(path);
  closing.push(() => device.close());
  // Where nothing is, the old partition's bytes must not show through.
  const empty: DiskPart = { offsetBytes: startBytes, lengthBytes, device: zeros(lengthBytes), at: 0 };
  return [empty, ...(await filledRuns(device, startBytes, signal))];
}

async function filledRuns(device: BlockDevice, toBytes: number, signal: AbortSignal): Promise<DiskPart[]> {
  const runs: { at: number; lengthBytes: number }[] = [];
  for (let at = 0; at < device.sizeBytes; at += PIECE_BYTES) {
    const bytes = await readRun(device, at, Math.min(PIECE_BYTES, device.sizeBytes - at), { signal });
    if (bytes.every((byte) => byte === 0)) continue;
    const last = runs.at(-1);
    if (last && last.at + last.lengthBytes === at) last.lengthBytes += bytes.length;
    else runs.push({ at, lengthBytes: bytes.length });
  }
  return runs.map(({ at, lengthBytes }) => ({ offsetBytes: toBytes + at, lengthBytes, device, at }));
}

function zeros(sizeBytes: number): BlockDevice {
  return {
    sizeBytes,
    read: async (_, target) => void target.fill(0),
    extents: async (range) => [{ ...range, kind: 'zero' }],
    close: async () => {},
  };
}

function assertGrub(grub: GuestGrub | undefined, plan: NumberedPlan): GuestGrub {
  if (grub) return grub;
  throw new LifeboatError(
    'layout.unsupported',
    `No ext filesystem that comes along on disk ${plan.disk} has a grub.cfg, so no boot loader can be made that finds it`,
    { context: { disk: plan.disk } },
  );
}
