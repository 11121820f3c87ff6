/** What `lifeboat repo policy`, `hold`, `requests` and `prune` do on the configured repository. */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId, parsePointId, type MachineId } from '@lifeboat/foundation/ids';
import type { ProgressSink } from '@lifeboat/foundation/progress';
import { captureRecordOf } from '@lifeboat/engine/points';
import type { Act } from '@lifeboat/repository/format/ledger-entry';
import type { CompactionLimits } from '@lifeboat/repository/collect/compaction-plan';
import type { LinkedPoint } from '@lifeboat/repository/chain/link-points';
import type { CondemnReport } from '@lifeboat/repository/collect/condemn';
import type { SweepReport } from '@lifeboat/repository/collect/sweep';
import type { ActOutcome } from '@lifeboat/repository/retention/acts';
import { isGuarded } from '@lifeboat/repository/retention/ledger-state';
import { retentionPolicy, type RetentionPolicy } from '@lifeboat/repository/retention/policy';
import type { PrunePlan } from '@lifeboat/repository/retention/prune-plan';
import type { Repository } from '@lifeboat/repository/repository';
import type { Configuration } from './configuration.ts';
import { pruneKnowledge, startedPoints, type MachineEvidence } from './prune-knowledge.ts';
import { withRepository } from './repository-admin.ts';
import { retentionInfo, type RetentionInfo } from './retention-info.ts';

/** Four eyes without a word about the delay: long enough for somebody to notice. */
const DEFAULT_DELAY_MS = 24 * 3_600_000;

export interface PolicyRules extends Partial<Omit<RetentionPolicy, 'zone'>> {
  readonly zone?: string;
}

interface At {
  readonly signal: AbortSignal;
}

export function showRetention(configuration: Configuration, at: At): Promise<RetentionInfo> {
  return withRepository(configuration, (repository) => infoOf(repository, at));
}

/** `rules` undefined: no policy of its own any more. Without a machine: the default. */
export function setPolicy(
  configuration: Configuration,
  what: { readonly machine?: string; readonly rules: PolicyRules | undefined; readonly reason: string },
  at: At,
): Promise<ActResult> {
  return changed(configuration, at, async (repository) => {
    const { machine, rules, reason } = what;
    const machineId = machine === undefined ? undefined : await machineOf(repository, machine, at);
    const policy = rules && retentionPolicy(rules);
    return {
      act: { kind: 'policy', ...(machineId === undefined ? {} : { machineId }), ...(policy ? { policy } : {}) },
      reason,
    };
  });
}

/** What is not said stays; four eyes that are switched on bring a day's delay along where there was none. */
export function setGuard(
  configuration: Configuration,
  what: { readonly fourEyes?: boolean; readonly delayMs?: number; readonly reason: string },
  at: At,
): Promise<ActResult> {
  return changed(configuration, at, async (repository) => {
    const { guard } = await repository.retention.state(at);
    const fourEyes = what.fourEyes ?? guard.fourEyes;
    const usual = fourEyes && !isGuarded(guard) ? DEFAULT_DELAY_MS : guard.delayMs;
    return { act: { kind: 'guard', guard: { fourEyes, delayMs: what.delayMs ?? usual } }, reason: what.reason };
  });
}

export function addHold(
  configuration: Configuration,
  what: { readonly machine: string; readonly point?: string; readonly reason: string },
  at: At,
): Promise<ActResult> {
  return changed(configuration, at, async (repository) => {
    const machineId = await machineOf(repository, what.machine, at);
    const pointId = what.point === undefined ? undefined : parsePointId(what.point);
    // A hold on what is not there would hold nothing, and look as if it did.
    const assertPoint = async (): Promise<void> => {
      if (pointId !== undefined) await assertListed(repository, { machineId, pointId }, at);
    };
    await assertPoint();
    const act = { kind: 'hold', machineId, ...(pointId === undefined ? {} : { pointId }) } as const;
    // Once more behind it: a prune that was at work may have let go of the point in that instant.
    return { act, reason: what.reason, afterwards: assertPoint };
  });
}

export function liftHold(
  configuration: Configuration,
  what: { readonly hold: number; readonly reason: string },
  at: At,
): Promise<ActResult> {
  return changed(configuration, at, async () => ({ act: { kind: 'lift', hold: what.hold }, reason: what.reason }));
}

export function writeOff(
  configuration: Configuration,
  what: { readonly entry: number; readonly machine?: string; readonly reason: string },
  at: At,
): Promise<ActResult> {
  return changed(configuration, at, async () => ({
    // By its id: a machine of which only the chain is left has no name here.
    act:
      what.machine === undefined
        ? { kind: 'write-off', entry: what.entry }
        : { kind: 'write-off-link', machineId: parseMachineId(what.machine), link: what.entry },
    reason: what.reason,
  }));
}

export function prunePoint(
  configuration: Configuration,
  what: { readonly machine: string; readonly point: string; readonly reason: string },
  at: At,
): Promise<ActResult> {
  return changed(configuration, at, async (repository) => {
    const machineId = await machineOf(repository, what.machine, at);
    return { act: { kind: 'prune', machineId, pointId: parsePointId(what.point) }, reason: what.reason };
  });
}

/**
 * Lets go of every point of a machine that its chain names and that is gone without a tombstone: what is left to do when `control/` was lost,
 * and no copy has it. The machine by its id, since its chain may be all that is left. Where the repository is guarded, each is asked for. What was
 * let go of before it was broken off stays so. Errors: those of the store.
 */
export function pruneVanished(
  configuration: Configuration,
  what: { readonly machine: string; readonly dryRun: boolean; readonly reason: string },
  at: At,
): Promise<{
  readonly machineId: MachineId;
  readonly points: readonly string[];
  readonly requests: readonly number[];
}> {
  return withRepository(configuration, async (repository) => {
    const machineId = parseMachineId(what.machine);
    const checked = await repository.readChains(machineId, at);
    const listed = await repository.points(machineId, at);
    const findings = await repository.judgeChains({ checked, points: listed }, at);
    const points = findings.flatMap(({ kind, pointId }) => (kind === 'point-vanished' && pointId ? [pointId] : []));
    const requests: number[] = [];
    for (const pointId of what.dryRun ? [] : points) {
      const act = { kind: 'prune', machineId, pointId: parsePointId(pointId) } as const;
      const { outcome, entry } = await repository.retention.perform({ act, reason: what.reason }, at);
      if (outcome === 'requested' && entry !== undefined) requests.push(entry);
    }
    return { machineId, points, requests };
  });
}

export function approveRequest(
  configuration: Configuration,
  what: { readonly request: number; readonly reason: string },
  at: At,
): Promise<RetentionInfo> {
  return withRepository(configuration, async (repository) => {
    await repository.retention.approve(what, at);
    await repository.retention.carryOutDue(at);
    return infoOf(repository, at);
  });
}

export function withdrawRequest(
  configuration: Configuration,
  what: { readonly request: number; readonly reason: string },
  at: At,
): Promise<RetentionInfo> {
  return withRepository(configuration, async (repository) => {
    await repository.retention.withdraw(what, at);
    return infoOf(repository, at);
  });
}

export interface ActResult extends ActOutcome {
  readonly act: Act;
  readonly retention: RetentionInfo;
}

export interface PruneResult {
  readonly dryRun: boolean;
  readonly plan: PrunePlan;
  /** By machine id; machines that no point names have none. */
  readonly machineNames: Readonly<Record<string, string>>;
  /** Points that were in no link, and were taken into the chains of their machines. */
  readonly linked: readonly LinkedPoint[];
  /** Requests that were due, and were carried out. */
  readonly carriedOut: readonly number[];
  /** Undefined where it was refused. */
  readonly condemned?: CondemnReport;
  readonly swept?: SweepReport;
  /** Why nothing was collected; what the plan lets go of is gone nevertheless, unless it is a simulation. */
  readonly refused?: LifeboatError;
}

/** What a collection refuses without having deleted anything. */
const COLLECTION_REFUSALS = [
  'repository.collection-refused',
  'repository.collection-running',
  'repository.clocks-disagree',
] as const;

/**
 * Links what no link names yet, carries out what is due, lets go of what the policies do not keep, collects. With `dryRun` it only says what
 * it would do.
 * `evidenceOf` is asked once, for the machines that have points.
 */
export function pruneConfigured(
  configuration: Configuration,
  how: {
    readonly dryRun: boolean;
    /** Whether packs that are dead in part are written anew, and how much of that. */
    readonly compact?: Partial<CompactionLimits>;
    readonly progress?: ProgressSink;
    readonly evidenceOf: (machineIds: readonly MachineId[]) => Promise<ReadonlyMap<string, MachineEvidence>>;
  },
  at: At,
): Promise<PruneResult> {
  const { dryRun, compact, progress, evidenceOf } = how;
  return withRepository(configuration, async (repository) => {
    const machineNames = await namesOfMachines(repository, at);
    const machineIds = Object.keys(machineNames).map(parseMachineId);
    const evidence = await evidenceOf(machineIds);
    const started = await startedPoints(repository, machineIds, at);
    const knowledge = await pruneKnowledge(configuration.stateRoot, evidence, started);
    // The simulator is the real thing over a store that it only reads.
    const target = dryRun ? repository.simulation() : repository;
    const { retention } = target;
    // First, whatever refuses behind it: what is not there the next time is missed from now on.
    const linked = await target.linkEveryPoint(at);
    const carriedOut = await retention.carryOutDue(at);
    try {
      const plan = await retention.prune(knowledge, at);
      const done = { dryRun, plan, machineNames, linked, carriedOut };
      try {
        const collection = { ...(compact ? { compact } : {}), ...(progress ? { progress } : {}) };
        const condemned = await target.condemn(collection, at);
        return { ...done, condemned, ...(dryRun ? {} : { swept: await repository.sweep({}, at) }) };
      } catch (error) {
        if (!hasCode(error, ...COLLECTION_REFUSALS)) throw error;
        return { ...done, refused: error };
      }
    } catch (error) {
      // Nothing was let go of; who only wants to see is shown why.
      if (!dryRun || !hasCode(error, 'repository.clocks-disagree')) throw error;
      const plan = await retention.plan(knowledge, at);
      return { dryRun, plan, machineNames, linked, carriedOut, refused: error };
    }
  });
}

async function changed(
  configuration: Configuration,
  at: At,
  what: (
    repository: Repository,
  ) => Promise<{ readonly act: Act; readonly reason: string; readonly afterwards?: () => Promise<void> }>,
): Promise<ActResult> {
  return withRepository(configuration, async (repository) => {
    const { act, reason, afterwards } = await what(repository);
    const outcome = await repository.retention.perform({ act, reason }, at);
    await afterwards?.();
    return { ...outcome, act, retention: await infoOf(repository, at) };
  });
}

async function infoOf(repository: Repository, at: At): Promise<RetentionInfo> {
  return retentionInfo(await repository.retention.state(at), repository.core.clock.nowMs());
}

/** The machine that has points and this id, or this name. Errors: `input.invalid` for none, or several of one name. */
async function machineOf(repository: Repository, text: string, at: At): Promise<MachineId> {
  const names = Object.entries(await namesOfMachines(repository, at));
  const found = names.filter(([id, name]) => id === text || name === text).map(([id]) => id);
  const [only, ...more] = found.includes(text) ? [text] : found;
  if (only === undefined)
    throw new LifeboatError(
      'input.invalid',
      `no machine '${text}' has recovery points; "lifeboat repo stats" lists them`,
    );
  if (more.length > 0)
    throw new LifeboatError('input.invalid', `several machines are called '${text}': ${found.join(', ')}`);
  return parseMachineId(only);
}

/** By id, with the name of the newest point; the id itself where none says one. */
export async function namesOfMachines(repository: Repository, at: At): Promise<Record<string, string>> {
  const names: Record<string, string> = {};
  for (const point of await repository.points(undefined, at)) {
    if (point.machineId === undefined) continue;
    names[point.machineId] ??= point.machineId;
    if (point.state === 'damaged') continue;
    try {
      names[point.machineId] = captureRecordOf(point).machineName;
    } catch (error) {
      // A record this release does not understand says no name.
      if (!hasCode(error, 'engine.newer-point', 'repository.point-damaged')) throw error;
    }
  }
  return names;
}

async function assertListed(
  repository: Repository,
  point: { readonly machineId: MachineId; readonly pointId: string },
  at: At,
): Promise<void> {
  const { machineId, pointId } = point;
  if ((await repository.points(machineId, at)).some((there) => there.pointId === pointId)) return;
  throw new LifeboatError('repository.point-missing', `machine ${machineId} has no point ${pointId}`, {
    context: point,
  });
}
