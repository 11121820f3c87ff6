import { hasCode, LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import type { FilesystemInspection } from '../inspect/guest-inspection.ts';

/**
 * What it means that the kernel did not mount a filesystem of a guest: `guest.filesystem-twin` or `guest.mount-failed`. What did
 * not come from mount(8) is as it was.
 */
export function mountFailure(
  error: unknown,
  filesystem: Pick<FilesystemInspection, 'type' | 'disk' | 'partition' | 'volume'>,
): unknown {
  const { type, disk, partition } = filesystem;
  if (!hasCode(error, 'host.tool-failed')) return error;
  const what = `The ${type} filesystem on ${placeOf(filesystem)} cannot be mounted`;
  const more = { cause: error, context: { disk, partition, type } };
  // How kernels before 6.7 refuse a device that claims to be part of a filesystem that is mounted from another one.
  if (type === 'btrfs' && error.message.includes('File exists')) {
    const text = `${what} beside its copy: both have one UUID, and the kernel of this host mounts no second btrfs of the same`;
    return new LifeboatError('guest.filesystem-twin', text, more);
  }
  return new LifeboatError('guest.mount-failed', `${what}: ${messageOf(error)}`, more);
}

/** `vda partition 2`, `vda partition none` for a disk without partitions, `volume vg0/root`. */
export function placeOf({
  disk,
  partition,
  volume,
}: Pick<FilesystemInspection, 'disk' | 'partition' | 'volume'>): string {
  return volume === undefined ? `${disk} partition ${partition ?? 'none'}` : `volume ${volume.name}`;
}
