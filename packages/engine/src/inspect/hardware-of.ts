import type { HardwareInventory } from '@lifeboat/guest/inventory/machine-inventory';
import type { MachineRecord } from '../points.ts';

/** What the hypervisor had defined, as the inventory says it. */
export function hardwareOf(machine: MachineRecord): HardwareInventory {
  const { firmware, memoryMiB, vcpus, nics } = machine;
  return { firmware, memoryMiB, vcpus, nics };
}
