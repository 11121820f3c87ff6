/**
 * Which disk something is, whatever it is called today: kernel names (sda, sdb) follow the order in which disks were found, and links
 * may be changed. Asked of an open descriptor, so that what was looked at is what is written to.
 */
import type { FileHandle } from 'node:fs/promises';
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import { deviceNumber } from './device-number.ts';

export interface DiskIdentity {
  /** The kernel's: of a device its number, and a count that no other disk gets until the next start; of a file its inode. */
  readonly id: string;
  readonly sizeBytes: number;
  /** What the disk reads and writes at once; absent for a file. */
  readonly sectorBytes?: number;
  /** As its maker wrote it; absent where it tells none. */
  readonly serial?: string;
  /** World wide name: `naa.…`, `eui.…`, `nvme.…`. */
  readonly wwn?: string;
  readonly model?: string;
}

const SYSFS_SECTOR_BYTES = 512;
/** Vital product data, page 0x80: four bytes of header, then the serial number. */
const VPD_HEADER_BYTES = 4;

/** Errors: `input.invalid` for what is neither file nor block device. */
export async function identifyDisk(handle: FileHandle, sysfs = '/sys'): Promise<DiskIdentity> {
  const stats = await handle.stat({ bigint: true });
  if (stats.isFile()) return { id: `file ${deviceNumber(stats.dev)} ${stats.ino}`, sizeBytes: Number(stats.size) };
  if (!stats.isBlockDevice()) throw new LifeboatError('input.invalid', 'it is neither a file nor a block device');
  return identifyDevice(await realpath(join(sysfs, 'dev/block', deviceNumber(stats.rdev))));
}

/** Disks of this host that match, by their kernel names: whole ones, not partitions. `serial`, `wwn`: without regard to case. */
export async function findDisks(
  wanted: { readonly serial?: string; readonly wwn?: string; readonly sizeBytes?: number },
  sysfs = '/sys',
): Promise<{ readonly name: string; readonly identity: DiskIdentity }[]> {
  const found: { name: string; identity: DiskIdentity }[] = [];
  for (const name of (await readdir(join(sysfs, 'block'))).sort()) {
    const identity = await identifyDevice(await realpath(join(sysfs, 'block', name)));
    const matches =
      (wanted.serial === undefined || same(identity.serial, wanted.serial)) &&
      (wanted.wwn === undefined || same(identity.wwn, wanted.wwn)) &&
      (wanted.sizeBytes === undefined || identity.sizeBytes === wanted.sizeBytes);
    if (matches && identity.sizeBytes > 0) found.push({ name, identity });
  }
  return found;
}

/** Sentences on what differs; empty: it is the same. */
export function differences(expected: DiskIdentity, found: DiskIdentity): string[] {
  const fields = ['id', 'sizeBytes', 'sectorBytes', 'serial', 'wwn', 'model'] as const;
  return fields
    .filter((field) => expected[field] !== found[field])
    .map((field) => `its ${field} is ${found[field] ?? 'not told'} instead of ${expected[field] ?? 'not told'}`);
}

async function identifyDevice(directory: string): Promise<DiskIdentity> {
  const isPartition = (await text(join(directory, 'partition'))) !== undefined;
  // A partition is told by its disk and its own number.
  const disk = isPartition ? dirname(directory) : directory;
  const [number, sequence, sectors, sector] = [
    await text(join(directory, 'dev')),
    await text(join(disk, 'diskseq')),
    await text(join(directory, 'size')),
    await text(join(disk, 'queue/logical_block_size')),
  ];
  const [serial, wwn, model] = [
    (await text(join(disk, 'serial'))) ?? (await text(join(disk, 'device/serial'))) ?? (await pageSerial(disk)),
    (await text(join(disk, 'wwid'))) ?? (await text(join(disk, 'device/wwid'))),
    await text(join(disk, 'device/model')),
  ];
  return {
    id: `device ${number ?? '?'}${sequence === undefined ? '' : ` sequence ${sequence}`}`,
    sizeBytes: Number(sectors ?? 0) * SYSFS_SECTOR_BYTES,
    ...(sector === undefined ? {} : { sectorBytes: Number(sector) }),
    ...(serial ? { serial } : {}),
    ...(wwn ? { wwn } : {}),
    ...(model ? { model } : {}),
  };
}

async function pageSerial(disk: string): Promise<string | undefined> {
  const page = await bytes(join(disk, 'device/vpd_pg80'));
  return page?.subarray(VPD_HEADER_BYTES).toString('latin1').replaceAll('\0', '').trim();
}

async function text(path: string): Promise<string | undefined> {
  return (await bytes(path))?.toString('utf8').trim();
}

async function bytes(path: string): Promise<Buffer | undefined> {
  try {
    return (await stat(path)).isFile() ? await readFile(path) : undefined;
  } catch (error) {
    // Each kind of disk tells it elsewhere, and some tell nothing.
    if (['ENOENT', 'ENODEV', 'EINVAL', 'EIO', 'ENXIO'].includes(systemCode(error) ?? '')) return undefined;
    throw error;
  }
}

function same(a: string | undefined, b: string): boolean {
  return a?.toLowerCase() === b.toLowerCase();
}
