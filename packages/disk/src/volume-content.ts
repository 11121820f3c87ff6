/**
 * What a run of a disk holds, by the signature its makers left: a filesystem, an encrypted volume, or a part of something
 * larger. Nothing is mounted, nothing is guessed from the partition's type.
 *
 *   first 68 KiB ── ext, XFS, btrfs (at 64 KiB), FAT, NTFS, exFAT, swap; LUKS, BitLocker, LVM; MD 1.1 and 1.2
 *   last 128 KiB ── MD 0.90 and 1.0
 *
 * A member of a mirror looks like its filesystem too, so MD is asked first, and believed only with its checksum. Reads at most 200
 * KiB and the LVM text of at most 4 MiB; what a header says is checked against the run before it is followed. A damaged header is a
 * finding (`problems`); only the device can fail.
 */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { readRun } from './bytes.ts';
import { probeFilesystem, type Filesystem } from './volume-content/filesystem.ts';
import { probeBitLocker, probeLuks, type Encryption } from './volume-content/encryption.ts';
import { probeLvm, type PhysicalVolume } from './volume-content/lvm.ts';
import { probeMd, type ArrayMember } from './volume-content/md.ts';

export type VolumeContent =
  | Filesystem
  | Encryption
  | PhysicalVolume
  | ArrayMember
  /** No signature of those above; `empty`: not even a byte other than zero where they would be. */
  | { readonly kind: 'unknown' | 'empty'; readonly type: '' };

const HEAD_BYTES = 68 * 1024;

/** `device`: exactly the run (`sliceDevice`). Errors: those of `device.read`. */
export async function probeVolume(device: BlockDevice, options: { signal?: AbortSignal } = {}): Promise<VolumeContent> {
  const head = await readRun(device, 0, Math.min(HEAD_BYTES, device.sizeBytes), options);
  const found =
    (await probeMd(device, head, options)) ??
    (await probeLuks(device, head, options)) ??
    probeBitLocker(head) ??
    (await probeLvm(device, head, options)) ??
    probeFilesystem(head, device.sizeBytes);
  return found ?? { kind: head.some((byte) => byte !== 0) ? 'unknown' : 'empty', type: '' };
}
