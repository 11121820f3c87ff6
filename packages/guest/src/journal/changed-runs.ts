/** What overlays of disks and of composed volumes change on one disk. */
import type { Run } from '@lifeboat/disk/mapped-device';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { DiskPlace } from '../access/composed-volumes.ts';

export interface OpenedOverlay {
  /** Of a disk's own overlay. */
  readonly disk?: { readonly name: string };
  readonly changedPath: string;
  /** Of a composed volume's. */
  readonly locate?: (run: Run) => readonly DiskPlace[];
  /** The runs that the overlay holds, by offset. */
  readonly allocated: readonly Run[];
}

/** A run of the disk, and where its new bytes are. */
export interface ChangedRun extends Run {
  readonly changedPath: string;
  readonly changedOffsetBytes: number;
}

/**
 * By offset, without overlap. A cluster of the disk's overlay may reach into a volume that begins in its middle; there the volume's
 * own overlay counts. Errors: `guest.layout-unsupported` where two volumes lie on the same bytes.
 */
export function changedRunsOf(disk: string, overlays: readonly OpenedOverlay[]): ChangedRun[] {
  const ofVolumes = overlays
    .flatMap(({ locate, changedPath, allocated }) =>
      locate ? allocated.flatMap((run) => locate(run).map((place) => ({ ...place, changedPath }))) : [],
    )
    .filter((place) => place.disk === disk)
    .map(({ offsetBytes, lengthBytes, changedPath, volumeOffsetBytes }) => ({
      offsetBytes,
      lengthBytes,
      changedPath,
      changedOffsetBytes: volumeOffsetBytes,
    }))
    .toSorted(byOffset);
  for (const [index, run] of ofVolumes.entries()) {
    const before = ofVolumes[index - 1];
    if (before === undefined || before.offsetBytes + before.lengthBytes <= run.offsetBytes) continue;
    throw new LifeboatError(
      'guest.layout-unsupported',
      `Two volumes of the guest lie on the same bytes of ${disk}, at ${run.offsetBytes}; its LVM or RAID metadata is damaged`,
      { context: { disk, offsetBytes: run.offsetBytes } },
    );
  }
  const ofDisk = overlays
    .filter((overlay) => overlay.disk?.name === disk)
    .flatMap(({ changedPath, allocated }) =>
      allocated
        .flatMap((run) => without(run, ofVolumes))
        .map((run) => ({
          ...run,
          changedPath,
          changedOffsetBytes: run.offsetBytes,
        })),
    );
  return [...ofDisk, ...ofVolumes].toSorted(byOffset);
}

/** What is left of a run; `taken` is sorted and without overlap. */
function without(run: Run, taken: readonly Run[]): Run[] {
  const left: Run[] = [];
  let at = run.offsetBytes;
  const end = run.offsetBytes + run.lengthBytes;
  for (const { offsetBytes, lengthBytes } of taken) {
    if (offsetBytes + lengthBytes <= at) continue;
    if (offsetBytes >= end) break;
    if (offsetBytes > at) left.push({ offsetBytes: at, lengthBytes: offsetBytes - at });
    at = offsetBytes + lengthBytes;
  }
  if (at < end) left.push({ offsetBytes: at, lengthBytes: end - at });
  return left;
}

function byOffset(a: Run, b: Run): number {
  return a.offsetBytes - b.offsetBytes;
}
