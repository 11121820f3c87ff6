import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

import { MAX_CHUNK_BYTES } from '../format/limits.ts';

/** How a blob's payload is stored: first byte of what is sealed. */
export const CODECS = { raw: 0, zstd: 1 } as const;

/**
 * Compression as a port: the real one below, and faulty ones in tests.
 * `decompress` returns undefined when the bytes are not a frame, or open to more than `maxBytes`.
 */
export interface Compression {
  compress(plain: Uint8Array): Uint8Array;
  decompress(packed: Uint8Array, maxBytes: number): Uint8Array | undefined;
}

// zlib collects its output in pieces of `chunkSize` and joins them; one piece above the chunk's size is worth 25 % (measured
// on Node 24: the default of 16 KiB makes 64 pieces of a megabyte).
const SLACK_BYTES = 8192;
const FRAME_MAGIC = 0xfd2fb528;
/** The longest; a frame with all of its fields and no block is longer still by one. */
const FRAME_HEADER_BYTES = 18;

/** zstd at `level`; 1 is the default of the repository: 360 to 600 MiB/s a core, where 3 gives 200 for 3 % less. */
export function zstd(level: number): Compression {
  const params = { [constants.ZSTD_c_compressionLevel]: level };
  return {
    compress: (plain) => zstdCompressSync(plain, { params, chunkSize: plain.length + SLACK_BYTES }),
    decompress(packed, maxBytes) {
      try {
        const expectedBytes = frameContentBytes(packed) ?? maxBytes;
        const chunkSize = Math.min(expectedBytes, maxBytes, MAX_CHUNK_BYTES) + SLACK_BYTES;
        return zstdDecompressSync(packed, { chunkSize, maxOutputLength: maxBytes });
      } catch {
        // Not a zstd frame, or one that opens to more than it may: the caller names the object.
        return undefined;
      }
    },
  };
}

/**
 * What the header of a zstd frame says it opens to, where it does (RFC 8878, 3.1.1.1). It decides how much is allocated at once, and
 * nothing else: a point of 300 bytes took 4 MiB, and listing thousands of them was mostly garbage collection.
 */
function frameContentBytes(frame: Uint8Array): number | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (frame.length < FRAME_HEADER_BYTES || view.getUint32(0, true) !== FRAME_MAGIC) return undefined;
  const descriptor = view.getUint8(4);
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const at = 5 + (isSingleSegment ? 0 : 1) + dictionaryBytes;
  switch (descriptor >> 6) {
    case 0:
      return isSingleSegment ? view.getUint8(at) : undefined;
    case 1:
      return view.getUint16(at, true) + 256;
    case 2:
      return view.getUint32(at, true);
    default:
      return Number(view.getBigUint64(at, true));
  }
}

/** A blob is stored raw unless zstd saves at least 1/32 of it: the reader then skips a pass for nothing lost. */
export function pays(packedBytes: number, plainBytes: number): boolean {
  return packedBytes < plainBytes - plainBytes / 32;
}
