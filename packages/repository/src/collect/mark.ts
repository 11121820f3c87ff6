/**
 * Finds every pack that a valid point needs, by streaming its pack sets. Pages that points share are read once.
 *
 * Memory: 16 bytes a pack, twice that for a moment when the table grows (`PackNames`: at most 16.7 million packs, 512 TiB at 32 MiB a
 * pack, in 400 MB; more is refused); at most 80 MB for pages that were read; a name for each point. Points are read one at a time.
 *
 * It refuses rather than guesses: a listing that fails, a point that cannot be read and was not pruned, a page of a pack set that
 * cannot be read, a point that was there and is not. Taking a live pack for dead is the one mistake that cannot be undone.
 */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import type { PointName } from '../format/condemn-list.ts';
import { pointOfObject, POINTS } from '../format/names.ts';
import { earliestValid, type Point } from '../read/point-reader.ts';
import { readPackSet } from '../read/pack-set-reader.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { listAll } from './listing.ts';
import { PackNames } from './pack-names.ts';
import { PointValidity } from './point-validity.ts';
import { listRelocations, markRelocated, type RelocationNames } from './relocated.ts';
import type { PointKey } from './tombstones.ts';

export interface Mark {
  /** Packs a valid point needs. */
  readonly live: PackNames;
  readonly points: readonly PointName[];
  /** Points with a tombstone whose object is still there. */
  readonly pruned: readonly PointKey[];
  /** Objects that never became points: their session was ended without them. */
  readonly void: readonly PointKey[];
  /** Relocations there are, needed or not. */
  readonly relocations: RelocationNames;
  /** What lies among the points and is not named like one. */
  readonly foreign: readonly string[];
  /** Whether the valid points are exactly the ones that were expected. */
  readonly asExpected: boolean;
}

/** About 80 bytes each: 80 MB. A hundred tebibytes in packs of 32 MiB have 26,000 pages, and each point adds those that changed. */
const MAX_PAGES_REMEMBERED = 1_000_000;

/** How far a point's time may lie ahead of ours before the clocks count as disagreeing. */
export const MAX_CLOCK_SKEW_MS = 60 * 60_000;

/**
 * `prunedBefore`: only these may count as pruned, even if others have tombstones by now; undefined: all that have one.
 * `expected`: points that must be there, or have a tombstone. `linked`: the same, of all there ever were, as `<machine>/<point>`.
 * Errors: `repository.collection-refused`, `repository.clocks-disagree`, `repository.limit-exceeded`, those of the store.
 */
export async function markLive(
  core: Core,
  input: {
    readonly prunedBefore?: ReadonlySet<string>;
    readonly expected: AsyncIterable<PointName>;
    readonly linked?: ReadonlySet<string>;
  },
  options: StoreOptions = {},
): Promise<Mark> {
  const names = await listAll(core, POINTS, options);
  const validity = await PointValidity.load(core, undefined, options);
  const present = new Set(names);
  const known = await refuseVanished(core, { present, validity, expected: input.expected }, options);
  if (input.linked) refuseUnlisted(core, { present, validity, linked: input.linked });
  const mark = { live: new PackNames(), points: [] as PointName[], pruned: [] as PointKey[], void: [] as PointKey[] };
  const pages = new PageNames();
  const foreign: string[] = [];
  for (const name of names) {
    const key = pointOfObject(name);
    if (!key) {
      foreign.push(name);
      continue;
    }
    const mayBePruned = input.prunedBefore?.has(`${key.machineId}/${key.pointId}`) ?? true;
    const buried = await validity.isBuried(key, options);
    if (buried && mayBePruned) {
      mark.pruned.push(key);
      continue;
    }
    const point = await open(core, name, key, options);
    if (!point) continue;
    if (await validity.isVoid(point, options)) {
      mark.void.push(key);
      continue;
    }
    mark.points.push(key);
    await markPoint(core, point, { live: mark.live, pages, mayBeGone: buried }, options);
  }
  const relocations = await listRelocations(core, options);
  try {
    await markRelocated(core, relocations, mark.live, options);
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    throw refused(`a relocation of a pack that is needed cannot be read: ${error.message}`, error);
  }
  const isKnown = ({ machineId, pointId }: PointName): boolean => known.has(`${POINTS}${machineId}/${pointId}`);
  if (foreign.length > 0)
    core.log.error(
      'objects lie among the points that are not named like one; no reader knows them, and nothing is kept for them',
      {
        objects: foreign.length,
        first: foreign[0],
      },
    );
  return { ...mark, relocations, foreign, asExpected: mark.points.length === known.size && mark.points.every(isKnown) };
}

/** Undefined: it is gone since it was listed, which only a collector that may do so does. */
async function open(core: Core, name: string, key: PointKey, options: StoreOptions): Promise<Point | undefined> {
  if (!(await core.store.head(name, options))) return undefined;
  let point: Point;
  try {
    point = await earliestValid(core, key, options);
  } catch (error) {
    if (!(error instanceof LifeboatError) || error.retry === 'transient') throw error;
    throw refused(`${name} cannot be read, so what it needs is not known: ${error.message}`, error);
  }
  const aheadMs = point.createdMs - core.clock.nowMs();
  if (aheadMs > MAX_CLOCK_SKEW_MS) {
    throw new LifeboatError(
      'repository.clocks-disagree',
      `${name} was made ${Math.round(aheadMs / 60_000)} minutes from now, by the clock of machine ${key.machineId}`,
      { context: { object: name, createdMs: point.createdMs, nowMs: core.clock.nowMs() } },
    );
  }
  return point;
}

async function markPoint(
  core: Core,
  point: Point,
  into: { live: PackNames; pages: PageNames; mayBeGone: boolean },
  options: StoreOptions,
): Promise<void> {
  for (const { name, root } of point.disks) {
    if (typeof root.map !== 'string') into.live.add(root.map.pack);
    for await (const need of readPackSet(core.pages, root.packs, { ...options, seen: (ref) => into.pages.seen(ref) })) {
      // Pruned, collected, and brought back by a late repetition of its commit: nobody can build on it any more.
      if (need instanceof Error && into.mayBeGone && hasCode(need.cause, 'repository.object-missing')) continue;
      if (need instanceof Error) {
        throw refused(`the pack set of disk ${name} of point ${point.pointId} cannot be read: ${need.message}`, need);
      }
      into.live.add(need.pack);
    }
  }
}

/** Returns the names of the points that were expected. */
async function refuseVanished(
  core: Core,
  what: {
    readonly present: ReadonlySet<string>;
    readonly validity: PointValidity;
    readonly expected: AsyncIterable<PointName>;
  },
  options: StoreOptions,
): Promise<Set<string>> {
  const known = new Set<string>();
  for await (const { machineId, pointId } of what.expected) {
    const name = `${POINTS}${machineId}/${pointId}`;
    known.add(name);
    if (what.present.has(name) || !core.rules.refuseVanishedPoints) continue;
    const key = pointOfObject(name);
    if (key && (await what.validity.isBuried(key, options))) continue;
    throw refused(`${name} was there at the last collection, has no tombstone, and is not listed now`);
  }
  return known;
}

/**
 * Points of the last list are asked for their tombstones' signatures; of all that were pruned since the first backup the names of the
 * tombstones must do, which nobody without the keys can give: there may be a hundred thousand.
 */
function refuseUnlisted(
  core: Core,
  what: { readonly present: ReadonlySet<string>; readonly validity: PointValidity; readonly linked: Iterable<string> },
): void {
  if (!core.rules.refuseVanishedPoints) return;
  for (const point of what.linked) {
    if (what.present.has(POINTS + point) || what.validity.hasTombstone(point)) continue;
    const [machineId, pointId] = point.split('/');
    throw refused(
      `${POINTS}${point} is in the chain of its machine, has no tombstone, and is not listed. Bring it back from a copy of the ` +
        `repository; if there is none, let go of it with "lifeboat repo prune-point ${machineId} ${pointId}"`,
    );
  }
}

/** Pages that were read. Beyond the limit they are forgotten, and read again. */
export class PageNames {
  readonly #seen = new Set<string>();

  /** Whether it was asked for before. The name is cut to 16 bytes and not to 8, because "yes" must never be said by mistake. */
  seen(ref: { readonly pack: string; readonly slot: number }): boolean {
    const key = Buffer.from(ref.pack.slice(0, 32), 'hex').toString('latin1') + String.fromCodePoint(ref.slot);
    if (this.#seen.has(key)) return true;
    if (this.#seen.size < MAX_PAGES_REMEMBERED) this.#seen.add(key);
    return false;
  }
}

function refused(why: string, cause?: unknown): LifeboatError {
  return new LifeboatError('repository.collection-refused', why, { cause });
}
