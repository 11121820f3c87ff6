import { describe, expect, it } from 'vitest';
import { isUnstableDeviceName, parseFstab } from './fstab.ts';
import { identifyMbrLoader, parseGrubConfig } from './grub.ts';
import { parseOsRelease } from './os-release.ts';

describe('os-release', () => {
  it('is read with and without quotes, and with damage', () => {
    expect(
      parseOsRelease(
        'NAME="Debian GNU/Linux"\nPRETTY_NAME="A \\"B\\" \\$C"\nID=debian\nVERSION_ID=\'12\'\n# x\ngarbage\n',
      ),
    ).toEqual({
      id: 'debian',
      versionId: '12',
      prettyName: 'A "B" $C',
    });
    expect(parseOsRelease('')).toEqual({ id: 'linux', versionId: '', prettyName: 'linux' });
  });
});

describe('fstab', () => {
  it('is read by fields, without comments', () => {
    const text =
      '# comment\n\nUUID=1 / ext4 errors=remount-ro,noatime 0 1\n/dev/sda5\tnone\tswap\tsw 0 0\nLABEL=a\\040b /mnt/x\\040y auto\nlonely\n';
    expect(parseFstab(text)).toEqual([
      { line: 3, source: 'UUID=1', mountPoint: '/', type: 'ext4', options: ['errors=remount-ro', 'noatime'] },
      { line: 4, source: '/dev/sda5', mountPoint: 'none', type: 'swap', options: ['sw'] },
      { line: 5, source: 'LABEL=a b', mountPoint: '/mnt/x y', type: 'auto', options: ['defaults'] },
    ]);
  });

  it.each([
    ['/dev/sda1', true],
    ['/dev/vdb', true],
    ['/dev/nvme0n1p2', true],
    ['/dev/xvda', true],
    ['/dev/mmcblk0p1', true],
    ['/dev/disk/by-path/pci-0000:00:1f.2-ata-1-part1', true],
    ['/dev/disk/by-id/ata-QEMU_HARDDISK_1-part1', true],
    ['/dev/disk/by-uuid/1', false],
    ['/dev/mapper/vg-root', false],
    ['UUID=1', false],
    ['tmpfs', false],
  ])('says of %s whether it changes with the controller: %s', (name, unstable) => {
    expect(isUnstableDeviceName(name)).toBe(unstable);
  });
});

describe('GRUB', () => {
  it('entries are found with their root, in order', () => {
    const text =
      "menuentry 'a' {\n\tlinux\t/boot/vmlinuz-2 root=UUID=1 ro root=/dev/sda1\n}\n linuxefi /vmlinuz-1 ro\nlinux_x /no\nlinux\n";
    expect(parseGrubConfig(text)).toEqual([
      { kernel: '/boot/vmlinuz-2', root: '/dev/sda1', arguments: ['root=UUID=1', 'ro', 'root=/dev/sda1'] },
      { kernel: '/vmlinuz-1', root: undefined, arguments: ['ro'] },
    ]);
  });

  it('boot code is told from others by its messages', () => {
    const sector = (text: string) =>
      Buffer.concat([Buffer.alloc(200, 1), Buffer.from(text, 'latin1'), Buffer.alloc(512)]).subarray(0, 512);
    expect(identifyMbrLoader(sector('GRUB \0Geom\0Hard Disk\0Read\0 Error'))).toBe('grub');
    expect(
      identifyMbrLoader(sector('Invalid partition table\0Error loading operating system\0Missing operating system')),
    ).toBe('windows');
    expect(identifyMbrLoader(sector('Missing operating system.\r\n'))).toBe('syslinux');
    expect(identifyMbrLoader(sector('something else'))).toBe('other');
    expect(identifyMbrLoader(Buffer.alloc(512))).toBe('none');
    // Only code counts: the disk signature and the table are data.
    expect(identifyMbrLoader(Buffer.concat([Buffer.alloc(440), Buffer.alloc(72, 7)]))).toBe('none');
  });
});
