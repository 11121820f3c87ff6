/**
 * The PCI functions that QEMU gives the controllers and network cards it emulates, as `info pci` of QEMU 7.2 shows them and pci.ids names
 * them. Of virtio the modern ones, which machines with PCI Express get; drivers are the same for the others.
 */
import type { DiskController, NicModel, PciDevice } from './hardware-profile.ts';

type Identity = Omit<PciDevice, 'role'>;

const RED_HAT = 0x1af4;
const QEMU_SUBSYSTEM = { subsystemVendor: RED_HAT, subsystemDevice: 0x1100 } as const;
const INTEL = 0x8086;
const LSI = 0x1000;
const VMWARE = 0x15ad;

const CONTROLLERS: Readonly<Record<DiskController, Identity>> = {
  'virtio-blk': { vendor: RED_HAT, device: 0x1042, ...QEMU_SUBSYSTEM, class: 0x010000, name: 'Virtio block (modern)' },
  'virtio-scsi': { vendor: RED_HAT, device: 0x1048, ...QEMU_SUBSYSTEM, class: 0x010000, name: 'Virtio SCSI (modern)' },
  nvme: { vendor: 0x1b36, device: 0x0010, ...QEMU_SUBSYSTEM, class: 0x010802, name: 'QEMU NVM Express controller' },
  ahci: { vendor: INTEL, device: 0x2922, ...QEMU_SUBSYSTEM, class: 0x010601, name: 'Intel ICH9 AHCI' },
  ide: { vendor: INTEL, device: 0x7010, ...QEMU_SUBSYSTEM, class: 0x010180, name: 'Intel PIIX3 IDE' },
  lsi: {
    vendor: LSI,
    device: 0x0012,
    subsystemVendor: 0x0000,
    subsystemDevice: 0x1000,
    class: 0x010000,
    name: 'LSI 53c895a SCSI',
  },
  megasas: {
    vendor: LSI,
    device: 0x0060,
    subsystemVendor: LSI,
    subsystemDevice: 0x1013,
    class: 0x010400,
    name: 'LSI MegaRAID SAS 1078',
  },
  mptsas: {
    vendor: LSI,
    device: 0x0054,
    subsystemVendor: LSI,
    subsystemDevice: 0x8000,
    class: 0x010000,
    name: 'LSI SAS1068 Fusion-MPT',
  },
  pvscsi: {
    vendor: VMWARE,
    device: 0x07c0,
    subsystemVendor: VMWARE,
    subsystemDevice: 0x07c0,
    class: 0x010000,
    name: 'VMware PVSCSI',
  },
};

const NICS: Readonly<Record<NicModel, Identity>> = {
  virtio: { vendor: RED_HAT, device: 0x1041, ...QEMU_SUBSYSTEM, class: 0x020000, name: 'Virtio network (modern)' },
  e1000: { vendor: INTEL, device: 0x100e, ...QEMU_SUBSYSTEM, class: 0x020000, name: 'Intel 82540EM Gigabit' },
  e1000e: {
    vendor: INTEL,
    device: 0x10d3,
    subsystemVendor: INTEL,
    subsystemDevice: 0x0000,
    class: 0x020000,
    name: 'Intel 82574L Gigabit',
  },
  rtl8139: { vendor: 0x10ec, device: 0x8139, ...QEMU_SUBSYSTEM, class: 0x020000, name: 'Realtek RTL8139' },
  vmxnet3: {
    vendor: VMWARE,
    device: 0x07b0,
    subsystemVendor: VMWARE,
    subsystemDevice: 0x07b0,
    class: 0x020000,
    name: 'VMware VMXNET3',
  },
};

export function emulatedController(controller: DiskController, role: PciDevice['role']): PciDevice {
  return { ...CONTROLLERS[controller], role };
}

export function emulatedNic(model: NicModel): PciDevice {
  return { ...NICS[model], role: 'network' };
}

/** Which controller, of those that can be emulated, is nearest to a function of class 01. */
export function closestController({ vendor, device, class: code }: PciDevice): DiskController {
  const subclass = (code >> 8) & 0xff;
  if (vendor === RED_HAT && (device === 0x1042 || device === 0x1001)) return 'virtio-blk';
  if (vendor === RED_HAT && (device === 0x1048 || device === 0x1004)) return 'virtio-scsi';
  if (vendor === VMWARE && device === 0x07c0) return 'pvscsi';
  if (subclass === 0x08) return 'nvme';
  if (subclass === 0x06) return 'ahci';
  if (subclass === 0x01 || subclass === 0x05) return 'ide';
  if (subclass === 0x04) return 'megasas';
  if (vendor === LSI && device < 0x0030) return 'lsi'; // the 53c8xx family
  if (vendor === LSI) return 'mptsas';
  return subclass === 0x00 ? 'lsi' : 'mptsas';
}

/** e1000 drives Intel's PCI cards, e1000e the PCI Express ones; Linux, drivers/net/ethernet/intel/e1000/e1000_main.c. */
const E1000 = new Set([
  0x1000, 0x1001, 0x1004, 0x1008, 0x1009, 0x100c, 0x100d, 0x100e, 0x100f, 0x1010, 0x1011, 0x1012, 0x1013, 0x1014,
  0x1015, 0x1016, 0x1017, 0x1018, 0x1019, 0x101a, 0x101d, 0x101e, 0x1026, 0x1027, 0x1028, 0x1075, 0x1076, 0x1077,
  0x1078, 0x1079, 0x107a, 0x107b, 0x107c, 0x108a, 0x1099, 0x10b5, 0x2e6e,
]);

export function closestNic(device: PciDevice | undefined): NicModel {
  if (device === undefined) return 'e1000e';
  if (device.vendor === RED_HAT) return 'virtio';
  if (device.vendor === VMWARE) return 'vmxnet3';
  if (device.vendor === 0x10ec && device.device === 0x8139) return 'rtl8139';
  return device.vendor === INTEL && E1000.has(device.device) ? 'e1000' : 'e1000e';
}
