/** What the engine writes into a point beside the disks, and how it reads it back. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { type MachineId, type PointId, pointInstantMs } from '@lifeboat/foundation/ids';
import type { MachineDescription } from '@lifeboat/hypervisor/port';
import type { Point, PointSummary as PointListing } from '@lifeboat/repository/read/point-reader';
import type { Repository } from '@lifeboat/repository/repository';
import type { CapturedDisk, CaptureSummary, PointSummary } from './verbs.ts';

/** `capture` of a point: how it came to be. Version 1; fields are only ever added. */
export interface CaptureRecord {
  readonly version: 1;
  readonly machineName: string;
  readonly parentPointId?: PointId;
  readonly instantMs: number;
  readonly consistency: CaptureSummary['consistency'];
  readonly consistencyReason: string;
  readonly hypervisor: { readonly libvirtVersion: string; readonly qemuVersion: string };
  readonly durationMs: number;
  readonly disks: readonly DiskRecord[];
}

export interface DiskRecord extends CapturedDisk {
  /** The disk's tracking epoch at the instant: change tracking is believed only while it stays. */
  readonly epoch: string;
  /** The next point's audit sweep begins here. */
  readonly nextSweepChunk: number;
}

/** `machine` of a point: what the machine was made of. */
export type MachineRecord = Omit<MachineDescription, 'domainXml'>;

/** The record of a point or of its listing. Errors: `engine.newer-point`. */
export function captureRecordOf(point: { readonly pointId: PointId; readonly capture: unknown }): CaptureRecord {
  const record = point.capture as CaptureRecord;
  if (record.version !== 1) {
    throw new LifeboatError(
      'engine.newer-point',
      `point ${point.pointId} was written by a newer release (capture record ${String(record.version)}, this one reads 1)`,
      { context: { pointId: point.pointId } },
    );
  }
  return record;
}

export function machineRecordOf(point: { readonly machine: unknown }): MachineRecord {
  return point.machine as MachineRecord;
}

export function captureSummaryOf(point: Point): CaptureSummary {
  const { version: _, hypervisor: __, disks, ...record } = captureRecordOf(point);
  return {
    ...record,
    pointId: point.pointId,
    machineId: point.machineId,
    disks: disks.map(({ epoch: ___, nextSweepChunk: ____, ...disk }) => disk),
  };
}

/** A point as a person sees it in a list. An object whose name says neither machine nor point is shown under its name. */
export function summarise(listing: PointListing): PointSummary {
  if (listing.state === 'damaged') {
    const { machineId, pointId, object, error } = listing;
    return {
      pointId: pointId ?? (object as PointId),
      machineId: machineId ?? ('?' as MachineId),
      machineName: '?',
      instantMs: pointId ? pointInstantMs(pointId) : 0,
      consistency: 'inconsistent',
      disks: [],
      damage: error.message,
    };
  }
  const record = captureRecordOf(listing);
  return {
    pointId: listing.pointId,
    machineId: listing.machineId,
    machineName: record.machineName,
    instantMs: record.instantMs,
    consistency: record.consistency,
    disks: listing.disks.map(({ name, sizeBytes }) => ({ name, sizeBytes })),
    ...(record.parentPointId ? { parentPointId: record.parentPointId } : {}),
  };
}

/** Points of a machine given by id or by the name it had at capture; the machine itself may be long gone. Oldest first. */
export async function pointsOf(repository: Repository, machine: string): Promise<PointListing[]> {
  const all = await repository.points();
  return all.filter(
    (listing) =>
      listing.machineId === machine ||
      (listing.state === 'readable' && captureRecordOf(listing).machineName === machine),
  );
}

/**
 * The named point, or the newest that can be read.
 * Errors: `engine.no-such-point`, `engine.ambiguous-machine`, and the point's own damage.
 */
export async function findPoint(repository: Repository, machine: string, pointId?: PointId): Promise<Point> {
  const listings = await pointsOf(repository, machine);
  const ids = new Set(listings.flatMap(({ machineId }) => machineId ?? []));
  if (ids.size > 1) {
    throw new LifeboatError(
      'engine.ambiguous-machine',
      `'${machine}' names ${ids.size} machines with recovery points: ${[...ids].join(', ')}`,
      { context: { machine } },
    );
  }
  const wanted = pointId
    ? listings.find((listing) => listing.pointId === pointId)
    : listings.findLast(({ state }) => state === 'readable');
  if (!wanted?.machineId || !wanted.pointId) {
    const have = listings.map((listing) => listing.pointId ?? '?').join(', ') || 'none';
    throw new LifeboatError(
      'engine.no-such-point',
      `machine '${machine}' has no ${pointId ? `recovery point ${pointId}` : 'readable recovery point'} in this repository (it has: ${have})`,
      { context: { machine, pointId } },
    );
  }
  return repository.readPoint(wanted.machineId, wanted.pointId);
}
