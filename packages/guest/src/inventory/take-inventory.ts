/**
 * Takes the inventory of disks by reading them: nothing is mounted, nothing runs but this code, and what is read is bounded, so
 * that it can be done for every point of a machine nobody vouches for.
 *
 * 1. Per disk: partition table, boot code, content of each partition.
 * 2. Physical volumes and array members, over all disks, become logical volumes and arrays, whose contents are looked at too.
 * 3. Of each volume with a filesystem that is read here: loaders on FAT, Linux systems on ext (file-inventory.ts).
 */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { readRun, sliceDevice } from '@lifeboat/disk/bytes';
import { type Partition, type PartitionTable, readPartitionTable } from '@lifeboat/disk/partition-table';
import { MiB } from '@lifeboat/foundation/units';
import { readBootCode } from './boot-code.ts';
import { addVolume, composeVolumes, type Volume } from './compose-volumes.ts';
import { inventoryOfFiles, type FileSources } from './file-inventory.ts';
import type { DiskInventory, HardwareInventory, MachineInventory, PartitionInventory } from './machine-inventory.ts';

export interface InventoryDisk {
  readonly name: string;
  readonly controller?: string;
  readonly serial?: string;
  readonly device: BlockDevice;
}

interface Options {
  readonly signal?: AbortSignal;
}

/** Errors: those of the devices; the signal's reason. */
export async function takeInventory(
  input: {
    readonly disks: readonly InventoryDisk[];
    readonly hardware?: HardwareInventory;
    readonly takenAtMs: number;
    readonly files: FileSources;
  },
  options: Options = {},
): Promise<MachineInventory> {
  const problems: string[] = [];
  const disks: DiskInventory[] = [];
  const volumes: Volume[] = [];
  for (const disk of input.disks) disks.push(await inventoryOf(disk, volumes, options));
  const composed = await composeVolumes(volumes, problems, options);
  return {
    version: 1,
    takenAtMs: input.takenAtMs,
    ...(input.hardware ? { hardware: input.hardware } : {}),
    disks,
    volumes: composed,
    ...(await inventoryOfFiles(volumes, { problems, ...input.files }, options)),
    problems,
  };
}

async function inventoryOf(disk: InventoryDisk, volumes: Volume[], options: Options): Promise<DiskInventory> {
  const { name, device, controller, serial } = disk;
  const table = await readPartitionTable(device, options);
  const partitions: PartitionInventory[] = [];
  for (const partition of table.partitions) {
    const { startBytes: offsetBytes, lengthBytes, role } = partition;
    const content =
      role === 'extended'
        ? undefined
        : await addVolume(
            volumes,
            {
              name: partitionName(name, partition.number),
              device: sliceDevice(device, { offsetBytes, lengthBytes }),
              partitionId: partition.partitionId,
            },
            options,
          );
    partitions.push({ ...partition, alignmentBytes: alignmentOf(offsetBytes), ...(content ? { content } : {}) });
  }
  const content = table.scheme === 'none' ? await addVolume(volumes, { name, device }, options) : undefined;
  const protectiveMbr = await protectionOf(device, table, options);
  return {
    name,
    sizeBytes: device.sizeBytes,
    ...(controller === undefined ? {} : { controller }),
    ...(serial === undefined ? {} : { serial }),
    scheme: table.scheme,
    sectorBytes: table.sectorBytes,
    diskId: table.diskId,
    ...(protectiveMbr ? { protectiveMbr } : {}),
    tableProblems: table.problems,
    bootCode: await readBootCode(device, table, options),
    partitions,
    ...(content ? { content } : {}),
  };
}

/** `sda1`, `nvme0n1p1`: as Linux names them. */
function partitionName(disk: string, number: number): string {
  return /\d$/.test(disk) ? `${disk}p${number}` : `${disk}${number}`;
}

function alignmentOf(startBytes: number): number {
  let alignment = MiB;
  while (startBytes % alignment !== 0) alignment /= 2;
  return alignment;
}

const PROTECTIVE = 0xee;

async function protectionOf(
  device: BlockDevice,
  table: PartitionTable,
  options: Options,
): Promise<DiskInventory['protectiveMbr']> {
  if (table.scheme !== 'gpt') return undefined;
  const sector = await readRun(device, 0, 512, options);
  const types = [446, 462, 478, 494].map((at) => sector[at + 4] ?? 0).filter((type) => type !== 0);
  if (sector[510] !== 0x55 || sector[511] !== 0xaa || !types.includes(PROTECTIVE)) return 'missing';
  return types.some((type: Partition['number']) => type !== PROTECTIVE) ? 'hybrid' : 'protective';
}
