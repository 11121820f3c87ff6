/**
 * Volumes made of others, as disks to read: logical volumes of linear and striped segments, mirrors, and RAID 0. The device mapper
 * is not needed. What is of another kind, or lacks a part, is not opened: undefined. Each says where its bytes lie
 * (mapped-device.ts), so that an edit of a volume becomes an edit of disks.
 */
import { assertWithin, type BlockDevice } from '@lifeboat/foundation/block-device';
import { sliceDevice } from './bytes.ts';
import type { LocatedRun, MappedDevice, Run } from './mapped-device.ts';
import type { LogicalVolume, VolumeGroup } from './volume-content/lvm.ts';
import type { ArrayMember } from './volume-content/md.ts';

/** `devices`: by the group's own names of its physical volumes. */
export function openLogicalVolume(
  group: VolumeGroup,
  volume: LogicalVolume,
  devices: ReadonlyMap<string, BlockDevice>,
): MappedDevice | undefined {
  const { extentBytes } = group;
  const starts = new Map(group.physicalVolumes.map(({ name, dataOffsetBytes }) => [name, dataOffsetBytes]));
  const segments: { offsetBytes: number; lengthBytes: number; device: MappedDevice }[] = [];
  let expected = 0;
  for (const { startExtent, extents, stripes, stripeBytes } of volume.segments) {
    if (startExtent !== expected || stripes.length === 0 || extents % stripes.length !== 0) return undefined;
    expected += extents;
    const lengthBytes = (extents / stripes.length) * extentBytes;
    const columns: MappedDevice[] = [];
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
  return mapped(volume.sizeBytes, ({ offsetBytes, lengthBytes }) => {
    const segment = segments.find(
      (part) => offsetBytes >= part.offsetBytes && offsetBytes < part.offsetBytes + part.lengthBytes,
    );
    if (!segment) throw new RangeError(`no segment holds byte ${offsetBytes}`);
    const within = offsetBytes - segment.offsetBytes;
    return {
      lengthBytes: Math.min(lengthBytes, segment.lengthBytes - within),
      copies: [{ device: segment.device, offsetBytes: within }],
    };
  });
}

type Member = { readonly member: ArrayMember; readonly device: BlockDevice };

/**
 * Of a mirror, the member that was written last is read, and every member that has a place in it is a copy: one that lags behind, or
 * is being rebuilt, is brought up to the others by whoever assembles it, and finds what is written here in both.
 */
export function openArray(members: readonly Member[]): MappedDevice | undefined {
  const placed = members
    .filter(({ member }) => typeof member.role === 'number' && !member.reshaping)
    .toSorted((a, b) => Number(a.member.recovering) - Number(b.member.recovering) || b.member.events - a.member.events);
  const [first] = placed;
  if (!first || first.member.recovering) return undefined;
  if (first.member.level === 'raid1') return mirrored(placed);
  return first.member.level === 'raid0' ? raid0(placed) : undefined;
}

function mirrored(members: readonly Member[]): MappedDevice | undefined {
  const copies = members.flatMap(({ member: { dataOffsetBytes, arrayBytes }, device }) =>
    dataOffsetBytes + arrayBytes <= device.sizeBytes
      ? [sliceDevice(device, { offsetBytes: dataOffsetBytes, lengthBytes: arrayBytes })]
      : [],
  );
  const sizes = new Set(copies.map(({ sizeBytes }) => sizeBytes));
  const [first] = copies;
  if (!first || copies.length < members.length || sizes.size > 1) return undefined;
  return mapped(first.sizeBytes, ({ offsetBytes, lengthBytes }) => ({
    lengthBytes,
    copies: copies.map((device) => ({ device, offsetBytes })),
  }));
}

/** Members of one size only: others make zones, of which the kernel has two layouts. */
function raid0(members: readonly Member[]): MappedDevice | undefined {
  const [{ member: first }] = members as readonly [Member];
  const { raidDisks, chunkBytes } = first;
  const columns: MappedDevice[] = [];
  for (let role = 0; role < raidDisks; role += 1) {
    const found = members.filter(({ member }) => member.role === role);
    const [only] = found;
    if (!only || found.length > 1 || chunkBytes === 0) return undefined;
    const { dataOffsetBytes, memberBytes } = only.member;
    // What does not fill a chunk is left over.
    const lengthBytes = memberBytes - (memberBytes % chunkBytes);
    if (!(lengthBytes > 0 && dataOffsetBytes + lengthBytes <= only.device.sizeBytes)) return undefined;
    columns.push(sliceDevice(only.device, { offsetBytes: dataOffsetBytes, lengthBytes }));
  }
  if (new Set(columns.map(({ sizeBytes }) => sizeBytes)).size > 1) return undefined;
  return striped(columns, chunkBytes);
}

function striped(columns: readonly MappedDevice[], stripeBytes: number): MappedDevice | undefined {
  const [first] = columns;
  if (!first || stripeBytes < 512 || first.sizeBytes % stripeBytes !== 0) return undefined;
  return mapped(first.sizeBytes * columns.length, ({ offsetBytes, lengthBytes }) => {
    const stripe = Math.floor(offsetBytes / stripeBytes);
    const within = offsetBytes % stripeBytes;
    const device = columns[stripe % columns.length] as BlockDevice;
    return {
      lengthBytes: Math.min(lengthBytes, stripeBytes - within),
      copies: [{ device, offsetBytes: Math.floor(stripe / columns.length) * stripeBytes + within }],
    };
  });
}

function mapped(sizeBytes: number, locate: (run: Run) => LocatedRun): MappedDevice {
  return {
    sizeBytes,
    locate: (run) => {
      assertWithin(sizeBytes, run, 'place in a composed volume');
      return locate(run);
    },
    async read(offsetBytes, target, options) {
      assertWithin(sizeBytes, { offsetBytes, lengthBytes: target.length }, 'read of a composed volume');
      for (let done = 0; done < target.length;) {
        const { lengthBytes, copies } = locate({ offsetBytes: offsetBytes + done, lengthBytes: target.length - done });
        const [{ device, offsetBytes: at }] = copies as [LocatedRun['copies'][number]];
        await device.read(at, target.subarray(done, done + lengthBytes), options);
        done += lengthBytes;
      }
    },
    extents: async (range) => [{ ...range, kind: 'data' }],
    close: async () => {},
  };
}
