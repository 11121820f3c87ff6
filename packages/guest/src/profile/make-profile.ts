/** Hardware profiles made from what a machine says of itself: lspci on the target, or a virtual machine's definition. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { closestController, closestNic, emulatedController, emulatedNic } from './emulated-devices.ts';
import {
  diskControllers,
  nicModels,
  type DiskController,
  type HardwareProfile,
  type NicModel,
  type PciDevice,
} from './hardware-profile.ts';
import { parseLspci, type ListedDevice } from './lspci.ts';

/** What lspci does not say. */
export interface MachineFacts {
  readonly name: string;
  readonly firmware: HardwareProfile['firmware'];
  readonly secureBoot?: boolean;
  readonly tpm?: HardwareProfile['tpm'];
  /** The function the machine starts from; absent: every one that disks can hang on needs its driver. */
  readonly bootSlot?: string;
}

const STORAGE = 0x01;
const FLOPPY = 0x0102;
const NETWORK = 0x02;

/** Errors: `guest.hardware-list-invalid`. */
export function profileFromLspci(text: string, source: string, facts: MachineFacts): HardwareProfile {
  const listed = parseLspci(text, source);
  const storage = listed.filter(isStorage);
  const network = listed.filter((device) => device.class >> 16 === NETWORK);
  const invalid = (problem: string): LifeboatError =>
    new LifeboatError('guest.hardware-list-invalid', `${source} ${problem}`, { context: { source } });
  if (storage.length === 0) throw invalid(`lists ${listed.length} devices, and none that disks hang on`);
  const wanted = facts.bootSlot?.toLowerCase();
  const isBoot = ({ slot }: ListedDevice): boolean =>
    wanted === undefined || slot === wanted || slot.endsWith(`:${wanted}`);
  const boot = storage.find(isBoot);
  if (!boot)
    throw invalid(`lists no disk controller in slot ${wanted}; it has ${storage.map(({ slot }) => slot).join(', ')}`);
  const pciDevices = distinct([
    ...storage.map((device) => identity(device, isBoot(device) ? 'boot-storage' : 'other')),
    ...network.map((device) => identity(device, 'network')),
  ]);
  return {
    ...common(facts, `Machine with ${boot.name} (from lspci)`),
    pciDevices,
    emulation: {
      diskController: closestController(identity(boot, 'boot-storage')),
      nicModel: closestNic(pciDevices.find(({ role }) => role === 'network')),
    },
  };
}

/** As the hypervisor describes a machine. */
export interface DescribedMachine {
  readonly name: string;
  readonly firmware: HardwareProfile['firmware'];
  readonly secureBoot?: boolean;
  readonly tpm?: string;
  readonly machineType?: string;
  readonly disks: readonly { readonly name: string; readonly controller: string }[];
  readonly nics: readonly { readonly model: string; readonly mac?: string }[];
}

/** `name` of the profile. Errors: `guest.hardware-list-invalid` when its first disk hangs on what cannot be emulated. */
export function profileFromMachine(machine: DescribedMachine, name: string): HardwareProfile {
  const controllers = machine.disks.map((disk) => ({
    disk: disk.name,
    known: known(diskControllers, disk.controller),
  }));
  const boot = controllers[0]?.known;
  if (boot === undefined) {
    const why = controllers[0]
      ? `its first disk ${controllers[0].disk} hangs on none of ${diskControllers.join(', ')}`
      : 'it has no disk';
    throw new LifeboatError(
      'guest.hardware-list-invalid',
      `Machine ${machine.name} gives no hardware profile: ${why}`,
      {
        context: { machine: machine.name },
      },
    );
  }
  const others = controllers.flatMap((controller) =>
    controller.known && controller.known !== boot ? [controller.known] : [],
  );
  const models = machine.nics.flatMap(({ model }) => known(nicModels, model.replace(/^virtio-.*/, 'virtio')) ?? []);
  const macs = machine.nics.flatMap(({ mac }) => mac?.toLowerCase() ?? []);
  const tpm = machine.tpm === '1.2' || machine.tpm === '2.0' ? machine.tpm : undefined;
  const { firmware, secureBoot, machineType } = machine;
  return {
    ...common(
      { name, firmware, ...(secureBoot === undefined ? {} : { secureBoot }), ...(tpm === undefined ? {} : { tpm }) },
      `The virtual hardware of ${machine.name}${machineType === undefined ? '' : ` (${machineType})`}`,
    ),
    pciDevices: distinct([
      emulatedController(boot, 'boot-storage'),
      ...others.map((controller) => emulatedController(controller, 'other')),
      ...models.map(emulatedNic),
    ]),
    ...(macs.length > 0 ? { macs } : {}),
    emulation: { diskController: boot, nicModel: models[0] ?? 'e1000e' },
  };
}

/** A profile's name from any text. */
export function profileName(text: string): string {
  const name = text
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/^[^a-z0-9]+/, '')
    .slice(0, 63);
  return name === '' ? 'machine' : name;
}

function common(
  { name, firmware, secureBoot, tpm }: MachineFacts,
  description: string,
): Pick<HardwareProfile, 'name' | 'description' | 'firmware' | 'secureBoot' | 'tpm'> {
  return {
    name,
    description,
    firmware,
    ...(secureBoot ? { secureBoot } : {}),
    ...(tpm === undefined ? {} : { tpm }),
  };
}

function isStorage({ class: code }: ListedDevice): boolean {
  return code >> 16 === STORAGE && code >> 8 !== FLOPPY;
}

function identity(listed: ListedDevice, role: PciDevice['role']): PciDevice {
  const { slot: _, ...device } = listed;
  return { ...device, role };
}

/** Eight cards of one kind ask for one driver. */
function distinct(devices: readonly PciDevice[]): PciDevice[] {
  return [...new Map(devices.map((device) => [JSON.stringify(device), device])).values()];
}

function known<T extends DiskController | NicModel>(choices: readonly T[], text: string): T | undefined {
  return choices.find((choice) => choice === text);
}
