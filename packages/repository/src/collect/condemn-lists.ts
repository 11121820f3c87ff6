/** Which condemn lists there are, and what is in them. */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import { decodeCondemnHead, decodeCondemnPart, type CondemnHead, type PointName } from '../format/condemn-list.ts';
import { damaged } from '../format/frame.ts';
import { MAX_CONDEMN_PART_BYTES, MAX_RECORD_BYTES } from '../format/limits.ts';
import {
  CONDEMN_LISTS,
  CONDEMN_PARTS,
  CONDEMN_SWEPT,
  CONDEMNED,
  condemnListObject,
  condemnPartObject,
  condemnSweptObject,
  hex,
  type CondemnPartKind,
  type PackName,
} from '../format/names.ts';
import { controlName, openRecord } from '../seal/control-records.ts';
import { isBadObject, isUselessObject } from '../store/bad-object.ts';
import { listNames, type StoreOptions } from '../store/object-store.ts';
import { sortRecords } from './listing.ts';

export interface CondemnLists {
  /** Published and not swept yet: usually none or one. */
  readonly open: readonly CondemnHead[];
  /** The newest of all, swept or not. */
  readonly newest: CondemnHead | undefined;
  /** The highest number that was ever used, as far as traces of it are left; 0: none. */
  readonly highestNumber: number;
  /** Lists, open or the newest, whose heads are ours by their names and cannot be read: what they name is not known. */
  readonly unreadable: readonly LifeboatError[];
  /** What lies among the lists and is not ours. */
  readonly foreign: readonly string[];
}

/** One listing, and a GET for each head: the newest is kept when it was swept, the others go. */
export async function readCondemnLists(core: Core, options: StoreOptions = {}): Promise<CondemnLists> {
  const names: string[] = [];
  for await (const name of listNames(core.store, CONDEMNED, options)) names.push(name);
  const { ours, foreign } = sortRecords(core, names);
  const numbers = new Set<number>();
  const swept = new Set<number>();
  for (const name of ours.keys()) {
    if (name.startsWith(CONDEMN_LISTS)) numbers.add(numberOf(name));
    if (name.startsWith(CONDEMN_SWEPT)) swept.add(numberOf(name));
  }
  const ordered = [...numbers].toSorted((a, b) => a - b);
  const open: CondemnHead[] = [];
  const unreadable: LifeboatError[] = [];
  let newest: CondemnHead | undefined;
  for (const number of ordered) {
    const isNewest = number === ordered.at(-1);
    if (swept.has(number) && !isNewest) continue;
    try {
      const head = await readHead(core, number, options);
      if (!head) continue;
      if (!swept.has(number)) open.push(head);
      if (isNewest) newest = head;
    } catch (error) {
      if (!isBadObject(error) && !hasCode(error, 'repository.newer-version')) throw error;
      unreadable.push(error);
    }
  }
  return { open, newest, highestNumber: Math.max(0, ...numbers, ...swept), unreadable, foreign };
}

/**
 * For who collects. Throws `repository.collection-refused` where a list cannot be read: nobody can go on with it, and what a
 * collector that has read it deletes is not known.
 */
export function refuseUnreadable({ unreadable: [damage] }: CondemnLists): void {
  const object = String(damage?.context['object']);
  if (damage) throw refusedFor(damage, { object, head: object });
}

/** Nothing that was deleted by the list comes back, and the next collection publishes its own. */
function refusedFor(damage: LifeboatError, { object, head }: { object: string; head: string }): LifeboatError {
  return new LifeboatError(
    'repository.collection-refused',
    `${damage.message}. Make sure that no other collection runs, delete ${head} from the store, and repeat the command`,
    { context: { object, head }, cause: damage },
  );
}

/** `condemnedPacks` and `listedPoints` for who collects: a part that cannot be read refuses, as a head does. */
export async function* orRefuse<T>(core: Core, list: CondemnHead, entries: AsyncIterable<T>): AsyncIterable<T> {
  try {
    yield* entries;
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    const object = String(error.context['object']);
    if (!object.startsWith(CONDEMN_PARTS)) throw error;
    throw refusedFor(error, { object, head: controlName(core, condemnListObject(list.number)) });
  }
}

/** Undefined: it was swept, and gave way to a newer one, since it was listed. */
async function readHead(core: Core, number: number, options: StoreOptions): Promise<CondemnHead | undefined> {
  const name = controlName(core, condemnListObject(number));
  try {
    const object = await core.store.get(name, { ...options, maxBytes: MAX_RECORD_BYTES });
    const head = decodeCondemnHead(openRecord(core, { type: 'CLST', name, object }), name);
    if (head.number !== number) throw damaged(name, `it says that its number is ${head.number}`);
    if (Buffer.compare(head.tenantId, core.keyring.tenantId) !== 0) throw damaged(name, 'it belongs to another tenant');
    return head;
  } catch (error) {
    if (!hasCode(error, 'repository.object-missing')) throw error;
    return undefined;
  }
}

/** Every pack a list names. Ends early when the list was swept, and gave way to a newer one, meanwhile: what it named is gone then. */
export async function* condemnedPacks(
  core: Core,
  head: CondemnHead,
  options: StoreOptions = {},
): AsyncIterable<PackName> {
  for await (const part of readParts(core, head, { kind: 'packs', count: head.packParts }, options)) yield* part.packs;
}

/** The points that were valid, or that were pruned, when the list was made. */
export async function* listedPoints(
  core: Core,
  head: CondemnHead,
  kind: 'points' | 'pruned',
  options: StoreOptions = {},
): AsyncIterable<PointName> {
  const count = kind === 'points' ? head.pointParts : head.prunedParts;
  for await (const part of readParts(core, head, { kind, count }, options)) yield* part.points;
}

async function* readParts(
  core: Core,
  head: CondemnHead,
  which: { kind: CondemnPartKind; count: number },
  options: StoreOptions,
): AsyncIterable<ReturnType<typeof decodeCondemnPart>> {
  for (let sequence = 0; sequence < which.count; sequence++) {
    const name = controlName(core, condemnPartObject({ listId: hex(head.listId), kind: which.kind, sequence }));
    let object: Uint8Array;
    try {
      object = await core.store.get(name, { ...options, maxBytes: MAX_CONDEMN_PART_BYTES });
    } catch (error) {
      const gone = hasCode(error, 'repository.object-missing') && (await isOver(core, head, options));
      if (!gone) throw error;
      return;
    }
    yield decodeCondemnPart(openRecord(core, { type: 'CPRT', name, object }), name);
  }
}

async function isOver(core: Core, head: CondemnHead, options: StoreOptions = {}): Promise<boolean> {
  if (await isSwept(core, head, options)) return true;
  return (await core.store.head(controlName(core, condemnListObject(head.number)), options)) === undefined;
}

/** By the mark's name, which only a collector can give; what is in the mark is for people. */
export async function isSwept(core: Core, { number }: CondemnHead, options: StoreOptions = {}): Promise<boolean> {
  return (await core.store.head(controlName(core, condemnSweptObject(number)), options)) !== undefined;
}

/** Of a name that is ours, and so made by `condemnListObject` or `condemnSweptObject`. */
function numberOf(plain: string): number {
  return Number(plain.slice(plain.lastIndexOf('/') + 1));
}
