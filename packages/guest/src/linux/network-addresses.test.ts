import { describe, expect, it } from 'vitest';
import { addressesIn, spelledAs } from './network-addresses.ts';

const found = (kind: Parameters<typeof addressesIn>[0], text: string): string[] =>
  addressesIn(kind, '/f', text).map(({ line, text: as, mac }) => `${line} ${as === mac ? as : `${as} ${mac}`}`);

describe('addressesIn', () => {
  it('finds addresses that match a card, and none that gives a card its address', () => {
    expect(found('ifcfg', 'DEVICE=eth0\nHWADDR="52:54:00:AA:bb:01"\nMACADDR=52:54:00:aa:bb:02\n')).toEqual([
      '2 52:54:00:AA:bb:01 52:54:00:aa:bb:01',
    ]);
    expect(
      found(
        'udev',
        '# ATTR{address}=="52:54:00:00:00:00"\nSUBSYSTEM=="net", ATTR{address}=="52:54:00:aa:bb:01", NAME="eth0"\n',
      ),
    ).toEqual(['2 52:54:00:aa:bb:01']);
    expect(
      found('NetworkManager', '[ethernet]\nmac-address=52:54:00:AA:BB:01\ncloned-mac-address=52:54:00:AA:BB:02\n'),
    ).toEqual(['2 52:54:00:AA:BB:01 52:54:00:aa:bb:01']);
    expect(
      found(
        'networkd',
        '[Match]\nMACAddress=52-54-00-aa-bb-01 52:54:00:aa:bb:02\n[Link]\nName=lan0\nMACAddress=52:54:00:aa:bb:03\n',
      ),
    ).toEqual(['2 52-54-00-aa-bb-01 52:54:00:aa:bb:01', '2 52:54:00:aa:bb:02']);
    expect(
      found(
        'netplan',
        'ethernets:\n  lan:\n    match:\n      # the card\n      macaddress: "52:54:00:aa:bb:01"\n    macaddress: 52:54:00:aa:bb:02\n  wan:\n    match: {macaddress: 52:54:00:aa:bb:03}\n',
      ),
    ).toEqual(['5 52:54:00:aa:bb:01', '8 52:54:00:aa:bb:03']);
    expect(found('ifupdown', 'iface eth0 inet dhcp\n hwaddress ether 52:54:00:aa:bb:01\n')).toEqual([]);
  });

  it('takes nothing for an address that is longer or of mixed marks', () => {
    expect(found('ifcfg', 'HWADDR=52:54:00:aa:bb:01:02\nHWADDR=52:54-00:aa:bb:01\nHWADDR=x\n')).toEqual([]);
  });
});

it('an address is spelled as the one it replaces', () => {
  expect(spelledAs('52:54:00:aa:bb:01', '00-11-22-33-44-CC')).toBe('52-54-00-AA-BB-01');
  expect(spelledAs('52:54:00:aa:bb:01', '00:11:22:33:44:55')).toBe('52:54:00:aa:bb:01');
});
