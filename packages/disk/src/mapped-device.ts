/**
 * Devices that are made of runs of others, and where a run of such a device lies on the disks at the bottom. Whoever changed a
 * composed volume in an overlay learns from it which bytes of which disk that changes.
 */
import type { BlockDevice } from '@lifeboat/foundation/block-device';

export interface Run {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** As much of the run from its beginning as lies in one piece; of a mirror, each of its copies. */
export interface LocatedRun {
  readonly lengthBytes: number;
  /** The first is the one that is read. */
  readonly copies: readonly { readonly device: BlockDevice; readonly offsetBytes: number }[];
}

export interface MappedDevice extends BlockDevice {
  /** `run` lies within the device and is not empty. */
  locate(run: Run): LocatedRun;
}

/** A run of a disk at the bottom. */
export interface DiskRun extends Run {
  readonly device: BlockDevice;
  /** Which byte of the volume its first one is. */
  readonly volumeOffsetBytes: number;
}

/** All places where a run of the volume lies, through every layer, in the order of the volume. A plain disk is its own bottom. */
export function runsOnDisks(device: BlockDevice, run: Run): DiskRun[] {
  return descend(device, run, run.offsetBytes);
}

function descend(device: BlockDevice, run: Run, volumeOffsetBytes: number): DiskRun[] {
  if (!isMapped(device)) return run.lengthBytes === 0 ? [] : [{ device, ...run, volumeOffsetBytes }];
  const found: DiskRun[] = [];
  for (let done = 0; done < run.lengthBytes;) {
    const rest = { offsetBytes: run.offsetBytes + done, lengthBytes: run.lengthBytes - done };
    const { lengthBytes, copies } = device.locate(rest);
    for (const copy of copies) {
      found.push(...descend(copy.device, { offsetBytes: copy.offsetBytes, lengthBytes }, volumeOffsetBytes + done));
    }
    done += lengthBytes;
  }
  return found;
}

function isMapped(device: BlockDevice): device is MappedDevice {
  return 'locate' in device;
}
