import type { VerbContext } from '@lifeboat/foundation/progress';
import {
  type EvidenceDeps,
  failed,
  FAILED_BY_CHECK,
  proven,
  PROVEN_BY_CHECK,
  recordEvidence,
} from '../evidence/record-evidence.ts';
import { findPoint } from '../points.ts';
import { placeDamage } from './damaged-partitions.ts';
import type { CheckInput, CheckSummary } from '../verbs.ts';
import { writeDown } from './write-down.ts';

/** A summary travels through a workflow; the first places are enough to act on. */
const MAX_LISTED = 100;

/**
 * Verification reads and reports; what it looks at it never changes. What it finds damaged is written down for the next backups, which
 * heal what their machines still have.
 */
export async function checkPoint(deps: EvidenceDeps, input: CheckInput, context: VerbContext): Promise<CheckSummary> {
  const startedMs = deps.clock.monotonicMs();
  const beganMs = deps.clock.nowMs();
  const point = await findPoint(deps.repository, input.machine, input.pointId);
  const report = await deps.repository.checkPoint(point, input.level, context);
  if (!report.sound) await writeDown(deps, report.damage, { signal: context.signal });
  const damaged = await placeDamage(deps.repository, point, report.disks, context);
  const places = damaged.map(({ disk, partition, offsetBytes, lengthBytes, pack, reason }) => ({
    disk,
    partition,
    offsetBytes,
    lengthBytes,
    what: `${reason} (pack ${pack})`,
  }));
  // An object that is damaged where no disk uses it is still damage of the repository.
  const objects =
    places.length > 0
      ? []
      : report.objects.map(({ object, reason }) => ({
          disk: '',
          offsetBytes: 0,
          lengthBytes: 0,
          what: `${object}: ${reason}`,
        }));
  const damage = [...places, ...objects];
  const { machineId, pointId } = point;
  const [first] = damage;
  const disks = [...new Set(places.map(({ disk }) => disk))];
  const claims = first
    ? [failed(pointId, FAILED_BY_CHECK[input.level], { disks, reason: first.what })]
    : proven(pointId, PROVEN_BY_CHECK[input.level]);
  const { checkedBytes: readBytes } = report;
  await recordEvidence(deps, { machineId, operation: 'check', beganMs, readBytes, claims }, context.signal);
  return {
    pointId: point.pointId,
    level: input.level,
    checkedBytes: report.checkedBytes,
    durationMs: Math.round(deps.clock.monotonicMs() - startedMs),
    damage: damage.slice(0, MAX_LISTED),
    ...(damage.length > MAX_LISTED ? { unlistedPlaces: damage.length - MAX_LISTED } : {}),
  };
}
