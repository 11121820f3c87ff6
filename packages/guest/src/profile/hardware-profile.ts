/**
 * What a machine must have drivers for, and how it is emulated to prove that it starts.
 *
 * A profile is a JSON file. It is read strictly: an unknown key, a missing one or a value of the wrong type is an error
 * that names its place (`pciDevices[1].class`), so that a typing mistake never becomes a machine that does not boot.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

/** PCI identity, as `lspci -nn` shows it. */
export interface PciDevice {
  /** 16 bits each. */
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystemDevice: number;
  /** 24 bits: base class, subclass, programming interface; 0x010802 is NVMe. */
  readonly class: number;
  readonly role: 'boot-storage' | 'network' | 'other';
  /** For people, as the vendor names it. */
  readonly name: string;
}

export const diskControllers = [
  'virtio-blk',
  'virtio-scsi',
  'nvme',
  'ahci',
  'lsi',
  'megasas',
  'pvscsi',
  'mptsas',
  'ide',
] as const;
export type DiskController = (typeof diskControllers)[number];

export const nicModels = ['virtio', 'e1000', 'e1000e', 'rtl8139', 'vmxnet3'] as const;
export type NicModel = (typeof nicModels)[number];

export interface HardwareProfile {
  readonly name: string;
  readonly description: string;
  readonly firmware: 'bios' | 'uefi';
  /** The firmware starts only what is signed for its keys. Only with UEFI; absent: no. */
  readonly secureBoot?: boolean;
  /** Absent: none. */
  readonly tpm?: '1.2' | '2.0';
  /** Whose processors it has; absent: not known, and of no matter to Linux. */
  readonly processor?: 'intel' | 'amd';
  readonly pciDevices: readonly PciDevice[];
  /** Addresses of its network cards, lower case with colons, in the order of the cards. Absent: not known. */
  readonly macs?: readonly string[];
  /** The closest models that can be emulated. */
  readonly emulation: { readonly diskController: DiskController; readonly nicModel: NicModel };
}

/** The most PCI functions one machine can be expected to list; more is not a profile. */
const MAX_PCI_DEVICES = 1024;
const MAC = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/;
const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;

/** `source` names the text in errors (a path). Errors: `guest.profile-invalid`. */
export function parseHardwareProfile(text: string, source: string): HardwareProfile {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new LifeboatError('guest.profile-invalid', `${source} is not JSON: ${(cause as Error).message}`, {
      cause,
      context: { source },
    });
  }
  const root = new Reader(value, '', source).object(
    ['name', 'description', 'firmware', 'pciDevices', 'emulation'],
    ['secureBoot', 'tpm', 'processor', 'macs'],
  );
  const emulation = root.get('emulation').object(['diskController', 'nicModel']);
  const name = root.get('name');
  if (!NAME.test(name.string())) name.fail(`must match ${String(NAME)}`);
  const devices = root.get('pciDevices');
  const pciDevices = devices.array(MAX_PCI_DEVICES).map(parsePciDevice);
  if (!pciDevices.some((device) => device.role === 'boot-storage')) {
    devices.fail("must hold a device with the role 'boot-storage': the machine has to start from something");
  }
  const firmware = root.get('firmware').oneOf(['bios', 'uefi']);
  const secureBoot = root.optional('secureBoot');
  if (secureBoot?.boolean() && firmware === 'bios') secureBoot.fail('needs the firmware uefi');
  const tpm = root.optional('tpm')?.oneOf(['1.2', '2.0']);
  const macs = root.optional('macs')?.array(MAX_PCI_DEVICES).map(parseMac);
  const processor = root.optional('processor')?.oneOf(['intel', 'amd']);
  return {
    name: name.string(),
    description: root.get('description').string(),
    firmware,
    ...(secureBoot?.boolean() ? { secureBoot: true } : {}),
    ...(tpm === undefined ? {} : { tpm }),
    ...(processor === undefined ? {} : { processor }),
    pciDevices,
    ...(macs === undefined ? {} : { macs }),
    emulation: {
      diskController: emulation.get('diskController').oneOf(diskControllers),
      nicModel: emulation.get('nicModel').oneOf(nicModels),
    },
  };
}

/** The file that `parseHardwareProfile` reads back as the same. */
export function formatHardwareProfile(profile: HardwareProfile): string {
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
  const { name, description, firmware, secureBoot, tpm, processor, pciDevices, macs, emulation } = profile;
  const document = {
    name,
    description,
    firmware,
    secureBoot,
    tpm,
    processor,
    pciDevices: pciDevices.map((device) => ({
      vendor: hex(device.vendor, 4),
      device: hex(device.device, 4),
      subsystemVendor: hex(device.subsystemVendor, 4),
      subsystemDevice: hex(device.subsystemDevice, 4),
      class: hex(device.class, 6),
      role: device.role,
      name: device.name,
    })),
    macs,
    emulation,
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

function parseMac(reader: Reader): string {
  const mac = reader.string().toLowerCase();
  if (!MAC.test(mac)) reader.fail('must be an address as 52:54:00:12:34:56');
  return mac;
}

function parsePciDevice(reader: Reader): PciDevice {
  const device = reader.object(['vendor', 'device', 'class', 'role', 'name'], ['subsystemVendor', 'subsystemDevice']);
  return {
    vendor: device.get('vendor').hex(4),
    device: device.get('device').hex(4),
    // The kernel reports a missing subsystem as zero.
    subsystemVendor: device.optional('subsystemVendor')?.hex(4) ?? 0,
    subsystemDevice: device.optional('subsystemDevice')?.hex(4) ?? 0,
    class: device.get('class').hex(6),
    role: device.get('role').oneOf(['boot-storage', 'network', 'other']),
    name: device.get('name').string(),
  };
}

/** A JSON value that knows where it stands. */
class Reader {
  readonly #value: unknown;
  readonly #path: string;
  readonly #source: string;

  constructor(value: unknown, path: string, source: string) {
    this.#value = value;
    this.#path = path;
    this.#source = source;
  }

  fail(problem: string): never {
    const where = this.#path === '' ? 'the profile' : this.#path;
    throw new LifeboatError('guest.profile-invalid', `${this.#source}: ${where} ${problem}`, {
      context: { source: this.#source, path: this.#path },
    });
  }

  object(
    required: readonly string[],
    optional: readonly string[] = [],
  ): { get(key: string): Reader; optional(key: string): Reader | undefined } {
    const value = this.#value;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) this.#wrongType('an object');
    const known = new Set([...required, ...optional]);
    const unknown = Object.keys(value).find((key) => !known.has(key));
    if (unknown !== undefined)
      this.#child(unknown, undefined).fail(`is not known here; known are ${[...known].join(', ')}`);
    const has = (key: string) => Object.hasOwn(value, key);
    const missing = required.find((key) => !has(key));
    if (missing !== undefined) this.#child(missing, undefined).fail('is missing');
    const get = (key: string) => this.#child(key, (value as Record<string, unknown>)[key]);
    return { get, optional: (key) => (has(key) ? get(key) : undefined) };
  }

  array(most: number): Reader[] {
    if (!Array.isArray(this.#value)) this.#wrongType('a list');
    if (this.#value.length > most) this.fail(`holds ${this.#value.length} entries; at most ${most} are taken`);
    return this.#value.map((item, index) => new Reader(item, `${this.#path}[${index}]`, this.#source));
  }

  string(): string {
    if (typeof this.#value !== 'string' || this.#value === '') this.#wrongType('a text that is not empty');
    return this.#value;
  }

  boolean(): boolean {
    if (typeof this.#value !== 'boolean') this.#wrongType('true or false');
    return this.#value;
  }

  oneOf<const T extends string>(choices: readonly T[]): T {
    const choice = choices.find((candidate) => candidate === this.#value);
    if (choice === undefined) this.#wrongType(`one of ${choices.join(', ')}`);
    return choice;
  }

  /** `"0x1af4"` or `"1af4"`, always with all its digits: the form of lspci, and no doubt about the base. */
  hex(digits: number): number {
    const match = typeof this.#value === 'string' ? /^(?:0x)?([0-9a-fA-F]+)$/.exec(this.#value) : null;
    if (match?.[1]?.length !== digits) this.#wrongType(`a text of ${digits} hexadecimal digits`);
    return Number.parseInt(match[1], 16);
  }

  #child(key: string, value: unknown): Reader {
    return new Reader(value, this.#path === '' ? key : `${this.#path}.${key}`, this.#source);
  }

  #wrongType(expected: string): never {
    const shown = JSON.stringify(this.#value) ?? 'nothing';
    return this.fail(`must be ${expected}, not ${shown.length > 60 ? `${shown.slice(0, 57)}...` : shown}`);
  }
}
