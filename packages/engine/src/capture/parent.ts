/** The point an incremental stands on, and per disk whether its change tracking can be believed. */
import type { DiskRoot } from '@lifeboat/repository/format/point';
import type { Point } from '@lifeboat/repository/read/point-reader';
import type { Repository } from '@lifeboat/repository/repository';
import type { Hypervisor, MachineDescription, MachineDisk } from '@lifeboat/hypervisor/port';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { captureRecordOrWhyNot } from '../points.ts';

export interface Parent {
  readonly point: Point;
  readonly disks: ReadonlyMap<string, ParentDisk>;
}

export interface ParentDisk {
  readonly root: DiskRoot;
  /** Empty: the dirty bitmap is believed. Else why everything is read and compared. */
  readonly doubt: string;
  readonly sweepFromChunk: number;
}

/**
 * The machine's newest readable point. A damaged newer one is passed over: its checkpoint is not what we stand on. One whose record this
 * release does not understand, or that an agent wrote which is not ours, is compared with, and stops no backup.
 */
export async function parentFor(
  deps: { readonly hypervisor: Hypervisor; readonly repository: Repository },
  machine: MachineDescription,
): Promise<Parent | undefined> {
  const point = await deps.repository.newestPoint(machine.id);
  if (!point) return undefined;
  const disks = new Map<string, ParentDisk>();
  const capture = captureRecordOrWhyNot(point);
  for (const disk of machine.disks) {
    const before = point.disks.find(({ name }) => name === disk.name);
    if (!before) continue;
    const { root } = before;
    if (capture instanceof LifeboatError) {
      disks.set(disk.name, { root, doubt: capture.message, sweepFromChunk: 0 });
      continue;
    }
    const record = capture.disks.find(({ name }) => name === disk.name);
    if (!record) continue;
    disks.set(disk.name, {
      root,
      doubt: await doubtAbout(deps.hypervisor, machine, disk, {
        point,
        epoch: record.epoch,
        sizeBytes: root.sizeBytes,
      }),
      sweepFromChunk: record.nextSweepChunk,
    });
  }
  return { point, disks };
}

/**
 * For a job that an earlier attempt began: its bitmaps hold what changed since the parent it was begun with. If that was
 * pruned or damaged meanwhile, they say too little about the one that is the newest now.
 */
export function parentOfJob(newest: Parent | undefined, begunWith: string | undefined): Parent | undefined {
  if (!newest || newest.point.pointId === begunWith) return newest;
  const begun = begunWith === undefined ? 'without a parent' : `against point ${begunWith}`;
  const doubt = `the backup job was begun ${begun}, and the newest point is ${newest.point.pointId} now`;
  return { ...newest, disks: new Map([...newest.disks].map(([name, disk]) => [name, { ...disk, doubt }])) };
}

async function doubtAbout(
  hypervisor: Hypervisor,
  machine: MachineDescription,
  disk: MachineDisk,
  parent: { point: Point; epoch: string; sizeBytes: number },
): Promise<string> {
  if (disk.sizeBytes !== parent.sizeBytes) {
    return `the disk's size changed from ${parent.sizeBytes} to ${disk.sizeBytes} bytes`;
  }
  const { pointId } = parent.point;
  const tracking = await hypervisor.trackingFor(machine.id, disk.name, { pointId, epoch: parent.epoch });
  return tracking.usable ? '' : tracking.reason;
}
