/** Applies the policies: which points go, which stay and why; and lets go of those that go. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { pointInstantMs, type MachineId, type PointId } from '@lifeboat/foundation/ids';

import { MAX_CLOCK_SKEW_MS } from '../collect/mark.ts';
import { buryPoint } from '../collect/tombstones.ts';
import type { Core } from '../core.ts';
import { pointObject } from '../format/names.ts';
import { listPoints, type PointSummary } from '../read/point-reader.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { assertWhole } from './acts.ts';
import { decide, type Candidate, type KeepReason, type Protection } from './decision.ts';
import { ledgerName, readLedger } from './ledger.ts';
import { holdOn, policyFor, type LedgerState, type PolicyVersion } from './ledger-state.ts';

/** Changes of the ledger while points are pruned; each makes the plan anew. */
const MAX_PLANS = 16;

/** What the repository does not know by itself. */
export interface PruneKnowledge {
  /** Whether the point was started and came up. */
  readonly booted?: (point: PointSummary) => boolean;
  /** Why the point must stay now, whatever the policy says. */
  readonly protect?: (point: PointSummary) => readonly Protection[];
}

export interface PlannedPoint {
  readonly machineId: MachineId;
  readonly pointId: PointId;
  /** What it shows, Unix ms, by its name: a copy has the name of its original, and another time of making. */
  readonly instantMs: number;
  /** Empty: it goes. */
  readonly keep: readonly KeepReason[];
  /** Of a point that goes: until then the store keeps its bytes, Unix ms. */
  readonly lockedUntilMs?: number;
}

export interface MachinePlan {
  readonly machineId: MachineId;
  readonly policy: PolicyVersion | undefined;
  /** Whose policy it is. */
  readonly source: 'machine' | 'default' | 'none';
  /** Newest first. */
  readonly points: readonly PlannedPoint[];
}

export interface PrunePlan {
  readonly machines: readonly MachinePlan[];
  /** Objects among the points whose name says neither machine nor point: they stay. */
  readonly strangers: readonly string[];
}

/** Changes nothing. Errors: `repository.retention-unreadable`, `input.invalid` for an unknown time zone, those of the store. */
export async function planPrune(
  core: Core,
  knowledge: PruneKnowledge = {},
  options: StoreOptions = {},
): Promise<PrunePlan> {
  const { state } = await readLedger(core, options);
  assertWhole(state);
  return planWith(core, { state, knowledge }, options);
}

async function planWith(
  core: Core,
  { state, knowledge }: { state: LedgerState; knowledge: PruneKnowledge },
  options: StoreOptions,
): Promise<PrunePlan> {
  const nowMs = core.clock.nowMs();
  const byMachine = new Map<MachineId, (Candidate & { pointId: PointId; shownMs: number })[]>();
  const strangers: string[] = [];
  for (const point of await listPoints(core, undefined, options)) {
    const { machineId, pointId } = point;
    if (machineId === undefined || pointId === undefined) {
      if (point.state === 'damaged') strangers.push(point.object);
      continue;
    }
    const shownMs = pointInstantMs(pointId);
    // A writer whose clock is in the future makes points of the future, whatever their names say.
    const isAhead = point.state === 'readable' && point.createdMs - nowMs > MAX_CLOCK_SKEW_MS;
    const candidate = {
      pointId,
      shownMs,
      instantMs: isAhead ? Math.max(shownMs, point.createdMs) : shownMs,
      booted: knowledge.booted?.(point) ?? false,
      protections: protectionsOf(point, { machineId, pointId, state, knowledge }),
    };
    byMachine.set(machineId, [...(byMachine.get(machineId) ?? []), candidate]);
  }
  const machines: MachinePlan[] = [];
  for (const [machineId, candidates] of [...byMachine].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const policy = policyFor(state, machineId);
    const points: PlannedPoint[] = [];
    for (const { point, keep } of decide(candidates, { policy: policy?.policy, nowMs })) {
      const { pointId, shownMs: instantMs } = point;
      const lock = keep.length > 0 ? undefined : await lockOf(core, pointObject(machineId, pointId), options);
      points.push({ machineId, pointId, instantMs, keep, ...(lock === undefined ? {} : { lockedUntilMs: lock }) });
    }
    const source = policy ? (state.policies.has(machineId) ? 'machine' : 'default') : 'none';
    machines.push({ machineId, policy, source, points });
  }
  return { machines, strangers };
}

/**
 * Lets go of what the policies do not keep: tombstones, by which nobody lists the points any more. The bytes go with the next collection.
 * Returns the plan it carried out. May be repeated, and run twice at once.
 *
 * Nothing goes while a point is from the future: then either its clock is wrong or ours, and collection would refuse, too. A hold that is
 * set while this runs is seen before the next point goes; the one in work at that instant may be gone.
 * Errors: as `planPrune`; `repository.clocks-disagree`, `repository.retention-busy`.
 */
export async function prune(
  core: Core,
  knowledge: PruneKnowledge = {},
  options: StoreOptions = {},
): Promise<PrunePlan> {
  const gone: PlannedPoint[] = [];
  for (let attempt = 0; attempt < MAX_PLANS; attempt++) {
    const { state, next } = await readLedger(core, options);
    assertWhole(state);
    const plan = await planWith(core, { state, knowledge }, options);
    assertNothingAhead(plan);
    if (await buryAll(core, { plan, next, gone }, options)) return withGone(plan, gone);
  }
  throw new LifeboatError('repository.retention-busy', `the retention ledger changed ${MAX_PLANS} times meanwhile`);
}

/** False: the ledger has another entry by now, and the plan may be wrong. */
async function buryAll(
  core: Core,
  { plan, next, gone }: { plan: PrunePlan; next: number; gone: PlannedPoint[] },
  options: StoreOptions,
): Promise<boolean> {
  for (const { policy, source, points } of plan.machines) {
    for (const point of points) {
      if (point.keep.length > 0) continue;
      options.signal?.throwIfAborted();
      if (await core.store.head(ledgerName(core, next), options)) return false;
      const { machineId, pointId } = point;
      const by = `retention policy, entry ${policy?.entry ?? 0}`;
      const reason = `no rule of the policy of the ${source === 'machine' ? 'machine' : 'tenant'} keeps it`;
      await buryPoint(core, { machineId, pointId, by, reason }, options);
      gone.push(point);
    }
  }
  return true;
}

/** What earlier attempts let go of is in no later plan. */
function withGone(plan: PrunePlan, gone: readonly PlannedPoint[]): PrunePlan {
  const machines = plan.machines.map((machine) => {
    const known = new Set(machine.points.map(({ pointId }) => pointId));
    const earlier = gone.filter(({ machineId, pointId }) => machineId === machine.machineId && !known.has(pointId));
    return { ...machine, points: [...machine.points, ...earlier].toSorted((a, b) => b.instantMs - a.instantMs) };
  });
  return { ...plan, machines };
}

function assertNothingAhead({ machines }: PrunePlan): void {
  for (const { machineId, points } of machines) {
    for (const { pointId, keep } of points) {
      const future = keep.find((reason) => reason.kind === 'future');
      // Anybody may put something there whose name is from the future. Only a point that was signed says anything of a clock.
      if (!future || keep.some(({ kind }) => kind === 'damaged' || kind === 'newer-release')) continue;
      throw new LifeboatError(
        'repository.clocks-disagree',
        `point ${pointId} of machine ${machineId} is ${Math.round(future.aheadMs / 60_000)} minutes from now`,
        { context: { machineId, pointId } },
      );
    }
  }
}

function protectionsOf(
  point: PointSummary,
  at: { machineId: MachineId; pointId: PointId; state: LedgerState; knowledge: PruneKnowledge },
): Protection[] {
  const hold = holdOn(at.state, at);
  const found: Protection[] = [...(at.knowledge.protect?.(point) ?? [])];
  if (point.state === 'damaged') {
    found.push({ kind: point.error.code === 'repository.newer-version' ? 'newer-release' : 'damaged' });
  }
  if (hold) found.push({ kind: 'held', hold: hold.entry, reason: hold.reason });
  return found;
}

async function lockOf(core: Core, object: string, options: StoreOptions): Promise<number | undefined> {
  const untilMs = await core.store.locks?.lockedUntilMs(object, options);
  return untilMs !== undefined && untilMs > core.clock.nowMs() ? untilMs : undefined;
}
