/**
 * Looks at as many packs as a budget allows, least recently looked at first.
 *
 * ```
 *   1. points, and the pack sets of their disks: which packs are needed     (read by every pass: without it nothing is known)
 *   2. records of earlier passes: when was each of them looked at last
 *   3. packs in that order until the budget is used up; what is whole goes into a record
 *   4. what is damaged is looked up in the maps of the points that need it
 * ```
 * Several passes at once are all right: each begins elsewhere, and reads now and then what the others wrote. A pack of which something is
 * lost is in no record, so it comes first in every pass until it is healed. What was moved is looked at where it is now. Nothing is changed but the records themselves.
 *
 * Not looked at: packs that no point needs; and whether maps lead to the right blobs of whole packs, which a check without a budget does.
 */
import type { MachineId } from '@lifeboat/foundation/ids';
import type { VerbContext } from '@lifeboat/foundation/progress';

import { PageNames } from '../collect/mark.ts';
import { listRelocations } from '../collect/moved-packs.ts';
import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { MAX_RELOCATION_BYTES } from '../format/limits.ts';
import { packObject, relocationIdOf, type PackName } from '../format/names.ts';
import { targetPacks } from '../format/relocation.ts';
import { VERIFIED_NAME_BYTES, type CheckLevel } from '../format/verification.ts';
import { inLanes } from '../lock/lanes.ts';
import { BlobDamage } from '../read/blob-reader.ts';

import { readPackSet, readPackSets } from '../read/pack-set-reader.ts';
import { listPoints, readPoint, type Point, type PointSummary } from '../read/point-reader.ts';
import { openRelocation } from '../read/relocations.ts';
import { isUselessObject } from '../store/bad-object.ts';
import { checkPack, type PackDamage } from './pack-check.ts';
import { PackAges } from './pack-ages.ts';
import { locateDamage, type CheckReport } from './point-check.ts';
import { dropSuperseded, learnAges, VerificationLog } from './verification-log.ts';

const DAY_MS = 86_400_000;
/** As many as a reader follows. */
const MAX_HOPS = 32;
/** Of which it is said how much was looked at within them. */
const WINDOWS_DAYS = [1, 7, 30, 90] as const;
/** Packs in memory at a time; a question costs none. */
const LANES: Readonly<Record<CheckLevel, number>> = { present: 16, ciphertext: 3, content: 3 };

/** Bytes of packs, or a time after which no pack is begun. At least one pack is looked at in any case. */
export type Budget = { readonly bytes: number } | { readonly durationMs: number };

interface Amount {
  readonly packs: number;
  readonly bytes: number;
}

/** How much of what the points need was looked at, at the level asked for or a higher one. */
export interface Coverage extends Amount {
  readonly never: Amount;
  /** When the pack was looked at that waits longest among those that ever were, Unix ms; undefined: none was. */
  readonly oldestMs?: number;
  readonly within: readonly (Amount & { readonly days: number })[];
}

export interface PassReport {
  readonly level: CheckLevel;
  /** What this pass looked at. */
  readonly looked: Amount & { readonly durationMs: number };
  /** How many points there are. */
  readonly points: number;
  /** Points of which something is damaged, as far as it was looked at; of the others nothing is said. */
  readonly damagedPoints: number;
  /** Objects among the points that cannot be read as such. */
  readonly unreadable: readonly Extract<PointSummary, { state: 'damaged' }>[];
  readonly coverage: Coverage;
  /**
   * What the next pass with this budget takes, give or take a pack: which of those that wait equally long come first is drawn by lot.
   * Packs and bytes are missing where a budget of time gave no rate to reckon with.
   */
  readonly next: Partial<Amount> & { readonly oldestMs?: number };
}

type Readable = Extract<PointSummary, { state: 'readable' }>;

/** What is damaged of a point. */
export interface DamagedPoint {
  readonly point: Point;
  readonly listing: Readable;
  readonly report: CheckReport;
}

/**
 * `dryRun`: looks at no pack, and says what there would be to do. Errors: `repository.limit-exceeded`, those of the store, the signal's
 * reason; what was looked at until then is written down.
 */
export async function verificationPass(
  core: Core,
  input: {
    readonly level: CheckLevel;
    readonly machineId?: MachineId | undefined;
    readonly budget: Budget;
    readonly dryRun?: boolean;
    /** As they were listed, where the caller has done so. */
    readonly listings?: readonly PointSummary[];
    /** Hears of damaged points one by one, oldest first: all of them at once may be more than memory holds. */
    readonly damaged: (found: DamagedPoint) => Promise<void>;
  },
  context: VerbContext,
): Promise<PassReport> {
  const { level, machineId, budget, dryRun = false } = input;
  const { signal } = context;
  const { ages, points, unreadable, brokenSets } = await neededPacks(
    core,
    input.listings ?? (await listPoints(core, machineId, { signal })),
    signal,
  );
  const sources = await followRelocations(core, ages, signal);
  const known = new Set<string>();
  const { superseded } = await learnAges(core, ages, { known }, { signal });
  const damaged = new Map<PackName, PackDamage>();
  const startedMs = core.clock.monotonicMs();
  const looked = dryRun
    ? { packs: 0, bytes: 0 }
    : await lookAtPacks(core, { level, budget, ages, damaged, known }, context);
  const durationMs = Math.round(core.clock.monotonicMs() - startedMs);
  // What was moved into a damaged pack is lost to the points that name the pack it came from.
  const suspects = new Map(damaged);
  for (const [pack, damage] of damaged)
    for (const source of sources.get(pack) ?? [])
      suspects.set(source, { whole: `it was moved to ${packObject(pack)}: ${whyOf(damage)}`, slots: new Map() });
  const lost = new Set<PackName>();
  const found = (point: DamagedPoint): Promise<void> => {
    for (const pack of packsOf(point.report)) lost.add(pack);
    return input.damaged(point);
  };
  const damagedPoints = await locateInPoints(core, { level, points, damaged: suspects, brokenSets, found }, context);
  await settleMoved(core, { level, ages, damaged, lost, sources }, signal);
  // Who does not know all that is needed cannot say which records are of no use.
  if (!dryRun && machineId === undefined && unreadable.length === 0 && !brokenSets)
    await dropSuperseded(core, superseded, { signal });
  const rate = durationMs > 0 ? looked.bytes / durationMs : 0;
  return {
    level,
    looked: { ...looked, durationMs },
    points: points.length + unreadable.length,
    damagedPoints,
    unreadable,
    coverage: coverageOf(ages, level, core.clock.nowMs()),
    next: nextOf(ages, {
      level,
      nowMs: core.clock.nowMs(),
      bytes: 'bytes' in budget ? budget.bytes : budget.durationMs * rate,
    }),
  };
}

interface Needed {
  readonly ages: PackAges;
  readonly points: readonly Readable[];
  readonly unreadable: readonly Extract<PointSummary, { state: 'damaged' }>[];
  /** Whether a page of some pack set cannot be read: what lies below it nobody knows. */
  readonly brokenSets: boolean;
}

async function neededPacks(core: Core, listings: readonly PointSummary[], signal: AbortSignal): Promise<Needed> {
  // A page that was read before it was damaged would hide that it is.
  core.pages.forget();
  const ages = new PackAges();
  const pages = new PageNames();
  const points: Readable[] = [];
  const unreadable: Extract<PointSummary, { state: 'damaged' }>[] = [];
  let brokenSets = false;
  for (const listing of listings) {
    if (listing.state === 'damaged') {
      unreadable.push(listing);
      continue;
    }
    points.push(listing);
    const point = await readPoint(core, keyOf(listing), { signal });
    for (const { root } of point.disks) {
      if (typeof root.map !== 'string') ages.add(root.map.pack, undefined);
      for await (const need of readPackSet(core.pages, root.packs, { signal, seen: (ref) => pages.seen(ref) })) {
        if (need instanceof Error) brokenSets = true;
        else ages.add(need.pack, need.sizeBytes);
      }
    }
  }
  return { ages, points, unreadable, brokenSets };
}

/**
 * Adds the packs that relocations of needed packs lead to: what was moved there is needed as well. Returns which packs lead to each. A
 * relocation that cannot be used leads nowhere.
 */
async function followRelocations(
  core: Core,
  ages: PackAges,
  signal: AbortSignal,
): Promise<Map<PackName, readonly PackName[]>> {
  const sources = new Map<PackName, readonly PackName[]>();
  for (let hop = 0; hop < MAX_HOPS; hop++) {
    const before = ages.count;
    for await (const { pack, names } of listRelocations(core, { signal })) {
      if (!ages.has(pack)) continue;
      for (const name of names) {
        for (const target of await targetsOf(core, { pack, name }, signal)) {
          ages.add(target.pack, target.sizeBytes);
          const known = sources.get(target.pack) ?? [];
          if (!known.includes(pack)) sources.set(target.pack, [...known, pack]);
        }
      }
    }
    if (ages.count === before) break;
  }
  return sources;
}

async function targetsOf(
  core: Core,
  { pack, name }: { readonly pack: PackName; readonly name: string },
  signal: AbortSignal,
): Promise<ReturnType<typeof targetPacks>> {
  try {
    const object = await core.store.get(name, { signal, maxBytes: MAX_RELOCATION_BYTES });
    return targetPacks(openRelocation(core, object, { pack, relocationId: relocationIdOf(name) }, name).statement);
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    core.log.warn('a relocation cannot be used', { object: name, why: error.message });
    return [];
  }
}

/**
 * Packs that are gone or damaged, and of which all that points need was found elsewhere just now, were looked at: else everything that was
 * ever moved or healed would come first in every pass.
 */
async function settleMoved(
  core: Core,
  what: {
    readonly level: CheckLevel;
    readonly ages: PackAges;
    readonly damaged: ReadonlyMap<PackName, PackDamage>;
    readonly lost: ReadonlySet<PackName>;
    readonly sources: ReadonlyMap<PackName, readonly PackName[]>;
  },
  signal: AbortSignal,
): Promise<void> {
  const { level, ages, damaged, lost, sources } = what;
  const log = new VerificationLog(core, level);
  for (const pack of damaged.keys()) {
    const isMoved = sources.has(pack) || (await core.relocations.leadFrom(pack, { signal }));
    const isLost = lost.has(pack) || (sources.get(pack) ?? []).some((source) => lost.has(source));
    if (!isMoved || isLost) continue;
    await log.note(pack);
    ages.learn(Buffer.from(pack, 'hex').subarray(0, VERIFIED_NAME_BYTES), level, core.clock.nowMs());
  }
  await log.publish({ signal });
}

function* packsOf({ damage, disks }: CheckReport): Generator<PackName> {
  yield* damage.packs;
  for (const { pack } of [...damage.chunks, ...damage.pages]) yield pack;
  for (const { pack } of disks) yield pack as PackName;
}

function whyOf({ whole, slots }: PackDamage): string {
  return whole ?? [...slots.values()][0] ?? 'damaged';
}

/** Returns what was looked at. What is whole is in the records when this ends, however it ends. */
async function lookAtPacks(
  core: Core,
  what: {
    readonly level: CheckLevel;
    readonly budget: Budget;
    readonly ages: PackAges;
    readonly damaged: Map<PackName, PackDamage>;
    readonly known: Set<string>;
  },
  context: VerbContext,
): Promise<Amount> {
  const { level, budget, ages, damaged, known } = what;
  const { signal } = context;
  const log = new VerificationLog(core, level);
  const begunMs = core.clock.nowMs();
  const deadlineMs = core.clock.monotonicMs() + ('durationMs' in budget ? budget.durationMs : Infinity);
  const totalBytes = 'bytes' in budget ? budget.bytes : 0;
  let packs = 0;
  let bytes = 0;
  let doneBytes = 0;
  const taken = function* (): Generator<{ name: PackName; sizeBytes: number | undefined }> {
    const salt = Buffer.from(core.random.bytes(4)).readUInt32BE(0);
    for (const row of ages.leastRecent(level, { nowMs: begunMs, salt })) {
      // Another checker was there meanwhile.
      if ((ages.lookedMs(row, level) ?? 0) >= begunMs) continue;
      const sizeBytes = ages.sizeBytes(row);
      const costBytes = sizeBytes ?? 0;
      const isSpent = core.clock.monotonicMs() >= deadlineMs || ('bytes' in budget && bytes + costBytes > budget.bytes);
      if (isSpent && packs > 0) return;
      packs++;
      bytes += costBytes;
      yield { name: ages.pack(row), sizeBytes };
    }
  };
  // When this one published: that is often enough to miss little of what others do, and costs a listing each.
  let published = 0;
  const learnFromOthers = async (): Promise<void> => {
    if (log.written.size === published) return;
    published = log.written.size;
    for (const name of log.written) known.add(name);
    await learnAges(core, ages, { known }, { signal });
  };
  try {
    await inLanes(LANES[level], each(taken()), async (pack) => {
      log.begin();
      const damage = await checkPack(core, pack, level, signal);
      if (damage) damaged.set(pack.name, damage);
      else {
        await log.note(pack.name);
        ages.learn(Buffer.from(pack.name, 'hex').subarray(0, VERIFIED_NAME_BYTES), level, core.clock.nowMs());
      }
      doneBytes += pack.sizeBytes ?? 0;
      context.progress({ phase: 'check', doneBytes, totalBytes });
      await learnFromOthers();
    });
  } finally {
    // Also of a pass that was broken off: what was looked at was looked at.
    await log.publish();
  }
  return { packs, bytes };
}

/** Returns how many points have damage. */
async function locateInPoints(
  core: Core,
  what: {
    readonly level: CheckLevel;
    readonly points: readonly Readable[];
    readonly damaged: ReadonlyMap<PackName, PackDamage>;
    readonly brokenSets: boolean;
    readonly found: (found: DamagedPoint) => Promise<void>;
  },
  context: VerbContext,
): Promise<number> {
  const { level, points, damaged, brokenSets } = what;
  const { signal } = context;
  let count = 0;
  if (damaged.size === 0 && !brokenSets) return count;
  for (const listing of points) {
    const point = await readPoint(core, keyOf(listing), { signal });
    const { own, pages, objects } = await needsOf(core, point, { damaged, signal });
    if (own.size === 0 && objects.length === 0) continue;
    const located = await locateDamage(core, {
      point,
      damaged: own,
      pages,
      openContent: false,
      presentOnly: level === 'present',
      context,
    });
    const all = [...objects, ...located.objects];
    if (all.length === 0 && located.disks.length === 0) continue;
    const { disks, damage } = located;
    const report = { level, sound: false, checkedPacks: 0, checkedBytes: 0, objects: all, disks, damage };
    count++;
    await what.found({ point, listing, report });
  }
  return count;
}

/** Which of the damaged packs the point needs, and which pages of its own sets cannot be read. */
async function needsOf(
  core: Core,
  point: Point,
  { damaged, signal }: { damaged: ReadonlyMap<PackName, PackDamage>; signal: AbortSignal },
): Promise<{ own: Map<PackName, PackDamage>; pages: BlobRef[]; objects: CheckReport['objects'] }> {
  const own = new Map<PackName, PackDamage>();
  const pages: BlobRef[] = [];
  const objects: { object: string; reason: string }[] = [];
  const take = (pack: PackName): void => {
    const damage = damaged.get(pack);
    if (damage) own.set(pack, damage);
  };
  const sets = point.disks.map(({ name, root }) => ({ name, root: root.packs }));
  for (const { root } of point.disks) if (typeof root.map !== 'string') take(root.map.pack);
  for await (const need of readPackSets(core.pages, sets, { signal })) {
    if ('pack' in need) take(need.pack);
    else {
      if (need.error instanceof BlobDamage) pages.push(need.error.ref);
      objects.push({ object: `pack set of ${need.set}`, reason: need.error.message });
    }
  }
  return { own, pages, objects };
}

function coverageOf(ages: PackAges, level: CheckLevel, nowMs: number): Coverage {
  const sum = (): { packs: number; bytes: number } => ({ packs: 0, bytes: 0 });
  const all = sum();
  const never = sum();
  const within = WINDOWS_DAYS.map((days) => ({ days, ...sum() }));
  let oldestMs: number | undefined;
  for (let row = 0; row < ages.count; row++) {
    const lookedMs = ages.lookedMs(row, level);
    const sizeBytes = ages.sizeBytes(row) ?? 0;
    const count = (amount: { packs: number; bytes: number }): void => {
      amount.packs++;
      amount.bytes += sizeBytes;
    };
    count(all);
    if (lookedMs === undefined) {
      count(never);
      continue;
    }
    oldestMs = Math.min(oldestMs ?? lookedMs, lookedMs);
    for (const window of within) if (nowMs - lookedMs <= window.days * DAY_MS) count(window);
  }
  return { ...all, never, ...(oldestMs === undefined ? {} : { oldestMs }), within };
}

function nextOf(
  ages: PackAges,
  by: { readonly level: CheckLevel; readonly nowMs: number; readonly bytes: number },
): PassReport['next'] {
  let packs = 0;
  let bytes = 0;
  let first: number | undefined;
  for (const row of ages.leastRecent(by.level, { nowMs: by.nowMs, salt: 0 })) {
    first ??= row;
    const costBytes = ages.sizeBytes(row) ?? 0;
    if (by.bytes === 0 || (packs > 0 && bytes + costBytes > by.bytes)) break;
    packs++;
    bytes += costBytes;
  }
  const oldestMs = first === undefined ? undefined : ages.lookedMs(first, by.level);
  return { ...(by.bytes === 0 ? {} : { packs, bytes }), ...(oldestMs === undefined ? {} : { oldestMs }) };
}

function keyOf({ machineId, pointId }: Readable): Pick<Readable, 'machineId' | 'pointId'> {
  return { machineId, pointId };
}

async function* each<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items;
}
