/**
 * What the store of a repository can do, found out by trying when the repository is made, and written into its superblock.
 *
 * One thing is asked of every store: of several who put one name, one is told 'created'. Condemn lists, outcomes and commits rest on it.
 */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { Random } from '@lifeboat/foundation/random';

import { hex, PROBES } from '../format/names.ts';
import { CAPABILITIES } from '../format/superblock.ts';
import type { ObjectStore, StoreOptions } from './object-store.ts';

/** Two at once, and one that comes when all is over. */
const AT_ONCE = 2;

/**
 * Puts, and removes, a few small objects. Returns the bits of `CAPABILITIES`. Errors: `repository.store-unsupported` for a store in which
 * two can create one name; those of the store.
 */
export async function probeStore(store: ObjectStore, random: Random, options: StoreOptions = {}): Promise<number> {
  await assertOneWinner(store, `${PROBES.control}${hex(random.bytes(16))}`, options);
  // What lies under data/ may be in another bucket; where that can lock, it keeps versions, of which the first counts.
  if (!store.locks) await assertOneWinner(store, `${PROBES.data}${hex(random.bytes(16))}`, options);
  const traits = await store.traits?.(options);
  return (
    CAPABILITIES.createOnly +
    (traits?.versions ? CAPABILITIES.versions : 0) +
    (store.locks ? CAPABILITIES.locks : 0) +
    (traits?.hardLinks ? CAPABILITIES.hardLinks : 0)
  );
}

/** Who makes a repository need not be allowed to delete in it: then a few bytes stay. */
async function removeIfAllowed(store: ObjectStore, name: string, options: StoreOptions): Promise<void> {
  try {
    await store.delete(name, options);
  } catch (error) {
    if (!hasCode(error, 'repository.store-denied', 'repository.object-locked')) throw error;
  }
}

async function assertOneWinner(store: ObjectStore, name: string, options: StoreOptions): Promise<void> {
  const put = (n: number): Promise<string> => store.putIfAbsent(name, [Buffer.from(`writer ${n}`)], options);
  try {
    const outcomes = await Promise.all(Array.from({ length: AT_ONCE }, (_, n) => put(n)));
    outcomes.push(await put(AT_ONCE));
    const there = Buffer.from(await store.get(name, { ...options, maxBytes: 64 })).toString();
    const winners = outcomes.flatMap((outcome, n) => (outcome === 'created' ? [`writer ${n}`] : []));
    if (winners.length === 1 && winners[0] === there) return;
  } finally {
    await removeIfAllowed(store, name, options);
  }
  throw new LifeboatError(
    'repository.store-unsupported',
    `${store.description}: several writers created one object, and each was told that it was the one. The service ignores ` +
      'If-None-Match, and the bucket keeps no versions: turn its versioning on, or use another service',
    { context: { object: name } },
  );
}
