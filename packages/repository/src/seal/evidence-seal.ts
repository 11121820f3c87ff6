import type { MachineId } from '@lifeboat/foundation/ids';

import type { Seal } from './aead.ts';
import { deriveKey, lengthPrefixed, u32 } from './derive.ts';

/** Seal of what a record of evidence says: a key of its own by the salt, bound to the machine and the place in its chain. */
export function evidenceSeal(
  machineKey: Uint8Array,
  record: {
    readonly tenantId: Uint8Array;
    readonly machineId: MachineId;
    readonly number: number;
    readonly salt: Uint8Array;
  },
): Seal {
  return {
    key: deriveKey(machineKey, 'evidence', record.salt),
    counter: 0,
    additionalData: lengthPrefixed(
      'lifeboat evidence body',
      record.tenantId,
      Buffer.from(record.machineId, 'utf8'),
      u32(record.number),
    ),
  };
}
