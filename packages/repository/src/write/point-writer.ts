/** Makes and commits the object of a recovery point. */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId, PointId, SessionId } from '@lifeboat/foundation/ids';

import type { Core } from '../core.ts';
import { sha256 } from '../format/frame.ts';
import { MAX_POINT_BYTES } from '../format/limits.ts';
import { pointObject, pointsPrefix } from '../format/names.ts';
import {
  encodePointBody,
  encodePointHeader,
  encodePointObject,
  type PointBody,
  type PointLink,
} from '../format/point.ts';
import { seal } from '../seal/aead.ts';
import { pointSeal, signedBytes } from '../seal/point-seal.ts';
import type { StoreOptions } from '../store/object-store.ts';

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
  const sealedBody = seal(pointSeal(core.keyring.machineKey(machineId), opening), packed);
  const header = encodePointHeader({
    ...opening,
    sessionId,
    createdMs: core.clock.nowMs(),
    previous,
    bodyHash: sha256(sealedBody),
    signer: core.keyring.signer,
  });
  const object = encodePointObject({ header, signature: core.keyring.sign(signedBytes(header)), sealedBody });
  if (object.length > MAX_POINT_BYTES) {
    throw new LifeboatError(
      'repository.limit-exceeded',
      `point ${pointId} has ${object.length} bytes, at most ${MAX_POINT_BYTES} are allowed`,
    );
  }
  return object;
}

/**
 * The commit: one create-only PUT. When the answer is an error or "exists", what is there decides: the same bytes mean that an
 * earlier attempt, or this one with a lost reply, succeeded.
 * Throws `repository.point-exists` when another point has the name.
 */
export async function putPoint(
  core: Core,
  input: { machineId: MachineId; pointId: PointId; object: Uint8Array },
  options: StoreOptions = {},
): Promise<void> {
  const { machineId, pointId, object } = input;
  const name = pointObject(machineId, pointId);
  let failure: unknown;
  try {
    if ((await core.store.putIfAbsent(name, [object], options)) === 'created') return;
  } catch (error) {
    options.signal?.throwIfAborted();
    failure = error;
  }
  let there: Uint8Array;
  try {
    there = await core.store.get(name, { maxBytes: MAX_POINT_BYTES });
  } catch (error) {
    if (failure !== undefined && hasCode(error, 'repository.object-missing')) throw failure;
    throw failure ?? error;
  }
  if (Buffer.compare(there, object) === 0) return;
  throw new LifeboatError('repository.point-exists', `machine ${machineId} has another point named ${pointId}`, {
    context: { machineId, pointId },
    cause: failure,
  });
}

/** Names sort by time. Its hash needs no reading of what it says, so a damaged point does not stop the chain. */
async function newestPoint(core: Core, machineId: MachineId, options: StoreOptions): Promise<PointLink | undefined> {
  let newest: string | undefined;
  for await (const { name } of core.store.list(pointsPrefix(machineId), options)) {
    if (newest === undefined || name > newest) newest = name;
  }
  if (newest === undefined) return undefined;
  const object = await core.store.get(newest, { ...options, maxBytes: MAX_POINT_BYTES });
  return { pointId: newest.slice(newest.lastIndexOf('/') + 1), hash: sha256(object) };
}
