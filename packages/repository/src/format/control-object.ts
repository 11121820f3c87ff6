/** A version of a control object: what is signed, and lies in the store under `data/objects/<kind>/<id>/<version>`. */
import { damaged } from './frame.ts';
import { MAX_CONTROL_PAYLOAD_BYTES } from './limits.ts';
import { bytes, message, nested, optional, text, uint, type MessageOf } from './wire.ts';

const MAX_VERSION = 99_999_999;
const TAG_BYTES = 16;

const schema = message({
  kind: text(1, 64),
  id: text(2, 64),
  version: uint(3, MAX_VERSION),
  /** The version that counted when this one was made; absent in the first. */
  previous: optional(nested(4, message({ version: uint(1, MAX_VERSION), hash: bytes(2, { length: 32 }) }))),
  /** Unix ms by the clock of who wrote it. */
  writtenMs: uint(5),
  /** How the payload is to be read: `machine/1`. */
  schema: text(6, 64),
  salt: bytes(7, { length: 32 }),
  /** Absent: from this version on the object is deleted. */
  sealed: optional(bytes(8, { max: MAX_CONTROL_PAYLOAD_BYTES + TAG_BYTES })),
});
export type ControlVersion = MessageOf<typeof schema>;

export const encodeControlVersion = (version: ControlVersion): Uint8Array => schema.encode(version);

/** Throws `repository.object-damaged`. */
export function decodeControlVersion(body: Uint8Array, what: string): ControlVersion {
  const decoded = schema.decode(body, what);
  const { version, previous } = decoded;
  if (version === 0 || (previous?.version ?? 0) >= version)
    throw damaged(what, `version ${version} follows version ${previous?.version ?? 0}`);
  return decoded;
}
