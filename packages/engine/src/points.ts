/** What the engine writes into a point beside the disks, and how it reads it back. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { type MachineId, type PointId, pointInstantMs } from '@lifeboat/foundation/ids';
import type { MachineDescription } from '@lifeboat/hypervisor/port';
import type { Point, PointSummary as PointListing } from '@lifeboat/repository/read/point-reader';
import type { Repository } from '@lifeboat/repository/repository';
import type { CapturedDisk, CaptureSummary, PointSummary } from './verbs.ts';

/** The file of a point that holds the machine's UEFI variables. */
export const NVRAM_FILE = 'nvram';

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
  readonly healedChunks?: number;
  /** Why the point has no inventory; absent: it has one, or is older than inventories. */
  readonly noInventory?: string;
  /** Absent: the point is older than this count. */
  readonly inventoryBytes?: number;
  readonly healingFailure?: string;
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

/** The record of a point or of its listing. Errors: `engine.newer-point`, `repository.point-damaged`. */
export function captureRecordOf(point: { readonly pointId: PointId; readonly capture: unknown }): CaptureRecord {
  const record = captureRecordOrWhyNot(point);
  if (record instanceof LifeboatError) throw record;
  return record;
}

/** For lists, and for who builds on it: one point that cannot be understood must keep nobody from the others. */
export function captureRecordOrWhyNot(point: {
  readonly pointId: PointId;
  readonly capture: unknown;
}): CaptureRecord | LifeboatError {
  const { pointId } = point;
  const record = point.capture as Partial<Record<keyof CaptureRecord, unknown>> | null;
  if (typeof record?.version === 'number' && record.version > 1) {
    return new LifeboatError(
      'engine.newer-point',
      `point ${pointId} was written by a newer release (capture record ${record.version}, this one reads 1)`,
      { context: { pointId } },
    );
  }
  const { version, machineName, instantMs, consistency, disks } = record ?? {};
  const isRecord =
    version === 1 &&
    typeof machineName === 'string' &&
    typeof instantMs === 'number' &&
    typeof consistency === 'string' &&
    Array.isArray(disks) &&
    disks.every((disk: unknown) => typeof (disk as Partial<DiskRecord> | null)?.name === 'string');
  if (isRecord) return point.capture as CaptureRecord;
  return new LifeboatError('repository.point-damaged', `point ${pointId} holds no record of its capture`, {
    context: { pointId },
  });
}

export function machineRecordOf(point: { readonly machine: unknown }): MachineRecord {
  return point.machine as MachineRecord;
}

/** UEFI variables of the machine; undefined of a BIOS machine, and of one that had never been started. */
export function nvramOf(point: Pick<Point, 'files'>): Uint8Array | undefined {
  return point.files.find(({ name }) => name === NVRAM_FILE)?.content;
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

/** Of an object whose name does not say whose point it might be. */
export const NO_MACHINE = '?' as MachineId;

/** A point as a person sees it in a list. An object whose name says neither machine nor point is shown under its name. */
export function summarise(listing: PointListing): PointSummary {
  if (listing.state === 'damaged') {
    const { machineId, pointId, object, error } = listing;
    return unusable(pointId ?? (object as PointId), machineId ?? NO_MACHINE, {
      instantMs: pointId ? pointInstantMs(pointId) : 0,
      why: error,
    });
  }
  const record = captureRecordOrWhyNot(listing);
  if (record instanceof LifeboatError) {
    const { pointId, machineId } = listing;
    return unusable(pointId, machineId, { instantMs: pointInstantMs(pointId), why: record });
  }
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

function unusable(
  pointId: PointId,
  machineId: MachineId,
  { instantMs, why }: { instantMs: number; why: LifeboatError },
): PointSummary {
  const damage = why.message;
  return { pointId, machineId, machineName: '?', instantMs, consistency: 'inconsistent', disks: [], damage };
}

/** What the machine was called; its id where the record says nothing. */
export function machineNameOf(listing: Extract<PointListing, { state: 'readable' }>): string {
  return knownRecordOf(listing)?.machineName ?? listing.machineId;
}

/** Undefined for a point that is damaged or that this release does not understand. */
function knownRecordOf(listing: PointListing): CaptureRecord | undefined {
  const record = listing.state === 'readable' ? captureRecordOrWhyNot(listing) : undefined;
  return record instanceof LifeboatError ? undefined : record;
}

/**
 * Points of a machine given by id or by the name it had at capture; the machine itself may be long gone. Oldest first. A
 * point whose record cannot be read says no name: it belongs to the machines of that name by its machine's id.
 */
export async function pointsOf(repository: Repository, machine: string): Promise<PointListing[]> {
  const all = (await repository.points()).map((listing) => ({ listing, record: knownRecordOf(listing) }));
  const ids = new Set(
    all.filter(({ record }) => record?.machineName === machine).flatMap(({ listing }) => listing.machineId ?? []),
  );
  return all
    .filter(
      ({ listing: { machineId }, record }) =>
        machineId === machine || (record ? record.machineName === machine : machineId && ids.has(machineId)),
    )
    .map(({ listing }) => listing);
}

/**
 * The named point, or the newest that can be read.
 * Errors: `engine.no-such-point`, `engine.ambiguous-machine`, `engine.newer-point`, and the point's own damage.
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
    : listings.findLast((listing) => knownRecordOf(listing) !== undefined);
  if (!wanted?.machineId || !wanted.pointId) {
    const have = listings.map((listing) => listing.pointId ?? '?').join(', ') || 'none';
    throw new LifeboatError(
      'engine.no-such-point',
      `machine '${machine}' has no ${pointId ? `recovery point ${pointId}` : 'readable recovery point'} in this repository (it has: ${have})`,
      { context: { machine, pointId } },
    );
  }
  const point = await repository.readPoint(wanted.machineId, wanted.pointId);
  captureRecordOf(point);
  return point;
}
