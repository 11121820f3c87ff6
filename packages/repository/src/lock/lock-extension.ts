/**
 * The central extension of locks of one tenant: once a generation, with rights that no writer has. What valid points need, and everything that is no
 * pack and no point, is held to the end of this generation's locks; so a point that refers to any of it until the next run is held
 * for the whole retention from its commit on. Packs that no point needs keep the lock of their put, and are collected when it ends.
 *
 * Where it cannot be known what the points need (one is damaged, or somebody put garbage among them), everything is extended: an
 * extension that refused would let all locks run out.
 *
 * Not guaranteed: the whole retention for a new point that refers, through the index, to a pack no point has needed for a
 * generation; the next run extends it, and the check reports it until then.
 */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';

import { readCondemnLists } from '../collect/condemn-lists.ts';
import { markLive, type Mark } from '../collect/mark.ts';
import type { Core } from '../core.ts';
import {
  DATA,
  KEYS,
  OTHER_TENANTS,
  packOfObject,
  pointObject,
  relocatedPackOf,
  RELOCATIONS,
  SUPERBLOCK,
} from '../format/names.ts';
import { listNames, type ObjectLocks } from '../store/object-store.ts';
import { inLanes } from './lanes.ts';
import { lockEndMs, type LockPolicy } from './lock-policy.ts';

/** Objects that are asked for, or extended, at a time. */
const LANES = 16;

export interface ExtensionReport {
  /** Objects that are now held to the end of this generation's locks or longer. */
  readonly held: number;
  /** Of those, the ones this run extended. */
  readonly extended: number;
  readonly givenUp: number;
  /** Unix ms. */
  readonly untilMs: number;
}

/** May be repeated and run twice at once. Errors: `repository.store-unsupported`, `repository.store-denied`, those of the store. */
export async function extendLocks(core: Core, policy: LockPolicy, context: VerbContext): Promise<ExtensionReport> {
  const locks = locksOf(core);
  const { signal } = context;
  const untilMs = lockEndMs(policy, core.clock.nowMs());
  const isGivenUp = await findGivenUp(core, signal);
  let held = 0;
  let extended = 0;
  let givenUp = 0;
  await inLanes(LANES, ownObjects(core, signal), async (name) => {
    if (isGivenUp(name)) {
      givenUp++;
      return;
    }
    const presentMs = await locks.lockedUntilMs(name, { signal });
    if (presentMs === undefined || presentMs < untilMs) {
      await locks.extend(name, untilMs, { signal });
      extended++;
    }
    held++;
  });
  core.log.info('locks were extended', { held, extended, givenUp, untilMs });
  return { held, extended, givenUp, untilMs };
}

/** Everything that is locked: what all tenants share, and of the rest this tenant's. Others know themselves what their points need. */
async function* ownObjects({ store }: Core, signal: AbortSignal): AsyncIterable<string> {
  for (const prefix of [SUPERBLOCK, KEYS, DATA])
    for await (const name of listNames(store, prefix, { signal })) if (!name.startsWith(OTHER_TENANTS)) yield name;
}

/** Says of an object's name whether no valid point needs it any more. */
async function findGivenUp(core: Core, signal: AbortSignal): Promise<(name: string) => boolean> {
  let mark: Mark;
  try {
    const { newest } = await readCondemnLists(core, { signal });
    mark = await markLive(core, { purpose: 'keep', newest, expected: noPoints() }, { signal });
  } catch (error) {
    if (!hasCode(error, 'repository.collection-refused', 'repository.clocks-disagree')) throw error;
    core.log.error('what the points need cannot be told; the locks of all objects are extended', {
      why: error.message,
    });
    return () => false;
  }
  const gone = new Set([...mark.pruned, ...mark.void].map((key) => pointObject(key.machineId, key.pointId)));
  return (name) => {
    const pack = packOfObject(name);
    if (pack) return !mark.use.needs(pack);
    // Nobody asks for relocations of a pack that no point names.
    if (name.startsWith(RELOCATIONS)) return !mark.use.is(relocatedPackOf(name), 'hinted', 'target');
    return gone.has(name);
  };
}

/** Which points there should be is the collector's question. */
async function* noPoints(): AsyncIterable<never> {}

export function locksOf(core: Core): ObjectLocks {
  const { locks, description } = core.store;
  if (locks) return locks;
  throw new LifeboatError('repository.store-unsupported', `${description} cannot lock objects`);
}
