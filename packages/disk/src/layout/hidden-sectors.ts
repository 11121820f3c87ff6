/**
 * The field in the boot sector of NTFS and FAT that says how many sectors lie before the volume ("hidden sectors", at 0x1C): BIOS
 * boot code of Windows and DOS reads the disk by it. Windows writes the sector where the volume begins; of a logical partition, old
 * systems wrote how far it is from its extended boot record. What is neither stays as it is.
 */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { littleEndian, readRun } from '../bytes.ts';
import { probeFilesystem } from '../volume-content/filesystem.ts';
import type { DiskPiece } from './encode-table.ts';

const FIELD = 0x1c;
const SECTOR_BYTES = 512;
/** FAT32: where its second boot sector is. */
const FAT32_BACKUP = 50;
const NTFS_SECTORS = 0x28;
/** What CHS partitioning left between an extended boot record and its volume, and what alignment leaves. */
const OLD_LEAD = 63;
const ALIGNED_LEAD = 2048;

/**
 * The boot sectors of a volume that moves, changed, by their places in the volume. Empty: it has none that count.
 * Errors: those of `volume.read`.
 */
export async function movedBootSectors(
  volume: BlockDevice,
  move: { readonly fromBytes: number; readonly toBytes: number; readonly isLogical: boolean },
  options: { signal?: AbortSignal } = {},
): Promise<DiskPiece[]> {
  if (volume.sizeBytes < 2 * SECTOR_BYTES) return [];
  const first = await readRun(volume, 0, SECTOR_BYTES, options);
  const type = probeFilesystem(first, volume.sizeBytes)?.type;
  if (type !== 'ntfs' && type !== 'vfat') return [];
  const hidden = newHidden(littleEndian(first).u32(FIELD), move);
  if (hidden === undefined) return [];
  const pieces = [{ offsetBytes: 0, bytes: changed(first, hidden) }];
  const backup = backupPlace(first, type) * SECTOR_BYTES;
  if (backup > 0 && backup + SECTOR_BYTES <= volume.sizeBytes) {
    const copy = await readRun(volume, backup, SECTOR_BYTES, options);
    if (probeFilesystem(copy, volume.sizeBytes)?.type === type) {
      pieces.push({ offsetBytes: backup, bytes: changed(copy, hidden) });
    }
  }
  return pieces;
}

function newHidden(
  old: number,
  move: { readonly fromBytes: number; readonly toBytes: number; readonly isLogical: boolean },
): number | undefined {
  const [from, to] = [move.fromBytes / SECTOR_BYTES, move.toBytes / SECTOR_BYTES];
  if (from === to || to > 0xffff_ffff) return undefined;
  if (move.isLogical && old === OLD_LEAD && from !== OLD_LEAD) return ALIGNED_LEAD;
  return old === from ? to : undefined;
}

function backupPlace(first: Uint8Array, type: 'ntfs' | 'vfat'): number {
  const view = littleEndian(first);
  if (type === 'ntfs') {
    const sectors = view.u64(NTFS_SECTORS);
    return view.u16(11) === SECTOR_BYTES && Number.isFinite(sectors) ? sectors : 0;
  }
  return Buffer.from(first.subarray(82, 87)).toString('latin1') === 'FAT32' ? view.u16(FAT32_BACKUP) : 0;
}

function changed(sector: Uint8Array, hidden: number): Uint8Array {
  const copy = Buffer.from(sector);
  copy.writeUInt32LE(hidden, FIELD);
  return copy;
}
