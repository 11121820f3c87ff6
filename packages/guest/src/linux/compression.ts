/**
 * The compressions of initrds: what begins at a place, where it ends, and its content.
 *
 * Where a member ends matters, because another archive may follow: gzip's decoder says it, zstd frames and lz4 blocks
 * carry their lengths, an xz stream ends with a footer that names the size of its index.
 */
import { crc32, createZstdDecompress, inflateRaw, type InputType } from 'node:zlib';
import { hasCode, LifeboatError, messageOf } from '@lifeboat/foundation/errors';

export type Compression = 'gzip' | 'zstd' | 'xz' | 'lz4';

/** Formats Node cannot unpack; the caller runs the system's tool under limits. */
export interface Unpackers {
  unpack(tool: 'xz' | 'lz4', packed: Uint8Array, maxBytes: number): Promise<Uint8Array>;
}

export interface Member {
  readonly content: Uint8Array;
  readonly lengthBytes: number;
}

interface At {
  readonly offsetBytes: number;
  readonly compression: Compression;
  readonly where: string;
  readonly maxBytes: number;
}

const MAGIC: readonly (readonly [Compression, string])[] = [
  ['gzip', '1f8b08'],
  ['zstd', '28b52ffd'],
  ['xz', 'fd377a585a00'],
  ['lz4', '02214c18'],
];

export function compressionAt(bytes: Uint8Array, offset: number): Compression | undefined {
  const head = Buffer.from(bytes.subarray(offset, offset + 6)).toString('hex');
  return MAGIC.find(([, magic]) => head.startsWith(magic))?.[0];
}

/** Errors: `guest.initrd-damaged`. */
export async function decompressMember(bytes: Uint8Array, at: At, unpackers: Unpackers): Promise<Member> {
  const rest = Buffer.from(bytes.buffer, bytes.byteOffset + at.offsetBytes, bytes.byteLength - at.offsetBytes);
  try {
    if (at.compression === 'gzip') return await unpackGzip(rest, at.maxBytes);
    const lengthBytes = { zstd: zstdLength, xz: xzLength, lz4: lz4Length }[at.compression](rest);
    const packed = rest.subarray(0, lengthBytes);
    const content =
      at.compression === 'zstd'
        ? await unpackZstd(packed, at.maxBytes)
        : await unpackers.unpack(at.compression, packed, at.maxBytes);
    return { content, lengthBytes };
  } catch (cause) {
    // A tool that is missing or hangs says nothing about the data.
    const isVerdict = hasCode(cause, 'host.tool-failed', 'host.tool-output-too-big');
    if (cause instanceof LifeboatError && !isVerdict) throw cause;
    throw new LifeboatError(
      'guest.initrd-damaged',
      `${at.where}: the ${at.compression} data at byte ${at.offsetBytes} cannot be unpacked: ${messageOf(cause)}`,
      { cause, context: { where: at.where, offsetBytes: at.offsetBytes, compression: at.compression } },
    );
  }
}

/** RFC 1952. The header is read by hand, because only raw inflate says how much input it took. */
async function unpackGzip(packed: Buffer, maxBytes: number): Promise<Member> {
  const FLAG = { headerCrc: 2, extra: 4, name: 8, comment: 16 };
  const flags = packed.readUInt8(3);
  let at = 10;
  if ((flags & FLAG.extra) !== 0) at += 2 + packed.readUInt16LE(at);
  for (const flag of [FLAG.name, FLAG.comment]) {
    if ((flags & flag) === 0) continue;
    const end = packed.indexOf(0, at);
    if (end < 0) throw new Error('the header does not end');
    at = end + 1;
  }
  if ((flags & FLAG.headerCrc) !== 0) at += 2;
  const { buffer, consumedBytes } = await inflate(packed.subarray(at), maxBytes);
  const trailerAt = at + consumedBytes;
  if (trailerAt + 8 > packed.length) throw new Error('the trailer is cut off');
  if (packed.readUInt32LE(trailerAt) !== crc32(buffer)) throw new Error('the checksum is wrong');
  return { content: buffer, lengthBytes: trailerAt + 8 };
}

function inflate(raw: InputType, maxBytes: number): Promise<{ buffer: Buffer; consumedBytes: number }> {
  return new Promise((resolve, reject) => {
    // @types/node does not know what `info` does to the result.
    const done = (error: Error | null, result: unknown): void => {
      if (error) return reject(error);
      const { buffer, engine } = result as { buffer: Buffer; engine: { bytesWritten: number } };
      resolve({ buffer, consumedBytes: engine.bytesWritten });
    };
    inflateRaw(raw, { info: true, maxOutputLength: maxBytes, chunkSize: CHUNK_BYTES }, done as never);
  });
}

/** zlib's default of 16 KiB costs a quarter of the time. */
const CHUNK_BYTES = 1024 * 1024;

/** As a stream, because only that reports more output than `maxBytes` before all of it is there. */
async function unpackZstd(packed: Buffer, maxBytes: number): Promise<Uint8Array> {
  const stream = createZstdDecompress({ chunkSize: CHUNK_BYTES });
  stream.end(packed);
  const chunks: Buffer[] = [];
  let total = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    total += chunk.length;
    if (total > maxBytes) {
      stream.destroy();
      throw new Error(`it holds more than ${maxBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** RFC 8878: frames (and skippable ones) as long as one follows the other. */
function zstdLength(packed: Buffer): number {
  let at = 0;
  while (at + 4 <= packed.length) {
    const magic = packed.readUInt32LE(at);
    if (magic >>> 4 === 0x184d2a5) {
      at += 8 + packed.readUInt32LE(at + 4);
    } else if (magic === 0xfd2fb528) {
      at = zstdFrameEnd(packed, at);
    } else {
      break;
    }
  }
  if (at > packed.length) throw new Error('a frame is cut off');
  return at;
}

function zstdFrameEnd(packed: Buffer, start: number): number {
  const descriptor = packed.readUInt8(start + 4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const contentSizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] as number;
  const dictionaryIdBytes = [0, 1, 2, 4][descriptor & 3] as number;
  let at = start + 5 + (singleSegment ? 0 : 1) + dictionaryIdBytes + contentSizeBytes;
  for (;;) {
    const header = packed.readUIntLE(at, 3);
    const type = (header >> 1) & 3;
    if (type === 3) throw new Error('a block has the reserved type');
    const RUN_LENGTH = 1;
    at += 3 + (type === RUN_LENGTH ? 1 : header >>> 3);
    if ((header & 1) !== 0) break;
  }
  return at + ((descriptor & 4) === 0 ? 0 : 4);
}

/** Legacy frame, the only one the kernel knows: magic, then blocks that begin with their length. */
function lz4Length(packed: Buffer): number {
  const MAGIC_NUMBER = 0x184c2102;
  const MAX_BLOCK_BYTES = 8 * 1024 * 1024 + 64 * 1024;
  let at = 4;
  while (at + 4 <= packed.length) {
    const next = packed.readUInt32LE(at);
    if (next === MAGIC_NUMBER) at += 4;
    // Anything too big for a block is the next archive's magic; zero is padding.
    else if (next === 0 || next > MAX_BLOCK_BYTES) break;
    else at += 4 + next;
  }
  if (at > packed.length) throw new Error('a block is cut off');
  // Fewer than four bytes left can only be padding.
  return at;
}

/** xz-file-format 1.2: the footer is `crc32 backwardSize flags 'YZ'` and points back at the index. */
function xzLength(packed: Buffer): number {
  const FOOTER_BYTES = 12;
  const streamFlags = packed.readUInt16LE(6);
  for (let end = 32; end <= packed.length; end += 4) {
    if (packed[end - 2] !== 0x59 || packed[end - 1] !== 0x5a) continue;
    const footer = end - FOOTER_BYTES;
    if (packed.readUInt16LE(footer + 8) !== streamFlags) continue;
    if (crc32(packed.subarray(footer + 4, footer + 10)) !== packed.readUInt32LE(footer)) continue;
    const indexBytes = (packed.readUInt32LE(footer + 4) + 1) * 4;
    // The index begins with a zero byte and ends with its own checksum.
    const index = footer - indexBytes;
    if (index < FOOTER_BYTES || packed[index] !== 0) continue;
    if (crc32(packed.subarray(index, footer - 4)) !== packed.readUInt32LE(footer - 4)) continue;
    return end;
  }
  throw new Error('the stream has no end');
}
