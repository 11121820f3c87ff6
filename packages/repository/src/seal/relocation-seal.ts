import type { RelocationStatement } from '../format/relocation.ts';
import type { Seal } from './aead.ts';
import { deriveKey, lengthPrefixed } from './derive.ts';

/** What the signature of a relocation covers. */
export function signedRelocation(statementBytes: Uint8Array): Buffer {
  return lengthPrefixed('lifeboat relocation', statementBytes);
}

/** Seal of the places a relocation names: a key of its own by the salt, bound to the pack and to the relocation. */
export function relocationSeal(
  indexKey: Uint8Array,
  statement: Pick<RelocationStatement, 'tenantId' | 'pack' | 'relocationId' | 'salt'>,
): Seal {
  return {
    key: deriveKey(indexKey, 'relocation', statement.salt),
    counter: 0,
    additionalData: lengthPrefixed(
      'lifeboat relocation body',
      statement.tenantId,
      statement.pack,
      Buffer.from(statement.relocationId, 'utf8'),
    ),
  };
}
