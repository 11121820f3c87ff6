/**
 * The strings by which the kernel asks for drivers, built from a hardware profile.
 *
 *   PCI device ──── pci:v…d…sv…sd…bc…sc…i…      drivers/pci/pci-sysfs.c, modalias_show
 *      └─ virtio ── virtio:d…v…                 drivers/virtio/virtio.c, modalias_show
 *      └─ SCSI ──── scsi:t-0x00                 drivers/scsi/scsi_sysfs.c, a disk (type 0)
 *
 * A driver of the PCI function makes a bus of its own, whose children ask again: virtio_pci alone shows no disk, and an
 * HBA without sd_mod shows none either. So a profile's closure follows those buses too.
 */
import type { HardwareProfile, PciDevice } from './hardware-profile.ts';

export interface ModaliasRequest {
  readonly modalias: string;
  readonly role: PciDevice['role'];
  /** Which device asks, for people. */
  readonly device: string;
}

const VIRTIO_VENDOR = 0x1af4;
/** Virtio 1.2, 4.1.2: modern functions are 0x1040 plus the device type, transitional ones have fixed numbers. */
const MODERN_BASE = 0x1040;
const MODERN_LAST = 0x107f;
const TRANSITIONAL_TYPES: Readonly<Record<number, number>> = {
  0x1000: 1, // network
  0x1001: 2, // block
  0x1002: 5, // balloon
  0x1003: 3, // console
  0x1004: 8, // SCSI
  0x1005: 4, // entropy
  0x1009: 9, // 9P
};
const VIRTIO_SCSI = 8;
const STORAGE_CLASS = 0x01;
const NVME_SUBCLASS = 0x08;
const SCSI_DISK = 'scsi:t-0x00';

/** Everything the profile's devices will ask for, without repetition, in the profile's order. */
export function modaliasesOf(profile: HardwareProfile): ModaliasRequest[] {
  const requests: ModaliasRequest[] = [];
  const seen = new Set<string>();
  for (const device of profile.pciDevices) {
    for (const modalias of [pciModalias(device), ...childModaliases(device)]) {
      const key = `${device.role} ${modalias}`;
      if (seen.has(key)) continue;
      seen.add(key);
      requests.push({ modalias, role: device.role, device: describe(device) });
    }
  }
  return requests;
}

export function pciModalias(device: PciDevice): string {
  const { vendor, device: id, subsystemVendor, subsystemDevice } = device;
  const base = (device.class >> 16) & 0xff;
  const sub = (device.class >> 8) & 0xff;
  const numbers = `v${hex(vendor, 8)}d${hex(id, 8)}sv${hex(subsystemVendor, 8)}sd${hex(subsystemDevice, 8)}`;
  return `pci:${numbers}bc${hex(base, 2)}sc${hex(sub, 2)}i${hex(device.class & 0xff, 2)}`;
}

function childModaliases(device: PciDevice): string[] {
  const virtioType = virtioTypeOf(device);
  if (virtioType !== undefined) {
    // The kernel takes the child's vendor from the subsystem vendor, for modern and transitional functions alike.
    const child = `virtio:d${hex(virtioType, 8)}v${hex(device.subsystemVendor, 8)}`;
    return virtioType === VIRTIO_SCSI ? [child, SCSI_DISK] : [child];
  }
  const base = device.class >> 16;
  const sub = (device.class >> 8) & 0xff;
  // ATA, SAS and RAID controllers all show their disks as SCSI disks; NVMe has its own block driver.
  return base === STORAGE_CLASS && sub !== NVME_SUBCLASS ? [SCSI_DISK] : [];
}

function virtioTypeOf(device: PciDevice): number | undefined {
  if (device.vendor !== VIRTIO_VENDOR) return undefined;
  if (device.device > MODERN_BASE && device.device <= MODERN_LAST) return device.device - MODERN_BASE;
  return TRANSITIONAL_TYPES[device.device];
}

function describe(device: PciDevice): string {
  return `${device.name} [${hex(device.vendor, 4).toLowerCase()}:${hex(device.device, 4).toLowerCase()}]`;
}

/** In upper case, as the names of PCI devices have it, Linux's and Windows'. */
export function hex(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, '0');
}
