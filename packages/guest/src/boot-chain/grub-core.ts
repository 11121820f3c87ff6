/**
 * GRUB's first two pieces on a BIOS disk, and the places they name: the boot code in the first sector names the sector of the core
 * image, and the core's first sector lists where the rest of it is. Nothing of GRUB's is run.
 *
 *   sector 0: boot.img, core's sector at 0x5c ──► core.img: [where the rest is, from 0x200 downwards] the rest
 *
 * Source: GRUB, grub-core/boot/i386/pc/boot.S and diskboot.S, include/grub/i386/pc/boot.h.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

const SECTOR_BYTES = 512;
/** boot code ends where the disk's id and the partitions begin. */
export const BOOT_CODE_BYTES = 440;
const KERNEL_SECTOR = 0x5c;
/** A jump that is taken when the BIOS gave a drive that is no hard disk; grub-bios-setup takes it out for hard disks. */
const DRIVE_CHECK = 0x66;
const NO_OPERATION = 0x9090;
const LIST_ENTRY = 0x1f4;
const LOAD_SEGMENT = 0x820;
/** It is loaded below 640 KiB. */
const MAX_CORE_BYTES = 512 * 1024;

/** The boot code of `bootImage` (boot.img, or a disk's first sector) for a core image at this place. */
export function bootCodeFor(bootImage: Uint8Array, coreOffsetBytes: number): Buffer {
  const code = Buffer.alloc(BOOT_CODE_BYTES);
  code.set(bootImage.subarray(0, BOOT_CODE_BYTES));
  code.writeBigUInt64LE(BigInt(coreOffsetBytes / SECTOR_BYTES), KERNEL_SECTOR);
  code.writeUInt16BE(NO_OPERATION, DRIVE_CHECK);
  return code;
}

/** A core image as it lies at a place, in whole sectors. Errors: `layout.unsupported` when it does not fit. */
export function coreAt(image: Uint8Array, place: { readonly offsetBytes: number; readonly roomBytes: number }): Buffer {
  const sectors = Math.ceil(image.length / SECTOR_BYTES);
  const { offsetBytes, roomBytes } = place;
  if (image.length < SECTOR_BYTES || sectors * SECTOR_BYTES > Math.min(roomBytes, MAX_CORE_BYTES)) {
    throw new LifeboatError(
      'layout.unsupported',
      `GRUB's core image has ${image.length} bytes, and there is room for ${Math.min(roomBytes, MAX_CORE_BYTES)}`,
      { context: { roomBytes, imageBytes: image.length } },
    );
  }
  const core = Buffer.alloc(sectors * SECTOR_BYTES);
  core.set(image);
  core.writeBigUInt64LE(BigInt(offsetBytes / SECTOR_BYTES + 1), LIST_ENTRY);
  core.writeUInt16LE(sectors - 1, LIST_ENTRY + 8);
  core.writeUInt16LE(LOAD_SEGMENT, LIST_ENTRY + 10);
  return core;
}
