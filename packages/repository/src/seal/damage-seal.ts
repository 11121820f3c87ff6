import type { DamageReport } from '../format/damage-report.ts';
import type { Seal } from './aead.ts';
import { deriveKey, lengthPrefixed } from './derive.ts';

/** What the signature of a damage report covers. */
export const signedReport = (statement: Uint8Array): Buffer => lengthPrefixed('lifeboat damage report', statement);

/** What the signature of its closing covers. */
export const signedClosing = (statement: Uint8Array): Buffer => lengthPrefixed('lifeboat damage closing', statement);

/** Seal of the blobs a report names: a key of its own by the salt, bound to the report. */
export function damageSeal(indexKey: Uint8Array, report: Pick<DamageReport, 'tenantId' | 'reportId' | 'salt'>): Seal {
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
