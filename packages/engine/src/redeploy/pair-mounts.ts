import type { OpenGuest } from '@lifeboat/guest/access/open-guest';

type Opened = Pick<OpenGuest, 'mounts' | 'notMounted'>;

export interface MountPairs {
  readonly pairs: readonly { readonly mountPoint: string; readonly point: string; readonly restored: string }[];
  /** Mount points of the point that the restored disks do not have. */
  readonly missing: readonly string[];
  /** What could not be opened here, on one side or the other: a sentence each. It is neither equal nor different. */
  readonly notCompared: readonly string[];
}

/** Which filesystems of a point and of disks that were restored from it are to be compared; paths are of this host. */
export function pairMounts(point: Opened, restored: Opened): MountPairs {
  const reasons = new Map(
    [...restored.notMounted, ...point.notMounted].map(({ mountPoint, reason }) => [mountPoint, reason]),
  );
  const pairs = [];
  const missing = [];
  for (const { mountPoint, hostPath } of point.mounts) {
    const other = restored.mounts.find((mount) => mount.mountPoint === mountPoint);
    if (other) pairs.push({ mountPoint, point: hostPath, restored: other.hostPath });
    else if (!reasons.has(mountPoint)) missing.push(mountPoint);
  }
  return { pairs, missing, notCompared: [...reasons].map(([mountPoint, reason]) => `${mountPoint}: ${reason}`) };
}
