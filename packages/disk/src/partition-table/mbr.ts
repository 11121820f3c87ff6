/**
 * MBR with its chain of extended boot records.
 *
 *   LBA 0: boot code, signature at 440, four entries at 446, 55 AA at 510
 *            └─ extended (05, 0f, 85) at E: each EBR holds one logical partition (start relative to that EBR)
 *               and a link to the next EBR (start relative to E)
 */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import type { Partition, PartitionTable } from '../partition-table.ts';
import { littleEndian, readRun } from '../bytes.ts';

const SECTOR_BYTES = 512;
const EXTENDED = new Set([0x05, 0x0f, 0x85]);
/** Linux numbers at most 255 partitions of a disk; a longer chain is a loop or hostile. */
const MAX_LOGICAL = 250;

interface Entry {
  readonly active: number;
  readonly type: number;
  readonly start: number;
  readonly count: number;
}

/** Undefined when sector 0 holds no partition table (empty disk, or a filesystem's own boot sector). */
export async function readMbr(
  device: BlockDevice,
  options: { signal?: AbortSignal },
): Promise<PartitionTable | undefined> {
  if (device.sizeBytes < SECTOR_BYTES) return undefined;
  const sectors = Math.floor(device.sizeBytes / SECTOR_BYTES);
  const block = await readRun(device, 0, SECTOR_BYTES, options);
  if (!isSigned(block) || isFilesystemBootSector(block)) return undefined;
  const entries = entriesOf(block);
  if (entries.some((entry) => entry.active !== 0 && entry.active !== 0x80)) return undefined;

  const diskId = littleEndian(block).u32(440).toString(16).padStart(8, '0');
  const problems: string[] = [];
  const partitions: Partition[] = [];
  let extended: Entry | undefined;
  const add = (number: number, role: Partition['role'], entry: Entry): boolean => {
    if (entry.start + entry.count > sectors || entry.start === 0) {
      problems.push(
        `partition ${number} spans sector ${entry.start} to ${entry.start + entry.count - 1} on a disk of ${sectors} sectors; it is left out`,
      );
      return false;
    }
    partitions.push({
      number,
      startBytes: entry.start * SECTOR_BYTES,
      lengthBytes: entry.count * SECTOR_BYTES,
      type: `0x${entry.type.toString(16).padStart(2, '0')}`,
      role,
      partitionId: `${diskId}-${number.toString(16).padStart(2, '0')}`,
      name: '',
      bootable: entry.active === 0x80,
    });
    return true;
  };

  for (const [index, entry] of entries.entries()) {
    if (entry.type === 0 || entry.count === 0) continue;
    const isExtended = EXTENDED.has(entry.type);
    if (!add(index + 1, isExtended ? 'extended' : 'primary', entry) || !isExtended) continue;
    if (extended) problems.push(`partition ${index + 1} is a second extended partition; its content is not read`);
    else extended = entry;
  }
  if (extended) await readLogical(device, extended, sectors, { add, problems }, options);
  return { scheme: 'mbr', sectorBytes: SECTOR_BYTES, diskId, partitions, problems };
}

async function readLogical(
  device: BlockDevice,
  extended: Entry,
  sectors: number,
  found: { add: (number: number, role: Partition['role'], entry: Entry) => boolean; problems: string[] },
  options: { signal?: AbortSignal },
): Promise<void> {
  const { add, problems } = found;
  const seen = new Set<number>();
  let at = extended.start;
  let number = 5;
  for (;;) {
    if (seen.has(at) || seen.size >= MAX_LOGICAL) {
      problems.push(`the chain of logical partitions does not end (sector ${at} after ${seen.size} records)`);
      return;
    }
    seen.add(at);
    if (at >= sectors) {
      problems.push(`the chain of logical partitions leaves the disk at sector ${at}`);
      return;
    }
    const block = await readRun(device, at * SECTOR_BYTES, SECTOR_BYTES, options);
    if (!isSigned(block)) {
      problems.push(`the extended boot record at sector ${at} has no signature`);
      return;
    }
    const entries = entriesOf(block);
    // The order of the two entries is a convention only: data first, link second, as every tool reads them.
    const data = entries.find((entry) => entry.type !== 0 && entry.count > 0 && !EXTENDED.has(entry.type));
    const link = entries.find((entry) => EXTENDED.has(entry.type) && entry.count > 0);
    if (data) {
      add(number, 'logical', { ...data, start: at + data.start });
      number += 1;
    }
    if (!link) return;
    at = extended.start + link.start;
  }
}

function entriesOf(block: Uint8Array): Entry[] {
  const view = littleEndian(block);
  return [446, 462, 478, 494].map((at) => ({
    active: block[at] ?? 0,
    type: block[at + 4] ?? 0,
    start: view.u32(at + 8),
    count: view.u32(at + 12),
  }));
}

function isSigned(block: Uint8Array): boolean {
  return block[510] === 0x55 && block[511] === 0xaa;
}

/** FAT, exFAT and NTFS boot sectors carry 55 AA too, and boot code where the entries would be. */
function isFilesystemBootSector(block: Uint8Array): boolean {
  const text = (at: number, length: number) => Buffer.from(block.subarray(at, at + length)).toString('latin1');
  const jumps = block[0] === 0xeb || block[0] === 0xe9;
  return jumps && (/^(NTFS {4}|EXFAT {3})/.test(text(3, 8)) || text(54, 3) === 'FAT' || text(82, 5) === 'FAT32');
}
