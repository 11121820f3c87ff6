/**
 * What is inside an image, as one document: JSON-able, so that it can be stored with a point, shown, and planned from
 * without the disk.
 *
 *   GuestInspection
 *    ├─ disks        partition tables, filesystems, boot code
 *    ├─ volumes      what logical volumes and arrays hold
 *    ├─ os           name and version
 *    ├─ root         the filesystem that holds /
 *    ├─ kernels      image, initrd (generator, modules inside), module tables
 *    ├─ bootLoader   what starts a kernel, with which root=
 *    ├─ fstab        entries, and which names will change
 *    └─ space        of / and /boot
 */
import type { FilesystemSpace } from '../access/guest-tree.ts';
import type { DeviceNameUse } from '../linux/device-names.ts';
import type { MadeVolume } from '../inventory/compose-volumes.ts';
import type { ArrayNameUse } from '../linux/array-names.ts';
import type { FstabEntry } from '../linux/fstab.ts';
import type { GrubEntry, MbrLoader } from '../linux/grub.ts';
import type { IdentityFile } from '../linux/identity.ts';
import type { KernelInspection } from '../linux/kernels.ts';
import type { AddressUse } from '../linux/network-addresses.ts';
import type { OsRelease } from '../linux/os-release.ts';
import type { PartitionTable } from '@lifeboat/disk/partition-table';

export interface FilesystemInspection {
  /** Of a volume over several disks, the one where it begins. */
  readonly disk: string;
  /** Absent: the filesystem takes the whole disk. */
  readonly partition?: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** As blkid names it: ext4, vfat, swap, LVM2_member, crypto_LUKS, linux_raid_member; empty: nothing recognised. */
  readonly type: string;
  readonly uuid: string;
  readonly label: string;
  readonly partitionUuid: string;
  /** The logical volume or array that holds it; its offset and length are then those of the volume. */
  readonly volume?: MadeVolume & { readonly name: string };
  /** Of btrfs: the path of what is mounted, from the top of the filesystem; absent: what it mounts by itself. */
  readonly subvolume?: string;
}

export interface DiskInspection {
  readonly name: string;
  readonly sizeBytes: number;
  readonly table: PartitionTable;
  readonly mbrLoader: MbrLoader;
  readonly filesystems: readonly FilesystemInspection[];
}

export interface SpaceInspection extends FilesystemSpace {
  /** Guest path of the directory that was measured. */
  readonly path: string;
}

export interface GuestInspection {
  readonly formatVersion: 1;
  readonly disks: readonly DiskInspection[];
  readonly os: OsRelease;
  /** In logical volumes and arrays. */
  readonly volumes: readonly FilesystemInspection[];
  readonly root: FilesystemInspection;
  /** Mounted below the root for this inspection, by mount point. */
  readonly mounts: readonly { readonly mountPoint: string; readonly filesystem: FilesystemInspection }[];
  readonly kernels: readonly KernelInspection[];
  readonly bootLoader: {
    /** Boots through BIOS code in the MBR, through an EFI system partition, or both. */
    readonly firmware: readonly ('bios' | 'uefi')[];
    readonly grubConfigPath?: string;
    readonly grubEntries: readonly GrubEntry[];
    readonly efiFiles: readonly string[];
  };
  readonly fstab: readonly FstabEntry[];
  /** Where a disk is named by controller and order. */
  readonly unstableNames: readonly DeviceNameUse[];
  /** Where a network card is known by its address. */
  readonly networkAddresses: readonly AddressUse[];
  /** Where mdadm.conf looks for arrays by names of disks. */
  readonly arrayNames: readonly ArrayNameUse[];
  /** What a copy must not share with the original. */
  readonly identityFiles: readonly IdentityFile[];
  /** The file in which initramfs-tools is told of more modules; absent: no initramfs-tools. */
  readonly initramfsModules?: { readonly path: string; readonly modules: readonly string[] };
  /** Drivers that dracut was told to add; absent: no dracut. */
  readonly dracutDrivers?: readonly string[];
  /** LVM uses only the devices that this file names, by ids of the hardware; absent: there is none. */
  readonly lvmDevicesFile?: string;
  /** Modules that modprobe.d forbids to load by alias. */
  readonly blacklistedModules: readonly string[];
  readonly space: readonly SpaceInspection[];
}
