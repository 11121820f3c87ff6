/**
 * The envelope of records with tagged names: `1 body, 2 signer, 3 signature`, and in version 2, which only session records have, `4
 * certificate`. What is signed, and how its object is named, is in `seal/control-records.ts`.
 */
import { certificateField, type Certified } from './certificate.ts';
import { decodeVersions, encodeFrame, type ObjectType } from './frame.ts';
import { MAX_CONDEMN_PART_BYTES } from './limits.ts';
import { bytes, message, type MessageOf } from './wire.ts';

export type SignedType = Extract<
  ObjectType,
  'SESS' | 'FENC' | 'CLST' | 'CPRT' | 'CSWP' | 'DMGR' | 'DMGC' | 'LINK' | 'EVID' | 'VRFY' | 'CTRL'
>;

const fields = {
  body: bytes(1, { max: MAX_CONDEMN_PART_BYTES }),
  signer: bytes(2, { length: 32 }),
  signature: bytes(3, { length: 64 }),
};
const schema = message(fields);
const certifiedSchema = message({ ...fields, certificate: certificateField(4) });
export type SignedRecord = Certified<MessageOf<typeof schema>>;

export function encodeSigned(type: SignedType, record: SignedRecord): Uint8Array {
  const { certificate } = record;
  if (certificate === undefined) return encodeFrame(type, schema.encode(record));
  return encodeFrame(type, certifiedSchema.encode({ ...record, certificate }), 2);
}

/** The caller checks signer and signature. Throws `repository.object-damaged` or `repository.newer-version`. */
export function decodeSigned(type: SignedType, object: Uint8Array, what: string): SignedRecord {
  const { version, body } = decodeVersions(type, object, what);
  return (version === 1 ? schema : certifiedSchema).decode(body, what);
}
