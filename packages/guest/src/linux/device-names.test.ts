import { describe, expect, it } from 'vitest';
import type { DiskInspection, FilesystemInspection } from '../inspect/guest-inspection.ts';
import {
  namesInArguments,
  namesInCrypttab,
  namesInFstab,
  replaceName,
  stableName,
  type DeviceNameUse,
} from './device-names.ts';

const filesystem = (partition: number, uuid: string, type = 'ext4', disk = 'vda'): FilesystemInspection => ({
  disk,
  partition,
  offsetBytes: 0,
  lengthBytes: 1,
  type,
  uuid,
  label: '',
  partitionUuid: `part-${partition}`,
});
const disk = (...filesystems: FilesystemInspection[]): DiskInspection => ({
  name: 'vda',
  sizeBytes: 1,
  table: { kind: 'none' } as unknown as DiskInspection['table'],
  mbrLoader: 'grub',
  filesystems,
});
const root = filesystem(2, 'root-uuid');
const guest = {
  disks: [disk(filesystem(1, 'boot-uuid'), root, filesystem(5, 'swap-uuid', 'swap'))],
  volumes: [],
  root,
  mounts: [],
};
const use = (change: Partial<DeviceNameUse>): DeviceNameUse => ({
  path: '/etc/fstab',
  line: 1,
  name: '/dev/sda2',
  purpose: 'mount',
  mountPoint: '/srv',
  optional: false,
  ...change,
});

describe('names of disks', () => {
  it('are found in fstab and crypttab with what depends on them', () => {
    const fstab =
      '# /dev/sda9\n/dev/sda1 / ext4 defaults 0 1\nUUID=1 /a ext4\n/dev/vdb1 none swap sw\n/dev/hda3 /b ext4 noauto\n';
    expect(namesInFstab('/etc/fstab', fstab)).toEqual([
      use({ line: 2, name: '/dev/sda1', mountPoint: '/' }),
      use({ line: 4, name: '/dev/vdb1', mountPoint: 'none', optional: true }),
      use({ line: 5, name: '/dev/hda3', mountPoint: '/b', optional: true }),
    ]);
    const crypttab = '# comment\nhome /dev/sda5 none luks\nx UUID=1 none\nusb /dev/sdb1 none luks,nofail\n';
    expect(namesInCrypttab('/etc/crypttab', crypttab)).toMatchObject([
      { line: 2, name: '/dev/sda5', purpose: 'unlock', optional: false },
      { line: 4, name: '/dev/sdb1', optional: true },
    ]);
  });

  it.each<[string, Partial<DeviceNameUse>[]]>([
    [
      'linux /vmlinuz root=/dev/sda1 ro resume=/dev/sda5',
      [
        { name: '/dev/sda1', purpose: 'root', optional: false },
        { name: '/dev/sda5', purpose: 'resume', optional: true },
      ],
    ],
    ['GRUB_CMDLINE_LINUX="resume=/dev/nvme0n1p3 quiet"', [{ name: '/dev/nvme0n1p3', purpose: 'resume' }]],
    ["GRUB_CMDLINE_LINUX='quiet root=/dev/vda1'", [{ name: '/dev/vda1', purpose: 'root' }]],
    ['RESUME=/dev/sda5', [{ name: '/dev/sda5', purpose: 'resume' }]],
    ['linux /vmlinuz root=UUID=1 resume=/dev/mapper/swap noroot=/dev/sda1', []],
    ['# linux root=/dev/sda1', []],
  ])('are found among arguments: %j', (line, found) => {
    expect(namesInArguments('/x', `first\n${line}\n`)).toMatchObject(found.map((each) => ({ line: 2, ...each })));
    expect(namesInArguments('/x', `first\n${line}\n`)).toHaveLength(found.length);
  });

  it('become the UUID of the filesystem that was meant', () => {
    expect(stableName(use({ name: '/dev/sdx9', mountPoint: '/' }), guest)).toBe('UUID=root-uuid');
    expect(stableName(use({ name: '/dev/sdc1', purpose: 'root' }), guest)).toBe('UUID=root-uuid');
    expect(stableName(use({ name: '/dev/sdc1', purpose: 'root' }), guest, { byPartition: true })).toBe(
      'PARTUUID=part-2',
    );
    expect(stableName(use({ name: '/dev/sda5', mountPoint: 'none' }), guest)).toBe('UUID=swap-uuid');
    expect(stableName(use({ name: '/dev/nvme0n1p1' }), guest)).toBe('UUID=boot-uuid');
    const mounts = [{ mountPoint: '/srv', filesystem: filesystem(1, 'other-uuid', 'ext4', 'vdb') }];
    expect(stableName(use({ name: '/dev/sdb1' }), { ...guest, mounts })).toBe('UUID=other-uuid');
  });

  it.each<[string, Partial<DeviceNameUse>, Partial<typeof guest>]>([
    ['another disk than the only one', { name: '/dev/sdb1' }, {}],
    ['a partition that is not there', { name: '/dev/sda7' }, {}],
    ['a whole disk', { name: '/dev/sda' }, {}],
    ['one of two disks', { name: '/dev/sda1' }, { disks: [...guest.disks, disk(filesystem(1, 'x-uuid'))] }],
    ['a link by the path of the hardware', { name: '/dev/disk/by-path/pci-0-part1' }, {}],
    [
      'a copy with the same UUID',
      { name: '/dev/sda1' },
      { disks: [disk(filesystem(1, 'same'), filesystem(2, 'same'))] },
    ],
    ['a filesystem without UUID', { name: '/dev/sda1' }, { disks: [disk(filesystem(1, ''))] }],
    ['an id that is none', { name: '/dev/sda1' }, { disks: [disk(filesystem(1, 'a b /etc'))] }],
  ])('stay where it cannot be told: %s', (_, change, other) => {
    expect(stableName(use(change), { ...guest, ...other })).toBeUndefined();
  });

  it.each([
    ['/dev/sda1 / ext4', '/dev/sda1', 'UUID=1 / ext4'],
    ['/dev/sda10 / ext4 # /dev/sda1', '/dev/sda1', '/dev/sda10 / ext4 # UUID=1'],
    ['A="root=/dev/sda1"', '/dev/sda1', 'A="root=UUID=1"'],
    ['x/dev/sda1 y', '/dev/sda1', 'x/dev/sda1 y'],
    ['home\t/dev/sda5\tnone', '/dev/sda5', 'home\tUUID=1\tnone'],
  ])('are replaced as whole words: %j', (line, name, after) => {
    expect(replaceName(line, name, 'UUID=1')).toBe(after);
  });
});
