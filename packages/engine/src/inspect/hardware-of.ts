import type { HardwareInventory } from '@lifeboat/guest/inventory/machine-inventory';
import type { MachineRecord } from '../points.ts';

/** What the hypervisor had defined, as the inventory says it. */
export function hardwareOf(machine: MachineRecord): HardwareInventory {
  const { firmware, secureBoot, tpm, machineType, memoryMiB, vcpus, nics } = machine;
  return {
    firmware,
    ...(secureBoot === undefined ? {} : { secureBoot }),
    ...(tpm === undefined ? {} : { tpm }),
    ...(machineType === undefined ? {} : { machineType }),
    memoryMiB,
    vcpus,
    nics,
  };
}
