/**
 * Superblocks of Linux software RAID: version 1 (little-endian; at the end, the start, or 4 KiB in: 1.0, 1.1, 1.2) and 0.90 (in the
 * byte order of the machine that made it; little-endian is read here). Source: Linux, include/uapi/linux/raid/md_p.h.
 */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { littleEndian, readRun, textField, uuidAt } from '../bytes.ts';

export interface ArrayMember {
  readonly kind: 'array-member';
  /** As blkid names it. */
  readonly type: 'linux_raid_member';
  /** `0.90`, `1.0`, `1.1`, `1.2`. */
  readonly version: string;
  /** The array's. */
  readonly uuid: string;
  /** `host:name`; empty before version 1. */
  readonly label: string;
  readonly level: string;
  readonly raidDisks: number;
  /** What the array has at all: of a mirror, as much as of each member. */
  readonly arrayBytes: number;
  /** Where the array's data begins in this member. */
  readonly dataOffsetBytes: number;
  /** What this member has for data, before it is rounded to chunks. */
  readonly memberBytes: number;
  /** Zero where the level knows no chunks. */
  readonly chunkBytes: number;
  readonly role: number | 'spare' | 'faulty';
  /** Counts the array's changes; of two members, the one with more is newer. */
  readonly events: number;
  /** It is being filled from the others. */
  readonly recovering: boolean;
  /** The array was changing its shape; then nothing lies where these figures say. */
  readonly reshaping: boolean;
}

const MAGIC = 0xa92b4efc;
const SECTOR_BYTES = 512;
const V1_BYTES = 4096;
const V1_FIXED_BYTES = 256;
/** Roles above this are no places in the array. */
const MAX_DEVICES = 1920;
/** MD_FEATURE_RECOVERY_OFFSET and MD_FEATURE_RESHAPE_ACTIVE. */
const RECOVERING = 2;
const RESHAPING = 4;
const V090_BYTES = 4096;
const V090_ALIGNMENT_BYTES = 64 * 1024;
const LEVELS: Readonly<Record<number, string>> = { [-1]: 'linear', [-4]: 'multipath', [-5]: 'faulty' };

export async function probeMd(
  device: BlockDevice,
  head: Uint8Array,
  options: { signal?: AbortSignal },
): Promise<ArrayMember | undefined> {
  for (const [version, at] of [
    ['1.1', 0],
    ['1.2', 4096],
  ] as const) {
    const found = version1(head.subarray(at, at + V1_BYTES), version, at, device.sizeBytes);
    if (found) return found;
  }
  const sectors = Math.floor(device.sizeBytes / SECTOR_BYTES);
  const at10 = Math.floor((sectors - 16) / 8) * 8 * SECTOR_BYTES;
  const at090 = Math.floor(device.sizeBytes / V090_ALIGNMENT_BYTES) * V090_ALIGNMENT_BYTES - V090_ALIGNMENT_BYTES;
  if (at10 > 0) {
    const block = await readRun(device, at10, V1_BYTES, options);
    const found = version1(block, '1.0', at10, device.sizeBytes);
    if (found) return found;
  }
  return at090 > 0 ? version090(await readRun(device, at090, V090_BYTES, options), at090) : undefined;
}

function version1(sb: Uint8Array, version: string, at: number, sizeBytes: number): ArrayMember | undefined {
  if (sb.length < V1_BYTES) return undefined;
  const view = littleEndian(sb);
  if (view.u32(0) !== MAGIC || view.u32(4) !== 1 || view.u64(144) * SECTOR_BYTES !== at) return undefined;
  const devices = view.u32(220);
  if (devices > MAX_DEVICES || checksum1(sb, V1_FIXED_BYTES + devices * 2) !== view.u32(216)) return undefined;
  const dataOffsetBytes = view.u64(128) * SECTOR_BYTES;
  const raidDisks = view.u32(92);
  const level = new DataView(sb.buffer, sb.byteOffset).getInt32(72, true);
  // RAID 0 has no size of its members in common; what this one has is as much as the others have, or the array is not opened.
  const partSectors = level === 0 ? view.u64(136) : view.u64(80);
  const arrayBytes = arraySize(level, raidDisks, partSectors) * SECTOR_BYTES;
  const memberBytes = view.u64(136) * SECTOR_BYTES;
  if (!(dataOffsetBytes < sizeBytes) || ![arrayBytes, memberBytes].every(Number.isSafeInteger)) return undefined;
  const features = view.u32(8);
  const number = view.u32(160);
  const role = number < devices ? view.u16(V1_FIXED_BYTES + number * 2) : 0xffff;
  return {
    kind: 'array-member',
    type: 'linux_raid_member',
    version,
    uuid: uuidAt(sb, 16),
    label: textField(sb, 32, 32),
    level: LEVELS[level] ?? `raid${level}`,
    raidDisks,
    arrayBytes,
    dataOffsetBytes,
    memberBytes,
    chunkBytes: view.u32(88) * SECTOR_BYTES,
    role: role === 0xffff ? 'spare' : role >= 0xfffd ? 'faulty' : role,
    events: view.u64(200),
    recovering: (features & RECOVERING) !== 0,
    reshaping: (features & RESHAPING) !== 0,
  };
}

function version090(sb: Uint8Array, at: number): ArrayMember | undefined {
  const view = littleEndian(sb);
  if (view.u32(0) !== MAGIC || view.u32(4) !== 0 || view.u32(8) !== 90) return undefined;
  if (checksum090(sb) !== view.u32(152)) return undefined;
  const words = [20, 52, 56, 60].map((at) => view.u32(at).toString(16).padStart(8, '0')).join('');
  const level = new DataView(sb.buffer, sb.byteOffset).getInt32(28, true);
  const raidDisks = view.u32(40);
  // In KiB, of one member.
  const arrayBytes = arraySize(level, raidDisks, view.u32(32)) * 1024;
  const thisDisk = 992 * 4;
  const role = view.u32(thisDisk + 12);
  if (!Number.isSafeInteger(arrayBytes) || view.u32(32) * 1024 > at) return undefined;
  return {
    kind: 'array-member',
    type: 'linux_raid_member',
    version: '0.90',
    uuid: words.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
    label: '',
    level: LEVELS[level] ?? `raid${level}`,
    raidDisks,
    arrayBytes,
    dataOffsetBytes: 0,
    memberBytes: at,
    chunkBytes: view.u32(65 * 4),
    role: role < raidDisks ? role : 'spare',
    events: view.u64(39 * 4),
    // A member that is being filled is a spare until it is full; minor version 91 is an array that changes its shape.
    recovering: false,
    reshaping: false,
  };
}

/** The superblock tells the size of a member's part; levels with redundancy give less than the sum. */
function arraySize(level: number, raidDisks: number, memberSize: number): number {
  const parts =
    level === 1
      ? 1
      : level === 4 || level === 5
        ? raidDisks - 1
        : level === 6
          ? raidDisks - 2
          : level === 10
            ? raidDisks / 2
            : raidDisks;
  return Math.max(Math.floor(parts * memberSize), 0);
}

/** calc_sb_1_csum of the kernel: the words' sum with the checksum taken as zero, carries added. */
function checksum1(sb: Uint8Array, lengthBytes: number): number {
  const view = littleEndian(sb);
  let sum = -view.u32(216);
  let at = 0;
  for (; at + 4 <= lengthBytes; at += 4) sum += view.u32(at);
  if (lengthBytes - at === 2) sum += view.u16(at);
  return ((sum % 2 ** 32) + Math.floor(sum / 2 ** 32)) >>> 0;
}

/** calc_sb_csum: the same over all 4 KiB. */
function checksum090(sb: Uint8Array): number {
  const view = littleEndian(sb);
  let sum = -view.u32(152);
  for (let at = 0; at < V090_BYTES; at += 4) sum += view.u32(at);
  return ((sum % 2 ** 32) + Math.floor(sum / 2 ** 32)) >>> 0;
}
