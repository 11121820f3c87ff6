import type { ControlVersion } from '../format/control-object.ts';
import type { Seal } from './aead.ts';
import { deriveKey, lengthPrefixed, u32 } from './derive.ts';

/** Seal of what a control object says: a key of its own by the salt, bound to object, version and schema. */
export function objectSeal(
  objectKey: Uint8Array,
  of: Pick<ControlVersion, 'kind' | 'id' | 'version' | 'schema' | 'salt'> & { readonly tenantId: Uint8Array },
): Seal {
  const text = (value: string): Buffer => Buffer.from(value, 'utf8');
  return {
    key: deriveKey(objectKey, 'control object', of.salt),
    counter: 0,
    additionalData: lengthPrefixed(
      'lifeboat control object',
      of.tenantId,
      text(of.kind),
      text(of.id),
      u32(of.version),
      text(of.schema),
    ),
  };
}
