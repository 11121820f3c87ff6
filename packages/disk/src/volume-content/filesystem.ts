/** Superblocks: what a filesystem says of itself in its first 68 KiB. Types and UUIDs are written as blkid writes them. */
import { ascii, littleEndian, textField, uuidAt } from '../bytes.ts';

export interface Filesystem {
  readonly kind: 'filesystem';
  /** ext2, ext3, ext4, xfs, btrfs, vfat, exfat, ntfs, swap. */
  readonly type: string;
  /** FAT: `1234-ABCD`; NTFS: 16 hex digits; empty where there is none. */
  readonly uuid: string;
  readonly label: string;
  /** What the filesystem takes of its volume; absent where its superblock does not say. */
  readonly sizeBytes?: number;
  readonly blockBytes?: number;
  /** Sentences on its state: errors found by its own kernel, a journal to be replayed, a size beyond the volume. */
  readonly notes: readonly string[];
}

interface Superblock extends Omit<Filesystem, 'kind' | 'notes'> {
  readonly notes?: readonly string[];
}

export function probeFilesystem(head: Uint8Array, volumeBytes: number): Filesystem | undefined {
  const found = ext(head) ?? xfs(head) ?? btrfs(head) ?? ntfs(head) ?? exfat(head) ?? fat(head) ?? swap(head);
  if (!found) return undefined;
  const { sizeBytes, notes = [] } = found;
  const tooBig =
    sizeBytes !== undefined && sizeBytes > volumeBytes
      ? [`it says it has ${sizeBytes} bytes, more than the ${volumeBytes} of its volume`]
      : [];
  return { kind: 'filesystem', ...found, notes: [...notes, ...tooBig] };
}

/** Linux, fs/ext4/ext4.h, struct ext4_super_block, at 1024. */
function ext(head: Uint8Array): Superblock | undefined {
  const sb = head.subarray(1024, 2048);
  if (sb.length < 1024) return undefined;
  const view = littleEndian(sb);
  const logBlock = view.u32(24);
  if (view.u16(56) !== 0xef53 || logBlock > 6) return undefined;
  const [compat, incompat, roCompat] = [view.u32(92), view.u32(96), view.u32(100)];
  const HAS_JOURNAL = 0x4;
  const JOURNAL_DEVICE = 0x8;
  const RECOVER = 0x4;
  const BITS_64 = 0x80;
  if ((incompat & JOURNAL_DEVICE) !== 0) return undefined;
  // As libblkid decides: features that ext3's driver does not know make it ext4.
  const EXT3_INCOMPAT = 0x2 | RECOVER | 0x10;
  const EXT3_RO_COMPAT = 0x1 | 0x2 | 0x4;
  const isExt4 = (incompat & ~EXT3_INCOMPAT) !== 0 || (roCompat & ~EXT3_RO_COMPAT) !== 0;
  const type = isExt4 ? 'ext4' : (compat & HAS_JOURNAL) === 0 ? 'ext2' : 'ext3';
  const blockBytes = 1024 << logBlock;
  const blocks = view.u32(4) + ((incompat & BITS_64) === 0 ? 0 : view.u32(0x150) * 2 ** 32);
  const state = view.u16(58);
  return {
    type,
    uuid: uuidAt(sb, 104),
    label: textField(sb, 120, 16),
    blockBytes,
    sizeBytes: blocks * blockBytes,
    notes: [
      ...((incompat & RECOVER) === 0 ? [] : ['its journal is to be replayed']),
      ...((state & 2) === 0 ? [] : ['its kernel found errors in it']),
    ],
  };
}

/** Linux, fs/xfs/libxfs/xfs_format.h, struct xfs_dsb; big-endian. */
function xfs(head: Uint8Array): Superblock | undefined {
  if (head.length < 512 || ascii(head, 0, 4) !== 'XFSB') return undefined;
  const sb = Buffer.from(head.buffer, head.byteOffset, 512);
  const blockBytes = sb.readUInt32BE(4);
  if (blockBytes < 512 || blockBytes > 65_536 || (blockBytes & (blockBytes - 1)) !== 0) return undefined;
  return {
    type: 'xfs',
    uuid: uuidAt(sb, 32),
    label: textField(sb, 108, 12),
    blockBytes,
    sizeBytes: Number(sb.readBigUInt64BE(8)) * blockBytes,
  };
}

/** Linux, include/uapi/linux/btrfs_tree.h, struct btrfs_super_block, at 64 KiB. */
function btrfs(head: Uint8Array): Superblock | undefined {
  const sb = head.subarray(65_536);
  if (sb.length < 0x200 || ascii(sb, 64, 8) !== '_BHRfS_M') return undefined;
  const devices = littleEndian(sb).u64(0x88);
  return {
    type: 'btrfs',
    uuid: uuidAt(sb, 32),
    label: textField(sb, 0x12b, 256),
    blockBytes: littleEndian(sb).u32(0x90),
    notes: devices > 1 ? [`it is one of the ${devices} devices of its filesystem`] : [],
  };
}

/** The serial number is shown with its bytes turned, as every tool does. */
function ntfs(head: Uint8Array): Superblock | undefined {
  if (head.length < 512 || ascii(head, 3, 8) !== 'NTFS    ') return undefined;
  const view = littleEndian(head);
  const sectorBytes = view.u16(11);
  if (![512, 1024, 2048, 4096].includes(sectorBytes)) return undefined;
  const sectors = view.u64(40);
  return {
    type: 'ntfs',
    uuid: view.bits64(72).toString(16).toUpperCase().padStart(16, '0'),
    label: '', // in the file $Volume, not in the boot sector
    ...(Number.isFinite(sectors) ? { sizeBytes: sectors * sectorBytes } : {}),
  };
}

function exfat(head: Uint8Array): Superblock | undefined {
  if (head.length < 512 || ascii(head, 3, 8) !== 'EXFAT   ') return undefined;
  const view = littleEndian(head);
  const shift = head[108] ?? 0;
  if (shift < 9 || shift > 12) return undefined;
  const sectors = view.u64(72);
  return {
    type: 'exfat',
    uuid: serial(view.u32(100)),
    label: '', // in the root directory
    ...(Number.isFinite(sectors) ? { sizeBytes: sectors * 2 ** shift } : {}),
  };
}

/** The fields every FAT boot sector must have, and the text that says which FAT it is. */
function fat(head: Uint8Array): Superblock | undefined {
  if (head.length < 512 || head[510] !== 0x55 || head[511] !== 0xaa) return undefined;
  const isFat32 = ascii(head, 82, 5) === 'FAT32';
  if (!isFat32 && ascii(head, 54, 3) !== 'FAT') return undefined;
  const view = littleEndian(head);
  const sectorBytes = view.u16(11);
  const clusterSectors = head[13] ?? 0;
  const isPower = clusterSectors !== 0 && (clusterSectors & (clusterSectors - 1)) === 0;
  if (![512, 1024, 2048, 4096].includes(sectorBytes) || !isPower || (head[16] ?? 0) === 0) return undefined;
  const at = isFat32 ? 67 : 39;
  const label = ascii(head, at + 4, 11).trimEnd();
  return {
    type: 'vfat',
    uuid: serial(view.u32(at)),
    label: label === 'NO NAME' ? '' : label,
    sizeBytes: (view.u16(19) || view.u32(32)) * sectorBytes,
  };
}

/** The signature ends the first page, and pages have many sizes. Linux, include/linux/swap.h, union swap_header. */
function swap(head: Uint8Array): Superblock | undefined {
  for (const pageBytes of [4096, 8192, 16_384, 32_768, 65_536]) {
    if (head.length < pageBytes || ascii(head, pageBytes - 10, 10) !== 'SWAPSPACE2') continue;
    return { type: 'swap', uuid: uuidAt(head, 1024 + 12), label: textField(head, 1024 + 28, 16) };
  }
  return undefined;
}

function serial(value: number): string {
  return value
    .toString(16)
    .toUpperCase()
    .padStart(8, '0')
    .replace(/^(.{4})/, '$1-');
}
