import { INVENTORY_FILE, type MachineInventory } from '@lifeboat/guest/inventory/machine-inventory';
import type { Point } from '@lifeboat/repository/read/point-reader';

const ADDED_LATER = { efiLoaders: [], systems: [] };

/** Undefined: the point has none, or one that only a newer release reads. The point's signature covers it. */
export function storedInventory(point: Pick<Point, 'files'>): MachineInventory | undefined {
  const file = point.files.find(({ name }) => name === INVENTORY_FILE);
  if (!file) return undefined;
  const inventory = JSON.parse(Buffer.from(file.content).toString('utf8')) as MachineInventory;
  // What was added to it later is missing in the first ones.
  return inventory.version === 1 ? { ...ADDED_LATER, ...inventory } : undefined;
}
