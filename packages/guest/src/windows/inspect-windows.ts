/**
 * Reads an installed Windows from the bytes of its NTFS volume: registry hives with their logs, and a few files. Nothing is mounted and nothing
 * of the guest's is run. A part that cannot be read is a sentence among the problems, and the rest goes on.
 */
import { findNtfs, type NtfsNode, type NtfsVolume } from '@lifeboat/disk/files/ntfs';
import { hasCode, LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';
import { guidAt } from './guid.ts';
import { MAX_LOG_BYTES } from './registry/hive-log.ts';
import { numberOf, RegistryHive, type RegistryKey, textOf } from './registry/registry-hive.ts';
import {
  ADDED_STORAGE_SERVICES,
  HDC_CLASS,
  IN_BOX_STORAGE_SERVICES,
  PROCESSOR_SERVICES,
  SCSI_ADAPTER_CLASS,
} from './storage-services.ts';
import type { HiveInspection, ServiceInspection, WindowsInspection } from './windows-inspection.ts';
import { windowsArchitectures, type WindowsArchitecture, type WindowsVersion } from './windows-version.ts';

const DIRECTORIES = ['Windows', 'WINNT'];
const CONFIG = 'System32/config';
const HIBERNATION_FILE = 'hiberfil.sys';
/** The largest hal.dll and ntoskrnl.exe of x86 have 4 MB. */
const MAX_PROGRAM_BYTES = 16 * MiB;
const MAX_BOOT_DEVICES = 5000;
const PRODUCT_TYPES: Readonly<Record<string, WindowsVersion['productType']>> = {
  winnt: 'workstation',
  lanmannt: 'domain-controller',
  servernt: 'server',
};
/** In the value `Version` of a driver package: two words before it. */
const CLASS_GUID_IN_VERSION = 8;

/** Nothing: there is no Windows on the volume. Errors: `guest.filesystem-unreadable` of the volume; those of the device. */
export async function inspectWindows(volume: NtfsVolume, root: string): Promise<WindowsInspection | undefined> {
  for (const name of DIRECTORIES) {
    const directory = await volume.root.child(name);
    if (directory?.kind !== 'directory' || !(await findNtfs(directory, `${CONFIG}/SYSTEM`))) continue;
    const written = (await volume.root.names()).find((one) => one.toUpperCase() === name.toUpperCase()) ?? name;
    return new Inspector(volume, directory).inspect(root, written);
  }
  return undefined;
}

class Inspector {
  readonly #volume: NtfsVolume;
  readonly #directory: NtfsNode;
  readonly #problems: string[] = [];
  readonly #hives: HiveInspection[] = [];

  constructor(volume: NtfsVolume, directory: NtfsNode) {
    this.#volume = volume;
    this.#directory = directory;
  }

  async inspect(root: string, directory: string): Promise<WindowsInspection> {
    const system = await this.#hive('SYSTEM');
    const software = await this.#hive('SOFTWARE');
    const drivers = await this.#hive('DRIVERS');
    const controlSets = (await this.#try('The control set', () => controlSetsOf(system))) ?? { current: 1, default: 1 };
    const set = controlSetName(controlSets.current);
    const product = await this.#try('The version', () => productOf(software));
    const version = await this.#try('The version', () => versionOf({ system, software, set }));
    const inDatabase = system && (await this.#try('The device database', () => usesDriverDatabase(system)));
    const isOldX86 =
      version?.architecture === 'x86' && (version.major < 6 || (version.major === 6 && version.minor < 2));
    const hal = isOldX86 ? await this.#try('The HAL', () => this.#hal()) : undefined;
    const devicePath = await this.#try('The device path', async () =>
      textOf(await software?.value('Microsoft\\Windows\\CurrentVersion', 'DevicePath')),
    );
    const devices =
      (await this.#try('The devices it can start from', () => bootDevices({ system, drivers, set }))) ?? [];
    const named = [...IN_BOX_STORAGE_SERVICES, ...ADDED_STORAGE_SERVICES, ...devices.map(({ service }) => service)];
    const names = [...new Map(named.map((name) => [name.toLowerCase(), name])).values()];
    const processors = [...PROCESSOR_SERVICES.intel, ...PROCESSOR_SERVICES.amd];
    const { isDirty, hasOpenLog } = this.#volume;
    return {
      root,
      directory,
      productName: product?.name ?? '',
      servicePack: product?.servicePack ?? '',
      ...(version ? { version } : {}),
      ...(product?.updateRevision === undefined ? {} : { updateRevision: product.updateRevision }),
      controlSets,
      storageServices: await this.#services(system, set, names),
      processorServices: await this.#services(system, set, processors),
      deviceDatabase: inDatabase ? 'driver-database' : 'critical-devices',
      bootDevices: devices,
      ...(hal ? { hal } : {}),
      hives: this.#hives,
      hibernation: (await this.#try('Hibernation', () => this.#hibernation())) ?? 'unknown',
      restartAfterCrash:
        (await this.#try('The restart after a crash', () => restartAfterCrash(system, set))) ?? 'unknown',
      ...(devicePath === undefined ? {} : { devicePath }),
      filesystem: { isDirty, hasOpenLog },
      problems: this.#problems,
    };
  }

  async #hive(name: HiveInspection['name']): Promise<RegistryHive | undefined> {
    const config = await findNtfs(this.#directory, CONFIG);
    const file = await config?.child(name);
    if (config === undefined || file === undefined) return undefined; // DRIVERS is there since Windows 8 only
    const logs: (() => Promise<Buffer>)[] = [];
    for (const suffix of ['LOG1', 'LOG2', 'LOG']) {
      const log = await config.child(`${name}.${suffix}`);
      if (log?.kind === 'file') logs.push(() => log.read(MAX_LOG_BYTES));
    }
    try {
      const hive = await RegistryHive.open({ hive: file, logs, what: name });
      await hive.root();
      const entries = hive.replay?.entries ?? 0;
      this.#hives.push({ name, state: hive.replay ? 'replayed' : 'clean', logEntries: entries });
      return hive;
    } catch (error) {
      if (!hasCode(error, 'guest.hive-unreadable', 'guest.hive-dirty', 'guest.filesystem-unreadable')) throw error;
      const state = hasCode(error, 'guest.hive-dirty') ? 'dirty' : 'unreadable';
      this.#hives.push({ name, state, logEntries: 0, problem: error.message });
      return undefined;
    }
  }

  async #services(
    system: RegistryHive | undefined,
    set: string,
    names: readonly string[],
  ): Promise<ServiceInspection[]> {
    const services = await this.#try('The drivers', async () => system?.key(`${set}\\Services`));
    const found: ServiceInspection[] = [];
    for (const name of names) {
      const service = await this.#try(`The driver ${name}`, async () => {
        const key = await services?.subkey(name);
        const start = numberOf(await key?.value('Start'));
        if (key === undefined || start === undefined) return undefined;
        const image = imagePath(textOf(await key.value('ImagePath')), key.name);
        const hasStartOverride = (await key.subkey('StartOverride')) !== undefined;
        const isImageThere = (await findNtfs(this.#directory, image))?.kind === 'file';
        return { name: key.name, start, hasStartOverride, image, isImageThere };
      });
      if (service) found.push(service);
    }
    return found;
  }

  /** The files are called hal.dll and ntoskrnl.exe whichever they are; what they were called on the installation medium stands inside. */
  async #hal(): Promise<WindowsInspection['hal']> {
    const original = async (path: string): Promise<string> => {
      const file = await findNtfs(this.#directory, path);
      return file ? originalFilename(await file.read(MAX_PROGRAM_BYTES)) : '';
    };
    return { hal: await original('System32/hal.dll'), kernel: await original('System32/ntoskrnl.exe') };
  }

  async #hibernation(): Promise<WindowsInspection['hibernation']> {
    const file = await this.#volume.root.child(HIBERNATION_FILE);
    if (file === undefined || file.sizeBytes === 0) return 'none';
    const head = await file.read(4096);
    if (head.every((byte) => byte === 0)) return 'none';
    const mark = head.toString('latin1', 0, 4).toLowerCase();
    if (mark === 'hibr') return 'hibernated';
    return mark === 'wake' ? 'resumed' : 'unknown';
  }

  async #try<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof LifeboatError)) throw error;
      if (!hasCode(error, 'guest.hive-unreadable', 'guest.filesystem-unreadable')) throw error;
      this.#problems.push(`${what} cannot be told: ${messageOf(error)}.`);
      return undefined;
    }
  }
}

/** `ControlSet001`. */
export function controlSetName(number: number): string {
  return `ControlSet${String(number).padStart(3, '0')}`;
}

async function controlSetsOf(system: RegistryHive | undefined): Promise<WindowsInspection['controlSets'] | undefined> {
  const select = await system?.key('Select');
  const current = numberOf(await select?.value('Current'));
  if (current === undefined) return undefined;
  return { current, default: numberOf(await select?.value('Default')) ?? current };
}

async function productOf(
  software: RegistryHive | undefined,
): Promise<{ name: string; servicePack: string; updateRevision?: number } | undefined> {
  const key = await software?.key('Microsoft\\Windows NT\\CurrentVersion');
  if (!key) return undefined;
  const updateRevision = numberOf(await key.value('UBR'));
  return {
    name: textOf(await key.value('ProductName')) ?? '',
    servicePack: textOf(await key.value('CSDVersion')) ?? '',
    ...(updateRevision === undefined ? {} : { updateRevision }),
  };
}

async function versionOf({
  system,
  software,
  set,
}: {
  system: RegistryHive | undefined;
  software: RegistryHive | undefined;
  set: string;
}): Promise<WindowsVersion | undefined> {
  const key = await software?.key('Microsoft\\Windows NT\\CurrentVersion');
  // CurrentVersion stays 6.3 for ever; the numbers beside it came with Windows 10.
  const [oldMajor, oldMinor] = (textOf(await key?.value('CurrentVersion')) ?? '').split('.').map(Number);
  const major = numberOf(await key?.value('CurrentMajorVersionNumber')) ?? oldMajor;
  const minor = numberOf(await key?.value('CurrentMinorVersionNumber')) ?? oldMinor;
  // Before Windows 2000 CurrentBuild was something else.
  const build = Number(textOf(await key?.value('CurrentBuildNumber')) ?? textOf(await key?.value('CurrentBuild')));
  const environment = `${set}\\Control\\Session Manager\\Environment`;
  const architecture = architectureOf(textOf(await system?.value(environment, 'PROCESSOR_ARCHITECTURE')));
  const product = textOf(await system?.value(`${set}\\Control\\ProductOptions`, 'ProductType'))?.toLowerCase();
  const productType = product === undefined ? undefined : PRODUCT_TYPES[product];
  const isNumber = [major, minor, build].every((number) => Number.isSafeInteger(number));
  if (!isNumber || architecture === undefined || productType === undefined) return undefined;
  return { major: major as number, minor: minor as number, build, architecture, productType };
}

function architectureOf(text: string | undefined): WindowsArchitecture | undefined {
  return windowsArchitectures.find((known) => known === text?.toLowerCase());
}

async function restartAfterCrash(
  system: RegistryHive | undefined,
  set: string,
): Promise<WindowsInspection['restartAfterCrash']> {
  const value = numberOf(await system?.value(`${set}\\Control\\CrashControl`, 'AutoReboot'));
  if (value === undefined) return 'unknown';
  return value === 0 ? 'off' : 'automatic';
}

async function usesDriverDatabase(system: RegistryHive): Promise<boolean> {
  return (await system.key('DriverDatabase')) !== undefined;
}

type BootDevice = WindowsInspection['bootDevices'][number];

async function bootDevices({
  system,
  drivers,
  set,
}: {
  system: RegistryHive | undefined;
  drivers: RegistryHive | undefined;
  set: string;
}): Promise<BootDevice[]> {
  const critical = await system?.key(`${set}\\Control\\CriticalDeviceDatabase`);
  const found = critical ? await criticalDevices(critical) : [];
  for (const hive of [system, drivers]) {
    const packages = await hive?.key('DriverDatabase\\DriverPackages');
    if (packages) found.push(...(await packagedDevices(packages)));
  }
  return found.slice(0, MAX_BOOT_DEVICES);
}

/** `PCI#VEN_1AF4&DEV_1001`, with the service in it. */
async function criticalDevices(database: RegistryKey): Promise<BootDevice[]> {
  const found: BootDevice[] = [];
  for (const key of await database.subkeys()) {
    const service = /^pci#/i.test(key.name) ? textOf(await key.value('Service')) : undefined;
    const guid = service === undefined ? undefined : textOf(await key.value('ClassGUID'))?.toLowerCase();
    if (service !== undefined && isController(guid)) {
      found.push({ id: key.name.toUpperCase().replace('#', '\\'), service });
    }
  }
  return found;
}

/** A package says its class in `Version`, names configurations with a service each, and which id gets which of them. */
async function packagedDevices(packages: RegistryKey): Promise<BootDevice[]> {
  const found: BootDevice[] = [];
  for (const one of await packages.subkeys()) {
    const version = (await one.value('Version'))?.data;
    const isLong = version !== undefined && version.length >= CLASS_GUID_IN_VERSION + 16;
    if (!isLong || !isController(guidAt(version, CLASS_GUID_IN_VERSION))) continue;
    const configurations = await one.subkey('Configurations');
    const devices = await (await one.subkey('Descriptors'))?.subkey('PCI');
    for (const device of (await devices?.subkeys()) ?? []) {
      const configuration = textOf(await device.value('Configuration'));
      const key = configuration === undefined ? undefined : await configurations?.subkey(configuration);
      const service = textOf(await key?.value('Service'));
      if (service) found.push({ id: `PCI\\${device.name.toUpperCase()}`, service });
    }
  }
  return found;
}

function isController(classGuid: string | undefined): boolean {
  return classGuid === SCSI_ADAPTER_CLASS || classGuid === HDC_CLASS;
}

/** Drivers name themselves from several roots, or not at all. */
function imagePath(text: string | undefined, service: string): string {
  const path = (text ?? '')
    .replaceAll('\\', '/')
    .replace(/^\/(?:\?\?|SystemRoot)\//i, '')
    .replace(/^%SystemRoot%\//i, '')
    .replace(/^[a-z]:\/(?:windows|winnt)\//i, '')
    .replace(/^(?:windows|winnt)\//i, '');
  return path === '' ? `System32/drivers/${service}.sys` : path;
}

/** Of a program's version resource. */
function originalFilename(program: Buffer): string {
  const key = Buffer.from('OriginalFilename\0', 'utf16le');
  const at = program.indexOf(key);
  if (at < 0) return '';
  let from = at + key.length;
  while (from + 2 <= program.length && program.readUInt16LE(from) === 0) from += 2;
  return (
    program
      .toString('utf16le', from, from + 64)
      .split('\0', 1)[0]
      ?.toLowerCase() ?? ''
  );
}
