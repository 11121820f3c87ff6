/**
 * Copies points into another repository, which has other keys and the same chunk size.
 *
 * 1. Points go oldest first, machine by machine; one that the target has, readable, is passed over.
 * 2. Of a disk only what differs from the point before is read: the two maps of the source say where. Where one of them, or the map in the
 *    target, is damaged, all of it.
 * 3. Everything read is compared with its id (the read path), sealed anew under the target's keys, and opened again before it
 *    is stored (the write path).
 * 4. The point is committed under its own name; then the target is read back in full and checked against its ids.
 * 5. What was committed is taken into the chains of the target, machine by machine, with what was proven of it (copy-evidence.ts); control
 *    objects follow (copy-objects.ts).
 *
 * Killed anywhere, it goes on: committed points are passed over, and the session of the one in work is resumed from its directory.
 * Not guaranteed: the same pack names, or the same creation time in the point's header, which is that of the copy.
 */
import { join } from 'node:path';

import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId, PointId } from '@lifeboat/foundation/ids';
import type { VerbContext } from '@lifeboat/foundation/progress';

import type { CheckReport } from '../check/point-check.ts';
import { samePlace, type Place } from '../format/blob-ref.ts';
import type { DiskRoot } from '../format/point.ts';
import { MapReader } from '../read/map-reader.ts';
import type { Point } from '../read/point-reader.ts';
import type { Repository } from '../repository.ts';
import type { ByteRange } from '../store/object-store.ts';
import type { WriteDiskRequest } from '../write/disk-writer.ts';
import type { WriterSession } from '../write/session.ts';
import { copyEvidence } from './copy-evidence.ts';
import { copyObjects } from './copy-objects.ts';
import { lendDevice } from './point-source.ts';

export interface CopyRequest {
  readonly source: Repository;
  /** Opened with lanes in this thread (`inlineSealer`). */
  readonly target: Repository;
  /** Sessions of copies in work live below it, across attempts. */
  readonly directory: string;
  readonly machineId?: MachineId | undefined;
}

export interface CopiedPoint {
  readonly machineId: string;
  readonly pointId: string;
  /** 'damaged': the source could not be read, or the copy did not check; nothing hides it. */
  readonly outcome: 'copied' | 'there' | 'damaged';
  readonly readBytes: number;
  readonly storedBytes: number;
  readonly reason?: string;
}

/** What makes one point impossible to copy and leaves the others alone. */
const POINT_DAMAGE = [
  'repository.point-damaged',
  'repository.chunk-damaged',
  'repository.map-damaged',
  'repository.object-damaged',
] as const;

/**
 * Errors: `input.invalid` for another chunk size or the same repository, `repository.point-exists` where the target has another
 * point of that name, those of both stores, and the signal's reason.
 */
export async function copyPoints(request: CopyRequest, context: VerbContext): Promise<CopiedPoint[]> {
  const { source, target, machineId } = request;
  assertCopyable(source, target);
  const { signal } = context;
  const there = new Set(
    (await target.points(machineId, { signal })).map(({ machineId: m, pointId }) => `${m} ${pointId}`),
  );
  const outcomes: CopiedPoint[] = [];
  const memory = target.checkMemory();
  const before = new Map<MachineId, { source: Point; target: Point }>();
  /** Points that are in the target now, whole as far as this saw. */
  const sound = new Map<MachineId, Set<string>>();
  const hold = (id: { machineId: MachineId; pointId: PointId }, points: { source: Point; target: Point }): void => {
    before.set(id.machineId, points);
    sound.set(id.machineId, (sound.get(id.machineId) ?? new Set()).add(id.pointId));
  };
  for (const summary of await source.points(machineId, { signal })) {
    signal.throwIfAborted();
    if (summary.state === 'damaged') {
      outcomes.push(failed(summary.object, '', summary.error.message));
      continue;
    }
    const id = { machineId: summary.machineId, pointId: summary.pointId };
    try {
      const point = await source.readPoint(id.machineId, id.pointId, { signal });
      if (there.has(`${id.machineId} ${id.pointId}`)) {
        hold(id, { source: point, target: await target.readPoint(id.machineId, id.pointId, { signal }) });
        outcomes.push({ ...id, outcome: 'there', readBytes: 0, storedBytes: 0 });
        continue;
      }
      const copied = await copyPoint(request, { point, before: before.get(id.machineId) }, context);
      const check = await target.checkPoint(copied.point, 'content', context, { memory });
      if (check.sound) hold(id, { source: point, target: copied.point });
      outcomes.push({ ...id, outcome: check.sound ? 'copied' : 'damaged', ...copied.bytes, ...reasonOf(check) });
    } catch (error) {
      if (!hasCode(error, ...POINT_DAMAGE)) throw error;
      outcomes.push(failed(id.machineId, id.pointId, error.message));
    }
  }
  for (const [copied, points] of sound) {
    await target.linkPoints(copied, { signal });
    await copyEvidence(source.core, target.core, { machineId: copied, points }, { signal });
  }
  await copyObjects(source.core, target.core, { machineId, signal });
  return outcomes;
}

/** Errors: `input.invalid` for another chunk size or the same repository. */
export function assertCopyable(source: Repository, target: Repository): void {
  if (source.chunkSizeBytes !== target.chunkSizeBytes) {
    throw new LifeboatError(
      'input.invalid',
      `the repositories have chunks of ${source.chunkSizeBytes} and ${target.chunkSizeBytes} bytes; they must be equal`,
    );
  }
  if (source.tenantId === target.tenantId) {
    throw new LifeboatError('input.invalid', 'source and target are the same tenant of the same repository');
  }
}

async function copyPoint(
  request: CopyRequest,
  what: { point: Point; before: { source: Point; target: Point } | undefined },
  context: VerbContext,
): Promise<{ point: Point; bytes: { readBytes: number; storedBytes: number } }> {
  const { source, target } = request;
  const { point, before } = what;
  const { machineId, pointId, machine, capture, files } = point;
  const directory = join(request.directory, target.tenantId, machineId, pointId);
  const parent = before?.target.pointId;
  const session = await target.beginSession({ machineId, directory, parent, signal: context.signal });
  const bytes = { readBytes: 0, storedBytes: 0 };
  try {
    const disks = [];
    for (const { name, root, info } of point.disks) {
      const device = source.openDisk(point, name);
      const { source: spec, takeBack } = lendDevice(device);
      try {
        const earlier = before && commonDisk(before, name, root);
        const allocation = await device.extents({ offsetBytes: 0, lengthBytes: root.sizeBytes }, context);
        const disk = { name, sizeBytes: root.sizeBytes, source: spec, allocation };
        const written = await writeFrom(request, { session, disk, root, earlier }, context);
        bytes.readBytes += written.stats.readBytes;
        bytes.storedBytes += written.stats.storedBytes + written.stats.metadataBytes;
        disks.push({ name, root: written.root, info });
      } finally {
        takeBack();
        await device.close();
      }
    }
    const options = { signal: context.signal };
    return { point: await session.commit({ pointId, machine, capture, disks, files }, options), bytes };
  } catch (error) {
    await session.detach();
    throw error;
  }
}

/**
 * What differs from the point before; all of the disk where there is none, or where its map cannot be read in either repository. Errors:
 * `repository.map-damaged` for the map of the point itself.
 */
async function writeFrom(
  { source }: CopyRequest,
  what: {
    session: WriterSession;
    disk: Omit<WriteDiskRequest, 'changed'>;
    root: DiskRoot;
    earlier: { source: DiskRoot; target: DiskRoot } | undefined;
  },
  context: VerbContext,
): ReturnType<WriterSession['writeDisk']> {
  const { session, disk, root, earlier } = what;
  if (earlier) {
    try {
      const changed = await differences(source, { from: earlier.source, to: root }, context);
      return await session.writeDisk({ ...disk, parent: earlier.target, changed }, context);
    } catch (error) {
      if (!hasCode(error, 'repository.map-damaged')) throw error;
      source.core.log.warn('the point before cannot be used, so all of the disk is copied', { why: error.message });
    }
  }
  return session.writeDisk({ ...disk, changed: 'all' }, context);
}

/** The disk in the point before, in both repositories, if it had the same size. */
function commonDisk(
  before: { source: Point; target: Point },
  name: string,
  root: DiskRoot,
): { source: DiskRoot; target: DiskRoot } | undefined {
  const of = (point: Point): DiskRoot | undefined => point.disks.find((disk) => disk.name === name)?.root;
  const source = of(before.source);
  const target = of(before.target);
  return source && target && source.sizeBytes === root.sizeBytes && target.sizeBytes === root.sizeBytes
    ? { source, target }
    : undefined;
}

/** Runs of chunks whose place is another in the two maps. Throws `repository.map-damaged`. */
async function differences(
  source: Repository,
  maps: { from: DiskRoot; to: DiskRoot },
  context: VerbContext,
): Promise<ByteRange[]> {
  const { pages, superblock } = source.core;
  const [from, to] = [maps.from, maps.to].map(
    (root) => new MapReader({ root, pages, geometry: superblock, what: 'a disk that is copied' }),
  ) as [MapReader, MapReader];
  const ranges: ByteRange[] = [];
  const add = (firstChunk: number, count: number): void => {
    const offsetBytes = firstChunk * superblock.chunkSizeBytes;
    const lengthBytes = Math.min(count * superblock.chunkSizeBytes, maps.to.sizeBytes - offsetBytes);
    const last = ranges.at(-1);
    if (last && last.offsetBytes + last.lengthBytes === offsetBytes) {
      ranges[ranges.length - 1] = { ...last, lengthBytes: last.lengthBytes + lengthBytes };
    } else ranges.push({ offsetBytes, lengthBytes });
  };
  for await (const run of to.runs(0, to.chunkCount, context)) {
    if (run.places instanceof Error) throw run.places;
    for await (const old of from.runs(run.firstChunk, run.count, context)) {
      if (old.places instanceof Error) throw old.places;
      const at = (places: readonly Place[] | 'hole' | 'zero', chunk: number, first: number): Place =>
        typeof places === 'string' ? places : (places[chunk - first] ?? 'hole');
      if (typeof run.places === 'string' && run.places === old.places) continue;
      for (let chunk = old.firstChunk; chunk < old.firstChunk + old.count; chunk++) {
        const now = at(run.places, chunk, run.firstChunk);
        if (!samePlace(now, at(old.places, chunk, old.firstChunk))) add(chunk, 1);
      }
    }
  }
  return ranges;
}

function reasonOf(check: CheckReport): { reason?: string } {
  const [first] = [...check.disks, ...check.objects];
  return check.sound ? {} : { reason: `the copy does not check: ${first?.reason ?? 'unknown'}` };
}

function failed(machineId: string, pointId: PointId | '', reason: string): CopiedPoint {
  return { machineId, pointId, outcome: 'damaged', readBytes: 0, storedBytes: 0, reason };
}
