/**
 * Finds every pack that a valid point needs, by streaming its pack sets; and, where blobs were moved or somebody wants to move them, every
 * blob, by streaming its maps. Pages that points share are read once.
 *
 * ```
 *   points ─► pack sets ─► packs that are named ──(relocations lead from one, or every map was asked for)──► maps ─► blobs
 *                                                   └─► moved? what relocations lead to is needed, too: moved-packs.ts
 * ```
 * Memory: 32 bytes a pack at a load of 0.6 to 0.75 (`PackUse`), and 300 bytes a disk of a point. Points are read one at a time.
 *
 * It refuses rather than guesses: a listing that fails, a point that cannot be read and was not pruned, a page of a pack set that
 * cannot be read, a point that was there and is not. Taking a live pack for dead is the one mistake that cannot be undone. A page of a
 * map that cannot be read stops nothing: then all packs that disk names are needed, with everything in them.
 */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import type { CondemnHead, PointName } from '../format/condemn-list.ts';
import { pointOfObject, POINTS, type PackName } from '../format/names.ts';
import type { DiskRoot } from '../format/point.ts';
import { earliestValid, type Point } from '../read/point-reader.ts';
import { readPackSet } from '../read/pack-set-reader.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { condemnedPacks, orRefuse } from './condemn-lists.ts';
import { listAll } from './listing.ts';
import { walkMap } from './map-walk.ts';
import { isOfCompaction, listRelocations, MovedPacks, type MovedSource } from './moved-packs.ts';
import { PackNames } from './pack-names.ts';
import { PackUse } from './pack-use.ts';
import { PointValidity } from './point-validity.ts';
import type { PointKey } from './tombstones.ts';

export interface Mark {
  /** Packs a valid point needs: `use.needs`. Which blobs of them only where the maps were gone through. */
  readonly use: PackUse;
  readonly points: readonly PointName[];
  /** Points with a tombstone whose object is still there. */
  readonly pruned: readonly PointKey[];
  /** Objects that never became points: their session was ended without them. */
  readonly void: readonly PointKey[];
  /** Packs that relocations lead from. */
  readonly relocated: PackNames;
  /** Those of them that nothing needs any more. */
  readonly forgotten: readonly PackName[];
  /** Packs that were moved and are named by points, and where their blobs are. Read anew each time. */
  readonly sources: () => AsyncIterable<MovedSource>;
  /** What lies among the points and is not named like one, and among the relocations and is not ours. */
  readonly foreign: readonly string[];
  /** Whether the valid points are exactly the ones that were expected. */
  readonly asExpected: boolean;
}

/** How far a point's time may lie ahead of ours before the clocks count as disagreeing. */
export const MAX_CLOCK_SKEW_MS = 60 * 60_000;

/**
 * What a mark is for. 'compact': to know of every pack how much of it is needed. 'keep': to know which are needed; maps are gone through
 * only where something was moved. A list: the second mark of a collection. Maps are then gone through only of points that are not on
 * the list, and only where something was moved: those that are on it were looked at before it was published.
 */
export type MarkPurpose = 'compact' | 'keep' | { readonly list: CondemnHead };

/**
 * `prunedBefore`: only these may count as pruned, even if others have tombstones by now; undefined: all that have one.
 * `expected`: points that must be there, or have a tombstone. `linked`: the same, of all there ever were, as `<machine>/<point>`.
 * `newest`: the newest condemn list, swept or not.
 * Errors: `repository.collection-refused`, `repository.clocks-disagree`, `repository.limit-exceeded`, those of the store.
 */
export async function markLive(
  core: Core,
  input: {
    readonly purpose: MarkPurpose;
    readonly newest?: CondemnHead | undefined;
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
  const mark = { use: new PackUse(), points: [] as PointName[], pruned: [] as PointKey[], void: [] as PointKey[] };
  const disks: MarkedDisk[] = [];
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
    await markPoint(core, point, { use: mark.use, mayBeGone: buried }, options);
    for (const { root } of point.disks) disks.push({ root, isExpected: known.has(name), mayBeGone: buried });
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
  const marking = new RelocatedMark({ ...input, core, use: mark.use, disks, options });
  const relocated = await marking.run(foreign);
  return {
    ...mark,
    ...relocated,
    foreign,
    asExpected: mark.points.length === known.size && mark.points.every(isKnown),
  };
}

interface MarkedDisk {
  readonly root: DiskRoot;
  /** Whether its point was expected to be there. */
  readonly isExpected: boolean;
  /** Whether its point was pruned: what came back of it by a late repetition of its commit may refer to what was collected. */
  readonly mayBeGone: boolean;
}

/** Second part of a mark: what blobs are needed, and where they are now. */
class RelocatedMark {
  readonly #core: Core;
  readonly #use: PackUse;
  readonly #disks: readonly MarkedDisk[];
  readonly #purpose: MarkPurpose;
  readonly #newest: CondemnHead | undefined;
  readonly #options: StoreOptions;
  readonly #relocated = new PackNames();

  constructor(input: {
    core: Core;
    use: PackUse;
    disks: readonly MarkedDisk[];
    purpose: MarkPurpose;
    newest?: CondemnHead | undefined;
    options: StoreOptions;
  }) {
    this.#core = input.core;
    this.#use = input.use;
    this.#disks = input.disks;
    this.#purpose = input.purpose;
    this.#newest = input.newest;
    this.#options = input.options;
  }

  async run(foreign: string[]): Promise<Pick<Mark, 'relocated' | 'forgotten' | 'sources'>> {
    let anyMoved = false;
    const noting = { ...this.#options, foreign: (name: string): void => void foreign.push(name) };
    for await (const { pack, names } of listRelocations(this.#core, noting)) {
      this.#relocated.add(pack);
      anyMoved ||= this.#use.is(pack, 'hinted') && names.some(isOfCompaction);
    }
    try {
      if (typeof this.#purpose === 'object') await this.#lookAgain(this.#purpose.list);
      else {
        if (anyMoved || this.#purpose === 'compact') await this.#walkAll();
        await this.#followAll();
      }
    } catch (error) {
      if (!isUselessObject(error)) throw error;
      throw refused(`a relocation of a pack that is needed cannot be read: ${error.message}`, error);
    }
    const forgotten: PackName[] = [];
    for await (const { pack } of listRelocations(this.#core, this.#options))
      if (!this.#use.is(pack, 'hinted', 'target')) forgotten.push(pack);
    return { relocated: this.#relocated, forgotten, sources: () => this.#sources() };
  }

  async #walkAll(): Promise<void> {
    const unreadable = new Set<string>();
    const keyOf = ({ pack, slot }: BlobRef): string => `${pack} ${slot}`;
    for (const disk of this.#disks) {
      let isOpaque = false;
      const note = (ref: BlobRef): boolean => {
        // Met before, by another disk that shares it: it is as unreadable for this one.
        isOpaque ||= unreadable.size > 0 && unreadable.has(keyOf(ref));
        return this.#use.add(ref, 'hinted');
      };
      const damage = await walkMap(this.#core, disk.root, note, this.#options);
      for (const ref of damage) unreadable.add(keyOf(ref));
      if (damage.length === 0 && !isOpaque) continue;
      this.#core.log.warn('pages of a map cannot be read; nothing is given up of the packs its disk names', {
        pages: damage.length,
      });
      await this.#keepWhole(disk, this.#use, () => true);
    }
  }

  async #keepWhole(disk: MarkedDisk, needed: PackUse, isMeant: (pack: PackName) => boolean): Promise<void> {
    for await (const need of readPackSet(this.#core.pages, disk.root.packs, this.#options)) {
      if (need instanceof Error && isGonePage(need, disk)) continue;
      if (need instanceof Error) throw refusedSet(need);
      if (isMeant(need.pack)) needed.flag(need.pack, 'whole');
    }
  }

  async *#sources(): AsyncGenerator<MovedSource> {
    const moved = this.#movedPacks(await this.#packsOf(this.#newest));
    for await (const group of listRelocations(this.#core, this.#options)) {
      const { pack } = group;
      const places = this.#use.is(pack, 'hinted') ? await moved.chosen(group, this.#use) : undefined;
      if (places) yield { pack, places };
    }
  }

  /** Where everything that is needed is now. */
  async #followAll(): Promise<void> {
    const avoided = await this.#packsOf(this.#newest);
    const moved = this.#movedPacks(avoided);
    for await (const group of listRelocations(this.#core, this.#options))
      if (this.#use.is(group.pack, 'hinted')) await moved.apply(group, { needed: this.#use, use: this.#use });
  }

  /**
   * What points need that came since the list was made, of packs that were moved: it may be what was left behind, in the pack itself or
   * where its blobs had been moved to before, and so on the list. Of packs on the list that points name, the others stay dead if they were
   * moved. What healing led to is needed, whether it was on the list or not.
   */
  async #lookAgain(list: CondemnHead): Promise<void> {
    if (this.#relocated.size === 0) return;
    const condemned = new PackNames();
    for await (const pack of this.#condemned(list)) condemned.add(pack);
    const since = new PackUse();
    for (const disk of this.#core.rules.lookAgain ? this.#disks : [])
      if (!disk.isExpected) await this.#noteRelocated(disk, since);
    const moved = this.#movedPacks(this.#core.rules.avoidCondemnedTargets ? condemned : new PackNames());
    for await (const group of listRelocations(this.#core, this.#options)) {
      const { pack } = group;
      if (!this.#use.is(pack, 'hinted')) continue;
      if (since.is(pack, 'hinted', 'whole')) await moved.apply(group, { needed: since, use: this.#use });
      else {
        if (condemned.has(pack) && (await moved.chosen(group, since))) this.#use.flag(pack, 'moved');
        if (!group.names.every(isOfCompaction)) await moved.keepHealed(group, this.#use);
      }
    }
  }

  /** Notes which blobs of packs that relocations lead from a disk needs, pages included. */
  async #noteRelocated(disk: MarkedDisk, needed: PackUse): Promise<void> {
    const isNew = (ref: BlobRef): boolean => !this.#relocated.has(ref.pack) || needed.add(ref, 'hinted');
    const damage = await walkMap(this.#core, disk.root, isNew, this.#options);
    if (damage.length > 0) await this.#keepWhole(disk, needed, (pack) => this.#relocated.has(pack));
    const seen = (ref: BlobRef): boolean => !isNew(ref);
    for await (const need of readPackSet(this.#core.pages, disk.root.packs, { ...this.#options, seen })) {
      if (need instanceof Error && !isGonePage(need, disk)) throw refusedSet(need);
    }
  }

  #movedPacks(avoided: PackNames): MovedPacks {
    return new MovedPacks({ core: this.#core, sources: this.#relocated, avoided, options: this.#options });
  }

  async #packsOf(list: CondemnHead | undefined): Promise<PackNames> {
    const packs = new PackNames();
    if (!list || !this.#core.rules.avoidCondemnedTargets || this.#relocated.size === 0) return packs;
    for await (const pack of this.#condemned(list)) packs.add(pack);
    return packs;
  }

  #condemned(list: CondemnHead): AsyncIterable<PackName> {
    return orRefuse(this.#core, list, condemnedPacks(this.#core, list, this.#options));
  }
}

/** Pruned, collected, and brought back by a late repetition of its commit: nobody can build on it any more. */
function isGonePage(error: Error, { mayBeGone }: Pick<MarkedDisk, 'mayBeGone'>): boolean {
  return mayBeGone && hasCode(error.cause, 'repository.object-missing');
}

function refusedSet(error: Error): LifeboatError {
  return refused(`a pack set cannot be read: ${error.message}`, error);
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
  into: { use: PackUse; mayBeGone: boolean },
  options: StoreOptions,
): Promise<void> {
  for (const { name, root } of point.disks) {
    if (typeof root.map !== 'string') into.use.flag(root.map.pack, 'hinted');
    const seen = (ref: BlobRef): boolean => !into.use.add(ref, 'hinted');
    for await (const need of readPackSet(core.pages, root.packs, { ...options, seen })) {
      if (need instanceof Error && isGonePage(need, into)) continue;
      if (need instanceof Error) {
        throw refused(`the pack set of disk ${name} of point ${point.pointId} cannot be read: ${need.message}`, need);
      }
      into.use.flag(need.pack, 'hinted');
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

/** About 80 bytes each: 80 MB. A hundred tebibytes in packs of 32 MiB have 26,000 pages, and each point adds those that changed. */
const MAX_PAGES_REMEMBERED = 1_000_000;

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
