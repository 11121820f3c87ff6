import type { Seal } from './aead.ts';
import { deriveKey, lengthPrefixed } from './derive.ts';

/** Seal of the blobs a report names: a key of its own by the salt, bound to the report. */
export function damageSeal(
  indexKey: Uint8Array,
  report: { readonly tenantId: Uint8Array; readonly reportId: string; readonly salt: Uint8Array },
): Seal {
  return {
    key: deriveKey(indexKey, 'damage report', report.salt),
    counter: 0,
    additionalData: lengthPrefixed(
      'lifeboat damage report body',
      report.tenantId,
      Buffer.from(report.reportId, 'utf8'),
    ),
  };
}
