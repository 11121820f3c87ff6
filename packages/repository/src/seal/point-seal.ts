import type { PointHeader } from '../format/point.ts';
import type { Seal } from './aead.ts';
import { deriveKey, lengthPrefixed } from './derive.ts';

/** What the signature of a point covers. */
export function signedBytes(headerBytes: Uint8Array): Buffer {
  return lengthPrefixed('lifeboat point', headerBytes);
}

/** Seal of a point's body: a key of its own by the salt, bound to machine and point. */
export function pointSeal(
  machineKey: Uint8Array,
  header: Pick<PointHeader, 'tenantId' | 'machineId' | 'pointId' | 'salt'>,
): Seal {
  return {
    key: deriveKey(machineKey, 'point key', header.salt),
    counter: 0,
    additionalData: lengthPrefixed(
      'lifeboat point body',
      header.tenantId,
      Buffer.from(header.machineId, 'utf8'),
      Buffer.from(header.pointId, 'utf8'),
    ),
  };
}
