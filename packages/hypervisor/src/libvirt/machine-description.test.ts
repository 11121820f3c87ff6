import { hasCode } from '@lifeboat/foundation/errors';
import { describe, expect, test } from 'vitest';
import { describeDomain } from './machine-description.ts';

const UUID = '6695eb01-f6a4-8304-79aa-97f2502e193f';

function domain(devices: string, more = ''): string {
  return `<domain type='kvm'><name>web</name><uuid>${UUID}</uuid><memory unit='KiB'>1048576</memory><vcpu>2</vcpu>
    ${more}<devices>${devices}</devices></domain>`;
}

const file = (target: string, bus: string, more = ''): string =>
  `<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/d/${target}.qcow2'/>
    <target dev='${target}' bus='${bus}'/>${more}</disk>`;

describe('a domain', () => {
  test.each([
    ["<os firmware='efi'><firmware><feature enabled='yes' name='secure-boot'/></firmware></os>", true],
    ["<os firmware='efi'><firmware><feature enabled='no' name='secure-boot'/></firmware></os>", undefined],
    ["<os firmware='efi'><firmware><feature enabled='yes' name='enrolled-keys'/></firmware></os>", undefined],
    ["<os><loader readonly='yes' secure='yes' type='pflash'>/x</loader></os>", true],
    ["<os><loader readonly='yes' type='pflash'>/x</loader></os>", undefined],
  ])('%s tells whether it has Secure Boot', (os, secureBoot) => {
    expect(describeDomain(domain('', os)).secureBoot).toBe(secureBoot);
  });

  test('is described with its board and its TPM', () => {
    const tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>";
    const os = "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>";
    expect(describeDomain(domain(tpm, os))).toMatchObject({ tpm: '2.0', machineType: 'pc-q35-7.2' });
    expect(describeDomain(domain(''))).not.toHaveProperty('tpm');
  });

  test('is described with its disks, cards and firmware', () => {
    const machine = describeDomain(
      domain(
        `${file('vda', 'virtio', '<serial>abc</serial><readonly/>')}
         <disk type='block'><driver type='raw'/><source dev='/dev/vg/data'/><target dev='sda' bus='sata'/></disk>
         <disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>
         <interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/><model type='virtio'/></interface>
         <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>`,
        "<os firmware='efi'><nvram template='/t'>/nv/web.fd</nvram></os>",
      ),
    );
    expect(machine).toMatchObject({
      id: UUID,
      name: 'web',
      memoryMiB: 1024,
      vcpus: 2,
      firmware: 'uefi',
      nvramPath: '/nv/web.fd',
      guestAgentChannel: true,
      nics: [{ mac: '52:54:00:00:00:01', model: 'virtio', network: 'default' }],
    });
    expect(machine.disks).toEqual([
      { name: 'vda', controller: 'virtio-blk', path: '/d/vda.qcow2', format: 'qcow2', readOnly: true, serial: 'abc' },
      { name: 'sda', controller: 'ahci', path: '/dev/vg/data', format: 'raw', readOnly: false, serial: undefined },
    ]);
  });

  test('that is off has its UEFI variables where libvirt keeps them, though it does not say so', () => {
    const off = describeDomain(domain('', "<os firmware='efi'><type>hvm</type></os>"));
    expect(off.nvramPath).toBe('/var/lib/libvirt/qemu/nvram/web_VARS.fd');
    expect(describeDomain(domain('', '<os><type>hvm</type></os>'))).not.toHaveProperty('nvramPath');
  });

  test.each([
    ['virtio-scsi', 'virtio-scsi'],
    ['lsilogic', 'lsi'],
    ['lsisas1078', 'megasas'],
    ['vmpvscsi', 'pvscsi'],
    ['lsisas1068', 'mptsas'],
    ['buslogic', 'other'],
  ])('a SCSI disk behind %s is on %s', (model, controller) => {
    const address = "<address type='drive' controller='1' bus='0' target='0' unit='0'/>";
    const devices = `<controller type='scsi' index='0' model='virtio-scsi'/><controller type='scsi' index='1' model='${model}'/>`;
    expect(describeDomain(domain(devices + file('sda', 'scsi', address))).disks[0]?.controller).toBe(controller);
  });

  test.each([
    ['BIOS', '<os><type>hvm</type></os>', 'bios'],
    ['UEFI by loader', "<os><loader type='pflash'>/f</loader></os>", 'uefi'],
    ['a ROM', "<os><loader type='rom'>/f</loader></os>", 'bios'],
  ])('%s is told', (_what, os, firmware) => {
    expect(describeDomain(domain('', os)).firmware).toBe(firmware);
  });

  test.each([
    ['a disk on the network', "<disk type='network'><source protocol='rbd' name='x'/><target dev='vdb'/></disk>"],
    ['a disk of a pool', "<disk type='volume'><source pool='p' volume='v'/><target dev='vdb'/></disk>"],
    ['a disk without a file', "<disk type='file'><target dev='vdb' bus='virtio'/></disk>"],
    [
      'an image of another format',
      "<disk type='file'><driver type='vmdk'/><source file='/x'/><target dev='vdb'/></disk>",
    ],
  ])('%s is refused: a point without it would be a trap', (_what, disk) => {
    expect(() => describeDomain(domain(disk))).toThrow(
      expect.toSatisfy((error: unknown) => hasCode(error, 'hypervisor.unsupported-disk')),
    );
  });

  test.each([
    ['no name', `<domain><uuid>${UUID}</uuid></domain>`],
    ['an unknown unit', `<domain><name>x</name><uuid>${UUID}</uuid><memory unit='furlong'>1</memory></domain>`],
    ['no XML', 'error: something'],
  ])('%s is refused', (_what, xml) => {
    expect(() => describeDomain(xml)).toThrow(
      expect.toSatisfy((error: unknown) => hasCode(error, 'hypervisor.bad-xml')),
    );
  });
});
