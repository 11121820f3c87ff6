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
import { openArray, openLogicalVolume } from '@lifeboat/disk/composed-volume';
import { type Partition, type PartitionTable, readPartitionTable } from '@lifeboat/disk/partition-table';
import { probeVolume, type VolumeContent } from '@lifeboat/disk/volume-content';
import { MiB } from '@lifeboat/foundation/units';
import { readBootCode } from './boot-code.ts';
import { inventoryOfFiles, type FileSources } from './file-inventory.ts';
import type {
  DiskInventory,
  HardwareInventory,
  MachineInventory,
  PartitionInventory,
  VolumeInventory,
} from './machine-inventory.ts';

export interface InventoryDisk {
  readonly name: string;
  readonly controller?: string;
  readonly serial?: string;
  readonly device: BlockDevice;
}

interface Options {
  readonly signal?: AbortSignal;
}

/** A run of a disk, or what is made of several, with what it holds. */
export interface Volume {
  readonly name: string;
  readonly device: BlockDevice;
  readonly content: VolumeContent;
  /** Of a partition, as Linux names PARTUUID. */
  readonly partitionId?: string;
}

/** No table of any disk is longer than what Linux numbers; volumes are as many as there are, up to here. */
const MAX_VOLUMES = 1000;
/** A mirror below LVM below LUKS is three. */
const MAX_LAYERS = 4;

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

async function addVolume(volumes: Volume[], volume: Omit<Volume, 'content'>, options: Options): Promise<VolumeContent> {
  const content = await probeVolume(volume.device, options);
  volumes.push({ ...volume, content });
  return content;
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

/** Arrays first, since they are what groups are made of; then again, since a group may lie on what a group made. */
async function composeVolumes(volumes: Volume[], problems: string[], options: Options): Promise<VolumeInventory[]> {
  const found: VolumeInventory[] = [];
  const done = new Set<string>();
  for (let layer = 0; layer < MAX_LAYERS; layer += 1) {
    const before = found.length;
    await composeArrays(volumes, { found, done }, options);
    await composeGroups(volumes, { found, done, problems }, options);
    if (found.length === before) return found;
    if (found.length > MAX_VOLUMES) {
      problems.push(`there are more than ${MAX_VOLUMES} volumes; the rest is left out`);
      return found.slice(0, MAX_VOLUMES);
    }
  }
  return found;
}

async function composeArrays(
  volumes: Volume[],
  state: { found: VolumeInventory[]; done: Set<string> },
  options: Options,
): Promise<void> {
  const members = volumes.flatMap(({ content, ...volume }) =>
    content.kind === 'array-member' ? [{ ...volume, content }] : [],
  );
  for (const [uuid, parts] of Map.groupBy(members, ({ content }) => content.uuid)) {
    const [first] = parts;
    if (first === undefined || state.done.has(uuid)) continue;
    state.done.add(uuid);
    const { level, raidDisks, arrayBytes, label } = first.content;
    const name = label === '' ? `md ${uuid}` : label;
    const device = openArray(parts.map((part) => ({ member: part.content, device: part.device })));
    state.found.push({
      name,
      kind: 'array',
      sizeBytes: arrayBytes,
      layout: level,
      on: parts.map((part) => part.name),
      members: { found: parts.filter(({ content }) => typeof content.role === 'number').length, wanted: raidDisks },
      ...(device ? { content: await addVolume(volumes, { name, device }, options) } : {}),
    });
  }
}

async function composeGroups(
  volumes: Volume[],
  state: { found: VolumeInventory[]; done: Set<string>; problems: string[] },
  options: Options,
): Promise<void> {
  const parts = volumes.flatMap(({ content, ...volume }) =>
    content.kind === 'physical-volume' ? [{ ...volume, content }] : [],
  );
  for (const { name, content } of parts) {
    for (const problem of content.problems) {
      const sentence = `The LVM volume ${name}: ${problem}.`;
      if (!state.problems.includes(sentence)) state.problems.push(sentence);
    }
  }
  const groups = parts.flatMap(({ content }) => content.group ?? []);
  for (const copies of Map.groupBy(groups, ({ uuid }) => uuid).values()) {
    const group = copies.toSorted((a, b) => b.sequence - a.sequence)[0];
    if (!group || state.done.has(group.uuid)) continue;
    state.done.add(group.uuid);
    const devices = new Map(
      group.physicalVolumes.flatMap(({ name, uuid }) => {
        const part = parts.find(({ content }) => content.uuid === uuid);
        return part ? [[name, part] as const] : [];
      }),
    );
    for (const lost of group.physicalVolumes.filter(({ name }) => !devices.has(name))) {
      state.problems.push(`The volume group ${group.name} lacks its physical volume ${lost.uuid} (${lost.device}).`);
    }
    for (const volume of group.logicalVolumes.filter(({ visible }) => visible).slice(0, MAX_VOLUMES)) {
      const name = `${group.name}/${volume.name}`;
      const device = openLogicalVolume(group, volume, new Map([...devices].map(([key, part]) => [key, part.device])));
      const on = new Set(
        volume.segments.flatMap(({ stripes }) =>
          stripes.flatMap(({ physicalVolume }) => devices.get(physicalVolume)?.name ?? []),
        ),
      );
      state.found.push({
        name,
        kind: 'logical-volume',
        sizeBytes: volume.sizeBytes,
        layout: layoutOf(volume.segments),
        on: [...on],
        ...(device ? { content: await addVolume(volumes, { name, device }, options) } : {}),
      });
    }
  }
}

function layoutOf(segments: readonly { type: string; stripes: readonly unknown[] }[]): string {
  const types = new Set(
    segments.map(({ type, stripes }) => (type === 'striped' && stripes.length === 1 ? 'linear' : type)),
  );
  return [...types].join('+');
}
