/**
 * What a point's machine was made of: the inventory the point brought with it, or, for a point without one, taken now from its
 * disks. The repository and its key are enough; nothing is mounted.
 */
import type { VerbContext } from '@lifeboat/foundation/progress';
import { systemUnpackers } from '@lifeboat/guest/access/system-unpackers';
import type { MachineInventory } from '@lifeboat/guest/inventory/machine-inventory';
import { renderInventory } from '@lifeboat/guest/inventory/render-inventory';
import { renderRequirements, requirementsOf } from '@lifeboat/guest/inventory/requirements';
import { takeInventory } from '@lifeboat/guest/inventory/take-inventory';
import type { Point } from '@lifeboat/repository/read/point-reader';
import type { EngineDeps } from '../deps.ts';
import { captureRecordOf, findPoint, machineRecordOf } from '../points.ts';
import { hardwareOf } from './hardware-of.ts';
import { storedInventory } from './stored-inventory.ts';
import type { InspectInput, InspectSummary } from '../verbs.ts';

/** Errors: those of `findPoint`; of reading the point's disks. */
export async function inspectPoint(
  deps: Pick<EngineDeps, 'repository' | 'clock'>,
  input: InspectInput,
  context: VerbContext,
): Promise<InspectSummary> {
  const point = await findPoint(deps.repository, input.machine, input.pointId);
  const stored = storedInventory(point);
  const inventory = stored ?? (await takeNow(deps, point, context));
  const requirements = requirementsOf(inventory);
  return {
    pointId: point.pointId,
    machineName: captureRecordOf(point).machineName,
    taken: stored ? 'at-backup' : 'now',
    inventory,
    requirements,
    lines: [...renderInventory(inventory), ...renderRequirements(requirements)],
  };
}

async function takeNow(
  { repository, clock }: Pick<EngineDeps, 'repository' | 'clock'>,
  point: Point,
  { signal, progress }: VerbContext,
): Promise<MachineInventory> {
  const machine = machineRecordOf(point);
  progress({ phase: 'inspect', doneBytes: 0 });
  const disks = point.disks.map(({ name }) => {
    const { controller, serial } = machine.disks.find((disk) => disk.name === name) ?? {};
    return {
      name,
      ...(controller === undefined ? {} : { controller }),
      ...(serial === undefined ? {} : { serial }),
      device: repository.openDisk(point, name),
    };
  });
  try {
    const files = { unpackers: systemUnpackers(signal) };
    return await takeInventory({ disks, hardware: hardwareOf(machine), files, takenAtMs: clock.nowMs() }, { signal });
  } finally {
    for (const { device } of disks) await device.close();
  }
}
