/**
 * A recovery point: `frame('PONT', protobuf: header || signature || sealed body)`.
 *
 * The header is open (it repeats what the object's name says, and links to the point before); the body (inventory, how it was
 * captured, roots of the disks, small files) is sealed under the machine's key. The signature covers the header, and the
 * header holds the hash of the sealed body, so a reader may check a point without opening it. Version 2 is signed by an agent, and
 * holds its certificate.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { JsonValue } from '../json.ts';
import { fromColumns, placesSchema, toColumns, type BlobRef, type Place } from './blob-ref.ts';
import { certificateField, type Certified } from './certificate.ts';
import { damaged, decodeVersions, encodeFrame } from './frame.ts';
import {
  MAX_CHUNK_BYTES,
  MAX_POINT_BYTES,
  MAX_POINT_DISKS,
  MAX_POINT_FILES,
  MAX_POINT_FILES_BYTES,
  MAX_POINT_JSON_BYTES,
} from './limits.ts';
import { bytes, list, message, nested, optional, text, uint, type MessageOf } from './wire.ts';

const linkSchema = message({
  pointId: text(1, 64),
  /** SHA-256 of the whole object of that point. */
  hash: bytes(2, { length: 32 }),
});

const headerSchema = message({
  tenantId: bytes(1, { length: 16 }),
  machineId: text(2, 64),
  pointId: text(3, 64),
  sessionId: text(4, 64),
  /** Unix ms by the writer's clock. */
  createdMs: uint(5),
  /** The machine's newest point when this one was committed; absent in the first. */
  previous: optional(nested(6, linkSchema)),
  salt: bytes(7, { length: 32 }),
  bodyHash: bytes(8, { length: 32 }),
  /** Ed25519 public key: the tenant's, or in version 2 the agent's. */
  signer: bytes(9, { length: 32 }),
});
export type PointHeader = MessageOf<typeof headerSchema>;
export type PointLink = MessageOf<typeof linkSchema>;

const envelopeFields = {
  header: bytes(1, { max: 2048 }),
  signature: bytes(2, { length: 64 }),
  sealedBody: bytes(3, { max: MAX_POINT_BYTES }),
};
const envelopeSchema = message(envelopeFields);
const certifiedSchema = message({ ...envelopeFields, certificate: certificateField(4) });

export const encodePointHeader = (header: PointHeader): Uint8Array => headerSchema.encode(header);

export function encodePointObject(envelope: Certified<MessageOf<typeof envelopeSchema>>): Uint8Array {
  const { certificate } = envelope;
  if (certificate === undefined) return encodeFrame('PONT', envelopeSchema.encode(envelope));
  return encodeFrame('PONT', certifiedSchema.encode({ ...envelope, certificate }), 2);
}

export function decodePointObject(
  object: Uint8Array,
  what: string,
): Certified<{ header: PointHeader; headerBytes: Uint8Array; signature: Uint8Array; sealedBody: Uint8Array }> {
  const { version, body } = decodeVersions('PONT', object, what);
  const { header: headerBytes, ...rest } = (version === 1 ? envelopeSchema : certifiedSchema).decode(body, what);
  return { header: headerSchema.decode(headerBytes, what), headerBytes, ...rest };
}

/** Where a disk's content is: enough to read it, and to share its pages with the next point. Plain JSON. */
export interface DiskRoot {
  readonly sizeBytes: number;
  readonly chunkSizeBytes: number;
  /** Root page of the map; 'hole' or 'zero' for a disk without data. */
  readonly map: Place;
  /** Root page of the pack set; null when the map needs no pack. */
  readonly packs: BlobRef | null;
}

export interface PointDisk {
  readonly name: string;
  readonly root: DiskRoot;
  /** What the caller knows about the disk: bus, serial number, volumes. */
  readonly info: JsonValue;
}

export interface PointBody {
  readonly machine: JsonValue;
  readonly capture: JsonValue;
  readonly disks: readonly PointDisk[];
  readonly files: readonly { readonly name: string; readonly content: Uint8Array }[];
}

/**
 * Names of disks become parts of file names where a point is restored or served, and who holds an agent's file may write them: nothing
 * that leads anywhere else.
 */
const DISK_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

const diskSchema = message({
  name: text(1, 63),
  sizeBytes: uint(2),
  chunkSizeBytes: uint(3, MAX_CHUNK_BYTES),
  /** One place. */
  map: nested(4, placesSchema),
  packs: optional(nested(5, placesSchema)),
  info: text(6, MAX_POINT_JSON_BYTES),
});

const fileSchema = message({
  name: text(1, 255),
  content: bytes(2, { max: MAX_POINT_FILES_BYTES }),
});

const bodySchema = message({
  machine: text(1, MAX_POINT_JSON_BYTES),
  capture: text(2, MAX_POINT_JSON_BYTES),
  disks: list(3, diskSchema, MAX_POINT_DISKS),
  files: list(4, fileSchema, MAX_POINT_FILES),
});

/** Throws `repository.limit-exceeded` when something does not fit, `input.invalid` for a disk whose name no reader takes. */
export function encodePointBody(body: PointBody): Uint8Array {
  const refused = refusedName(body.disks);
  if (refused !== undefined)
    throw new LifeboatError(
      'input.invalid',
      `'${refused}' cannot be the name of a disk of a point: expected ${String(DISK_NAME)}, and each once`,
    );
  const filesBytes = body.files.reduce((sum, file) => sum + file.content.length, 0);
  if (filesBytes > MAX_POINT_FILES_BYTES) {
    throw new LifeboatError(
      'repository.limit-exceeded',
      `the files of a point have ${filesBytes} bytes; at most ${MAX_POINT_FILES_BYTES} are kept within it`,
    );
  }
  return bodySchema.encode({
    machine: JSON.stringify(body.machine),
    capture: JSON.stringify(body.capture),
    disks: body.disks.map(({ name, root, info }) => ({
      name,
      sizeBytes: root.sizeBytes,
      chunkSizeBytes: root.chunkSizeBytes,
      map: toColumns([root.map]),
      packs: root.packs === null ? undefined : toColumns([root.packs]),
      info: JSON.stringify(info),
    })),
    files: body.files,
  });
}

export function decodePointBody(plain: Uint8Array, what: string): PointBody {
  const body = bodySchema.decode(plain, what);
  const refused = refusedName(body.disks);
  if (refused !== undefined) throw damaged(what, `a disk is called ${JSON.stringify(refused)}, or two are`);
  return {
    machine: json(body.machine, what),
    capture: json(body.capture, what),
    disks: body.disks.map((disk) => {
      const [map, ...more] = fromColumns(disk.map, undefined, what);
      const [packs] = disk.packs ? fromColumns(disk.packs, undefined, what) : [];
      if (map === undefined || more.length > 0 || typeof packs === 'string')
        throw damaged(what, `roots of disk ${disk.name}`);
      const { name, sizeBytes, chunkSizeBytes } = disk;
      return { name, root: { sizeBytes, chunkSizeBytes, map, packs: packs ?? null }, info: json(disk.info, what) };
    }),
    files: body.files,
  };
}

function refusedName(disks: readonly { readonly name: string }[]): string | undefined {
  const names = disks.map(({ name }) => name);
  return names.find((name, i) => !DISK_NAME.test(name) || names.indexOf(name) < i);
}

/** JSON as we write it; the same value in other words (`1.0`, spaces) is refused like any second encoding. */
function json(value: string, what: string): JsonValue {
  try {
    const parsed = JSON.parse(value) as JsonValue;
    if (JSON.stringify(parsed) === value) return parsed;
  } catch (error) {
    throw damaged(what, 'it holds text that is not JSON', error);
  }
  throw damaged(what, 'it holds JSON in another form than ours');
}
