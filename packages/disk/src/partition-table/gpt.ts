/**
 * GUID partition table (UEFI 2.10, chapter 5).
 *
 *   LBA 0            protective MBR (type 0xEE)
 *   LBA 1            primary header ── CRC of itself, CRC of the entries, place of the backup
 *   LBA 2..          entries (usually 128 of 128 bytes)
 *   ...
 *   last LBA - 32..  entries again
 *   last LBA         backup header
 */
import { crc32 } from 'node:zlib';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import type { Partition, PartitionTable } from '../partition-table.ts';
import { littleEndian, readRun } from '../bytes.ts';

const SIGNATURE = 'EFI PART';
const HEADER_BYTES = 92;
/** Sixty-four times the usual table; a header that asks for more is damaged or hostile. */
const MAX_ENTRIES_BYTES = 1024 * 1024;
const LEGACY_BIOS_BOOTABLE = 1n << 2n;

interface Header {
  readonly where: 'primary' | 'backup';
  readonly alternateLba: number;
  readonly firstUsableLba: number;
  readonly lastUsableLba: number;
  readonly diskId: string;
  readonly entries: Uint8Array;
  readonly entryBytes: number;
}

/** Undefined when neither copy bears the signature. With both copies unreadable: no partitions, and the problems. */
export async function readGpt(
  device: BlockDevice,
  sectorBytes: number,
  options: { signal?: AbortSignal },
): Promise<PartitionTable | undefined> {
  const sectors = Math.floor(device.sizeBytes / sectorBytes);
  // Protective MBR, header, one sector of entries: less cannot hold a table.
  if (sectors < 6) return undefined;
  const problems: string[] = [];
  const read = (where: Header['where'], lba: number) =>
    readHeader(device, { where, lba, sectors, sectorBytes }, problems, options);

  const primary = await read('primary', 1);
  const expectedBackup =
    primary.header && primary.header.alternateLba < sectors ? primary.header.alternateLba : sectors - 1;
  const backup = await read('backup', expectedBackup);
  if (!primary.signed && !backup.signed) return undefined;
  if (!primary.signed && !(await hasProtectiveMbr(device, options))) {
    // Left over from an earlier life of the disk: somebody made a new MBR and did not wipe the end.
    return undefined;
  }
  if (!primary.signed) problems.unshift('the primary GPT header is missing');
  if (!backup.signed) problems.push(`the backup GPT header is missing at LBA ${expectedBackup}`);
  if (primary.header && primary.header.alternateLba !== sectors - 1) {
    problems.push(
      `the backup GPT header is at LBA ${primary.header.alternateLba}, the disk ends at LBA ${sectors - 1}`,
    );
  }
  if (primary.header && backup.header && Buffer.compare(primary.header.entries, backup.header.entries) !== 0) {
    problems.push('the primary and the backup GPT list different partitions; the primary is used');
  }
  const header = primary.header ?? backup.header;
  const partitions = header ? parseEntries(header, { sectors, sectorBytes }, problems) : [];
  return { scheme: 'gpt', sectorBytes, diskId: header?.diskId ?? '', partitions, problems };
}

async function readHeader(
  device: BlockDevice,
  at: { where: Header['where']; lba: number; sectors: number; sectorBytes: number },
  problems: string[],
  options: { signal?: AbortSignal },
): Promise<{ signed: boolean; header?: Header }> {
  const { where, lba, sectors, sectorBytes } = at;
  const block = await readRun(device, lba * sectorBytes, sectorBytes, options);
  if (Buffer.from(block.subarray(0, 8)).toString('latin1') !== SIGNATURE) return { signed: false };
  const fail = (reason: string) => {
    problems.push(`the ${where} GPT header at LBA ${lba} ${reason}`);
    return { signed: true };
  };
  const view = littleEndian(block);
  const headerBytes = view.u32(12);
  if (headerBytes < HEADER_BYTES || headerBytes > sectorBytes) return fail(`says it is ${headerBytes} bytes long`);
  const copy = Buffer.from(block.subarray(0, headerBytes));
  copy.fill(0, 16, 20);
  if (crc32(copy) !== view.u32(16)) return fail('has a wrong checksum');
  if (view.u64(24) !== lba) return fail(`says it belongs at LBA ${view.u64(24)}`);

  const entriesLba = view.u64(72);
  const entryCount = view.u32(80);
  const entryBytes = view.u32(84);
  const entriesBytes = entryCount * entryBytes;
  if (entryBytes < 128 || entryBytes % 8 !== 0 || entriesBytes > MAX_ENTRIES_BYTES) {
    return fail(`announces ${entryCount} entries of ${entryBytes} bytes`);
  }
  if (entriesLba < 1 || entriesLba * sectorBytes + entriesBytes > sectors * sectorBytes) {
    return fail(`puts its entries at LBA ${entriesLba}, outside the disk`);
  }
  const entries = await readRun(device, entriesLba * sectorBytes, entriesBytes, options);
  if (crc32(entries) !== view.u32(88)) return fail('has entries with a wrong checksum');
  return {
    signed: true,
    header: {
      where,
      alternateLba: view.u64(32),
      firstUsableLba: view.u64(40),
      lastUsableLba: view.u64(48),
      diskId: guid(block.subarray(56, 72)),
      entries,
      entryBytes,
    },
  };
}

function parseEntries(header: Header, disk: { sectors: number; sectorBytes: number }, problems: string[]): Partition[] {
  const partitions: Partition[] = [];
  for (let slot = 0; (slot + 1) * header.entryBytes <= header.entries.length; slot += 1) {
    const entry = header.entries.subarray(slot * header.entryBytes, (slot + 1) * header.entryBytes);
    if (entry.subarray(0, 16).every((byte) => byte === 0)) continue;
    const view = littleEndian(entry);
    const firstLba = view.u64(32);
    const lastLba = view.u64(40);
    const number = slot + 1;
    if (firstLba > lastLba || lastLba >= disk.sectors) {
      problems.push(
        `partition ${number} spans LBA ${firstLba} to ${lastLba} on a disk of ${disk.sectors} sectors; it is left out`,
      );
      continue;
    }
    if (firstLba < header.firstUsableLba || lastLba > header.lastUsableLba) {
      problems.push(
        `partition ${number} spans LBA ${firstLba} to ${lastLba}, outside the usable ${header.firstUsableLba} to ${header.lastUsableLba}`,
      );
    }
    const attributes = view.bits64(48);
    partitions.push({
      number,
      startBytes: firstLba * disk.sectorBytes,
      lengthBytes: (lastLba - firstLba + 1) * disk.sectorBytes,
      type: guid(entry.subarray(0, 16)),
      role: 'gpt',
      partitionId: guid(entry.subarray(16, 32)),
      name: utf16(entry.subarray(56, 128)),
      bootable: (attributes & LEGACY_BIOS_BOOTABLE) !== 0n,
      ...((attributes & ~LEGACY_BIOS_BOOTABLE) === 0n ? {} : { attributes: `0x${attributes.toString(16)}` }),
    });
  }
  return partitions;
}

async function hasProtectiveMbr(device: BlockDevice, options: { signal?: AbortSignal }): Promise<boolean> {
  const block = await readRun(device, 0, 512, options);
  if (block[510] !== 0x55 || block[511] !== 0xaa) return false;
  return [446, 462, 478, 494].some((at) => block[at + 4] === 0xee);
}

/** Mixed-endian text form: the first three fields are little-endian. */
function guid(bytes: Uint8Array): string {
  const hex = (indexes: readonly number[]) =>
    indexes.map((i) => (bytes[i] ?? 0).toString(16).padStart(2, '0')).join('');
  return [hex([3, 2, 1, 0]), hex([5, 4]), hex([7, 6]), hex([8, 9]), hex([10, 11, 12, 13, 14, 15])].join('-');
}

function utf16(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('utf16le');
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}
