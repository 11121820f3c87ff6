/**
 * The names by which Windows asks for a driver of a PCI function, most specific first: "Identifiers for PCI Devices" of the Windows Driver Kit.
 * A hardware profile holds no revision, so names with REV_ are not among them; packages that are for one revision only do not match.
 */
import type { PciDevice } from '../profile/hardware-profile.ts';
import { hex } from '../profile/modalias.ts';

export interface DeviceIds {
  /** In upper case. */
  readonly hardware: readonly string[];
  readonly compatible: readonly string[];
}

export function pciDeviceIds(device: PciDevice): DeviceIds {
  const vendor = `PCI\\VEN_${hex(device.vendor, 4)}`;
  const both = `${vendor}&DEV_${hex(device.device, 4)}`;
  const classWithInterface = hex(device.class, 6);
  const classAlone = classWithInterface.slice(0, 4);
  const subsystem = `${hex(device.subsystemDevice, 4)}${hex(device.subsystemVendor, 4)}`;
  return {
    hardware: [`${both}&SUBSYS_${subsystem}`, `${both}&CC_${classWithInterface}`, `${both}&CC_${classAlone}`],
    compatible: [
      both,
      `${vendor}&CC_${classWithInterface}`,
      `${vendor}&CC_${classAlone}`,
      vendor,
      `PCI\\CC_${classWithInterface}`,
      `PCI\\CC_${classAlone}`,
    ],
  };
}
