/**
 * Hands out the keys of some points, by who holds the tenant's: what a host needs that restores or starts them, for one operation.
 *
 * ```
 *   point ─► pack sets of its disks, relocations of those packs ─► header of each pack ─► its key
 * ```
 * A key opens a whole pack. So who has them also opens what lies in those packs beside the chunks of the points; and keys that were handed out
 * are not taken back.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId, PointId } from '@lifeboat/foundation/ids';

import { listRelocations, readRelocation } from '../collect/moved-packs.ts';
import type { Core } from '../core.ts';
import { MAX_GRANTED_PACKS, MAX_GRANTED_POINTS } from '../format/limits.ts';
import { hashBytes, packObject, pointObject, type PackName } from '../format/names.ts';
import { decodePackHeader, HEADER_READ_BYTES } from '../format/pack.ts';
import { decodePointObject } from '../format/point.ts';
import { encodePointKeys, type PointKeys } from '../format/point-keys.ts';
import { targetPacks } from '../format/relocation.ts';
import { inLanes } from '../lock/lanes.ts';
import { asMapDamage } from '../read/blob-reader.ts';
import { readPackSet } from '../read/pack-set-reader.ts';
import { earliestObject, readPoint } from '../read/point-reader.ts';
import { packKey } from '../seal/blob-seal.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';

/** Headers of packs in flight. */
const LANES = 16;

export interface GrantedPoint {
  readonly machineId: MachineId;
  readonly pointId: PointId;
}

/**
 * The bytes of the keys. A pack that cannot be read has none: its chunks are lost to who has the keys, as they are to everybody.
 * Errors: those of `readPoint`, `repository.map-damaged`, `repository.limit-exceeded`, those of the store.
 */
export async function grantPoints(
  core: Core,
  input: { readonly superblockHash: Uint8Array; readonly points: readonly GrantedPoint[] },
  options: StoreOptions = {},
): Promise<Uint8Array> {
  const { superblockHash, points } = input;
  if (points.length === 0 || points.length > MAX_GRANTED_POINTS)
    throw new LifeboatError('input.invalid', `keys are of 1 to ${MAX_GRANTED_POINTS} points, not ${points.length}`);
  await core.refreshKeys(options);
  const needed = new Set<PackName>();
  const pointKeys: PointKeys['points'][number][] = [];
  for (const { machineId, pointId } of points) {
    const point = await readPoint(core, { machineId, pointId }, options);
    const { object } = await earliestObject(core, { machineId, pointId }, options);
    const { header } = decodePointObject(object, pointObject(machineId, pointId));
    pointKeys.push({ machineId, pointId, key: core.keyring.pointKeyOf(header) });
    for (const { name: disk, root } of point.disks) {
      if (typeof root.map !== 'string') needed.add(root.map.pack);
      for await (const need of readPackSet(core.pages, root.packs, options)) {
        const what = `the pack set of disk ${disk} of point ${pointId}`;
        if (need instanceof Error) throw asMapDamage(need, { what, offsetBytes: 0, lengthBytes: root.sizeBytes });
        needed.add(need.pack);
      }
    }
  }
  await addRelocated(core, needed, options);
  if (needed.size > MAX_GRANTED_PACKS)
    throw new LifeboatError(
      'repository.limit-exceeded',
      `the points need ${needed.size} packs; keys of at most ${MAX_GRANTED_PACKS} are handed out at once`,
    );
  const keys = new Map<PackName, Uint8Array>();
  await inLanes(LANES, needed, async (pack) => {
    const key = await keyOf(core, pack, options);
    if (key) keys.set(pack, key);
  });
  const names = [...keys.keys()].toSorted();
  const { tenantId, signer, chunkIdKey } = core.keyring;
  return encodePointKeys({
    superblockHash,
    tenantId,
    signer,
    chunkIdKey,
    points: pointKeys,
    packs: Buffer.concat(names.map(hashBytes)),
    packKeys: Buffer.concat(names.map((name) => keys.get(name) ?? new Uint8Array(32))),
  });
}

/** Adds what relocations of the packs lead to, from pack to pack. One that cannot be read is passed over, as every reader does. */
async function addRelocated(core: Core, needed: Set<PackName>, options: StoreOptions): Promise<void> {
  const relocations = new Map<PackName, readonly string[]>();
  for await (const { pack, names } of listRelocations(core, options)) relocations.set(pack, names);
  const pending = [...needed];
  for (let pack = pending.pop(); pack !== undefined; pack = pending.pop()) {
    for (const name of relocations.get(pack) ?? []) {
      for (const target of await targetsOf(core, name, options)) {
        if (needed.has(target)) continue;
        needed.add(target);
        pending.push(target);
      }
    }
  }
}

async function targetsOf(core: Core, name: string, options: StoreOptions): Promise<PackName[]> {
  try {
    const relocation = await readRelocation(core, name, options);
    return relocation ? targetPacks(relocation.statement).map(({ pack }) => pack) : [];
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    core.log.warn('a relocation cannot be used', { object: name, why: error.message });
    return [];
  }
}

async function keyOf(core: Core, pack: PackName, options: StoreOptions): Promise<Uint8Array | undefined> {
  const object = packObject(pack);
  try {
    const range = { offsetBytes: 0, lengthBytes: HEADER_READ_BYTES, atMost: true };
    const { header } = decodePackHeader(await core.store.getRange(object, range, options), object);
    const baseKey = core.keyring.baseKeyOf(header);
    return baseKey && packKey(baseKey, header.salt);
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    core.log.warn('a pack of the points cannot be read; no key of it is handed out', { pack, why: error.message });
    return undefined;
  }
}
