/**
 * Records of NTFS: of the file table (`FILE`) and of directories (`INDX`), and the attributes a file is made of.
 *
 *   record: ┌ header ┐┌ update sequence ┐┌ attribute: resident, its value follows ┐┌ attribute: non-resident, its runs follow ┐ 0xffffffff
 *
 * The last two bytes of each 512 of a record are kept in its update sequence and replaced by a number that is the same in all of them:
 * where one differs, the record was written in part. Source: Linux, fs/ntfs3/ntfs.h, and libntfs-3g's layout.h.
 */
import { unreadable } from './file-node.ts';

export const ATTRIBUTE = {
  standardInformation: 0x10,
  attributeList: 0x20,
  volumeName: 0x60,
  volumeInformation: 0x70,
  data: 0x80,
  indexRoot: 0x90,
  indexAllocation: 0xa0,
  bitmap: 0xb0,
  reparsePoint: 0xc0,
} as const;
export const ATTRIBUTE_FLAG = { compressed: 0x00ff, encrypted: 0x4000 } as const;

/** Each has a sequence number of its own at its end, whatever the sectors of the disk are. */
const SEQUENCE_STRIDE = 512;
const END = 0xffff_ffff;
/** A record of 4 KiB has room for some hundred. */
const MAX_ATTRIBUTES = 512;
/** As many as a file of 512 MiB has clusters. */
const MAX_RUNS = 131_072;
/** 2^44 clusters of 4 KiB: more than any disk, and safe when multiplied. */
const MAX_CLUSTER = 2 ** 40;

/** Clusters that follow one another. Without `start` they read as zeros. */
export interface Run {
  readonly count: number;
  readonly start?: number;
}

export interface Attribute {
  readonly type: number;
  readonly name: string;
  readonly flags: number;
  /** The value, where it is in the record itself. */
  readonly value?: Buffer;
  /** Where it is elsewhere; a file in many pieces has several, each with the first cluster of the file that it maps. */
  readonly extent?: {
    readonly firstCluster: number;
    readonly runs: readonly Run[];
    readonly sizeBytes: number;
    /** What lies behind reads as zeros. */
    readonly initializedBytes: number;
  };
}

export interface FileRecord {
  readonly isInUse: boolean;
  readonly isDirectory: boolean;
  readonly sequence: number;
  /** Of an extension of another record: that one's number. */
  readonly base: number;
  readonly attributes: readonly Attribute[];
}

/** Puts the kept bytes back into their places. `what` names the record in errors. Errors: `guest.filesystem-unreadable`. */
export function restoreSequence(record: Buffer, magic: 'FILE' | 'INDX', what: string): void {
  if (record.toString('latin1', 0, 4) !== magic) throw unreadable(`${what} does not begin with ${magic}`);
  const at = record.readUInt16LE(4);
  const count = record.readUInt16LE(6);
  const strides = record.length / SEQUENCE_STRIDE;
  if (count !== strides + 1 || at < 8 || at + count * 2 > SEQUENCE_STRIDE) {
    throw unreadable(`${what} has a damaged update sequence`);
  }
  const number = record.readUInt16LE(at);
  for (let i = 1; i <= strides; i += 1) {
    const end = i * SEQUENCE_STRIDE - 2;
    if (record.readUInt16LE(end) !== number) throw unreadable(`${what} was written in part only`);
    record.copy(record, end, at + i * 2, at + i * 2 + 2);
  }
}

/** `record`: with its sequence restored. Errors: `guest.filesystem-unreadable`. */
export function parseFileRecord(record: Buffer, what: string): FileRecord {
  const flags = record.readUInt16LE(22);
  const attributes: Attribute[] = [];
  for (let at = record.readUInt16LE(20); ;) {
    if (at + 8 > record.length || at % 4 !== 0) throw unreadable(`${what} has attributes beyond its end`);
    if (record.readUInt32LE(at) === END) break;
    const lengthBytes = record.readUInt32LE(at + 4);
    if (lengthBytes < 24 || lengthBytes % 4 !== 0 || at + lengthBytes > record.length) {
      throw unreadable(`${what} has an attribute of ${lengthBytes} bytes`);
    }
    attributes.push(parseAttribute(record.subarray(at, at + lengthBytes), what));
    if (attributes.length > MAX_ATTRIBUTES) throw unreadable(`${what} has too many attributes`);
    at += lengthBytes;
  }
  return {
    isInUse: (flags & 1) !== 0,
    isDirectory: (flags & 2) !== 0,
    sequence: record.readUInt16LE(16),
    base: readReference(record, 32),
    attributes,
  };
}

/** A reference to a record: its number, without the count of lives in the upper 16 bits. */
export function readReference(bytes: Buffer, at: number): number {
  return bytes.readUIntLE(at, 6);
}

function parseAttribute(bytes: Buffer, what: string): Attribute {
  const nameCharacters = bytes.readUInt8(9);
  const nameAt = bytes.readUInt16LE(10);
  if (nameAt + nameCharacters * 2 > bytes.length) throw unreadable(`${what} has an attribute with a damaged name`);
  const head = {
    type: bytes.readUInt32LE(0),
    name: bytes.toString('utf16le', nameAt, nameAt + nameCharacters * 2),
    flags: bytes.readUInt16LE(12),
  };
  if (bytes.readUInt8(8) === 0) {
    const lengthBytes = bytes.readUInt32LE(16);
    const at = bytes.readUInt16LE(20);
    if (at + lengthBytes > bytes.length) throw unreadable(`${what} has a value beyond its attribute`);
    return { ...head, value: Buffer.from(bytes.subarray(at, at + lengthBytes)) };
  }
  if (bytes.length < 64) throw unreadable(`${what} has a damaged attribute`);
  const firstCluster = safeNumber(bytes, 16, what);
  return {
    ...head,
    extent: {
      firstCluster,
      runs: parseRuns(bytes.subarray(bytes.readUInt16LE(32)), what),
      // Only the first piece of a file says how long the file is.
      sizeBytes: firstCluster === 0 ? safeNumber(bytes, 48, what) : 0,
      initializedBytes: firstCluster === 0 ? safeNumber(bytes, 56, what) : 0,
    },
  };
}

/** Pairs of length and distance from the run before, each in as many bytes as the byte before them says; no distance: zeros. */
function parseRuns(bytes: Buffer, what: string): Run[] {
  const runs: Run[] = [];
  let start = 0;
  for (let at = 0; ;) {
    const header = bytes[at];
    if (header === undefined) throw unreadable(`${what} has runs without an end`);
    if (header === 0) return runs;
    const countBytes = header & 0xf;
    const distanceBytes = header >> 4;
    if (countBytes < 1 || countBytes > 6 || distanceBytes > 6 || at + 1 + countBytes + distanceBytes > bytes.length) {
      throw unreadable(`${what} has a damaged run`);
    }
    const count = bytes.readUIntLE(at + 1, countBytes);
    if (distanceBytes > 0) start += bytes.readIntLE(at + 1 + countBytes, distanceBytes);
    if (count < 1 || count > MAX_CLUSTER || start < 0 || start > MAX_CLUSTER) {
      throw unreadable(`${what} has a run that leads nowhere`);
    }
    runs.push(distanceBytes === 0 ? { count } : { count, start });
    if (runs.length > MAX_RUNS) throw unreadable(`${what} lies in too many pieces`);
    at += 1 + countBytes + distanceBytes;
  }
}

function safeNumber(bytes: Buffer, at: number, what: string): number {
  const value = bytes.readBigUInt64LE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw unreadable(`${what} has a size that no disk holds`);
  return Number(value);
}
