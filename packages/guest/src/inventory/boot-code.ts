/** The code in a disk's first sector: whose it is, and for GRUB, whether the rest of it is where the first sector looks. */
import { createHash } from 'node:crypto';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { littleEndian, readRun } from '@lifeboat/disk/bytes';
import { partitionTypes, type PartitionTable } from '@lifeboat/disk/partition-table';
import { identifyMbrLoader } from '../linux/grub.ts';
import type { BootCode } from './machine-inventory.ts';

const CODE_BYTES = 440;
const SECTOR_BYTES = 512;
/** grub-core/boot/i386/pc/boot.S: the sector of the core image, and what its first sector lists. */
const GRUB_KERNEL_SECTOR = 0x5c;
const BLOCK_LIST_END = 0x200;
const BLOCK_LIST_ENTRY_BYTES = 12;
/** GRUB's core is some 30 KB; a megabyte would not fit below the memory it is loaded into. */
const MAX_CORE_SECTORS = 2048;
/** Version bytes of GRUB 0.9x, whose stage 2 is a file and not found this way. */
const LEGACY_VERSION = '0302';

export async function readBootCode(
  device: BlockDevice,
  table: PartitionTable,
  options: { signal?: AbortSignal } = {},
): Promise<BootCode> {
  if (device.sizeBytes < SECTOR_BYTES || table.scheme === 'none') return { loader: 'none' };
  const sector = await readRun(device, 0, SECTOR_BYTES, options);
  const loader = identifyMbrLoader(sector);
  if (loader === 'none') return { loader };
  const code = Buffer.from(sector.subarray(0, CODE_BYTES));
  const sha256 = createHash('sha256').update(code).digest('hex');
  const isLegacy = code.subarray(0x3e, 0x40).toString('hex') === LEGACY_VERSION;
  if (loader !== 'grub' || isLegacy) return { loader, sha256 };
  return {
    loader,
    sha256,
    grubCore: await findCore(device, littleEndian(sector).u64(GRUB_KERNEL_SECTOR), table, options),
  };
}

async function findCore(
  device: BlockDevice,
  first: number,
  table: PartitionTable,
  options: { signal?: AbortSignal },
): Promise<NonNullable<BootCode['grubCore']>> {
  const sectors = Math.floor(device.sizeBytes / SECTOR_BYTES);
  const unusable = {
    offsetBytes: Number.isFinite(first) ? first * SECTOR_BYTES : 0,
    lengthBytes: 0,
    place: 'unusable',
  } as const;
  if (first < 1 || first >= sectors) return unusable;
  const disk = await readRun(device, first * SECTOR_BYTES, SECTOR_BYTES, options);
  const view = littleEndian(disk);
  let length = 1;
  let next = first + 1;
  // The list grows downwards from the end of the sector; a core that was embedded has one entry that goes on behind it.
  for (let at = BLOCK_LIST_END - BLOCK_LIST_ENTRY_BYTES; at > BLOCK_LIST_END / 2; at -= BLOCK_LIST_ENTRY_BYTES) {
    const [start, count] = [view.u64(at), view.u16(at + 8)];
    if (count === 0) break;
    if (start !== next || length + count > MAX_CORE_SECTORS || start + count > sectors) return unusable;
    length += count;
    next = start + count;
  }
  if (length === 1) return unusable;
  const offsetBytes = first * SECTOR_BYTES;
  const lengthBytes = length * SECTOR_BYTES;
  const end = offsetBytes + lengthBytes;
  const inside = table.partitions.find(
    ({ role, startBytes, lengthBytes: bytes }) =>
      role !== 'extended' && offsetBytes < startBytes + bytes && end > startBytes,
  );
  const place =
    inside === undefined ? 'gap' : inside.type === partitionTypes.biosBoot ? 'bios-boot-partition' : 'partition';
  return { offsetBytes, lengthBytes, place };
}
