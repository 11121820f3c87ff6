/**
 * How blobs of a pack are sealed and opened: the rules both the writer and the reader follow.
 *
 * The pack's key comes from its salt, and the salt is a keyed hash over everything that is sealed under it. Equal content gives
 * an equal pack, and other content another key: a nonce never meets two plaintexts.
 */
import { Blake3Hasher } from '@napi-rs/blake-hash';

import { chunkIdOf, hashBytes, type ChunkId } from '../format/names.ts';
import { decodeSealedToc, PACK_KINDS, type PackKind, type SealedToc } from '../format/pack.ts';
import { FORMAT_VERSION } from '../format/limits.ts';
import { damaged } from '../format/frame.ts';
import { open, TAG_BYTES, TOC_COUNTER, type Seal } from './aead.ts';
import { CODECS, type Compression } from './codec.ts';
import { deriveKey, u32 } from './derive.ts';
import { discard } from './discard.ts';

/** Bytes a sealed blob has beside its payload: the codec in front, the tag behind. */
export const BLOB_OVERHEAD_BYTES = 1 + TAG_BYTES;

/** Keyed BLAKE3 of a plaintext. */
export function chunkId(chunkIdKey: Uint8Array, plain: Uint8Array): ChunkId {
  return chunkIdOf(Blake3Hasher.newKeyed(Buffer.from(chunkIdKey)).update(plain).digestBuffer());
}

/** A plaintext blob on its way into a pack. `payload` is compressed or raw, as `codec` says. */
export interface BlobPayload {
  readonly id: ChunkId;
  readonly codec: number;
  readonly plainBytes: number;
  readonly payload: Uint8Array;
}

/** The salt of a pack: keyed hash over version, kind, generation and every blob, each field with its length in front. */
export function packSalt(
  baseKey: Uint8Array,
  content: { kind: PackKind; generation: Uint8Array; blobs: Iterable<BlobPayload> },
): Buffer {
  const hasher = Blake3Hasher.newKeyed(deriveKey(baseKey, 'pack salt'));
  const field = (bytes: Uint8Array): void => void hasher.update(u32(bytes.length)).update(bytes);
  field(Uint8Array.of(FORMAT_VERSION, PACK_KINDS[content.kind]));
  field(content.generation);
  for (const blob of content.blobs) {
    field(hashBytes(blob.id));
    field(Uint8Array.of(blob.codec));
    field(u32(blob.plainBytes));
    field(blob.payload);
  }
  return hasher.digestBuffer();
}

export function packKey(baseKey: Uint8Array, salt: Uint8Array): Buffer {
  return deriveKey(baseKey, 'pack key', salt);
}

/** What binds a blob to its tenant, kind, identity and slot; not to a place on a disk, which deduplication shares. */
export function blobSeal(
  pack: { key: Uint8Array; kind: PackKind; tenantId: Uint8Array },
  blob: { id: ChunkId; slot: number },
): Seal {
  const additionalData = Buffer.concat([
    Buffer.from('lifeboat blob', 'ascii'),
    Uint8Array.of(FORMAT_VERSION, PACK_KINDS[pack.kind]),
    pack.tenantId,
    hashBytes(blob.id),
    u32(blob.slot),
  ]);
  return { key: pack.key, counter: blob.slot, additionalData };
}

/** Seal of a pack's table of contents. It binds nothing that is not covered by the salt. */
export function tocSeal(pack: { key: Uint8Array; kind: PackKind; tenantId: Uint8Array }): Seal {
  const additionalData = Buffer.concat([
    Buffer.from('lifeboat toc', 'ascii'),
    Uint8Array.of(FORMAT_VERSION, PACK_KINDS[pack.kind]),
    pack.tenantId,
  ]);
  return { key: pack.key, counter: TOC_COUNTER, additionalData };
}

/** What opening a blob needs; plain data, so that it can cross to another thread. */
export interface BlobOpening {
  readonly key: Uint8Array;
  readonly kind: PackKind;
  readonly tenantId: Uint8Array;
  readonly chunkIdKey: Uint8Array;
  readonly id: ChunkId;
  readonly slot: number;
  /** Exact length of a chunk; for pages, which say their own length, the most that is accepted. */
  readonly plain: { readonly exactBytes: number } | { readonly maxBytes: number };
}

/** The plaintext of a sealed blob, decompressed and checked against its id; or why not. */
export function openBlob(
  opening: BlobOpening,
  sealed: Uint8Array,
  compression: Compression,
): { plain: Uint8Array } | { failure: string } {
  const inside = open(blobSeal(opening, opening), sealed);
  if (!inside) return { failure: 'its seal does not open' };
  const payload = inside.subarray(1);
  const limit = 'exactBytes' in opening.plain ? opening.plain.exactBytes : opening.plain.maxBytes;
  let plain: Uint8Array | undefined;
  if (inside[0] === CODECS.raw) plain = payload;
  else if (inside[0] === CODECS.zstd) plain = compression.decompress(payload, limit);
  else return { failure: `codec ${inside[0]} is unknown` };
  if (plain !== payload) discard(inside);
  if (!plain) return { failure: 'it does not decompress' };
  if ('exactBytes' in opening.plain && plain.length !== opening.plain.exactBytes) {
    return { failure: `it has ${plain.length} bytes instead of ${opening.plain.exactBytes}` };
  }
  if (chunkId(opening.chunkIdKey, plain) !== opening.id) return { failure: 'its content does not match its id' };
  return { plain };
}

/** Opens the sealed table of contents of a parsed pack. Throws `repository.object-damaged`. */
export function openToc(
  pack: { key: Uint8Array; kind: PackKind; tenantId: Uint8Array },
  sealedToc: Uint8Array,
  what: string,
): SealedToc {
  const plain = open(tocSeal(pack), sealedToc);
  if (!plain) throw damaged(what, 'its sealed table of contents does not open');
  return decodeSealedToc(plain, what);
}
