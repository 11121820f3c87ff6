/**
 * Second half of a collection: wait for the sessions, mark again, delete.
 *
 * ```
 *   1. sessions that may not know the list: over? if not, wait; after the grace: fence, list the points, outcome
 *   2. mark again; a point that was pruned since the first mark is alive in this one
 *   3. delete packs of the list that are dead in this mark as well, as long as nobody else has swept it; objects of points that were pruned before the first
 *   4. delete records, older lists and index segments nobody needs; `swept`
 * ```
 * Killed anywhere, or run twice at once: the same list is gone on with, and both find the same packs dead. Nothing that was once
 * dead here is needed again: who knows the list does not refer to it, and who does not was waited for. A late PUT may bring back a pack
 * that was deleted; so writers heed the list until the next one, and a collector that was overtaken stops.
 */
import { hasCode } from '@lifeboat/foundation/errors';
import { parseSessionId, type SessionId } from '@lifeboat/foundation/ids';

import type { Core } from '../core.ts';
import { encodeCondemnSwept, type CondemnHead } from '../format/condemn-list.ts';
import { MAX_RECORD_BYTES } from '../format/limits.ts';
import { condemnSweptObject, OUTCOMES, packObject, pointObject, sessionOpenObject, SESSIONS } from '../format/names.ts';
import { decodeSessionRecord } from '../format/session-record.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { condemnedPacks, listedPoints, readCondemnLists } from './condemn-lists.ts';
import { listAll } from './listing.ts';
import { markLive, type Mark } from './mark.ts';
import { settleSession } from './session-end.ts';
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
  const { open } = await readCondemnLists(core, options);
  const [list] = open;
  if (!list) return { state: 'idle', ...NOTHING };
  const untilMs = list.publishedMs + (input.graceMs ?? DEFAULT_GRACE_MS);
  const { waitingFor, fencedSessions } = await endSessions(core, { list, untilMs }, options);
  if (waitingFor.length > 0) {
    const { number: listNumber } = list;
    return { state: 'waiting', ...NOTHING, listNumber, waitingFor, waitingUntilMs: untilMs, fencedSessions };
  }
  const mark = await markAgain(core, list, options);
  const counts = { deletedPacks: 0, sparedPacks: 0, deletedPoints: 0, lockedPacks: 0 };
  let looked = 0;
  for await (const pack of condemnedPacks(core, list, options)) {
    // Frozen, and overtaken by another collector: what is there under these names now is nothing this mark knew of.
    if (looked++ % DELETES_PER_LOOK === 0 && (await isSwept(core, list, options)))
      return { state: 'overtaken', ...NOTHING, ...counts, listNumber: list.number, fencedSessions };
    if (mark?.live.has(pack)) counts.sparedPacks++;
    else if (await remove(core, packObject(pack), options)) {
      counts.deletedPacks++;
      for (const name of mark?.relocations.get(pack) ?? []) await remove(core, name, options);
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
  const swept = encodeCondemnSwept({
    listId: list.listId,
    sweptMs: core.clock.nowMs(),
    deletedPacks: counts.deletedPacks,
  });
  // While the list is open nobody prepares another, so what lies about under control/ is nobody's.
  await tidyUp(core, { list, live: mark?.live }, options);
  await core.store.putIfAbsent(condemnSweptObject(list.number), [swept], options);
  return { state: 'swept', ...report };
}

async function isSwept(core: Core, list: CondemnHead, options: StoreOptions): Promise<boolean> {
  return (await core.store.head(condemnSweptObject(list.number), options)) !== undefined;
}

/** Sessions that were open when the list was published, as far as they did not say that they know it. */
async function endSessions(
  core: Core,
  how: { list: CondemnHead; untilMs: number },
  options: StoreOptions,
): Promise<{ waitingFor: string[]; fencedSessions: string[] }> {
  const waitingFor: string[] = [];
  const fencedSessions: string[] = [];
  if (!core.rules.waitForSessions) return { waitingFor, fencedSessions };
  for (const session of await openSessions(core, options)) {
    if (session.knownLists.some((listId) => Buffer.compare(listId, how.list.listId) === 0)) continue;
    const { sessionId } = session;
    if (core.clock.nowMs() < how.untilMs) waitingFor.push(sessionId);
    else {
      if (core.rules.fenceBeforeSweep) await settleSession(core, session, options);
      fencedSessions.push(sessionId);
    }
  }
  return { waitingFor, fencedSessions };
}

interface OpenSession {
  readonly sessionId: SessionId;
  readonly machineId: string;
  readonly knownLists: readonly Uint8Array[];
}

async function openSessions(core: Core, options: StoreOptions): Promise<OpenSession[]> {
  const opened = new Set<string>();
  const over = new Set<string>();
  for (const name of await listAll(core, SESSIONS, options)) {
    const [session = '', record] = name.slice(SESSIONS.length).split('/');
    (record === 'open' ? opened : over).add(session);
  }
  for (const name of await listAll(core, OUTCOMES, options)) over.add(name.slice(OUTCOMES.length));
  const sessions: OpenSession[] = [];
  for (const text of opened) {
    if (over.has(text)) continue;
    const sessionId = parseSessionId(text);
    const record = await readOpen(core, sessionId, options);
    if (record) sessions.push(record);
  }
  return sessions;
}

/** Undefined: the record went, with its session. One that cannot be read names no list and no machine: it is waited for. */
async function readOpen(core: Core, sessionId: SessionId, options: StoreOptions): Promise<OpenSession | undefined> {
  const name = sessionOpenObject(sessionId);
  try {
    const object = await core.store.get(name, { ...options, maxBytes: MAX_RECORD_BYTES });
    const { machineId, knownLists } = decodeSessionRecord(object, name);
    const ids = Array.from({ length: knownLists.length / 16 }, (_, i) => knownLists.subarray(i * 16, i * 16 + 16));
    return { sessionId, machineId, knownLists: ids };
  } catch (error) {
    if (hasCode(error, 'repository.object-missing')) return undefined;
    if (!hasCode(error, 'repository.object-damaged', 'repository.newer-version')) throw error;
    return { sessionId, machineId: '', knownLists: [] };
  }
}

/** Undefined only where a simulation took the rule away: then everything on the list counts as dead. */
async function markAgain(core: Core, list: CondemnHead, options: StoreOptions): Promise<Mark | undefined> {
  if (!core.rules.markAgain) return undefined;
  let prunedBefore: Set<string> | undefined;
  if (core.rules.prunedInBothMarks) {
    prunedBefore = new Set();
    for await (const { machineId, pointId } of listedPoints(core, list, 'pruned', options))
      prunedBefore.add(`${machineId}/${pointId}`);
  }
  const expected = listedPoints(core, list, 'points', options);
  return markLive(core, { ...(prunedBefore ? { prunedBefore } : {}), expected }, options);
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
