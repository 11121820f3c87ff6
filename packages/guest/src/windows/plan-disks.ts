/** The plan for a Windows on disks: what is on them is read from their bytes, the packages come from a store. */
import { openFileDevice } from '@lifeboat/disk/file-device';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { type GuestAccess, withGuest } from '../access/open-guest.ts';
import { systemUnpackers } from '../access/system-unpackers.ts';
import type { DriverStore } from '../drivers/driver-store.ts';
import { matchDrivers } from '../drivers/match-drivers.ts';
import type { MachineInventory } from '../inventory/machine-inventory.ts';
import { type InventoryDisk, takeInventory } from '../inventory/take-inventory.ts';
import type { HardwareProfile } from '../profile/hardware-profile.ts';
import { planWindows } from './plan-windows.ts';
import type { WindowsPlan } from './windows-plan.ts';

/** Errors: those of `withGuest` (`guest.no-root` where there is no Windows), of the store and of the disks. */
export async function planWindowsOn(
  access: Omit<GuestAccess, 'system' | 'filesystems'>,
  { profile, store, nowMs }: { profile: HardwareProfile; store: DriverStore; nowMs: number },
): Promise<WindowsPlan> {
  const { signal } = access;
  const inventory = await withGuest({ ...access, system: 'windows' }, ({ diskFiles }) =>
    inventoryOf(diskFiles, { nowMs, signal }),
  );
  const [windows] = inventory.windows ?? [];
  if (windows === undefined) {
    throw new LifeboatError('guest.no-root', `The volume of Windows cannot be read: ${inventory.problems.join(' ')}`);
  }
  const matches = windows.version ? await matchDrivers(store, { profile, windows: windows.version, signal }) : [];
  return planWindows({ inventory, windows, profile, matches });
}

async function inventoryOf(
  diskFiles: ReadonlyMap<string, string>,
  { nowMs, signal }: { nowMs: number; signal: AbortSignal },
): Promise<MachineInventory> {
  const disks: InventoryDisk[] = [];
  try {
    for (const [name, path] of diskFiles) disks.push({ name, device: await openFileDevice(path) });
    return await takeInventory({ disks, takenAtMs: nowMs, files: { unpackers: systemUnpackers(signal) } }, { signal });
  } finally {
    for (const { device } of disks) await device.close();
  }
}
