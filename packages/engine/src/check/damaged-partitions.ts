/** Where on a disk damaged bytes lie, as its owner knows it: by the partition table that the point itself holds. */
import { hasCode } from '@lifeboat/foundation/errors';
import { type PartitionTable, readPartitionTable } from '@lifeboat/disk/partition-table';
import type { DiskDamage } from '@lifeboat/repository/check/point-check';
import type { Point } from '@lifeboat/repository/read/point-reader';
import type { Repository } from '@lifeboat/repository/repository';

/** What disks without partitions, and a table that is lost itself, say instead of a partition. */
const OUTSIDE = 'outside the partitions';
const NO_TABLE = 'no partitions';
const LOST_TABLE = 'partition table damaged, too';
/** Who may check and not read: an agent. */
const SEALED_TABLE = 'which partition these keys do not tell';

export interface DamagedPlace extends DiskDamage {
  /** `partition 2`, with its name where the table gives one; or why there is none to name. */
  readonly partition: string;
}

/** The same bytes, cut where partitions begin and end. Errors: those of the store, and the signal's reason. */
export async function placeDamage(
  repository: Repository,
  point: Point,
  damage: readonly DiskDamage[],
  options: { signal?: AbortSignal } = {},
): Promise<DamagedPlace[]> {
  const places: DamagedPlace[] = [];
  for (const [disk, ranges] of Map.groupBy(damage, (range) => range.disk)) {
    const table = await readTable(repository, point, disk, options);
    for (const range of ranges) places.push(...cut(range, table));
  }
  return places;
}

/** Where it cannot be read either, why. */
async function readTable(
  repository: Repository,
  point: Point,
  disk: string,
  options: { signal?: AbortSignal },
): Promise<PartitionTable | typeof LOST_TABLE | typeof SEALED_TABLE> {
  const device = repository.openDisk(point, disk);
  try {
    return await readPartitionTable(device, options);
  } catch (error) {
    if (hasCode(error, 'repository.not-permitted')) return SEALED_TABLE;
    if (!hasCode(error, 'repository.chunk-damaged', 'repository.map-damaged')) throw error;
    return LOST_TABLE;
  } finally {
    await device.close();
  }
}

function cut(range: DiskDamage, table: Awaited<ReturnType<typeof readTable>>): DamagedPlace[] {
  if (typeof table === 'string') return [{ ...range, partition: table }];
  if (table.scheme === 'none') return [{ ...range, partition: NO_TABLE }];
  // An extended partition is only the room in which the logical ones lie.
  const partitions = table.partitions.filter(({ role }) => role !== 'extended');
  const end = range.offsetBytes + range.lengthBytes;
  const borders = partitions
    .flatMap(({ startBytes, lengthBytes }) => [startBytes, startBytes + lengthBytes])
    .filter((at) => at > range.offsetBytes && at < end);
  const edges = [...new Set([range.offsetBytes, ...borders, end])].toSorted((a, b) => a - b);
  return edges.slice(0, -1).map((offsetBytes, i) => {
    const inside = partitions.find(
      ({ startBytes, lengthBytes }) => offsetBytes >= startBytes && offsetBytes < startBytes + lengthBytes,
    );
    const name = inside?.name ? ` (${inside.name})` : '';
    const partition = inside ? `partition ${inside.number}${name}` : OUTSIDE;
    return { ...range, offsetBytes, lengthBytes: (edges[i + 1] ?? end) - offsetBytes, partition };
  });
}
