/**
 * Proves that points are locked: every object that one of them needs is asked for in the store itself, and must be held for the whole
 * retention from now on. What a record says of locks is not asked: an object that was put again, or whose lock was never
 * extended, would look held in it.
 */
import type { VerbContext } from '@lifeboat/foundation/progress';
import { hasCode } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import { listRecords } from '../collect/listing.ts';
import { listRelocations, packsLedTo, type RelocationNames } from '../collect/relocated.ts';
import { CHAINS, KEYS, LEDGER, packObject, pointObject, SUPERBLOCK, type PackName } from '../format/names.ts';
import { readPackSet } from '../read/pack-set-reader.ts';
import { listPoints, readPoint, type PointSummary } from '../read/point-reader.ts';
import { isUselessObject } from '../store/bad-object.ts';
import { inLanes } from './lanes.ts';
import { locksOf } from './lock-extension.ts';
import type { LockPolicy } from './lock-policy.ts';

const LANES = 16;
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
 * Memory: about 80 bytes for each pack, 250 MB at 100 TiB. Errors: `repository.store-unsupported`, those of the store.
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
  for await (const { name } of core.store.list(KEYS, { signal })) yield { object: name };
  // What others put among them needs no lock.
  for (const prefix of [LEDGER, CHAINS])
    for (const object of (await listRecords(core, prefix, { signal })).ours.values()) yield { object };
  const seen = new Set<string>();
  const relocations = await listRelocations(core, { signal });
  for (const summary of points) {
    if (summary.state === 'damaged') {
      report({ object: summary.object, problem: 'unreadable' });
      continue;
    }
    const { machineId, pointId } = summary;
    yield { object: pointObject(machineId, pointId), point: pointId };
    const point = await readPoint(core, { machineId, pointId }, { signal });
    for (const { name, root } of point.disks) {
      for await (const needed of readPackSet(core.pages, root.packs, { signal })) {
        if (needed instanceof Error) {
          report({ object: `pack set of disk ${name}: ${needed.message}`, problem: 'unreadable', point: pointId });
          continue;
        }
        const lost = (object: string): void => report({ object, problem: 'unreadable', point: pointId });
        for await (const object of withRelocated(core, needed.pack, { seen, relocations, lost, signal }))
          yield { object, point: pointId };
      }
    }
  }
}

/**
 * A pack, the relocations that lead from it, and the packs they lead to, from pack to pack; each once. What was healed or compacted is read
 * by way of these, so a point is held only as long as they are.
 */
async function* withRelocated(
  core: Core,
  pack: PackName,
  deps: { seen: Set<string>; relocations: RelocationNames; lost: (object: string) => void; signal: AbortSignal },
): AsyncIterable<string> {
  const { seen, relocations, lost, signal } = deps;
  const pending = [pack];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    // Half a name tells 2^64 packs apart.
    const key = next.slice(0, 32);
    if (seen.has(key)) continue;
    seen.add(key);
    yield packObject(next);
    for (const name of relocations.get(next) ?? []) {
      yield name;
      try {
        pending.push(...(await packsLedTo(core, { pack: next, name }, { signal })));
      } catch (error) {
        if (!isUselessObject(error)) throw error;
        lost(name);
      }
    }
  }
}
