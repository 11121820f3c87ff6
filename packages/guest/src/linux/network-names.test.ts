import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GuestFiles } from '../access/guest-files.ts';
import { readNetworkFiles } from './network-names.ts';
import { parseCrypttab, parseMdadmConfig } from './volume-names.ts';

/** A guest with these files and no others. */
function guest(files: Readonly<Record<string, string>>): GuestFiles {
  const under = (directory: string) =>
    Object.keys(files).flatMap((path) => (path.startsWith(`${directory}/`) ? [path.slice(directory.length + 1)] : []));
  return {
    list: async (path: string) => under(path).filter((name) => !name.includes('/')),
    isFile: async (path: string) => path in files,
    readText: async (path: string) => files[path],
  } as unknown as GuestFiles;
}

describe('files that name network cards', () => {
  it.each([
    [
      '/etc/network/interfaces',
      'auto lo eth0\niface lo inet loopback\niface eth0 inet dhcp\n  hwaddress ether 52:54:00:AA:00:01\n',
      'ifupdown',
      ['eth0'],
      ['52:54:00:aa:00:01'],
    ],
    ['/etc/network/interfaces.d/lan', 'iface ens3 inet manual\n', 'ifupdown', ['ens3'], []],
    [
      '/etc/systemd/network/10-lan.link',
      '[Match]\nMACAddress=52:54:00:aa:00:02\n[Link]\nName=lan0\n',
      'networkd',
      ['lan0'],
      ['52:54:00:aa:00:02'],
    ],
    [
      '/etc/netplan/50-cloud-init.yaml',
      'network:\n  ethernets:\n    a:\n      match: {macaddress: 52:54:00:aa:00:03}\n      set-name: "wan"\n',
      'netplan',
      ['wan'],
      ['52:54:00:aa:00:03'],
    ],
    [
      '/etc/NetworkManager/system-connections/x.nmconnection',
      '[connection]\ninterface-name=enp1s0\n[ethernet]\nmac-address=52:54:00:AA:00:04\n',
      'NetworkManager',
      ['enp1s0'],
      ['52:54:00:aa:00:04'],
    ],
    [
      '/etc/sysconfig/network-scripts/ifcfg-eth0',
      'DEVICE="eth0"\nHWADDR="52:54:00:aa:00:05"\n',
      'ifcfg',
      ['eth0'],
      ['52:54:00:aa:00:05'],
    ],
    [
      '/etc/udev/rules.d/70-persistent-net.rules',
      'SUBSYSTEM=="net", ATTR{address}=="52:54:00:aa:00:06", NAME="eth1"\n',
      'udev',
      ['eth1'],
      ['52:54:00:aa:00:06'],
    ],
  ])('%s', async (path, text, kind, interfaces, macs) => {
    expect(await readNetworkFiles(guest({ [path]: text }))).toEqual([{ path, kind, interfaces, macs }]);
  });

  it('say nothing in comments, nor by the loopback', async () => {
    const files = {
      '/etc/network/interfaces': '# iface eth9 inet dhcp\n  # 52:54:00:aa:00:06\niface lo inet loopback\n',
      '/etc/sysconfig/network-scripts/ifcfg-lo': 'DEVICE=lo\n',
      '/etc/udev/rules.d/60-disk.rules': 'NAME="sda"\n',
    };
    expect(await readNetworkFiles(guest(files))).toEqual([]);
  });

  it('cost no time, whatever is in them', async () => {
    const startedMs = performance.now();
    for (const text of ['\n', ' \n', '#', '# \n', 'iface ', 'Name = \n', 'NAME', '52:54:00:'].map((piece) =>
      piece.repeat(400_000),
    )) {
      const files = {
        '/etc/network/interfaces': text,
        '/etc/systemd/network/a.link': text,
        '/etc/udev/rules.d/net.rules': text,
      };
      expect((await readNetworkFiles(guest(files))).length).toBeLessThanOrEqual(3);
    }
    expect(performance.now() - startedMs).toBeLessThan(15_000);
  });
});

describe('files that name volumes', () => {
  it('crypttab: with and without key and options', () => {
    expect(
      parseCrypttab('# c\n\nroot UUID=1 none luks,discard\nswap /dev/sda2 /dev/urandom swap\ndata /dev/sdb1\nx y -\n'),
    ).toEqual([
      { name: 'root', source: 'UUID=1', keyFile: 'none', options: ['luks', 'discard'] },
      { name: 'swap', source: '/dev/sda2', keyFile: '/dev/urandom', options: ['swap'] },
      { name: 'data', source: '/dev/sdb1', keyFile: 'none', options: [] },
      { name: 'x', source: 'y', keyFile: 'none', options: [] },
    ]);
  });

  it('mdadm.conf: arrays over several lines', () => {
    expect(
      parseMdadmConfig(
        'DEVICE partitions\nARRAY /dev/md/0 metadata=1.2 name=h:0\n   UUID=AA:bb\n# ARRAY /dev/md9\narray /dev/md1 UUID=cc\n',
      ),
    ).toEqual([
      { device: '/dev/md/0', uuid: 'aa:bb', name: 'h:0' },
      { device: '/dev/md1', uuid: 'cc', name: '' },
    ]);
  });

  it('any text gives a list', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('ARRAY', ' ', '\n', '\t', 'UUID=', 'a', '#', ',', '-') }),
        (text) => {
          expect(parseCrypttab(text).length + parseMdadmConfig(text).length).toBeGreaterThanOrEqual(0);
        },
      ),
    );
  });
});
