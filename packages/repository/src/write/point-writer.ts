/** Makes and commits the object of a recovery point. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId, PointId, SessionId } from '@lifeboat/foundation/ids';

import type { Core } from '../core.ts';
import { sha256 } from '../format/frame.ts';
import { MAX_POINT_BYTES } from '../format/limits.ts';
import { pointObject, pointOfObject, pointsPrefix } from '../format/names.ts';
import {
  encodePointBody,
  encodePointHeader,
  encodePointObject,
  type PointBody,
  type PointLink,
} from '../format/point.ts';
import { seal } from '../seal/aead.ts';
import { pointKey, pointSeal, signedBytes } from '../seal/point-seal.ts';
import { isUselessObject } from '../store/bad-object.ts';
import { listNames, type StoreOptions } from '../store/object-store.ts';

export interface PointInput extends PointBody {
  readonly machineId: MachineId;
  readonly pointId: PointId;
  readonly sessionId: SessionId;
}

/** The signed, sealed bytes of a point, linked to the machine's newest one. */
export async function encodePoint(core: Core, input: PointInput, options: StoreOptions = {}): Promise<Uint8Array> {
  const { machineId, pointId, sessionId } = input;
  const previous = await newestPoint(core, machineId, options);
  const opening = { tenantId: core.keyring.tenantId, machineId, pointId, salt: core.random.bytes(32) };
  const packed = core.zstd(3).compress(encodePointBody(input));
  const key = pointKey(core.keyring.machineKey(machineId), opening);
  const sealedBody = seal(pointSeal(key, opening), packed);
  const header = encodePointHeader({
    ...opening,
    sessionId,
    createdMs: core.clock.nowMs(),
    previous,
    bodyHash: sha256(sealedBody),
    signer: core.keyring.agent?.publicKey ?? core.keyring.signer,
  });
  const { signer: _inHeader, ...signed } = core.keyring.signAsWriter(signedBytes(header));
  const object = encodePointObject({ header, ...signed, sealedBody });
  if (object.length > MAX_POINT_BYTES) {
    throw new LifeboatError(
      'repository.limit-exceeded',
      `point ${pointId} has ${object.length} bytes, at most ${MAX_POINT_BYTES} are allowed`,
    );
  }
  return object;
}

/**
 * The commit: one create-only PUT. An error is answered by putting again, because bytes that can be read need not be durable (the
 * fsync may be what failed), and "exists" is only said of what is. Then what is there decides: the same bytes mean that an earlier
 * attempt, or this one with a lost reply, succeeded.
 * Throws `repository.point-exists` when another point has the name.
 */
export async function putPoint(
  core: Core,
  input: { machineId: MachineId; pointId: PointId; object: Uint8Array },
  options: StoreOptions = {},
): Promise<void> {
  const { machineId, pointId, object } = input;
  const name = pointObject(machineId, pointId);
  let outcome: 'created' | 'exists';
  let failure: unknown;
  try {
    outcome = await core.store.putIfAbsent(name, [object], options);
  } catch (error) {
    options.signal?.throwIfAborted();
    failure = error;
    outcome = await core.store.putIfAbsent(name, [object], options);
  }
  if (outcome === 'created') return;
  const there = await core.store.get(name, { maxBytes: MAX_POINT_BYTES });
  if (Buffer.compare(there, object) === 0) return;
  throw new LifeboatError('repository.point-exists', `machine ${machineId} has another point named ${pointId}`, {
    context: { machineId, pointId },
    cause: failure,
  });
}

/**
 * Names sort by time; what is not named like a point is none. Its hash needs no reading of what it says, so a damaged point does not
 * stop the chain; one that is too large to be one, cannot be read at all, or was collected meanwhile, is passed over.
 */
async function newestPoint(core: Core, machineId: MachineId, options: StoreOptions): Promise<PointLink | undefined> {
  const points: { name: string; pointId: PointId }[] = [];
  for await (const name of listNames(core.store, pointsPrefix(machineId), options)) {
    const pointId = pointOfObject(name)?.pointId;
    if (pointId) points.push({ name, pointId });
  }
  for (const { name, pointId } of points.toSorted((a, b) => (a.name < b.name ? 1 : -1))) {
    try {
      const object = await core.store.get(name, { ...options, maxBytes: MAX_POINT_BYTES });
      return { pointId, hash: sha256(object) };
    } catch (error) {
      if (!isUselessObject(error)) throw error;
      core.log.warn('an object among the points cannot be the one before', { object: name, why: error.message });
    }
  }
  return undefined;
}
