/** The store of the configured repository. */
import { mkdir, readdir } from 'node:fs/promises';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import { checkLockPolicy, type LockPolicy } from '@lifeboat/repository/lock/lock-policy';
import { LockingStore } from '@lifeboat/repository/lock/locking-store';
import { DirectoryStore } from '@lifeboat/repository/store/directory-store';
import type { ObjectStore } from '@lifeboat/repository/store/object-store';
import { openS3Store } from '@lifeboat/repository/store/s3/s3-store';
import { SplitStore } from '@lifeboat/repository/store/split-store';
import type { RepositoryPlace } from './repository-place.ts';

const DAY_MS = 86_400_000;
/** Extensions run at least weekly: what is in use is asked for 52 times a year, and held a week or two longer than it must. */
const LOCK_GENERATION_MS = 7 * DAY_MS;

/** Errors: those of the store; `repository.store-unsupported` for a bucket with rules that would break the repository. */
export async function openConfiguredStore(place: RepositoryPlace, deps: { log: Log }): Promise<ObjectStore> {
  if (place.kind === 'directory') return new DirectoryStore(place.path);
  const data = await openS3Store(place.data, deps);
  const control = place.control ? await openS3Store(place.control, deps) : data;
  if (control.rules.lock?.defaultMs !== undefined) {
    throw new LifeboatError(
      'repository.store-unsupported',
      `${control.description}: its bucket locks every object by default, also control objects, which must be collected; ` +
        'name a bucket without a default retention for them (LIFEBOAT_CONTROL)',
    );
  }
  const store = control === data ? data : new SplitStore({ data, control });
  const policy = lockPolicyOf(place);
  if (!policy) return store;
  if (!data.rules.lock) {
    throw new LifeboatError('repository.store-unsupported', `${data.description}: its bucket has no Object Lock`);
  }
  return new LockingStore(store, { policy, clock: systemClock });
}

/** Undefined where nothing is locked. */
export function lockPolicyOf(place: RepositoryPlace): LockPolicy | undefined {
  if (place.kind === 'directory' || place.lockDays === undefined) return undefined;
  return checkLockPolicy({ retentionMs: place.lockDays * DAY_MS, generationMs: LOCK_GENERATION_MS });
}

/** Whether nothing is there that a new repository would have to spare. */
export async function isVacant(place: RepositoryPlace, deps: { log: Log }): Promise<boolean> {
  if (place.kind === 's3') {
    for await (const _ of (await openConfiguredStore(place, deps)).list('')) return false;
    return true;
  }
  try {
    return (await readdir(place.path)).length === 0;
  } catch (error) {
    return systemCode(error) === 'ENOENT';
  }
}

/** Makes the directory; a bucket is made by who owns the account, with the locks it should have. */
export async function makePlace(place: RepositoryPlace): Promise<void> {
  if (place.kind === 'directory') await mkdir(place.path, { recursive: true, mode: 0o700 });
}

/** For messages and logs. */
export function nameOfPlace(place: RepositoryPlace): string {
  return place.kind === 'directory' ? place.path : `s3://${place.data.bucket}/${place.data.prefix}`;
}
