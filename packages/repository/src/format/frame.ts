/**
 * The frame around every small object: `'LIFEBOAT' || type (4 ASCII) || version u16 || body length u32 || body || SHA-256`.
 * Integers are big-endian; the hash covers everything before it. It finds accidents; seals and signatures inside the body
 * find intent.
 */
import { createHash } from 'node:crypto';

import { LifeboatError } from '@lifeboat/foundation/errors';

import { FORMAT_VERSION } from './limits.ts';

const MAGIC = Buffer.from('LIFEBOAT', 'ascii');
/** Every type there is; `test/format-vectors` holds bytes of each. */
export const OBJECT_TYPES = [
  'REPO',
  'KEYS',
  'SESS',
  'INDX',
  'PONT',
  'PACK',
  'RELO',
  'DMGR',
  'DMGC',
  'FENC',
  'OUTC',
  'TOMB',
  'CLST',
  'CPRT',
  'CSWP',
  'RETN',
  'LINK',
  'EVID',
  'VRFY',
  'CTRL',
  'JRNL',
  'SKEY',
  'CERT',
  'REVO',
  'AGNT',
  'PKEY',
] as const;
export type ObjectType = (typeof OBJECT_TYPES)[number];

/** What agents sign comes in two versions: 1 is signed by the tenant itself, 2 by an agent whose certificate lies in the object. */
export type CertifiedType = 'PONT' | 'SESS' | 'RELO';
const NEWEST_VERSION: Readonly<Partial<Record<ObjectType, number>>> = { PONT: 2, SESS: 2, RELO: 2 };
/** The latest version of a type that this program reads. */
export const newestVersion = (type: ObjectType): number => NEWEST_VERSION[type] ?? FORMAT_VERSION;

const HEAD_BYTES = MAGIC.length + 4 + 2 + 4;
const HASH_BYTES = 32;

/** Magic, type and version: how every object of the format begins, packs included. */
export function prefix(type: ObjectType, version: number = FORMAT_VERSION): Buffer {
  const head = Buffer.alloc(14);
  MAGIC.copy(head);
  head.write(type, 8, 'ascii');
  head.writeUInt16BE(version, 12);
  return head;
}

/**
 * The version. Throws `repository.object-damaged` for another type, `repository.newer-version` for a version this reader does not know.
 */
export function expectPrefix(bytes: Uint8Array, type: ObjectType, what: string): number {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (head.length < 14) throw damaged(what, `${head.length} bytes are too few for any object`);
  if (!head.subarray(0, 8).equals(MAGIC)) throw damaged(what, 'it does not begin like an object of a repository');
  const found = head.toString('latin1', 8, 12);
  if (found !== type) throw damaged(what, `expected type ${type}, found ${JSON.stringify(found)}`);
  const version = head.readUInt16BE(12);
  if (version === 0) throw damaged(what, 'version 0 does not exist');
  const known = newestVersion(type);
  if (version > known) {
    throw new LifeboatError(
      'repository.newer-version',
      `${what} has format version ${version}; this program knows ${known}`,
      { context: { object: what, version, known } },
    );
  }
  return version;
}

export function encodeFrame(type: ObjectType, body: Uint8Array, version?: number): Uint8Array {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  const covered = Buffer.concat([prefix(type, version), length, body]);
  return Buffer.concat([covered, sha256(covered)]);
}

/** The body of a frame that fills `bytes` exactly. `what` names the object in errors. */
export function decodeFrame(type: Exclude<ObjectType, CertifiedType>, bytes: Uint8Array, what: string): Uint8Array {
  return decodeVersions(type, bytes, what).body;
}

/** The same for types of which there is more than one version. */
export function decodeVersions(
  type: ObjectType,
  bytes: Uint8Array,
  what: string,
): { readonly version: number; readonly body: Uint8Array } {
  const version = expectPrefix(bytes, type, what);
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (all.length < HEAD_BYTES + HASH_BYTES) throw damaged(what, `it ends after ${all.length} bytes`);
  const expected = HEAD_BYTES + all.readUInt32BE(14) + HASH_BYTES;
  if (all.length !== expected) throw damaged(what, `it has ${all.length} bytes instead of ${expected}`);
  const covered = all.subarray(0, all.length - HASH_BYTES);
  if (!sha256(covered).equals(all.subarray(all.length - HASH_BYTES))) throw damaged(what, 'its SHA-256 does not match');
  return { version, body: covered.subarray(HEAD_BYTES) };
}

export function sha256(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

export function damaged(what: string, why: string, cause?: unknown): LifeboatError {
  return new LifeboatError('repository.object-damaged', `${what}: ${why}`, { context: { object: what }, cause });
}
