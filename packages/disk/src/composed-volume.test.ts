import { MiB } from '@lifeboat/foundation/units';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openArray, openLogicalVolume } from './composed-volume.ts';
import { runsOnDisks } from './mapped-device.ts';
import { deviceOf } from './testing/disks.ts';
import type { LogicalVolume, VolumeGroup } from './volume-content/lvm.ts';
import type { ArrayMember } from './volume-content/md.ts';

const STRIPE = 4096;
const EXTENT = 16 * 1024;

/** Every 512 bytes say which disk they are of, and where they lie there. */
function disk(name: number): Buffer {
  const bytes = Buffer.alloc(MiB);
  for (let at = 0; at < bytes.length; at += 512) bytes.fill(`${name}:${at};`, at, at + 512);
  return bytes;
}
const disks = [disk(0), disk(1)];
const devices = new Map(disks.map((bytes, i) => [`pv${i}`, deviceOf(bytes)]));
const pv = (n: number) => ({ name: `pv${n}`, uuid: '', device: '', dataOffsetBytes: 8192 * (n + 1), extents: 16 });
const stripe = (n: number, extent: number) => ({ physicalVolume: `pv${n}`, extent });

const volume: LogicalVolume = {
  name: 'lv',
  uuid: '',
  sizeBytes: 7 * EXTENT,
  visible: true,
  segments: [
    { startExtent: 0, extents: 2, type: 'striped', stripes: [stripe(1, 3)], stripeBytes: 0 },
    { startExtent: 2, extents: 4, type: 'striped', stripes: [stripe(0, 2), stripe(1, 5)], stripeBytes: STRIPE },
    { startExtent: 6, extents: 1, type: 'striped', stripes: [stripe(0, 0)], stripeBytes: 0 },
  ],
};
const group: VolumeGroup = {
  name: 'vg',
  uuid: '',
  sequence: 1,
  extentBytes: EXTENT,
  physicalVolumes: [pv(0), pv(1)],
  logicalVolumes: [volume],
};

/** The volume's content, put together by hand. */
function expected(): Buffer {
  const at = (n: number, extent: number, offset: number, length: number) => {
    const start = 8192 * (n + 1) + extent * EXTENT + offset;
    return (disks[n] as Buffer).subarray(start, start + length);
  };
  const striped = Array.from({ length: (4 * EXTENT) / STRIPE }, (_, i) =>
    at(i % 2, i % 2 === 0 ? 2 : 5, Math.floor(i / 2) * STRIPE, STRIPE),
  );
  return Buffer.concat([at(1, 3, 0, 2 * EXTENT), ...striped, at(0, 0, 0, EXTENT)]);
}

describe('a logical volume', () => {
  it('reads at any place as what lies there, over segments and stripes', async () => {
    const device = openLogicalVolume(group, volume, devices);
    const whole = expected();
    expect(device?.sizeBytes).toBe(whole.length);
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: whole.length }), fc.nat({ max: whole.length }), async (a, b) => {
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        const bytes = Buffer.alloc(to - from);
        await device?.read(from, bytes);
        expect(bytes.equals(whole.subarray(from, to))).toBe(true);
      }),
    );
  });

  it('says of every byte on which disk it lies, through every layer', async () => {
    const device = openLogicalVolume(group, volume, devices);
    if (!device) throw new Error('not opened');
    const whole = expected();
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: whole.length }), fc.nat({ max: whole.length }), async (a, b) => {
        const run = { offsetBytes: Math.min(a, b), lengthBytes: Math.abs(a - b) };
        const places = runsOnDisks(device, run);
        const bytes: Buffer[] = [];
        for (const place of places) {
          expect([...devices.values()]).toContain(place.device);
          const piece = Buffer.alloc(place.lengthBytes);
          await place.device.read(place.offsetBytes, piece);
          expect(place.volumeOffsetBytes).toBe(run.offsetBytes + Buffer.concat(bytes).length);
          bytes.push(piece);
        }
        const end = run.offsetBytes + run.lengthBytes;
        expect(Buffer.concat(bytes).equals(whole.subarray(run.offsetBytes, end))).toBe(true);
      }),
    );
  });

  it.each([
    ['a disk that is not there', group, volume, new Map([['pv0', deviceOf(disk(0))]])],
    ['a segment that leaves its disk', { ...group, extentBytes: MiB }, volume, devices],
    ['a hole', group, { ...volume, segments: volume.segments.slice(1) }, devices],
    [
      'a kind that is not read',
      group,
      { ...volume, segments: [{ startExtent: 0, extents: 1, type: 'thin', stripes: [], stripeBytes: 0 }] },
      devices,
    ],
  ])('is not opened with %s', (_, vg, lv, on) => {
    expect(openLogicalVolume(vg, lv, on)).toBeUndefined();
  });
});

describe('an array', () => {
  const member: ArrayMember = {
    kind: 'array-member',
    type: 'linux_raid_member',
    version: '1.2',
    uuid: '',
    label: '',
    level: 'raid1',
    raidDisks: 2,
    arrayBytes: 8192,
    dataOffsetBytes: 4096,
    memberBytes: 8192,
    chunkBytes: 0,
    role: 0,
    events: 5,
    recovering: false,
    reshaping: false,
  };

  it('that is a mirror reads as its first member in place', async () => {
    const spare = { member: { ...member, role: 'spare' as const }, device: deviceOf(disk(1)) };
    const device = openArray([spare, { member, device: deviceOf(disk(0)) }]);
    const bytes = Buffer.alloc(8192);
    await device?.read(0, bytes);
    expect(bytes.equals(disk(0).subarray(4096, 12_288))).toBe(true);
  });

  it('that is a mirror is read from the member that was written last, and lies on all that have a place in it', async () => {
    const [old, newer] = [deviceOf(disk(0)), deviceOf(disk(1))];
    const late = { ...member, role: 1, events: 6, dataOffsetBytes: 8192 };
    const device = openArray([
      { member, device: old },
      { member: late, device: newer },
    ]);
    const bytes = Buffer.alloc(512);
    await device?.read(1024, bytes);
    expect(bytes.equals(disk(1).subarray(9216, 9728))).toBe(true);
    expect(device && runsOnDisks(device, { offsetBytes: 1024, lengthBytes: 512 })).toEqual([
      { device: newer, offsetBytes: 9216, lengthBytes: 512, volumeOffsetBytes: 1024 },
      { device: old, offsetBytes: 5120, lengthBytes: 512, volumeOffsetBytes: 1024 },
    ]);
  });

  it('of RAID 0 reads chunk by chunk over its members, in their order', async () => {
    const raid0 = { ...member, level: 'raid0', chunkBytes: STRIPE, memberBytes: 3 * STRIPE + 512, arrayBytes: 0 };
    const device = openArray([
      { member: { ...raid0, role: 1, dataOffsetBytes: 8192 }, device: deviceOf(disk(1)) },
      { member: raid0, device: deviceOf(disk(0)) },
    ]);
    expect(device?.sizeBytes).toBe(6 * STRIPE);
    const bytes = Buffer.alloc(6 * STRIPE);
    await device?.read(0, bytes);
    const expected = [0, 1, 2].flatMap((i) => [
      disk(0).subarray(4096 + i * STRIPE, 4096 + (i + 1) * STRIPE),
      disk(1).subarray(8192 + i * STRIPE, 8192 + (i + 1) * STRIPE),
    ]);
    expect(bytes.equals(Buffer.concat(expected))).toBe(true);
    const lacking = [{ member: raid0, device: deviceOf(disk(0)) }];
    expect(openArray(lacking)).toBeUndefined();
    const unequal = { ...raid0, role: 1, memberBytes: 5 * STRIPE };
    expect(openArray([...lacking, { member: unequal, device: deviceOf(disk(1)) }])).toBeUndefined();
  });

  it.each([
    ['of another level', { ...member, level: 'raid5' }],
    ['without a member in place', { ...member, role: 'faulty' as const }],
    ['being filled from the others', { ...member, recovering: true }],
    ['changing its shape', { ...member, reshaping: true }],
    ['larger than its member', { ...member, arrayBytes: 2 * MiB }],
  ])('%s is not opened', (_, found) => {
    expect(openArray([{ member: found, device: deviceOf(disk(0)) }])).toBeUndefined();
  });
});
