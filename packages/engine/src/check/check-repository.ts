/**
 * Checks every point and the chains that name them, and says what is lost as its owner sees it: by machine, disk and partition, with all the points each loss hits.
 * Points share chunks, so one damaged place of the store is met in each point that needs it.
 */
import type { MachineId, PointId } from '@lifeboat/foundation/ids';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { ChainFinding } from '@lifeboat/repository/chain/chain-check';
import type { CheckReport } from '@lifeboat/repository/check/point-check';
import type { CheckLevel } from '@lifeboat/repository/format/verification';
import type { PointSummary as PointListing } from '@lifeboat/repository/read/point-reader';
import type { Repository } from '@lifeboat/repository/repository';
import { machineNameOf } from '../points.ts';
import { type DamagedPlace, placeDamage } from './damaged-partitions.ts';

export interface CheckedPoint extends Pick<CheckReport, 'sound' | 'objects'> {
  /** `<machine> <point>`; of a point that says neither, the name of its object. */
  readonly point: string;
  readonly disks: readonly DamagedPlace[];
  /** Of the first damage. */
  readonly reason?: string;
}

/** What a partition lost. */
export interface Loss {
  readonly machineId: MachineId;
  readonly machineName: string;
  readonly disk: string;
  readonly partition: string;
  /** Different bytes of the disk, in whichever points. */
  readonly lostBytes: number;
  /** Every point that lost some of it, oldest first. */
  readonly points: readonly PointId[];
}

/** What the caller hears while it runs. */
export interface CheckListener {
  begin(point: string): void;
  progress(point: string, progress: Parameters<VerbContext['progress']>[0]): void;
  end(point: string, sound: boolean): void;
}

/** Damage is written down for the next backups. Errors: those of the store, and the signal's reason. */
export async function checkRepository(
  repository: Repository,
  input: { readonly level: CheckLevel; readonly machineId?: MachineId | undefined; readonly listener: CheckListener },
  { signal }: { readonly signal: AbortSignal },
): Promise<{ points: CheckedPoint[]; losses: Loss[]; chains: ChainFinding[] }> {
  const { level, machineId, listener } = input;
  const points: CheckedPoint[] = [];
  const losses = new Losses();
  const checked = await repository.readChains(machineId, { signal });
  const listings = await repository.points(machineId, { signal });
  const chains = await repository.judgeChains({ checked, points: listings }, { signal });
  for (const listing of listings) {
    if (listing.state === 'damaged') {
      points.push({ point: listing.object, sound: false, objects: [], disks: [], reason: listing.error.message });
      continue;
    }
    const name = `${listing.machineId} ${listing.pointId}`;
    listener.begin(name);
    const point = await repository.readPoint(listing.machineId, listing.pointId, { signal });
    const context = {
      signal,
      progress: (progress: Parameters<VerbContext['progress']>[0]) => listener.progress(name, progress),
    };
    const report = await repository.checkPoint(point, level, context);
    if (!report.sound) await repository.reportDamage(report.damage, { signal });
    const disks = await placeDamage(repository, point, report.disks, { signal });
    losses.add(listing, disks);
    listener.end(name, report.sound);
    const [first] = [...report.disks, ...report.objects];
    const { sound, objects } = report;
    points.push({ point: name, sound, objects, disks, ...(first ? { reason: first.reason } : {}) });
  }
  return { points, losses: losses.all(), chains };
}

type Readable = Extract<PointListing, { state: 'readable' }>;

class Losses {
  readonly #found = new Map<
    string,
    Omit<Loss, 'lostBytes' | 'points'> & { ranges: DamagedPlace[]; points: Set<PointId> }
  >();

  add(listing: Readable, places: readonly DamagedPlace[]): void {
    const { machineId, pointId } = listing;
    for (const place of places) {
      const { disk, partition } = place;
      const key = JSON.stringify([machineId, disk, partition]);
      // The newest name of a machine is the one its owner knows: points come oldest first.
      const machineName = machineNameOf(listing);
      const known = this.#found.get(key) ?? { machineId, machineName, disk, partition, ranges: [], points: new Set() };
      known.ranges.push(place);
      known.points.add(pointId);
      this.#found.set(key, { ...known, machineName });
    }
  }

  all(): Loss[] {
    return [...this.#found.values()].map(({ ranges, points, ...where }) => ({
      ...where,
      lostBytes: coveredBytes(ranges),
      points: [...points],
    }));
  }
}

/** Bytes that at least one of the ranges covers. */
function coveredBytes(ranges: readonly DamagedPlace[]): number {
  let covered = 0;
  let at = 0;
  for (const { offsetBytes, lengthBytes } of ranges.toSorted((a, b) => a.offsetBytes - b.offsetBytes)) {
    const from = Math.max(at, offsetBytes);
    const end = offsetBytes + lengthBytes;
    if (end <= from) continue;
    covered += end - from;
    at = end;
  }
  return covered;
}
