/**
 * Checks every point and the chains that name them, and says what is lost as its owner sees it: by machine, disk and partition, with all the points each loss hits.
 * Points share chunks, so one damaged place of the store is met in each point that needs it.
 */
import type { MachineId, PointId } from '@lifeboat/foundation/ids';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { ChainFinding } from '@lifeboat/repository/chain/chain-check';
import type { CheckReport } from '@lifeboat/repository/check/point-check';
import type { Budget, DamagedPoint, PassReport } from '@lifeboat/repository/check/verification-pass';
import type { Claim } from '@lifeboat/repository/format/evidence';
import { MAX_EVIDENCE_CLAIMS } from '@lifeboat/repository/format/limits';
import type { CheckLevel } from '@lifeboat/repository/format/verification';
import type { Point, PointSummary as PointListing } from '@lifeboat/repository/read/point-reader';
import {
  type EvidenceDeps,
  failed,
  FAILED_BY_CHECK,
  proven,
  PROVEN_BY_CHECK,
  recordEvidence,
} from '../evidence/record-evidence.ts';
import type { ObjectFinding } from '@lifeboat/repository/objects/object-check';
import { machineNameOf } from '../points.ts';
import { type DamagedPlace, placeDamage } from './damaged-partitions.ts';
import { writeDown } from './write-down.ts';

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

export interface CheckOptions {
  readonly level: CheckLevel;
  readonly machineId?: MachineId | undefined;
  readonly listener: CheckListener;
}

/**
 * Damage is written down for the next backups, what was found for whoever asks what is proven of a point. Machine by machine. Errors:
 * those of the store, and the signal's reason.
 */
export async function checkRepository(
  deps: EvidenceDeps,
  input: CheckOptions,
  { signal }: { readonly signal: AbortSignal },
): Promise<{ points: CheckedPoint[]; losses: Loss[]; chains: ChainFinding[]; objects: ObjectFinding[] }> {
  const { repository, clock } = deps;
  const { level, machineId, listener } = input;
  const points: CheckedPoint[] = [];
  const losses = new Losses();
  const run = { log: repository.verificationLog(level), memory: repository.checkMemory() };
  const linked = await repository.readChains(machineId, { signal });
  const listings = await repository.points(machineId, { signal });
  const chains = await repository.judgeChains({ checked: linked, points: listings }, { signal });
  for (const [owner, listed] of Map.groupBy(listings, (listing) => listing.machineId)) {
    const beganMs = clock.nowMs();
    const claims: Claim[] = [];
    let readBytes = 0;
    for (const listing of listed) {
      if (listing.state === 'damaged') {
        const { object, pointId, error } = listing;
        points.push({ point: object, sound: false, objects: [], disks: [], reason: error.message });
        if (pointId !== undefined) claims.push(failed(pointId, 'stored', { reason: error.message }));
        continue;
      }
      const name = `${listing.machineId} ${listing.pointId}`;
      listener.begin(name);
      const point = await repository.readPoint(listing.machineId, listing.pointId, { signal });
      const context = {
        signal,
        progress: (progress: Parameters<VerbContext['progress']>[0]) => listener.progress(name, progress),
      };
      const report = await repository.checkPoint(point, level, context, run);
      const checked = await takeUp(deps, { listing, point, report, losses }, { signal });
      listener.end(name, report.sound);
      points.push(checked);
      readBytes += report.checkedBytes;
      claims.push(...claimsOf(point, level, checked));
    }
    if (owner !== undefined) await recordAll(deps, { machineId: owner, beganMs, readBytes, claims }, signal);
    // With each machine: what was looked at is remembered also where the rest is broken off.
    await run.log.publish({ signal });
  }
  const objects = machineId === undefined ? await repository.checkObjects({ signal }) : [];
  return { points, losses: losses.all(), chains, objects };
}

/** What a check within a budget found. Of points that are not in it nothing is said. */
export interface BudgetedCheck extends Omit<PassReport, 'damagedPoints' | 'unreadable' | 'points'> {
  readonly pointCount: number;
  /** The damaged ones. */
  readonly points: readonly CheckedPoint[];
  readonly losses: readonly Loss[];
  readonly chains: readonly ChainFinding[];
}

/**
 * Looks at as much as the budget allows, least recently looked at first; at which points there are, by the chains of machines, in any case. Only damage goes into the evidence of machines: a part of a
 * point that is whole proves nothing of the point. Errors: those of the store, and the signal's reason.
 */
export async function checkWithin(
  deps: EvidenceDeps,
  input: Omit<CheckOptions, 'listener'> & { readonly budget: Budget; readonly dryRun?: boolean },
  context: VerbContext,
): Promise<BudgetedCheck> {
  const { repository, clock } = deps;
  const { signal } = context;
  const points: CheckedPoint[] = [];
  const losses = new Losses();
  const claims: { machineId: MachineId; claim: Claim }[] = [];
  const beganMs = clock.nowMs();
  const linked = await repository.readChains(input.machineId, { signal });
  const listings = await repository.points(input.machineId, { signal });
  const chains = await repository.judgeChains({ checked: linked, points: listings }, { signal });
  const damaged = async ({ point, listing, report }: DamagedPoint): Promise<void> => {
    const checked = await takeUp(deps, { listing, point, report, losses }, { signal });
    points.push(checked);
    for (const claim of claimsOf(point, input.level, checked)) claims.push({ machineId: point.machineId, claim });
  };
  const {
    damagedPoints: _,
    unreadable,
    points: pointCount,
    ...report
  } = await repository.checkWithin({ ...input, listings, damaged }, context);
  for (const { object, machineId, pointId, error } of unreadable) {
    points.push({ point: object, sound: false, objects: [], disks: [], reason: error.message });
    if (machineId !== undefined && pointId !== undefined)
      claims.push({ machineId, claim: failed(pointId, 'stored', { reason: error.message }) });
  }
  for (const [machineId, ofMachine] of Map.groupBy(claims, (found) => found.machineId)) {
    const said = ofMachine.map(({ claim }) => claim);
    await recordAll(deps, { machineId, beganMs, readBytes: 0, claims: said }, signal);
  }
  return { ...report, pointCount, points, losses: losses.all(), chains };
}

/** Writes damage down, and says where it lies. */
async function takeUp(
  deps: EvidenceDeps,
  found: { listing: Readable; point: Point; report: CheckReport; losses: Losses },
  options: { readonly signal: AbortSignal },
): Promise<CheckedPoint> {
  const { listing, point, report, losses } = found;
  const { sound, objects } = report;
  if (!sound) await writeDown(deps, report.damage, options);
  const disks = await placeDamage(deps.repository, point, report.disks, options);
  losses.add(listing, disks);
  const [first] = [...report.disks, ...objects];
  const name = `${listing.machineId} ${listing.pointId}`;
  return { point: name, sound, objects, disks, ...(first ? { reason: first.reason } : {}) };
}

function claimsOf({ pointId }: Point, level: CheckLevel, { sound, disks, reason = '' }: CheckedPoint): Claim[] {
  if (sound) return proven(pointId, PROVEN_BY_CHECK[level]);
  return [failed(pointId, FAILED_BY_CHECK[level], { disks: [...new Set(disks.map(({ disk }) => disk))], reason })];
}

async function recordAll(
  deps: EvidenceDeps,
  found: { machineId: MachineId; beganMs: number; readBytes: number; claims: readonly Claim[] },
  signal: AbortSignal,
): Promise<void> {
  const { claims, ...what } = found;
  for (let at = 0; at < claims.length; at += MAX_EVIDENCE_CLAIMS) {
    const some = claims.slice(at, at + MAX_EVIDENCE_CLAIMS);
    await recordEvidence(deps, { ...what, operation: 'repository-check', claims: some }, signal);
  }
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
