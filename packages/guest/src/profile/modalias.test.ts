import { describe, expect, it } from 'vitest';
import type { PciDevice } from './hardware-profile.ts';
import { modaliasesOf, pciModalias } from './modalias.ts';
import { loadHardwareProfile } from './shipped-profiles.ts';

const device: PciDevice = {
  vendor: 0x1af4,
  device: 0x1042,
  subsystemVendor: 0x1af4,
  subsystemDevice: 0x1100,
  class: 0x010000,
  role: 'boot-storage',
  name: 'x',
};

describe('modaliases', () => {
  it('of a PCI function are written as the kernel writes them', () => {
    // /sys/bus/pci/devices/*/modalias of QEMU guests.
    expect(pciModalias(device)).toBe('pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00');
    expect(pciModalias({ ...device, vendor: 0x1b36, device: 0x10, class: 0x010802 })).toBe(
      'pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02',
    );
  });

  it.each([
    ['virtio-blk', ['virtio:d00000002v00001AF4'], 'virtio:d00000001v00001AF4'],
    ['virtio-scsi', ['virtio:d00000008v00001AF4', 'scsi:t-0x00'], 'virtio:d00000001v00001AF4'],
    ['nvme', [], undefined],
    ['ahci', ['scsi:t-0x00'], undefined],
  ])('of %s include the buses behind its functions', async (name, storage, network) => {
    const requests = modaliasesOf(await loadHardwareProfile(name));
    const children = (role: string) =>
      requests.filter((r) => r.role === role && !r.modalias.startsWith('pci:')).map((r) => r.modalias);
    expect(children('boot-storage')).toEqual(storage);
    expect(children('network')).toEqual(network === undefined ? [] : [network]);
    expect(requests.filter((r) => r.modalias.startsWith('pci:'))).toHaveLength(2);
  });

  it('of a transitional function name the same child as of a modern one', () => {
    const profile = {
      name: 'p',
      description: 'd',
      firmware: 'bios',
      emulation: { diskController: 'virtio-blk', nicModel: 'virtio' },
    } as const;
    const of = (id: number) =>
      modaliasesOf({ ...profile, pciDevices: [{ ...device, device: id }] })
        .map((r) => r.modalias)
        .slice(1);
    expect(of(0x1001)).toEqual(of(0x1042));
    expect(of(0x1004)).toEqual(of(0x1048));
    expect(of(0x1040)).toEqual(['scsi:t-0x00']); // no virtio type: a plain SCSI controller by its class
  });
});
