/**
 * A disk with a real GRUB whose files are gone: the first partition, where its prefix points to, holds no filesystem.
 * What a machine looks like whose boot loader was restored and whose root was not.
 *
 *   0: boot.img   1..: core.img (disk, MBR, ext2; no `normal`)   1 MiB: an empty partition
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { MiB } from '@lifeboat/foundation/units';

const GRUB = '/usr/lib/grub/i386-pc';
const SECTOR_BYTES = 512;
/** Boot code ends where disk id and partition table begin. */
const BOOT_CODE_BYTES = 440;
const PARTITION_AT = 446;

/** The first MiB of the disk. Offsets: GRUB's grub-core/boot/i386/pc/{boot,diskboot}.S, and as scripts/build-guest.sh says. */
export function orphanedGrub(workPath: string): Buffer {
  const image = `${workPath}.core`;
  const modules = ['biosdisk', 'part_msdos', 'ext2'];
  const prefix = '(hd0,msdos1)/boot/grub';
  execFileSync('grub-mkimage', ['-O', 'i386-pc', '-d', GRUB, '-p', prefix, '-o', image, ...modules]);
  const core = readFileSync(image);
  rmSync(image);
  const disk = Buffer.alloc(MiB);
  readFileSync(`${GRUB}/boot.img`).copy(disk, 0, 0, BOOT_CODE_BYTES);
  disk.writeBigUInt64LE(1n, 0x5c);
  disk.writeUInt16LE(0x9090, 0x66);
  // The core's first sector loads the rest: from where, how many sectors, to which segment.
  core.copy(disk, SECTOR_BYTES);
  disk.writeBigUInt64LE(2n, SECTOR_BYTES + 0x1f4);
  disk.writeUInt16LE(Math.ceil(core.length / SECTOR_BYTES) - 1, SECTOR_BYTES + 0x1fc);
  disk.writeUInt16LE(0x820, SECTOR_BYTES + 0x1fe);
  disk.writeUInt8(0x80, PARTITION_AT);
  disk.writeUInt8(0x83, PARTITION_AT + 4);
  disk.writeUInt32LE(MiB / SECTOR_BYTES, PARTITION_AT + 8);
  disk.writeUInt32LE((16 * MiB) / SECTOR_BYTES, PARTITION_AT + 12);
  disk.writeUInt16BE(0x55aa, SECTOR_BYTES - 2);
  return disk;
}
