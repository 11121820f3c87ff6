/**
 * A driver of the store, made known to a Windows that does not run: its files, its service, and its devices in the database that is asked before
 * anything can be installed. What pnputil would write, reduced to what the first start needs.
 *
 *   up to 7:  ControlSet\Control\CriticalDeviceDatabase\PCI#<id>       Service, ClassGUID
 *   from 8:   DriverDatabase\DriverInfFiles\<inf>                      the package
 *             DriverDatabase\DeviceIds\PCI\<id>                        <inf> = 01 ff 00 00
 *             DriverDatabase\DriverPackages\<package>                  Version: class and date
 *                 \Configurations\<name>                               ConfigFlags, Service
 *                 \Descriptors\PCI\<id>                                Configuration
 */
import type { DriverCandidate } from '../drivers/match-drivers.ts';
import type { PciDevice } from '../profile/hardware-profile.ts';
import { pciDeviceIds } from './device-ids.ts';
import { guidBytes } from './guid.ts';
import type { DriverService } from './inf-driver.ts';
import type { WindowsInspection } from './windows-inspection.ts';
import type { RegistryChange, WindowsEdit } from './windows-plan.ts';
import type { WindowsVersion } from './windows-version.ts';

interface Target {
  readonly version: WindowsVersion;
  readonly windows: WindowsInspection;
  readonly controlSets: readonly string[];
  readonly device: PciDevice;
}

/** Where the package's other files wait for Windows to install the rest of it. */
const PACKAGES_FOLDER = 'Lifeboat';
const DRIVERS_DIRECTORY = 12;
const BOOT_START = 0;
const KERNEL_DRIVER = 1;
const ERROR_NORMAL = 1;
const DEFAULT_GROUP = 'SCSI miniport';
/** Of a device id's entry: a driver that was installed, of the best rank. */
const DEVICE_ID_MARK = '01ff0000';
const VERSION_MARK = '00ff090000000000';
const VERSION_REST_BYTES = 24;

export function registerDriver(candidate: DriverCandidate, target: Target): { service: string; edits: WindowsEdit[] } {
  const service = candidate.install.services.find(({ isAssociated, binary }) => isAssociated && binary !== '');
  if (service === undefined) throw new TypeError('a candidate without a driver was chosen');
  const ids = idsOf(candidate, target.device);
  const changes = [
    ...target.controlSets.flatMap((set) => serviceChanges(service, set)),
    ...(target.windows.deviceDatabase === 'critical-devices'
      ? criticalDevices(candidate, service, { ids, ...target })
      : driverDatabase(candidate, service, { ids, ...target })),
  ];
  return {
    service: service.name,
    edits: [
      ...fileEdits(candidate, service, target.device),
      {
        kind: 'registry',
        hive: 'SYSTEM',
        why: `${target.device.name} (${candidate.match.id}) gets ${service.name} of ${candidate.driver.inf}, ${candidate.driver.date} ${candidate.driver.version}`,
        changes,
      },
      ...devicePath(candidate, target.windows),
    ],
  };
}

/** Those of the model that the device answers to, so that a later lookup by any of them finds the driver. */
function idsOf({ match, modelIds }: DriverCandidate, device: PciDevice): string[] {
  const { hardware, compatible } = pciDeviceIds(device);
  const both = modelIds.filter((id) => hardware.includes(id) || compatible.includes(id));
  return [...new Set([match.id, ...both])].filter((id) => id.startsWith('PCI\\')).map((id) => id.slice('PCI\\'.length));
}

/** The driver where Windows looks for it, and the package whole, in a folder of its own. */
function fileEdits(candidate: DriverCandidate, service: DriverService, device: PciDevice): WindowsEdit[] {
  const { files, package: pack, install, driver } = candidate;
  const drivers = install.files.filter(
    ({ target, directory }) =>
      target.toLowerCase() === service.binary.toLowerCase() || directory.id === DRIVERS_DIRECTORY,
  );
  const inFolder = driver.inf.slice(0, driver.inf.lastIndexOf('/') + 1);
  const find = (source: string) =>
    files.find(({ path }) => path.toLowerCase() === `${inFolder}${source}`.toLowerCase());
  return [
    ...drivers.flatMap(({ source, target }): WindowsEdit[] => {
      const file = find(source);
      if (file === undefined) return [];
      return [
        {
          kind: 'driver-file',
          why: `${device.name} needs ${service.name}`,
          source: { packageId: pack.id, path: file.path, sha256: file.sha256 },
          path: `System32/drivers/${target}`,
        },
      ];
    }),
    ...files.map(({ path, sha256 }): WindowsEdit => ({
      kind: 'driver-file',
      why: 'Windows installs the rest of the package from here, once it runs',
      source: { packageId: pack.id, path, sha256 },
      path: `${PACKAGES_FOLDER}/${folderOf(candidate)}/${path}`,
    })),
  ];
}

function serviceChanges(service: DriverService, set: string): RegistryChange[] {
  const key = `${set}\\Services\\${service.name}`;
  return [
    { kind: 'set', key, name: 'Type', data: { type: 'dword', number: KERNEL_DRIVER } },
    { kind: 'set', key, name: 'Start', data: { type: 'dword', number: BOOT_START } },
    { kind: 'set', key, name: 'ErrorControl', data: { type: 'dword', number: ERROR_NORMAL } },
    { kind: 'set', key, name: 'Group', data: { type: 'string', text: service.loadOrderGroup || DEFAULT_GROUP } },
    {
      kind: 'set',
      key,
      name: 'ImagePath',
      data: { type: 'expand-string', text: `System32\\drivers\\${service.binary}` },
    },
    ...service.registry.map(({ key: below, name, data }): RegistryChange => ({
      kind: 'set',
      key: below === '' ? key : `${key}\\${below}`,
      name,
      data,
    })),
    { kind: 'delete-key', key: `${key}\\StartOverride` },
  ];
}

function criticalDevices(
  candidate: DriverCandidate,
  service: DriverService,
  { ids, controlSets }: { ids: readonly string[]; controlSets: readonly string[] },
): RegistryChange[] {
  return controlSets.flatMap((set) =>
    ids.flatMap((id): RegistryChange[] => {
      const key = `${set}\\Control\\CriticalDeviceDatabase\\PCI#${id}`;
      return [
        { kind: 'set', key, name: 'Service', data: { type: 'string', text: service.name } },
        {
          kind: 'set',
          key,
          name: 'ClassGUID',
          data: { type: 'string', text: candidate.driver.classGuid.toUpperCase() },
        },
      ];
    }),
  );
}

function driverDatabase(
  candidate: DriverCandidate,
  service: DriverService,
  { ids, version }: { ids: readonly string[]; version: WindowsVersion },
): RegistryChange[] {
  const inf = registeredName(candidate);
  // Windows ends the names of its own with a hash of the package; this one is ours, and no other package has it.
  const pack = `${inf}_${version.architecture}_${candidate.package.id.slice(0, 16)}`;
  const configuration = `${service.name}_conf`;
  const top = 'DriverDatabase';
  const packKey = `${top}\\DriverPackages\\${pack}`;
  const versionHex = `${VERSION_MARK}${guidBytes(candidate.driver.classGuid).toString('hex')}${'00'.repeat(VERSION_REST_BYTES)}`;
  return [
    { kind: 'set', key: `${top}\\DriverInfFiles\\${inf}`, name: '', data: { type: 'multi-string', texts: [pack] } },
    { kind: 'set', key: `${top}\\DriverInfFiles\\${inf}`, name: 'Active', data: { type: 'string', text: pack } },
    {
      kind: 'set',
      key: `${top}\\DriverInfFiles\\${inf}`,
      name: 'Configurations',
      data: { type: 'multi-string', texts: [configuration] },
    },
    { kind: 'set', key: packKey, name: '', data: { type: 'string', text: inf } },
    { kind: 'set', key: packKey, name: 'Version', data: { type: 'binary', hex: versionHex } },
    {
      kind: 'set',
      key: `${packKey}\\Configurations\\${configuration}`,
      name: 'ConfigFlags',
      data: { type: 'dword', number: 0 },
    },
    {
      kind: 'set',
      key: `${packKey}\\Configurations\\${configuration}`,
      name: 'Service',
      data: { type: 'string', text: service.name },
    },
    ...ids.flatMap((id): RegistryChange[] => [
      {
        kind: 'set',
        key: `${top}\\DeviceIds\\PCI\\${id}`,
        name: inf,
        data: { type: 'binary', hex: DEVICE_ID_MARK },
      },
      {
        kind: 'set',
        key: `${packKey}\\Descriptors\\PCI\\${id}`,
        name: 'Configuration',
        data: { type: 'string', text: configuration },
      },
    ]),
  ];
}

/** Windows looks into these folders, and into none below them. */
function devicePath(candidate: DriverCandidate, windows: WindowsInspection): WindowsEdit[] {
  const inf = candidate.driver.inf;
  const below = inf.includes('/') ? `\\${inf.slice(0, inf.lastIndexOf('/')).replaceAll('/', '\\')}` : '';
  const folder = `%SystemRoot%\\${PACKAGES_FOLDER}\\${folderOf(candidate)}${below}`;
  const known = windows.devicePath ?? '%SystemRoot%\\inf';
  if (known.toLowerCase().split(';').includes(folder.toLowerCase())) return [];
  return [
    {
      kind: 'registry',
      hive: 'SOFTWARE',
      why: `Windows is to find the rest of ${inf} when it installs the device`,
      changes: [
        {
          kind: 'set',
          key: 'Microsoft\\Windows\\CurrentVersion',
          name: 'DevicePath',
          data: { type: 'expand-string', text: `${known};${folder}` },
        },
      ],
    },
  ];
}

function infName({ driver }: DriverCandidate): string {
  return driver.inf.slice(driver.inf.lastIndexOf('/') + 1).toLowerCase();
}

/** What the database calls it. Vendors' files are often called as those that Windows brings, whose entries must stay as they are. */
function registeredName(candidate: DriverCandidate): string {
  return `lifeboat-${infName(candidate)}`;
}

function folderOf(candidate: DriverCandidate): string {
  return `${infName(candidate).replace(/\.inf$/, '')}-${candidate.package.id.slice(0, 8)}`;
}
