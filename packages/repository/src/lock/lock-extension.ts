/**
 * The central extension of locks. It runs once a generation, with rights that no writer has, and *before* the points it serves: every
 * object a writer may refer to until the next run is held long enough when this one ends.
 *
 * So it extends what lies in the store and is not given up, whether a point needs it today or not: points, packs, keys, superblock.
 * What the caller names as given up (condemned packs, pruned points) keeps the lock it has, and can be deleted when that ends.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';

import type { Core } from '../core.ts';
import type { ObjectLocks } from '../store/object-store.ts';
import { inLanes } from './lanes.ts';
import { isLocked, lockEndMs, type LockPolicy } from './lock-policy.ts';

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
export async function extendLocks(
  core: Core,
  input: { readonly policy: LockPolicy; readonly isGivenUp: (name: string) => boolean },
  context: VerbContext,
): Promise<ExtensionReport> {
  const locks = locksOf(core);
  const { signal } = context;
  const untilMs = lockEndMs(input.policy, core.clock.nowMs());
  let held = 0;
  let extended = 0;
  let givenUp = 0;
  await inLanes(LANES, core.store.list('', { signal }), async ({ name }) => {
    if (!isLocked(name)) return;
    if (input.isGivenUp(name)) {
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

export function locksOf(core: Core): ObjectLocks {
  const { locks, description } = core.store;
  if (locks) return locks;
  throw new LifeboatError('repository.store-unsupported', `${description} cannot lock objects`);
}
