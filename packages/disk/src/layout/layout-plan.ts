/** A disk's partitions as they are to lie on a target: what `planLayout` decides and everything else carries out. JSON. */
import type { ErrorCode } from '@lifeboat/foundation/catalogue';
import type { PartitionTable } from '../partition-table.ts';
import type { VolumeContent } from '../volume-content.ts';

export interface LayoutRequest {
  /**
   * `keep`: every partition begins where it began. `aligned`: what does not begin on a boundary of 1 MiB moves to the next.
   * `gpt`: as `aligned`, and an MBR becomes a GPT.
   */
  readonly scheme: 'keep' | 'aligned' | 'gpt';
  readonly target: { readonly sizeBytes: number; readonly sectorBytes: number };
  /** The partition that takes or gives the difference to the target's size; the others keep theirs. */
  readonly resize?: number | 'last';
  /** Partitions to bring; all when absent. */
  readonly only?: readonly number[];
  /** `uefi`: the disk is also to start by UEFI, so it gets an EFI system partition if it has none. */
  readonly firmware: 'same' | 'uefi';
  /** `new`: the target is to be told from the original, which stays online. */
  readonly ids: 'kept' | 'new';
}

export interface LayoutSource {
  readonly name: string;
  readonly sizeBytes: number;
  readonly table: PartitionTable;
  /** By the partition's number; extended partitions have none. */
  readonly contents: ReadonlyMap<number, VolumeContent>;
  readonly boot: SourceBoot;
}

export interface SourceBoot {
  /** Whose code is in the first sector. */
  readonly loader: 'grub' | 'windows' | 'other' | 'none';
  /** Where GRUB's core image lies; absent without GRUB. */
  readonly core?: {
    readonly offsetBytes: number;
    readonly lengthBytes: number;
    readonly place: 'gap' | 'bios-boot-partition' | 'partition' | 'unusable';
  };
}

export interface PlannedPartition {
  readonly number: number;
  /** Of the source; absent: added. */
  readonly from?: { readonly number: number; readonly startBytes: number; readonly lengthBytes: number };
  readonly startBytes: number;
  readonly lengthBytes: number;
  readonly type: string;
  readonly role: 'primary' | 'extended' | 'logical' | 'gpt';
  /** Absent: a new one is made when the table is written. */
  readonly partitionId?: string;
  readonly name: string;
  readonly bootable: boolean;
  readonly attributes?: string;
  /** What it holds, in a word for people. */
  readonly holds: string;
  /** The volume is to become as large as its partition, with its own tool. */
  readonly volume?: { readonly change: 'grow' | 'shrink'; readonly tool: ResizeTool };
}

export type ResizeTool = 'ext' | 'xfs' | 'btrfs' | 'ntfs';

/** How the disk's BIOS boot loader comes along. */
export type BootPlan =
  /** There is none, or none of GRUB: the first sector's code is copied as it is. */
  | { readonly kind: 'copy' }
  /** GRUB's core image is copied to a place, and what names the place is changed. */
  | { readonly kind: 'move-core'; readonly offsetBytes: number }
  /** A new core image is made: the old one could not find its files in this table. */
  | { readonly kind: 'new-core'; readonly offsetBytes: number; readonly roomBytes: number };

export interface LayoutRefusal {
  readonly code: Extract<ErrorCode, `layout.${string}`>;
  /** Whole sentences. */
  readonly text: string;
}

export interface LayoutPlan {
  readonly disk: string;
  readonly scheme: 'gpt' | 'mbr';
  readonly sizeBytes: number;
  readonly sectorBytes: number;
  /** Absent: a new one is made. */
  readonly diskId?: string;
  /** In order of their numbers. */
  readonly partitions: readonly PlannedPartition[];
  readonly boot: BootPlan;
  /** Number of the partition that is to get a loader for UEFI. */
  readonly efiSystemPartition?: number;
  readonly warnings: readonly string[];
  /** Non-empty: nothing is written. */
  readonly refusals: readonly LayoutRefusal[];
}
