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
  const view = littleEndian(await readRun(device, first * SECTOR_BYTES, SECTOR_BYTES, options));
  const pieces = [{ start: first, count: 1 }];
  // The list grows downwards. One entry: embedded, and going on behind its first sector. Several: a file of some filesystem.
  for (let at = BLOCK_LIST_END - BLOCK_LIST_ENTRY_BYTES; at > BLOCK_LIST_END / 2; at -= BLOCK_LIST_ENTRY_BYTES) {
    const [start, count] = [view.u64(at), view.u16(at + 8)];
    if (count === 0) break;
    if (start < 1 || start + count > sectors) return unusable;
    pieces.push({ start, count });
  }
  const length = pieces.reduce((sum, { count }) => sum + count, 0);
  if (pieces.length === 1 || length > MAX_CORE_SECTORS) return unusable;
  const places = pieces.map((piece) => placeOf(piece, table));
  return {
    offsetBytes: first * SECTOR_BYTES,
    lengthBytes: length * SECTOR_BYTES,
    place: (['partition', 'gap'] as const).find((place) => places.includes(place)) ?? 'bios-boot-partition',
  };
}

function placeOf(
  { start, count }: { start: number; count: number },
  { partitions }: PartitionTable,
): 'gap' | 'bios-boot-partition' | 'partition' {
  const [from, to] = [start * SECTOR_BYTES, (start + count) * SECTOR_BYTES];
  const inside = partitions.find(
    ({ role, startBytes, lengthBytes }) => role !== 'extended' && from < startBytes + lengthBytes && to > startBytes,
  );
  if (inside === undefined) return 'gap';
  return inside.type === partitionTypes.biosBoot ? 'bios-boot-partition' : 'partition';
}
