/**
 * The bytes of a planned partition table: a GPT with both copies and its protective MBR, or an MBR with its chain of extended boot
 * records. Sources: UEFI 2.10, chapter 5; for the chain, what every tool reads (partition-table/mbr.ts).
 */
import { crc32 } from 'node:zlib';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { Random } from '@lifeboat/foundation/random';
import { MiB } from '@lifeboat/foundation/units';
import type { LayoutPlan, PlannedPartition } from './layout-plan.ts';

/** Bytes for one place of a disk. */
export interface DiskPiece {
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
}

/** A plan whose ids are all there, so that the same table is written however often. */
export type NumberedPlan = LayoutPlan & {
  readonly diskId: string;
  readonly partitions: readonly (PlannedPartition & { readonly partitionId: string })[];
};

const BOOT_CODE_BYTES = 440;
const MBR_ENTRIES = 446;
const MBR_SECTOR_BYTES = 512;
const GPT_HEADER_BYTES = 92;
const GPT_ENTRY_BYTES = 128;
const GPT_ENTRIES = 128;
const GPT_NAME_CHARACTERS = 36;
const PROTECTIVE = 0xee;
const LEGACY_BIOS_BOOTABLE = 1n << 2n;
const MAX_32 = 0xffff_ffff;

/** Makes the ids that the plan leaves open. */
export function withIds(plan: LayoutPlan, random: Random): NumberedPlan {
  const guid = (): string => {
    const bytes = Buffer.from(random.bytes(16));
    // A random GUID says that it is one (RFC 9562, version 4).
    bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
    bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
    return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  };
  const diskId = plan.diskId ?? (plan.scheme === 'gpt' ? guid() : Buffer.from(random.bytes(4)).toString('hex'));
  const partitions = plan.partitions.map((partition) => ({
    ...partition,
    partitionId:
      partition.partitionId ??
      (plan.scheme === 'gpt' ? guid() : `${diskId}-${partition.number.toString(16).padStart(2, '0')}`),
  }));
  return { ...plan, diskId, partitions };
}

/** `bootCode`: of the first sector, at most 440 bytes. In order of their places. */
export function encodeTable(plan: NumberedPlan, bootCode: Uint8Array): DiskPiece[] {
  return plan.scheme === 'gpt' ? encodeGpt(plan, bootCode) : encodeMbr(plan, bootCode);
}

function encodeGpt(plan: NumberedPlan, bootCode: Uint8Array): DiskPiece[] {
  const { sectorBytes } = plan;
  const sectors = Math.floor(plan.sizeBytes / sectorBytes);
  const entries = Buffer.alloc(GPT_ENTRIES * GPT_ENTRY_BYTES);
  for (const partition of plan.partitions) {
    const { number, startBytes, lengthBytes } = partition;
    const at = (number - 1) * GPT_ENTRY_BYTES;
    guidBytes(partition.type).copy(entries, at);
    guidBytes(partition.partitionId).copy(entries, at + 16);
    entries.writeBigUInt64LE(BigInt(wholeSectors(startBytes, sectorBytes)), at + 32);
    entries.writeBigUInt64LE(BigInt(wholeSectors(startBytes + lengthBytes, sectorBytes) - 1), at + 40);
    const other = BigInt(partition.attributes ?? '0x0') & ~LEGACY_BIOS_BOOTABLE;
    entries.writeBigUInt64LE(other | (partition.bootable ? LEGACY_BIOS_BOOTABLE : 0n), at + 48);
    entries.write(partition.name.slice(0, GPT_NAME_CHARACTERS), at + 56, 'utf16le');
  }
  const entrySectors = entries.length / sectorBytes;
  const last = sectors - 1;
  const header = (ownLba: number, otherLba: number, entriesLba: number): Buffer => {
    const block = Buffer.alloc(sectorBytes);
    block.write('EFI PART', 'latin1');
    block.writeUInt32LE(0x0001_0000, 8);
    block.writeUInt32LE(GPT_HEADER_BYTES, 12);
    block.writeBigUInt64LE(BigInt(ownLba), 24);
    block.writeBigUInt64LE(BigInt(otherLba), 32);
    block.writeBigUInt64LE(BigInt(2 + entrySectors), 40);
    block.writeBigUInt64LE(BigInt(last - entrySectors - 1), 48);
    guidBytes(plan.diskId).copy(block, 56);
    block.writeBigUInt64LE(BigInt(entriesLba), 72);
    block.writeUInt32LE(GPT_ENTRIES, 80);
    block.writeUInt32LE(GPT_ENTRY_BYTES, 84);
    block.writeUInt32LE(crc32(entries), 88);
    block.writeUInt32LE(crc32(block.subarray(0, GPT_HEADER_BYTES)), 16);
    return block;
  };
  const protective = firstSector(bootCode, sectorBytes);
  writeEntry(protective, MBR_ENTRIES, { type: PROTECTIVE, start: 1, count: Math.min(last, MAX_32), active: false });
  return [
    { offsetBytes: 0, bytes: protective },
    { offsetBytes: sectorBytes, bytes: header(1, last, 2) },
    { offsetBytes: 2 * sectorBytes, bytes: entries },
    { offsetBytes: (last - entrySectors) * sectorBytes, bytes: entries },
    { offsetBytes: last * sectorBytes, bytes: header(last, 1, last - entrySectors) },
  ];
}

function encodeMbr(plan: NumberedPlan, bootCode: Uint8Array): DiskPiece[] {
  const block = firstSector(bootCode, MBR_SECTOR_BYTES);
  block.writeUInt32LE(Number.parseInt(plan.diskId, 16), BOOT_CODE_BYTES);
  for (const partition of plan.partitions) {
    if (partition.role !== 'logical') {
      writeEntry(block, MBR_ENTRIES + (partition.number - 1) * 16, entryOf(partition, 0));
    }
  }
  return [{ offsetBytes: 0, bytes: block }, ...extendedBootRecords(plan)];
}

/** Linked in order of the numbers; the first lies where the extended partition begins, each other one before its data. */
function extendedBootRecords(plan: NumberedPlan): DiskPiece[] {
  const extended = plan.partitions.find(({ role }) => role === 'extended');
  const logical = plan.partitions.filter(({ role }) => role === 'logical');
  if (!extended) return [];
  const places = logical.map(({ startBytes }, index) => {
    if (index === 0) return extended.startBytes;
    const before = logical.map(endOf).filter((end) => end <= startBytes);
    return Math.max(startBytes - MiB, extended.startBytes + MBR_SECTOR_BYTES, ...before);
  });
  return logical.map((partition, index) => {
    const at = places[index] as number;
    const block = firstSector(Buffer.alloc(0), MBR_SECTOR_BYTES);
    writeEntry(block, MBR_ENTRIES, entryOf(partition, at));
    const next = logical[index + 1];
    const nextAt = places[index + 1];
    if (next && nextAt !== undefined) {
      const lengthBytes = endOf(next) - nextAt;
      const link = { type: '0x05', startBytes: nextAt, lengthBytes, bootable: false };
      writeEntry(block, MBR_ENTRIES + 16, entryOf(link, extended.startBytes));
    }
    return { offsetBytes: at, bytes: block };
  });
}

interface MbrEntry {
  readonly type: number;
  /** In sectors, relative to what the entry counts from; `absolute` for the old geometry. */
  readonly start: number;
  readonly absolute?: number;
  readonly count: number;
  readonly active: boolean;
}

function entryOf(
  partition: { type: string; startBytes: number; lengthBytes: number; bootable: boolean },
  fromBytes: number,
): MbrEntry {
  return {
    type: Number.parseInt(partition.type.slice(2), 16),
    start: wholeSectors(partition.startBytes - fromBytes, MBR_SECTOR_BYTES),
    absolute: wholeSectors(partition.startBytes, MBR_SECTOR_BYTES),
    count: wholeSectors(partition.lengthBytes, MBR_SECTOR_BYTES),
    active: partition.bootable,
  };
}

function writeEntry(block: Buffer, at: number, { type, start, absolute = start, count, active }: MbrEntry): void {
  block.writeUInt8(active ? 0x80 : 0, at);
  chs(absolute).copy(block, at + 1);
  block.writeUInt8(type, at + 4);
  chs(absolute + count - 1).copy(block, at + 5);
  block.writeUInt32LE(start, at + 8);
  block.writeUInt32LE(count, at + 12);
}

/** Cylinder, head and sector as BIOSes have counted large disks: 255 heads, 63 sectors; beyond, the largest there is. */
function chs(sector: number): Buffer {
  const cylinder = Math.floor(sector / (255 * 63));
  if (cylinder > 1023) return Buffer.from([0xfe, 0xff, 0xff]);
  const head = Math.floor(sector / 63) % 255;
  return Buffer.from([head, ((cylinder >> 2) & 0xc0) | ((sector % 63) + 1), cylinder & 0xff]);
}

function firstSector(bootCode: Uint8Array, sectorBytes: number): Buffer {
  const block = Buffer.alloc(sectorBytes);
  block.set(bootCode.subarray(0, BOOT_CODE_BYTES));
  block.writeUInt16BE(0x55aa, 510);
  return block;
}

/** Mixed-endian: the first three fields are little-endian. */
function guidBytes(text: string): Buffer {
  const hex = text.replaceAll('-', '');
  const bytes = Buffer.from(hex, 'hex');
  if (bytes.length !== 16) throw new LifeboatError('internal.bug', `'${text}' is no GUID`);
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  return bytes;
}

function wholeSectors(bytes: number, sectorBytes: number): number {
  if (bytes < 0 || bytes % sectorBytes !== 0) {
    throw new LifeboatError('internal.bug', `a partition was planned at byte ${bytes}, on sectors of ${sectorBytes}`);
  }
  return bytes / sectorBytes;
}

function endOf({ startBytes, lengthBytes }: { startBytes: number; lengthBytes: number }): number {
  return startBytes + lengthBytes;
}
