import type { PointHeader } from '../format/point.ts';
import type { Seal } from './aead.ts';
import { deriveKey, lengthPrefixed } from './derive.ts';

/** What the signature of a point covers. */
export function signedBytes(headerBytes: Uint8Array): Buffer {
  return lengthPrefixed('lifeboat point', headerBytes);
}

/** The key of one point's body. */
export function pointKey(machineKey: Uint8Array, header: Pick<PointHeader, 'salt'>): Buffer {
  return deriveKey(machineKey, 'point key', header.salt);
}

/** Seal of a point's body under its key, bound to machine and point. */
export function pointSeal(key: Uint8Array, header: Pick<PointHeader, 'tenantId' | 'machineId' | 'pointId'>): Seal {
  return {
    key,
    counter: 0,
    additionalData: lengthPrefixed(
      'lifeboat point body',
      header.tenantId,
      Buffer.from(header.machineId, 'utf8'),
      Buffer.from(header.pointId, 'utf8'),
    ),
  };
}
