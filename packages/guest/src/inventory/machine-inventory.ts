/**
 * What a machine is made of, as one document: stored with each recovery point as `inventory.json`, shown to people, read by
 * programs. Fields are only ever added; a reader passes over what it does not know.
 *
 *   MachineInventory
 *    ├─ hardware   as the hypervisor had defined it: firmware, NICs with their addresses
 *    ├─ disks      controller, partition table, boot code; per partition alignment and content
 *    ├─ volumes    logical volumes and arrays, made of partitions
 *    ├─ efiLoaders whose they are
 *    ├─ systems    Linux: release, kernels with their initrds, what asks for disks and networks by name
 *    ├─ windows    version, control set, drivers for disk controllers, state of its hives
 *    └─ problems   what could not be found out, a sentence each
 *
 * Everything below `disks` and `volumes` comes from bytes the guest wrote: text in it may say anything.
 */
import type { VolumeContent } from '@lifeboat/disk/volume-content';
import type { FstabEntry } from '../linux/fstab.ts';
import type { GrubEntry, MbrLoader } from '../linux/grub.ts';
import type { NetworkFile } from '../linux/network-names.ts';
import type { OsRelease } from '../linux/os-release.ts';
import type { CrypttabEntry, MdadmArray } from '../linux/volume-names.ts';
import type { WindowsInspection } from '../windows/windows-inspection.ts';
import type { EfiLoader } from './efi-loaders.ts';

export interface MachineInventory {
  readonly version: 1;
  /** Unix ms. */
  readonly takenAtMs: number;
  readonly hardware?: HardwareInventory;
  readonly disks: readonly DiskInventory[];
  readonly volumes: readonly VolumeInventory[];
  /** On EFI system partitions. */
  readonly efiLoaders: readonly (EfiLoader & { readonly volume: string })[];
  /** Installed Linux systems, as far as their root could be read. */
  readonly systems: readonly SystemInventory[];
  /** Absent: none was found, or the inventory is older than the reading of NTFS. */
  readonly windows?: readonly WindowsInspection[];
  readonly problems: readonly string[];
}

export interface HardwareInventory {
  readonly firmware: 'bios' | 'uefi';
  readonly secureBoot?: boolean;
  readonly tpm?: string;
  readonly machineType?: string;
  readonly memoryMiB: number;
  readonly vcpus: number;
  readonly nics: readonly { readonly mac: string; readonly model: string; readonly network?: string }[];
}

export interface DiskInventory {
  readonly name: string;
  readonly sizeBytes: number;
  readonly controller?: string;
  readonly serial?: string;
  readonly scheme: 'gpt' | 'mbr' | 'none';
  readonly sectorBytes: number;
  /** GPT: the disk GUID; MBR: the signature as 8 hex digits. */
  readonly diskId: string;
  /**
   * What sector 0 says on a GPT disk: `protective` as it should be, `hybrid` when it lists partitions of its own beside, `missing`
   * when it does not protect the table. Absent on other disks.
   */
  readonly protectiveMbr?: 'protective' | 'hybrid' | 'missing';
  /** Of the partition table, a sentence each. */
  readonly tableProblems: readonly string[];
  readonly bootCode: BootCode;
  readonly partitions: readonly PartitionInventory[];
  /** Of a disk without partitions. */
  readonly content?: VolumeContent;
}

export interface BootCode {
  readonly loader: MbrLoader;
  /** Of the 440 bytes of code, as hex; absent where there is none. Tells foreign loaders apart. */
  readonly sha256?: string;
  /** Where GRUB's first sector finds the rest of it. */
  readonly grubCore?: {
    readonly offsetBytes: number;
    readonly lengthBytes: number;
    /** `gap`: between the table and the first partition. */
    readonly place: 'gap' | 'bios-boot-partition' | 'partition' | 'unusable';
  };
}

export interface PartitionInventory {
  readonly number: number;
  readonly startBytes: number;
  readonly lengthBytes: number;
  /** The greatest power of two that the start is a multiple of; nothing above 1 MiB is told. */
  readonly alignmentBytes: number;
  readonly type: string;
  readonly role: 'primary' | 'extended' | 'logical' | 'gpt';
  readonly partitionId: string;
  readonly name: string;
  readonly bootable: boolean;
  /** Absent for an extended partition, which is only the room of others. */
  readonly content?: VolumeContent;
}

export interface VolumeInventory {
  /** `vg0/root`; of an array its name, or its UUID. */
  readonly name: string;
  readonly kind: 'logical-volume' | 'array';
  readonly sizeBytes: number;
  /** `linear`, `striped`, `raid1`, `thin`. */
  readonly layout: string;
  /** Disks and partitions it lies on: `vda2`. */
  readonly on: readonly string[];
  /** Of an array: members that were there, of how many. */
  readonly members?: { readonly found: number; readonly wanted: number };
  /** Absent where its layout is not read here, or a part of it was not there. */
  readonly content?: VolumeContent;
}

export interface SystemInventory {
  /** Where its root lies: `vda2`, `vg0/root`. */
  readonly root: string;
  readonly os: OsRelease;
  /** Of its programs; empty where none could be read. */
  readonly architecture: string;
  readonly kernels: readonly KernelInventory[];
  readonly kernelCommandLines: readonly GrubEntry[];
  readonly fstab: readonly FstabEntry[];
  readonly crypttab: readonly CrypttabEntry[];
  readonly arrays: readonly MdadmArray[];
  readonly network: readonly NetworkFile[];
}

export interface KernelInventory {
  readonly version: string;
  readonly imagePath: string;
  readonly initrd?: InitrdInventory;
  readonly problems: readonly string[];
}

export interface InitrdInventory {
  readonly path: string;
  readonly sizeBytes: number;
  /** Another one whenever the file was written to. */
  readonly stamp: string;
  readonly generator: 'initramfs-tools' | 'dracut' | 'booster' | 'mkinitcpio' | 'unknown';
  readonly compression: readonly string[];
  /** Modules inside that drive disks, or what disks hang on; for this kernel. */
  readonly bootDrivers: readonly string[];
}

/** The name of the point's file. */
export const INVENTORY_FILE = 'inventory.json';
