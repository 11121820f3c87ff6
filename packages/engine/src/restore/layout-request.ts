/** From what a person asked for to what is planned: which disk, onto how large a target, with sectors of which size. */
import type { LayoutRequest } from '@lifeboat/disk/layout/layout-plan';
import { readPartitionTable } from '@lifeboat/disk/partition-table';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { Point } from '@lifeboat/repository/read/point-reader';
import type { RestoreInput, RestoreLayout } from '../verbs.ts';

export type DeviceTarget = Extract<RestoreInput['target'], { kind: 'device' }>;

/** Errors: `input.invalid`, with the disks that there are. */
export function diskOf(point: Point, name: string): Point['disks'][number] {
  const disk = point.disks.find((each) => each.name === name);
  if (disk) return disk;
  const names = point.disks.map((each) => each.name).join(', ');
  throw new LifeboatError('input.invalid', `point ${point.pointId} has no disk '${name}'; it has: ${names}`);
}

/** The disk that a layout is for. Errors: `input.invalid`. */
export function layoutDisk(point: Point, { disk }: Pick<RestoreLayout, 'disk'>): Point['disks'][number] {
  if (disk !== undefined) return diskOf(point, disk);
  const [only] = point.disks;
  if (only && point.disks.length === 1) return only;
  const names = point.disks.map(({ name }) => name).join(', ');
  throw new LifeboatError(
    'input.invalid',
    `point ${point.pointId} has several disks: say which is laid out (${names})`,
  );
}

/** `target`: a file has no sector size of its own, so it is that of the disk. */
export async function requestFor(
  layout: RestoreLayout,
  target: { readonly sizeBytes: number; readonly sectorBytes?: number },
  source: BlockDevice,
  signal: AbortSignal,
): Promise<LayoutRequest> {
  const { scheme, resize, only, firmware, ids } = layout;
  const sectorBytes = target.sectorBytes ?? (await readPartitionTable(source, { signal })).sectorBytes;
  const sizeBytes = target.sizeBytes - (target.sizeBytes % sectorBytes);
  return {
    scheme,
    target: { sizeBytes, sectorBytes },
    firmware,
    ids,
    ...(resize === undefined ? {} : { resize }),
    ...(only === undefined ? {} : { only }),
  };
}
