/**
 * Proves that points are locked: every object that one of them needs is asked for in the store itself, and must be held for the whole
 * retention from now on. What a record says of locks is not asked: an object that was put again, or whose lock was never
 * extended, would look held in it.
 */
import type { VerbContext } from '@lifeboat/foundation/progress';
import { hasCode } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import type { PackDamage } from '../check/pack-check.ts';
import { locateDamage } from '../check/point-check.ts';
import { listRecords } from '../collect/listing.ts';
import { walkMap } from '../collect/map-walk.ts';
import { listRelocations, MovedPacks } from '../collect/moved-packs.ts';
import { PackNames } from '../collect/pack-names.ts';
import { PackUse } from '../collect/pack-use.ts';
import {
  AGENTS,
  CHAINS,
  EVIDENCE,
  KEYS,
  LEDGER,
  OBJECTS,
  packObject,
  packOfObject,
  PACKS,
  pointObject,
  SUPERBLOCK,
  type PackName,
} from '../format/names.ts';
import type { DiskRoot } from '../format/point.ts';
import { readPackSet } from '../read/pack-set-reader.ts';
import { listPoints, readPoint, type PointSummary } from '../read/point-reader.ts';
import { isUselessObject } from '../store/bad-object.ts';
import { listNames } from '../store/object-store.ts';
import { inLanes } from './lanes.ts';
import { locksOf } from './lock-extension.ts';
import type { LockPolicy } from './lock-policy.ts';

const LANES = 16;
const MISSING: PackDamage = { whole: 'it is missing', slots: new Map() };
/** Problems that are named; the rest are counted. */
const MAX_NAMED = 1000;

export interface LockProblem {
  /** Name of the object, or of the page that could not be read. */
  readonly object: string;
  readonly problem: 'missing' | 'not locked' | 'ends too early' | 'unreadable';
  /** Of a lock that ends too early, Unix ms. */
  readonly untilMs?: number;
  /** The point that was looked at when it was found; others may need it too. Undefined: every point needs it. */
  readonly point?: string;
}

export interface LockReport {
  readonly sound: boolean;
  readonly points: number;
  readonly objects: number;
  readonly problems: readonly LockProblem[];
  /** Also those that are not named. */
  readonly problemCount: number;
}

/**
 * Looks at the points `inPolicy` chooses; a damaged point is a problem of its own. Changes nothing.
 * Memory: 32 bytes for each pack, at a load of 0.6 to 0.75 (`PackUse`). Errors: `repository.store-unsupported`, those of the store.
 */
export async function checkLocks(
  core: Core,
  input: { readonly policy: LockPolicy; readonly inPolicy: (point: PointSummary) => boolean },
  context: VerbContext,
): Promise<LockReport> {
  const locks = locksOf(core);
  const { signal } = context;
  const problems: LockProblem[] = [];
  let problemCount = 0;
  const report = (problem: LockProblem): void => {
    problemCount++;
    if (problems.length < MAX_NAMED) problems.push(problem);
  };
  const points = (await listPoints(core, undefined, { signal })).filter(input.inPolicy);
  const neededMs = core.clock.nowMs() + input.policy.retentionMs;
  let objects = 0;
  await inLanes(LANES, neededObjects(core, points, { signal, report }), async ({ object, point }) => {
    objects++;
    const found = { object, ...(point === undefined ? {} : { point }) };
    try {
      const untilMs = await locks.lockedUntilMs(object, { signal });
      if (untilMs === undefined) report({ ...found, problem: 'not locked' });
      else if (untilMs < neededMs) report({ ...found, problem: 'ends too early', untilMs });
    } catch (error) {
      if (!hasCode(error, 'repository.object-missing')) throw error;
      report({ ...found, problem: 'missing' });
    }
  });
  return { sound: problemCount === 0, points: points.length, objects, problems, problemCount };
}

/** Each object once. */
async function* neededObjects(
  core: Core,
  points: readonly PointSummary[],
  deps: { signal: AbortSignal; report: (problem: LockProblem) => void },
): AsyncIterable<{ object: string; point?: string }> {
  const { signal, report } = deps;
  yield { object: SUPERBLOCK };
  for await (const object of listNames(core.store, KEYS, { signal })) yield { object };
  // What others put among them needs no lock.
  for (const prefix of [LEDGER, CHAINS, OBJECTS, EVIDENCE, AGENTS])
    for (const object of (await listRecords(core, prefix, { signal })).ours.values()) yield { object };
  const relocated = new PackNames();
  for await (const { pack } of listRelocations(core, { signal })) relocated.add(pack);
  const use = new PackUse();
  const disks: { readonly root: DiskRoot; readonly pointId: string }[] = [];
  /** Packs that relocations lead from, and a point that names each. */
  const sources = new Map<PackName, string>();
  for (const summary of points) {
    if (summary.state === 'damaged') {
      report({ object: summary.object, problem: 'unreadable' });
      continue;
    }
    const { machineId, pointId } = summary;
    yield { object: pointObject(machineId, pointId), point: pointId };
    const point = await readPoint(core, { machineId, pointId }, { signal });
    for (const { name, root } of point.disks) {
      disks.push({ root, pointId });
      for await (const needed of readPackSet(core.pages, root.packs, { signal })) {
        if (needed instanceof Error) {
          report({ object: `pack set of disk ${name}: ${needed.message}`, problem: 'unreadable', point: pointId });
          continue;
        }
        const { pack } = needed;
        if (use.is(pack, 'hinted')) continue;
        use.flag(pack, 'hinted');
        if (relocated.has(pack)) sources.set(pack, pointId);
        else yield { object: packObject(pack), point: pointId };
      }
    }
  }
  if (sources.size === 0) return;
  for (const { root, pointId } of disks)
    for (const { pack } of await walkMap(core, root, (ref) => use.add(ref, 'hinted'), { signal }))
      report({ object: packObject(pack), problem: 'unreadable', point: pointId });
  yield* relocatedObjects(core, { points, relocated, sources, use }, deps);
}

/**
 * What is needed where something was moved: packs that were not, and are there; relocations; packs they lead to. What was healed or compacted
 * is read by way of these, so a point is held only as long as they are.
 */
async function* relocatedObjects(
  core: Core,
  what: {
    readonly points: readonly PointSummary[];
    readonly relocated: PackNames;
    readonly sources: ReadonlyMap<PackName, string>;
    readonly use: PackUse;
  },
  deps: { signal: AbortSignal; report: (problem: LockProblem) => void },
): AsyncIterable<{ object: string; point?: string }> {
  const { relocated, sources, use } = what;
  const { signal, report } = deps;
  // What is held by a lock no collector deletes, whatever lists name it.
  const moved = new MovedPacks({ core, sources: relocated, avoided: new PackNames(), options: { signal } });
  const gone = new Map<PackName, PackDamage>();
  for await (const group of listRelocations(core, { signal })) {
    const point = sources.get(group.pack);
    if (point === undefined) continue;
    try {
      const outcome = await moved.apply(group, { needed: use, use });
      if (outcome === 'there') yield { object: packObject(group.pack), point };
      if (outcome === 'gone' || outcome === 'lost') gone.set(group.pack, MISSING);
    } catch (error) {
      if (!isUselessObject(error)) throw error;
      report({ object: String(error.context['object'] ?? group.pack), problem: 'unreadable', point });
    }
  }
  if (gone.size > 0) yield* missedPacks(core, { points: what.points, gone }, signal);
  for await (const { pack, names } of listRelocations(core, { signal })) {
    const point = sources.get(pack);
    for (const object of use.is(pack, 'hinted', 'target') ? names : [])
      yield { object, ...(point === undefined ? {} : { point }) };
  }
  for await (const name of listNames(core.store, PACKS, { signal })) {
    const pack = packOfObject(name);
    // Those that points name as well were asked for already.
    if (pack && use.is(pack, 'target') && !(use.is(pack, 'hinted') && !sources.has(pack))) yield { object: name };
  }
}

/**
 * Of packs that are gone, and that relocations lead from, those of which something is needed that is nowhere else: how much of a pack was
 * healed relocations do not say by themselves, so it is looked up in the maps, as a check of presence does.
 */
async function* missedPacks(
  core: Core,
  what: { readonly points: readonly PointSummary[]; readonly gone: ReadonlyMap<PackName, PackDamage> },
  signal: AbortSignal,
): AsyncIterable<{ object: string; point: string }> {
  const named = new Set<PackName>();
  for (const summary of what.points) {
    if (summary.state === 'damaged') continue;
    const { machineId, pointId } = summary;
    const { damage } = await locateDamage(core, {
      point: await readPoint(core, { machineId, pointId }, { signal }),
      damaged: what.gone,
      pages: [],
      openContent: false,
      presentOnly: true,
      context: { signal, progress: () => {} },
    });
    for (const pack of damage.packs) {
      if (named.has(pack)) continue;
      named.add(pack);
      yield { object: packObject(pack), point: pointId };
    }
  }
}
