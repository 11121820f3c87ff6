/**
 * Second half of a collection: wait for the sessions, mark again, delete.
 *
 * ```
 *   1. sessions that may not know the list: over? if not, wait; after the grace: fence, list the points, outcome
 *   2. mark again; a point that was pruned since the first mark is alive in this one
 *      and a pack that was moved stays, when a point that came since needs of it what was left behind
 *   3. delete packs of the list that are dead in this mark as well, as long as nobody else has swept it; objects of points that were pruned before the first
 *   4. delete records, older lists and index segments nobody needs; `swept`
 * ```
 * Killed anywhere, or run twice at once: the same list is gone on with, and both find the same packs dead. Nothing that was once
 * dead here is needed again: who knows the list does not refer to it, and who does not was waited for. A late PUT may bring back a pack
 * that was deleted; so writers heed the list until the next one, and a collector that was overtaken stops.
 */
import { hasCode } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import { encodeCondemnSwept, type CondemnHead } from '../format/condemn-list.ts';
import { condemnSweptObject, packObject, pointObject, type PackName } from '../format/names.ts';
import { controlName, sealRecord } from '../seal/control-records.ts';
import type { StoreOptions } from '../store/object-store.ts';
import {
  condemnedPacks,
  isSwept,
  listedPoints,
  orRefuse,
  readCondemnLists,
  refuseUnreadable,
} from './condemn-lists.ts';
import { linkedPoints } from './linked-points.ts';
import { markLive, type Mark } from './mark.ts';
import { relocationsOf } from './moved-packs.ts';
import { settleSession } from './session-end.ts';
import { readSessions } from './session-records.ts';
import { buryPoint } from './tombstones.ts';
import { tidyUp } from './tidy.ts';

export interface SweepReport {
  /**
   * 'idle': no list is open. 'waiting': sessions are open that may need what is on the list. 'locked': what could be deleted is
   * gone, the store holds the rest. 'swept': all of it is gone. 'overtaken': another collector swept it, and this one stopped.
   */
  readonly state: 'idle' | 'waiting' | 'locked' | 'swept' | 'overtaken';
  readonly listNumber?: number;
  /** Sessions that are waited for, and until when at most (Unix ms by this machine's clock). */
  readonly waitingFor: readonly string[];
  readonly waitingUntilMs?: number;
  /** Sessions that were ended as dead. */
  readonly fencedSessions: readonly string[];
  readonly deletedPacks: number;
  /** On the list, but needed again: they stay. */
  readonly sparedPacks: number;
  readonly deletedPoints: number;
  readonly lockedPacks: number;
}

/** An operation that takes longer than this is held to be dead. */
const DEFAULT_GRACE_MS = 7 * 24 * 60 * 60_000;

/** No object takes longer to write, and no two clocks of a machine and its file server differ by so much. */
const TEMPORARY_AGE_MS = 24 * 60 * 60_000;

/** Packs between two looks whether the list is still open: a round trip more for each 32. */
const DELETES_PER_LOOK = 32;

const NOTHING = {
  waitingFor: [],
  fencedSessions: [],
  deletedPacks: 0,
  sparedPacks: 0,
  deletedPoints: 0,
  lockedPacks: 0,
};

/**
 * `graceMs`: how long after the list was published an open session is waited for, before it is fenced. May be repeated at any time.
 * Errors: `repository.collection-refused`, `repository.clocks-disagree`, `repository.limit-exceeded`, those of the store;
 * `repository.store-denied` where these credentials may not delete.
 */
export async function sweep(
  core: Core,
  input: { readonly graceMs?: number } = {},
  options: StoreOptions = {},
): Promise<SweepReport> {
  await core.store.sweepTemporary?.({ nowMs: core.clock.nowMs(), minimumAgeMs: TEMPORARY_AGE_MS });
  const lists = await readCondemnLists(core, options);
  refuseUnreadable(lists);
  const [list] = lists.open;
  if (!list) return { state: 'idle', ...NOTHING };
  const untilMs = list.publishedMs + (input.graceMs ?? DEFAULT_GRACE_MS);
  const { waitingFor, fencedSessions, over } = await endSessions(core, { list, untilMs }, options);
  if (waitingFor.length > 0) {
    const { number: listNumber } = list;
    return { state: 'waiting', ...NOTHING, listNumber, waitingFor, waitingUntilMs: untilMs, fencedSessions };
  }
  const mark = await markAgain(core, list, options);
  const counts = { deletedPacks: 0, sparedPacks: 0, deletedPoints: 0, lockedPacks: 0 };
  let looked = 0;
  for await (const pack of orRefuse(core, list, condemnedPacks(core, list, options))) {
    // Frozen, and overtaken by another collector: what is there under these names now is nothing this mark knew of.
    if (looked++ % DELETES_PER_LOOK === 0 && (await isSwept(core, list, options)))
      return { state: 'overtaken', ...NOTHING, ...counts, listNumber: list.number, fencedSessions };
    if (mark?.use.needs(pack)) counts.sparedPacks++;
    else if (await remove(core, packObject(pack), options)) {
      counts.deletedPacks++;
      if (mark?.relocated.has(pack) && !isFollowed(core, mark, pack)) await removeRelocations(core, pack, options);
    } else counts.lockedPacks++;
  }
  for (const { machineId, pointId } of mark?.pruned ?? []) {
    if (await remove(core, pointObject(machineId, pointId), options)) counts.deletedPoints++;
  }
  // Their names are used up, like those of pruned points: a collector that wakes up late must not meet a new point under one.
  // The objects go with the next list.
  for (const point of mark?.void ?? [])
    await buryPoint(core, { ...point, by: 'collection', reason: 'its session was ended without it' }, options);
  const report = { ...NOTHING, ...counts, listNumber: list.number, fencedSessions };
  if (counts.lockedPacks > 0) return { state: 'locked', ...report };
  const name = controlName(core, condemnSweptObject(list.number));
  const body = encodeCondemnSwept({
    listId: list.listId,
    sweptMs: core.clock.nowMs(),
    deletedPacks: counts.deletedPacks,
  });
  // While the list is open nobody prepares another, so what lies about under control/ is nobody's.
  await tidyUp(core, { list, over, use: mark?.use }, options);
  await core.store.putIfAbsent(name, [sealRecord(core, { type: 'CSWP', name, body })], options);
  return { state: 'swept', ...report };
}

/** Sessions that were open when the list was published, as far as they did not say that they know it. */
async function endSessions(
  core: Core,
  how: { list: CondemnHead; untilMs: number },
  options: StoreOptions,
): Promise<{ waitingFor: string[]; fencedSessions: string[]; over: ReadonlySet<string> }> {
  const waitingFor: string[] = [];
  const fencedSessions: string[] = [];
  const sessions = await readSessions(core, options);
  const over = new Set(sessions.over);
  for (const session of core.rules.waitForSessions ? sessions.open : []) {
    if (session.knownLists.some((listId) => Buffer.compare(listId, how.list.listId) === 0)) continue;
    const { sessionId } = session;
    if (core.clock.nowMs() < how.untilMs) waitingFor.push(sessionId);
    else {
      if (core.rules.fenceBeforeSweep) await settleSession(core, session, options);
      fencedSessions.push(sessionId);
      over.add(sessionId);
    }
  }
  return { waitingFor, fencedSessions, over };
}

/** Undefined only where a simulation took the rule away: then everything on the list counts as dead. */
async function markAgain(core: Core, list: CondemnHead, options: StoreOptions): Promise<Mark | undefined> {
  if (!core.rules.markAgain) return undefined;
  let prunedBefore: Set<string> | undefined;
  if (core.rules.prunedInBothMarks) {
    prunedBefore = new Set();
    for await (const { machineId, pointId } of orRefuse(core, list, listedPoints(core, list, 'pruned', options)))
      prunedBefore.add(`${machineId}/${pointId}`);
  }
  const expected = orRefuse(core, list, listedPoints(core, list, 'points', options));
  const linked = await linkedPoints(core, options);
  return markLive(core, { purpose: { list }, ...(prunedBefore ? { prunedBefore } : {}), expected, linked }, options);
}

/** Whether points name the pack, so that readers ask where its blobs went. */
function isFollowed(core: Core, { use }: Mark, pack: PackName): boolean {
  return core.rules.keepRelocations && use.is(pack, 'hinted', 'target');
}

async function removeRelocations(core: Core, pack: PackName, options: StoreOptions): Promise<void> {
  for (const name of await relocationsOf(core, pack, options)) await remove(core, name, options);
}

/** False: a lock of the store still holds it. */
async function remove(core: Core, object: string, options: StoreOptions): Promise<boolean> {
  try {
    await core.store.delete(object, options);
    return true;
  } catch (error) {
    if (!hasCode(error, 'repository.object-locked')) throw error;
    return false;
  }
}
