/**
 * Fills one buffer until it is a pack, and opens the pack again before it may leave.
 *
 * ```
 *   add:    compress ─► [room for header | codec payload (tag) | codec payload (tag) | …        ]
 *   finish: salt = keyed hash over all of it ─► key ─► seal each blob where it lies ─► tables, trailer
 *           ─► parse the result as a reader would, open every blob, decompress, compare with its id
 * ```
 * The buffer is the caller's and is all the memory a pack takes. Not safe for concurrent use.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { BlobRef } from '../format/blob-ref.ts';
import { MAX_PACK_ENTRIES } from '../format/limits.ts';
import { chunkIdOf, hashBytes, type ChunkId, type PackName } from '../format/names.ts';
import {
  encodePackHeader,
  encodePackTail,
  encodeSealedToc,
  hashSealed,
  PACK_KINDS,
  parsePack,
  type PackHeader,
  type PackKind,
} from '../format/pack.ts';
import { seal, sealInPlace, TAG_BYTES } from '../seal/aead.ts';
import {
  BLOB_OVERHEAD_BYTES,
  blobSeal,
  openBlob,
  openToc,
  packKey,
  packSalt,
  tocSeal,
  type BlobPayload,
} from '../seal/blob-seal.ts';
import { CODECS, pays, type Compression } from '../seal/codec.ts';
import { discard } from '../seal/discard.ts';
import { StageClock } from './stage-times.ts';

/** Who seals a pack: a writer session (data), or a machine (maps and pack sets). */
export interface PackOwner {
  readonly kind: PackKind;
  readonly tenantId: Uint8Array;
  readonly chunkIdKey: Uint8Array;
  readonly baseKey: Uint8Array;
  /** Id of the condemn list that forced a reseal; empty otherwise. */
  readonly generation: Uint8Array;
  readonly access: { readonly epoch: number; readonly sealedSessionKey: Uint8Array } | { readonly machineId: string };
}

export interface FinishedPack {
  readonly name: PackName;
  readonly sizeBytes: number;
  readonly blobs: readonly BlobRef[];
}

/** What a blob adds to the tables: id, length and codec in the sealed one, length and hash in the open one. */
const TABLE_BYTES_PER_BLOB = 32 + 5 + 1 + 5 + 32;
/** Field headers, tag and trailer. */
const TABLE_BYTES = 64 + TAG_BYTES + 16;

export class PackBuilder {
  readonly #owner: PackOwner;
  readonly #compression: Compression;
  readonly #stages: StageClock;
  readonly #buffer: Uint8Array;
  readonly #headerBytes: number;
  readonly #blobs: (BlobPayload & { readonly offsetBytes: number })[] = [];
  #end: number;

  constructor(input: { owner: PackOwner; buffer: Uint8Array; compression: Compression; stages?: StageClock }) {
    this.#owner = input.owner;
    this.#compression = input.compression;
    this.#stages = input.stages ?? new StageClock();
    this.#buffer = input.buffer;
    this.#headerBytes = encodePackHeader(this.#header(new Uint8Array(32))).length;
    this.#end = this.#headerBytes;
  }

  get count(): number {
    return this.#blobs.length;
  }

  /** Whether so many more blobs of together `plainBytes` fit, however badly they compress. */
  hasRoom(count: number, plainBytes: number): boolean {
    const total = this.#blobs.length + count;
    const worst = plainBytes + count * BLOB_OVERHEAD_BYTES + total * TABLE_BYTES_PER_BLOB + TABLE_BYTES;
    return total <= MAX_PACK_ENTRIES && this.#end + worst <= this.#buffer.length;
  }

  /** Puts a blob into the next slot. The caller asked `hasRoom` before. */
  add(id: ChunkId, plain: Uint8Array): { slot: number; offsetBytes: number; lengthBytes: number } {
    if (!this.hasRoom(1, plain.length))
      throw new LifeboatError('internal.bug', 'a blob was added to a pack without room');
    const packed = this.#stages.time('compress', () => this.#compression.compress(plain));
    const compressed = pays(packed.length, plain.length);
    const payload = compressed ? packed : plain;
    const codec = compressed ? CODECS.zstd : CODECS.raw;
    const offsetBytes = this.#end;
    this.#buffer[offsetBytes] = codec;
    this.#buffer.set(payload, offsetBytes + 1);
    const lengthBytes = payload.length + BLOB_OVERHEAD_BYTES;
    const stored = this.#buffer.subarray(offsetBytes + 1, offsetBytes + 1 + payload.length);
    this.#blobs.push({ id, codec, plainBytes: plain.length, payload: stored, offsetBytes });
    this.#end += lengthBytes;
    if (packed !== plain) discard(packed);
    return { slot: this.#blobs.length - 1, offsetBytes, lengthBytes };
  }

  /**
   * Seals everything and proves that it opens. The pack is the first `sizeBytes` of the buffer.
   * Throws `repository.sealing-mismatch`; the buffer's content is then of no use.
   */
  finish(): FinishedPack {
    const { pack, bytes, blobs } = this.#stages.time('seal', () => this.#seal());
    const name = this.#stages.time('prove', () => this.#prove(bytes, pack));
    return { name, sizeBytes: bytes.length, blobs: blobs.map((blob) => ({ ...blob, pack: name })) };
  }

  #seal(): {
    pack: { key: Uint8Array; kind: PackKind; tenantId: Uint8Array };
    bytes: Uint8Array;
    blobs: Omit<BlobRef, 'pack'>[];
  } {
    const { baseKey, kind, generation } = this.#owner;
    const salt = packSalt(baseKey, { kind, generation, blobs: this.#blobs });
    const header = encodePackHeader(this.#header(salt));
    if (header.length !== this.#headerBytes)
      throw new LifeboatError('internal.bug', 'the header of a pack changed its length');
    this.#buffer.set(header);
    const pack = { key: packKey(baseKey, salt), kind, tenantId: this.#owner.tenantId };

    const hashes: Buffer[] = [];
    const blobs = this.#blobs.map(({ id, payload, offsetBytes }, slot) => {
      const region = this.#buffer.subarray(offsetBytes, offsetBytes + payload.length + BLOB_OVERHEAD_BYTES);
      sealInPlace(blobSeal(pack, { id, slot }), region);
      hashes.push(hashSealed(region));
      return { id, slot, offsetBytes, lengthBytes: region.length };
    });
    const sealedToc = seal(
      tocSeal(pack),
      encodeSealedToc({
        ids: Buffer.concat(blobs.map((blob) => hashBytes(blob.id))),
        plainBytes: this.#blobs.map((blob) => blob.plainBytes),
        codecs: Uint8Array.from(this.#blobs, (blob) => blob.codec),
      }),
    );
    const tail = encodePackTail(sealedToc, {
      lengths: blobs.map((blob) => blob.lengthBytes),
      hashes: Buffer.concat(hashes),
    });
    this.#buffer.set(tail, this.#end);
    return { pack, bytes: this.#buffer.subarray(0, this.#end + tail.length), blobs };
  }

  /** Reads the pack as a reader would. What was hashed when it was read from the disk must come out again. */
  #prove(bytes: Uint8Array, pack: { key: Uint8Array; kind: PackKind; tenantId: Uint8Array }): PackName {
    const mismatch = (why: string, cause?: unknown): LifeboatError =>
      new LifeboatError('repository.sealing-mismatch', `a pack of ${bytes.length} bytes did not open again: ${why}`, {
        cause,
      });
    const layout = parsePack(bytes, 'the new pack');
    const toc = openToc(pack, layout.sealedToc, 'the new pack');
    for (const [slot, { id, plainBytes }] of this.#blobs.entries()) {
      const blob = layout.blobs[slot];
      if (!blob || chunkIdOf(toc.ids.subarray(slot * 32, slot * 32 + 32)) !== id)
        throw mismatch(`blob ${slot} is not listed`);
      const opened = openBlob(
        { ...pack, chunkIdKey: this.#owner.chunkIdKey, id, slot, plain: { exactBytes: plainBytes } },
        bytes.subarray(blob.offsetBytes, blob.offsetBytes + blob.lengthBytes),
        this.#compression,
      );
      if ('failure' in opened) throw mismatch(`blob ${slot}: ${opened.failure}`);
      discard(opened.plain);
    }
    return layout.name;
  }

  #header(salt: Uint8Array): PackHeader {
    const { kind, tenantId, generation, access } = this.#owner;
    return {
      kind: PACK_KINDS[kind],
      tenantId,
      epoch: 'epoch' in access ? access.epoch : undefined,
      sealedSessionKey: 'epoch' in access ? access.sealedSessionKey : undefined,
      machineId: 'machineId' in access ? access.machineId : undefined,
      salt,
      generation,
    };
  }
}
