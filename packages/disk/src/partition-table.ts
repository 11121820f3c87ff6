/**
 * The partition table of a disk as data: GPT (both copies, checksums) and MBR (primary, extended, logical).
 *
 * A damaged table is a finding, not an exception: what could be read is returned together with `problems` in words.
 * Only the device itself can fail. Nothing is repaired.
 */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { readGpt } from './partition-table/gpt.ts';
import { readMbr } from './partition-table/mbr.ts';

export interface Partition {
  /** As Linux numbers it: GPT slot + 1; MBR primary 1 to 4, logical from 5. */
  readonly number: number;
  readonly startBytes: number;
  readonly lengthBytes: number;
  /** GPT: the type GUID, lower case. MBR: the type byte as `0x83`. */
  readonly type: string;
  readonly role: 'primary' | 'extended' | 'logical' | 'gpt';
  /** GPT: the partition GUID. MBR: `<disk id>-<number>`, as Linux names PARTUUID. */
  readonly partitionId: string;
  /** GPT name; empty elsewhere. */
  readonly name: string;
  /** MBR active flag, or GPT's legacy BIOS bootable attribute. */
  readonly bootable: boolean;
  /** GPT: the attribute bits as `0x…`, where there are others than the one above. */
  readonly attributes?: string;
}

export interface PartitionTable {
  readonly scheme: 'gpt' | 'mbr' | 'none';
  readonly sectorBytes: number;
  /** GPT: the disk GUID. MBR: the signature as 8 hex digits. Empty without a table. */
  readonly diskId: string;
  /** In order of their numbers. */
  readonly partitions: readonly Partition[];
  /** What is wrong with the table, a sentence each; empty for a healthy one. */
  readonly problems: readonly string[];
}

export const partitionTypes = {
  efiSystem: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
  biosBoot: '21686148-6449-6e6f-744e-656564454649',
  linuxFilesystem: '0fc63daf-8483-4772-8e79-3d69d8477de4',
  linuxLvm: 'e6d6d379-f507-44c2-a23c-238f2a3df928',
  linuxRaid: 'a19d880f-05fc-4d3b-a006-743f0f84911e',
  mbrEfiSystem: '0xef',
} as const;

const SECTOR_SIZES = [512, 4096] as const;

/** Reads the table of `device`. Errors: those of `device.read`. */
export async function readPartitionTable(
  device: BlockDevice,
  options: { signal?: AbortSignal } = {},
): Promise<PartitionTable> {
  // A disk tells its sector size only by where its GPT header lies, so the 4Kn place is tried when 512 shows none.
  for (const sectorBytes of SECTOR_SIZES) {
    const gpt = await readGpt(device, sectorBytes, options);
    if (gpt) return gpt;
  }
  return (
    (await readMbr(device, options)) ?? { scheme: 'none', sectorBytes: 512, diskId: '', partitions: [], problems: [] }
  );
}
