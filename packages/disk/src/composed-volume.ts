/**
 * Volumes made of others, as disks to read: logical volumes of linear and striped segments, and mirrors. The device mapper is not
 * needed. What is of another kind, or lacks a part, is not opened: undefined.
 */
import { assertWithin, type BlockDevice } from '@lifeboat/foundation/block-device';
import { sliceDevice } from './bytes.ts';
import type { LogicalVolume, VolumeGroup } from './volume-content/lvm.ts';
import type { ArrayMember } from './volume-content/md.ts';

/** A run of the volume and where it lies. */
interface Piece {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly device: BlockDevice;
  readonly at: number;
}

/** `devices`: by the group's own names of its physical volumes. */
export function openLogicalVolume(
  group: VolumeGroup,
  volume: LogicalVolume,
  devices: ReadonlyMap<string, BlockDevice>,
): BlockDevice | undefined {
  const { extentBytes } = group;
  const starts = new Map(group.physicalVolumes.map(({ name, dataOffsetBytes }) => [name, dataOffsetBytes]));
  const segments: { offsetBytes: number; lengthBytes: number; device: BlockDevice }[] = [];
  let expected = 0;
  for (const { startExtent, extents, stripes, stripeBytes } of volume.segments) {
    if (startExtent !== expected || stripes.length === 0 || extents % stripes.length !== 0) return undefined;
    expected += extents;
    const lengthBytes = (extents / stripes.length) * extentBytes;
    const columns: BlockDevice[] = [];
    for (const { physicalVolume, extent } of stripes) {
      const device = devices.get(physicalVolume);
      const offsetBytes = (starts.get(physicalVolume) ?? Number.NaN) + extent * extentBytes;
      if (!device || !(offsetBytes + lengthBytes <= device.sizeBytes)) return undefined;
      columns.push(sliceDevice(device, { offsetBytes, lengthBytes }));
    }
    const [only] = columns;
    const device = columns.length === 1 ? only : striped(columns, stripeBytes);
    if (!device) return undefined;
    segments.push({ offsetBytes: startExtent * extentBytes, lengthBytes: extents * extentBytes, device });
  }
  return deviceOver(volume.sizeBytes, (offsetBytes, lengthBytes) => {
    const segment = segments.find(
      (part) => offsetBytes >= part.offsetBytes && offsetBytes < part.offsetBytes + part.lengthBytes,
    );
    if (!segment) throw new RangeError(`no segment holds byte ${offsetBytes}`);
    const within = offsetBytes - segment.offsetBytes;
    return {
      offsetBytes,
      lengthBytes: Math.min(lengthBytes, segment.lengthBytes - within),
      device: segment.device,
      at: within,
    };
  });
}

/** Of a mirror, its first member in place; other levels are not read. */
export function openArray(
  members: readonly { readonly member: ArrayMember; readonly device: BlockDevice }[],
): BlockDevice | undefined {
  const active = members.find(({ member }) => typeof member.role === 'number');
  if (!active || active.member.level !== 'raid1') return undefined;
  const { arrayBytes, dataOffsetBytes } = active.member;
  if (dataOffsetBytes + arrayBytes > active.device.sizeBytes) return undefined;
  return sliceDevice(active.device, { offsetBytes: dataOffsetBytes, lengthBytes: arrayBytes });
}

function striped(columns: readonly BlockDevice[], stripeBytes: number): BlockDevice | undefined {
  const [first] = columns;
  if (!first || stripeBytes < 512 || first.sizeBytes % stripeBytes !== 0) return undefined;
  return deviceOver(first.sizeBytes * columns.length, (offsetBytes, lengthBytes) => {
    const stripe = Math.floor(offsetBytes / stripeBytes);
    const within = offsetBytes % stripeBytes;
    return {
      offsetBytes,
      lengthBytes: Math.min(lengthBytes, stripeBytes - within),
      device: columns[stripe % columns.length] as BlockDevice,
      at: Math.floor(stripe / columns.length) * stripeBytes + within,
    };
  });
}

function deviceOver(sizeBytes: number, locate: (offsetBytes: number, lengthBytes: number) => Piece): BlockDevice {
  return {
    sizeBytes,
    async read(offsetBytes, target, options) {
      assertWithin(sizeBytes, { offsetBytes, lengthBytes: target.length }, 'read of a composed volume');
      for (let done = 0; done < target.length;) {
        const piece = locate(offsetBytes + done, target.length - done);
        await piece.device.read(piece.at, target.subarray(done, done + piece.lengthBytes), options);
        done += piece.lengthBytes;
      }
    },
    extents: async (range) => [{ ...range, kind: 'data' }],
    close: async () => {},
  };
}
