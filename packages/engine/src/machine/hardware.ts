/** The emulated machine that a point or its restored disks run on. */
import { loadHardwareProfile } from '@lifeboat/guest/profile/shipped-profiles';
import type { Controller, MachineShape, ShapeDisk } from '@lifeboat/hypervisor/port';
import type { MachineRecord } from '../points.ts';

export interface Hardware {
  readonly controllers: ReadonlyMap<string, Controller>;
  readonly firmware: 'bios' | 'uefi';
  readonly nicModel: string;
}

/** What libvirt can emulate of a controller it has no name for. */
const CLOSEST: Controller = 'ahci';

/**
 * With a profile, every disk hangs on its controller; without one, on that of the machine that was captured.
 * Errors: those of the profile.
 */
export async function hardwareFor(machine: MachineRecord, profile: string | undefined): Promise<Hardware> {
  if (profile === undefined) {
    return {
      controllers: new Map(
        machine.disks.map(({ name, controller }) => [name, controller === 'other' ? CLOSEST : controller]),
      ),
      firmware: machine.firmware,
      nicModel: machine.nics[0]?.model ?? 'virtio',
    };
  }
  const { emulation, firmware } = await loadHardwareProfile(profile);
  return {
    controllers: new Map(machine.disks.map(({ name }) => [name, emulation.diskController])),
    firmware,
    nicModel: emulation.nicModel,
  };
}

export type DiskSource = Pick<ShapeDisk, 'path' | 'format' | 'backing'> & { readonly name: string };

/** `disks` in the machine's order; the first is the one it boots from. `nvram`: as captured, for a target with UEFI. */
export function shapeOf(
  identity: Pick<MachineShape, 'opId' | 'hostId' | 'name' | 'network'>,
  machine: MachineRecord,
  options: { hardware: Hardware; disks: readonly DiskSource[]; nvram: Uint8Array | undefined },
): MachineShape {
  const { hardware, disks, nvram } = options;
  return {
    ...identity,
    memoryMiB: machine.memoryMiB,
    vcpus: machine.vcpus,
    firmware: hardware.firmware,
    ...(nvram && hardware.firmware === 'uefi' ? { nvram } : {}),
    disks: disks.map(({ name, ...source }, index) => ({
      ...source,
      controller: hardware.controllers.get(name) ?? CLOSEST,
      serial: `lifeboat-${index}`,
    })),
  };
}
