/**
 * The envelope of records with tagged names: `1 body, 2 signer, 3 signature`. What is signed, and how its object is named, is in
 * `seal/control-records.ts`.
 */
import { decodeFrame, encodeFrame, type ObjectType } from './frame.ts';
import { MAX_CONDEMN_PART_BYTES } from './limits.ts';
import { bytes, message, type MessageOf } from './wire.ts';

export type SignedType = Extract<
  ObjectType,
  'SESS' | 'FENC' | 'CLST' | 'CPRT' | 'CSWP' | 'DMGR' | 'DMGC' | 'LINK' | 'EVID' | 'VRFY'
>;

const schema = message({
  body: bytes(1, { max: MAX_CONDEMN_PART_BYTES }),
  signer: bytes(2, { length: 32 }),
  signature: bytes(3, { length: 64 }),
});
export type SignedRecord = MessageOf<typeof schema>;

export const encodeSigned = (type: SignedType, record: SignedRecord): Uint8Array =>
  encodeFrame(type, schema.encode(record));

/** The caller checks signer and signature. Throws `repository.object-damaged` or `repository.newer-version`. */
export const decodeSigned = (type: SignedType, object: Uint8Array, what: string): SignedRecord =>
  schema.decode(decodeFrame(type, object, what), what);
