/** Which condemn lists there are, and what is in them. */
import { hasCode } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import { decodeCondemnHead, decodeCondemnPart, type CondemnHead, type PointName } from '../format/condemn-list.ts';
import { damaged } from '../format/frame.ts';
import { MAX_CONDEMN_PART_BYTES, MAX_RECORD_BYTES } from '../format/limits.ts';
import {
  CONDEMN_LISTS,
  CONDEMN_SWEPT,
  CONDEMNED,
  condemnListObject,
  condemnPartObject,
  condemnSweptObject,
  hex,
  type CondemnPartKind,
  type PackName,
} from '../format/names.ts';
import type { StoreOptions } from '../store/object-store.ts';

export interface CondemnLists {
  /** Published and not swept yet: usually none or one. */
  readonly open: readonly CondemnHead[];
  /** The newest of all, swept or not. */
  readonly newest: CondemnHead | undefined;
  /** The highest number that was ever used, as far as traces of it are left; 0: none. */
  readonly highestNumber: number;
}

/** One listing, and a GET for each head: the newest is kept when it was swept, the others go. */
export async function readCondemnLists(core: Core, options: StoreOptions = {}): Promise<CondemnLists> {
  const numbers = new Set<number>();
  const swept = new Set<number>();
  for await (const { name } of core.store.list(CONDEMNED, options)) {
    if (name.startsWith(CONDEMN_LISTS)) numbers.add(numberOf(name));
    if (name.startsWith(CONDEMN_SWEPT)) swept.add(numberOf(name));
  }
  const ordered = [...numbers].toSorted((a, b) => a - b);
  const open: CondemnHead[] = [];
  let newest: CondemnHead | undefined;
  for (const number of ordered) {
    const isNewest = number === ordered.at(-1);
    if (swept.has(number) && !isNewest) continue;
    const head = await readHead(core, number, options);
    if (!head) continue;
    if (!swept.has(number)) open.push(head);
    if (isNewest) newest = head;
  }
  return { open, newest, highestNumber: Math.max(0, ...numbers, ...swept) };
}

/** Undefined: it was swept, and gave way to a newer one, since it was listed. */
async function readHead(core: Core, number: number, options: StoreOptions): Promise<CondemnHead | undefined> {
  const name = condemnListObject(number);
  try {
    const object = await core.store.get(name, { ...options, maxBytes: MAX_RECORD_BYTES });
    const head = decodeCondemnHead(object, name);
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
    const name = condemnPartObject({ listId: hex(head.listId), kind: which.kind, sequence });
    let object: Uint8Array;
    try {
      object = await core.store.get(name, { ...options, maxBytes: MAX_CONDEMN_PART_BYTES });
    } catch (error) {
      const gone = hasCode(error, 'repository.object-missing') && (await isOver(core, head, options));
      if (!gone) throw error;
      return;
    }
    yield decodeCondemnPart(object, name);
  }
}

async function isOver(core: Core, head: CondemnHead, options: StoreOptions = {}): Promise<boolean> {
  if (await core.store.head(condemnSweptObject(head.number), options)) return true;
  return (await core.store.head(condemnListObject(head.number), options)) === undefined;
}

function numberOf(name: string): number {
  const number = Number(name.slice(name.lastIndexOf('/') + 1));
  if (!Number.isInteger(number) || number < 1) throw damaged(name, 'it is not named after a number');
  return number;
}
