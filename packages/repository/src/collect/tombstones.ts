/** Prunes points, one by one, and tells which were pruned. */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId, PointId } from '@lifeboat/foundation/ids';

import { linkedHash } from '../chain/links.ts';
import type { Core } from '../core.ts';
import { damaged, sha256 } from '../format/frame.ts';
import { MAX_POINT_BYTES, MAX_RECORD_BYTES } from '../format/limits.ts';
import { pointObject, tombstoneObject, TOMBSTONES } from '../format/names.ts';
import { decodeTombstone, encodeTombstone, encodeTombstoneBody, type Tombstone } from '../format/tombstone.ts';
import { controlName } from '../seal/control-records.ts';
import { lengthPrefixed } from '../seal/derive.ts';
import { isBadObject } from '../store/bad-object.ts';
import { listNames, type StoreOptions } from '../store/object-store.ts';
import { sortRecords } from './listing.ts';

/** In place of the hash of an object that cannot have been a point, or cannot be read. */
const NO_POINT = new Uint8Array(32);

export interface PointKey {
  readonly machineId: MachineId;
  readonly pointId: PointId;
}

/**
 * Writes the tombstone of a point: from then on no reader lists it. Its bytes go with the next collection. May be repeated. A point that
 * is not there can be let go of when the chain of its machine names it: then nobody waits for it any more.
 * Errors: `repository.point-missing`, `repository.object-damaged` where a tombstone that cannot be read does not give way, those of the store.
 */
export async function buryPoint(
  core: Core,
  point: PointKey & { readonly by: string; readonly reason: string },
  options: StoreOptions = {},
): Promise<void> {
  const { machineId, pointId, by, reason } = point;
  let pointHash: Uint8Array;
  try {
    const object = await core.store.get(pointObject(machineId, pointId), { ...options, maxBytes: MAX_POINT_BYTES });
    pointHash = sha256(object);
  } catch (error) {
    if (!isBadObject(error) && !hasCode(error, 'repository.object-missing')) throw error;
    if (await isBuried(core, point, options)) return;
    // Larger than any point, so it was none, or on bad sectors; its name is used up all the same.
    const linked = isBadObject(error) ? undefined : await linkedHash(core, point, options);
    if (isBadObject(error)) pointHash = NO_POINT;
    else if (linked) pointHash = linked;
    else
      throw new LifeboatError('repository.point-missing', `machine ${machineId} has no point ${pointId}`, {
        context: { machineId, pointId },
        cause: error,
      });
  }
  const { tenantId, signer } = core.keyring;
  const prunedMs = core.clock.nowMs();
  const body = encodeTombstoneBody({ tenantId, machineId, pointId, pointHash, prunedMs, by, reason, signer });
  const signature = core.keyring.sign(signedTombstone(body));
  await putTombstone(core, point, encodeTombstone({ body, signature }), options);
}

/** Where one lies there already that cannot be read, it gives way: it hides no point, and would keep the point from being pruned for ever. */
async function putTombstone(core: Core, point: PointKey, object: Uint8Array, options: StoreOptions): Promise<void> {
  const name = controlName(core, tombstoneObject(point.machineId, point.pointId));
  if ((await core.store.putIfAbsent(name, [object], options)) === 'created') return;
  if (await isBuried(core, point, { ...options, fresh: true })) return;
  await core.store.delete(name, options);
  core.log.warn('a tombstone that could not be read was removed, and is written anew', { object: name });
  if ((await core.store.putIfAbsent(name, [object], options)) === 'created') return;
  if (await isBuried(core, point, { ...options, fresh: true })) return;
  throw damaged(name, 'it is a tombstone that cannot be read, and did not give way to another');
}

/** The tombstone, checked; undefined when the point was never pruned. Throws `repository.object-damaged` for a forged one. */
async function readTombstone(
  core: Core,
  { machineId, pointId }: PointKey,
  options: StoreOptions = {},
): Promise<Tombstone | undefined> {
  const name = controlName(core, tombstoneObject(machineId, pointId));
  let object: Uint8Array;
  try {
    object = await core.store.get(name, { ...options, maxBytes: MAX_RECORD_BYTES });
  } catch (error) {
    if (!hasCode(error, 'repository.object-missing')) throw error;
    return undefined;
  }
  const { tombstone, body, signature } = decodeTombstone(object, name);
  if (tombstone.machineId !== machineId || tombstone.pointId !== pointId)
    throw damaged(name, `it is the tombstone of ${tombstone.pointId} of machine ${tombstone.machineId}`);
  if (Buffer.compare(tombstone.tenantId, core.keyring.tenantId) !== 0)
    throw damaged(name, 'it belongs to another tenant');
  if (!core.keyring.verify(tombstone.signer, signedTombstone(body), signature))
    throw damaged(name, 'its signature is not ours');
  return tombstone;
}

/** Whether a point was pruned. A tombstone that is not ours counts as none: a forger must not hide points. */
export async function isBuried(core: Core, point: PointKey, options: StoreOptions = {}): Promise<boolean> {
  try {
    return (await readTombstone(core, point, options)) !== undefined;
  } catch (error) {
    if (!isBadObject(error)) throw error;
    core.log.error('a tombstone is forged or cannot be read; its point counts as it is', {
      ...point,
      why: error.message,
    });
    return false;
  }
}

/** `<machine>/<point>` of every tombstone there is, known by its name: what is in it is read when a point of that name is met. */
export async function listTombstones(
  core: Core,
  prefix = TOMBSTONES,
  options: StoreOptions = {},
): Promise<Set<string>> {
  const names: string[] = [];
  for await (const name of listNames(core.store, prefix, options)) names.push(name);
  return new Set([...sortRecords(core, names).ours.keys()].map((name) => name.slice(TOMBSTONES.length)));
}

function signedTombstone(body: Uint8Array): Buffer {
  return lengthPrefixed('lifeboat tombstone', body);
}
