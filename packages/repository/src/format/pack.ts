/**
 * A pack:
 *
 * ```
 *   header      prefix('PACK') || length u16 || protobuf: kind, tenant, how to get the key, salt, generation
 *   blobs       sealed blob 0 || sealed blob 1 || …            each: AES-256-GCM(codec u8 || payload) || tag
 *   sealed TOC  AES-256-GCM(ids, plain sizes, codecs) || tag
 *   open TOC    protobuf: length and BLAKE3 of every sealed blob
 *   trailer     sealed TOC length u32 || open TOC length u32 || 'PACK-END'
 * ```
 * Blobs follow each other without gaps, so an offset is the header's length plus the lengths before it. The name is
 * SHA-256(header || sealed TOC || open TOC || trailer); through the hashes in the open TOC it covers every byte, and
 * checking it needs no key.
 */
import { Blake3Hasher } from '@napi-rs/blake-hash';

import { damaged, expectPrefix, prefix, sha256 } from './frame.ts';
import { MAX_PACK_BYTES, MAX_PACK_ENTRIES, MAX_PACK_HEADER_BYTES } from './limits.ts';
import { packNameOf, type PackName } from './names.ts';
import { bytes, message, optional, text, uint, uints, type MessageOf } from './wire.ts';

/** What a pack holds: chunks of disks, pages of image maps, pages of pack sets. */
export const PACK_KINDS = { data: 1, map: 2, set: 3 } as const;
export type PackKind = keyof typeof PACK_KINDS;

const headerSchema = message({
  kind: uint(1, 255),
  tenantId: bytes(2, { length: 16 }),
  /** Data packs: the session key, sealed to the tenant's public key of this epoch. */
  epoch: optional(uint(3, 0xffff_ffff)),
  sealedSessionKey: optional(bytes(4, { length: 80 })),
  /** Map and set packs: the machine whose key seals them. */
  machineId: optional(text(5, 64)),
  salt: bytes(6, { length: 32 }),
  /** Empty, or the id of the condemn list that forced this content to be sealed anew. */
  generation: bytes(7, { max: 32 }),
});

export type PackHeader = MessageOf<typeof headerSchema>;

const sealedTocSchema = message({
  ids: bytes(1, { max: MAX_PACK_ENTRIES * 32 }),
  plainBytes: uints(2, MAX_PACK_ENTRIES),
  codecs: bytes(3, { max: MAX_PACK_ENTRIES }),
});
export type SealedToc = MessageOf<typeof sealedTocSchema>;

const openTocSchema = message({
  lengths: uints(1, MAX_PACK_ENTRIES),
  hashes: bytes(2, { max: MAX_PACK_ENTRIES * 32 }),
});
export type OpenToc = MessageOf<typeof openTocSchema>;

const TRAILER_MAGIC = Buffer.from('PACK-END', 'ascii');
const TRAILER_BYTES = 8 + TRAILER_MAGIC.length;
const HEADER_LENGTH_AT = 14;
const HEADER_BODY_AT = 16;
/** One range read of so many bytes holds every header. */
export const HEADER_READ_BYTES = MAX_PACK_HEADER_BYTES;

export function encodePackHeader(header: PackHeader): Buffer {
  const body = headerSchema.encode(header);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(body.length);
  return Buffer.concat([prefix('PACK'), length, body]);
}

/** Reads the header from the first bytes of a pack (at least `HEADER_READ_BYTES`, or the whole pack). */
export function decodePackHeader(start: Uint8Array, what: string): { header: PackHeader; lengthBytes: number } {
  expectPrefix(start, 'PACK', what);
  const view = Buffer.from(start.buffer, start.byteOffset, start.byteLength);
  if (view.length < HEADER_BODY_AT) throw damaged(what, 'it ends within its header');
  const lengthBytes = HEADER_BODY_AT + view.readUInt16BE(HEADER_LENGTH_AT);
  if (lengthBytes > MAX_PACK_HEADER_BYTES || lengthBytes > view.length)
    throw damaged(what, `a header of ${lengthBytes} bytes`);
  const header = headerSchema.decode(view.subarray(HEADER_BODY_AT, lengthBytes), what);
  const sealedBySession = header.epoch !== undefined && header.sealedSessionKey !== undefined;
  const sealedByMachine = header.machineId !== undefined;
  const isData = header.kind === PACK_KINDS.data;
  if (kindOf(header) === undefined || sealedBySession !== isData || sealedByMachine === isData) {
    throw damaged(what, `a header of kind ${header.kind} that does not say how to open it`);
  }
  return { header, lengthBytes };
}

export function kindOf(header: PackHeader): PackKind | undefined {
  return (Object.keys(PACK_KINDS) as PackKind[]).find((kind) => PACK_KINDS[kind] === header.kind);
}

export const encodeSealedToc = (toc: SealedToc): Uint8Array => sealedTocSchema.encode(toc);
export function decodeSealedToc(plain: Uint8Array, what: string): SealedToc {
  const toc = sealedTocSchema.decode(plain, what);
  if (toc.ids.length !== toc.codecs.length * 32 || toc.plainBytes.length !== toc.codecs.length) {
    throw damaged(what, 'the columns of its table of contents do not agree');
  }
  return toc;
}

/** What follows the blobs. */
export function encodePackTail(sealedToc: Uint8Array, toc: OpenToc): Buffer {
  const openToc = openTocSchema.encode(toc);
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32BE(sealedToc.length, 0);
  lengths.writeUInt32BE(openToc.length, 4);
  return Buffer.concat([sealedToc, openToc, lengths, TRAILER_MAGIC]);
}

export interface SealedBlob {
  readonly slot: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** BLAKE3 of the sealed bytes. */
  readonly hash: Uint8Array;
}

export interface PackLayout {
  readonly name: PackName;
  readonly header: PackHeader;
  readonly blobs: readonly SealedBlob[];
  readonly sealedToc: Uint8Array;
}

/**
 * The structure of a whole pack, and the name its bytes give. Sealed blobs themselves are not hashed here: compare each with
 * `blob.hash` (`hashSealed`). Throws `repository.object-damaged`.
 */
export function parsePack(pack: Uint8Array, what: string): PackLayout {
  const all = Buffer.from(pack.buffer, pack.byteOffset, pack.byteLength);
  if (all.length > MAX_PACK_BYTES) throw damaged(what, `${all.length} bytes exceed the limit of a pack`);
  const { header, lengthBytes: headerBytes } = decodePackHeader(all, what);
  const trailerAt = all.length - TRAILER_BYTES;
  if (trailerAt < headerBytes || !all.subarray(trailerAt + 8).equals(TRAILER_MAGIC))
    throw damaged(what, 'it has no trailer');
  const openTocAt = trailerAt - all.readUInt32BE(trailerAt + 4);
  const sealedTocAt = openTocAt - all.readUInt32BE(trailerAt);
  if (openTocAt < headerBytes || sealedTocAt < headerBytes) throw damaged(what, 'its tables are longer than the pack');
  const toc = openTocSchema.decode(all.subarray(openTocAt, trailerAt), what);
  if (toc.hashes.length !== toc.lengths.length * 32)
    throw damaged(what, 'its open table of contents does not agree with itself');
  let offsetBytes = headerBytes;
  const blobs = toc.lengths.map((lengthBytes, slot) => {
    const blob = { slot, offsetBytes, lengthBytes, hash: toc.hashes.subarray(slot * 32, slot * 32 + 32) };
    offsetBytes += lengthBytes;
    return blob;
  });
  if (offsetBytes !== sealedTocAt) throw damaged(what, `its blobs end at ${offsetBytes} instead of ${sealedTocAt}`);
  const name = packNameOf(sha256(all.subarray(0, headerBytes), all.subarray(sealedTocAt)));
  return { name, header, blobs, sealedToc: all.subarray(sealedTocAt, openTocAt) };
}

export function hashSealed(sealed: Uint8Array): Buffer {
  return new Blake3Hasher().update(sealed).digestBuffer();
}
