/**
 * What will be done to an installed Windows so that it starts on other hardware. A pure function of what is inside the image, what the hardware
 * asks for, and which packages of the store match it.
 *
 *   1. refuse what must not be edited, or would not start all the same
 *   2. let every driver of a disk controller that Windows brings start at boot
 *   3. for a boot controller that none of these drives: the best package of the store, as a service and in the device database
 *   4. stop at a blue screen instead of restarting, until it has started once; look for drivers in the packages' folders
 *   5. switch off what belongs to the other maker's processors
 *   6. with UEFI: its boot manager where firmware without an entry for it looks
 */
import type { DeviceMatch, DriverCandidate } from '../drivers/match-drivers.ts';
import type { MachineInventory } from '../inventory/machine-inventory.ts';
import type { HardwareProfile, PciDevice } from '../profile/hardware-profile.ts';
import { pciDeviceIds } from './device-ids.ts';
import { controlSetName } from './inspect-windows.ts';
import { registerDriver } from './register-driver.ts';
import { IN_BOX_STORAGE_SERVICES, PROCESSOR_SERVICES } from './storage-services.ts';
import type { ServiceInspection, WindowsInspection } from './windows-inspection.ts';
import type { PlannedDriver, RegistryChange, WindowsEdit, WindowsPlan, WindowsRefusal } from './windows-plan.ts';
import { compareNumbers, type WindowsVersion } from './windows-version.ts';

/** HALs of x86 for machines with ACPI, which every machine is that can be had today. */
const ACPI_HALS = ['halacpi.dll', 'halaacpi.dll', 'halmacpi.dll'];
/** Those use one processor, whatever there is. */
const ONE_PROCESSOR_HALS = ['halacpi.dll', 'halaacpi.dll'];
const DYNAMIC_DISK_TYPES = ['42', '5808c8aa-7e8f-42e0-85d2-e1e90434cfb3', 'af9b60a0-1431-4f62-bc68-3311714a69ad'];
/** Of services and driver files: no separators of paths. */
const PLAIN_NAME = /^[\w][\w .+-]{0,63}$/;
const BOOT_START = 0;
const DISABLED = 4;

export interface WindowsPlanInput {
  /** Of the machine: its disks say by which firmware it starts. */
  readonly inventory: Pick<MachineInventory, 'disks' | 'efiLoaders'>;
  readonly windows: WindowsInspection;
  readonly profile: HardwareProfile;
  /** What the store has for the devices of the profile, for this Windows; none where its version is not known. */
  readonly matches: readonly DeviceMatch[];
}

interface Context extends WindowsPlanInput {
  readonly version: WindowsVersion;
  readonly edits: WindowsEdit[];
  readonly warnings: string[];
  readonly refusals: WindowsRefusal[];
  readonly drivers: PlannedDriver[];
}

export function planWindows(input: WindowsPlanInput): WindowsPlan {
  const { windows, profile } = input;
  const { version, root, directory } = windows;
  const edits: WindowsEdit[] = [];
  const warnings: string[] = [];
  const drivers: PlannedDriver[] = [];
  const refusals: WindowsRefusal[] = [...checkState(windows), ...checkMachine(input)];
  if (version === undefined) {
    refusals.push({
      code: 'version-unknown',
      text: 'The registry does not say which Windows it is, for which architecture, so no driver can be chosen. See that it starts in the source machine and back it up again.',
    });
  } else {
    const context: Context = { ...input, version, edits, warnings, refusals, drivers };
    checkHal(context);
    enableInBox(context);
    for (const device of profile.pciDevices) {
      if (device.role === 'boot-storage') driveBootDevice(device, context);
      if (device.role === 'network') adviseOnNetwork(device, context);
    }
    stopAtBlueScreen(context);
    switchOffForeignProcessor(context);
    putFallbackLoader(context);
  }
  if (windows.filesystem.isDirty)
    warnings.push(`The filesystem on ${root} wants a check; Windows makes it when it starts.`);
  return {
    system: 'windows',
    formatVersion: 1,
    guest: windows.productName || 'Windows',
    root,
    directory,
    profile: { name: profile.name, description: profile.description },
    edits: refusals.length > 0 ? [] : edits,
    warnings,
    refusals,
    drivers,
  };
}

function checkState({ hibernation, hives, root, filesystem }: WindowsInspection): WindowsRefusal[] {
  const refusals: WindowsRefusal[] = [];
  if (hibernation === 'hibernated' || hibernation === 'unknown') {
    const what =
      hibernation === 'hibernated'
        ? 'Windows is hibernated, or was shut down with fast startup'
        : `hiberfil.sys on ${root} is not understood, so Windows may be hibernated`;
    refusals.push({
      code: 'hibernated',
      text: `${what}: what it holds in memory would be written over any change to its disks. Shut the source machine down completely (shutdown /s /t 0) and back it up again.`,
    });
  }
  if (filesystem.hasOpenLog) {
    refusals.push({
      code: 'filesystem-not-closed',
      text: `The NTFS filesystem on ${root} was not closed, and what is newest may be in its log only, which an edit would drop. Shut the source machine down completely (shutdown /s /t 0) and back it up again, or choose a point that was taken while it was off.`,
    });
  }
  for (const { name, state, problem } of hives) {
    if (state === 'clean' || state === 'replayed') continue;
    refusals.push({
      code: state === 'dirty' ? 'hive-dirty' : 'hive-unreadable',
      text: `The registry hive ${name} cannot be edited: ${problem ?? state}. Shut the source machine down completely and back it up again, or choose another point.`,
    });
  }
  return refusals;
}

/** By which firmware it starts is told by the loaders on its disks; where they tell nothing, nothing is refused. */
function checkMachine({ inventory, profile, windows }: WindowsPlanInput): WindowsRefusal[] {
  const refusals: WindowsRefusal[] = [];
  const startsByUefi = inventory.efiLoaders.some(({ kind }) => kind === 'windows');
  const startsByBios = inventory.disks.some(
    ({ scheme, bootCode }) => scheme === 'mbr' && bootCode.loader === 'windows',
  );
  const isKnown = startsByUefi || startsByBios;
  const fits = profile.firmware === 'uefi' ? startsByUefi : startsByBios;
  if (isKnown && !fits) {
    const [from, to] = profile.firmware === 'uefi' ? ['BIOS', 'UEFI'] : ['UEFI', 'BIOS'];
    refusals.push({
      code: 'firmware-change',
      text: `This Windows starts by ${from}, and '${profile.name}' has ${to} firmware. Changing Windows from one to the other is not supported: choose a target with ${from} firmware, or convert the source machine first (mbr2gpt, from Windows 10 on).`,
    });
  }
  const dynamic = inventory.disks.filter(({ partitions }) =>
    partitions.some(({ type }) => DYNAMIC_DISK_TYPES.includes(type.toLowerCase())),
  );
  if (dynamic.some(({ name, partitions }) => partitions.some(({ number }) => isOn(windows.root, name, number)))) {
    refusals.push({
      code: 'dynamic-disk',
      text: `Windows is on a dynamic disk (${dynamic.map(({ name }) => name).join(', ')}), whose layout depends on the other disks of the machine. Convert it to a basic disk in the source machine.`,
    });
  }
  return refusals;
}

function isOn(volume: string, disk: string, partition: number): boolean {
  return volume === `${disk}${partition}` || volume === `${disk}p${partition}`;
}

function checkHal({ windows, version, warnings, refusals }: Context): void {
  const { hal } = windows;
  if (hal === undefined || version.major > 5) return;
  if (hal.hal === '') {
    warnings.push('Which HAL this Windows has cannot be told from hal.dll; one that is not for ACPI would not start.');
  } else if (!ACPI_HALS.includes(hal.hal)) {
    refusals.push({
      code: 'hal-not-acpi',
      text: `This Windows has the HAL ${hal.hal}, which is not for machines with ACPI. Install it anew on a machine with ACPI, or restore it to hardware like that of the source.`,
    });
  } else if (ONE_PROCESSOR_HALS.includes(hal.hal)) {
    warnings.push(`This Windows has the HAL ${hal.hal}, so it will use one processor only.`);
  }
}

/** Both control sets where it would start next with another one than it ran with. */
function controlSetsOf({ windows }: Context): string[] {
  const { current, default: next } = windows.controlSets;
  return [...new Set([current, next])].map(controlSetName);
}

function enableInBox(context: Context): void {
  const { windows, edits, warnings } = context;
  const known = IN_BOX_STORAGE_SERVICES.map((name) => name.toLowerCase());
  const services = windows.storageServices.filter(({ name }) => known.includes(name.toLowerCase()));
  for (const { name, image } of services.filter(({ isImageThere }) => !isImageThere)) {
    warnings.push(`The driver ${name} is registered, but ${image} is not there; it is left as it is.`);
  }
  const changes = services.filter(needsEnabling).flatMap((service) => enable(service, context));
  if (changes.length === 0) return;
  edits.push({
    kind: 'registry',
    hive: 'SYSTEM',
    why: `drivers that Windows brings do not start at boot where their controller was not there: ${services
      .filter(needsEnabling)
      .map(({ name }) => name)
      .join(', ')}`,
    changes,
  });
}

function needsEnabling({ start, hasStartOverride, isImageThere }: ServiceInspection): boolean {
  return isImageThere && (start !== BOOT_START || hasStartOverride);
}

function enable({ name }: ServiceInspection, context: Context): RegistryChange[] {
  return controlSetsOf(context).flatMap((set): RegistryChange[] => [
    { kind: 'set', key: `${set}\\Services\\${name}`, name: 'Start', data: { type: 'dword', number: BOOT_START } },
    { kind: 'delete-key', key: `${set}\\Services\\${name}\\StartOverride` },
  ]);
}

function driveBootDevice(device: PciDevice, context: Context): void {
  const { windows, profile, drivers, edits, refusals } = context;
  const installed = installedDriver(device, windows);
  if (installed) {
    drivers.push({ device: device.name, ...installed, from: 'installed' });
    const service = windows.storageServices.find(({ name }) => isSame(name, installed.service));
    const isInBox = IN_BOX_STORAGE_SERVICES.some((name) => isSame(name, installed.service));
    if (service && !isInBox && needsEnabling(service)) {
      edits.push({
        kind: 'registry',
        hive: 'SYSTEM',
        why: `${device.name} needs ${service.name}, which is installed and does not start at boot`,
        changes: enable(service, context),
      });
    }
    return;
  }
  const match = context.matches.find((one) => sameDevice(one.device, device));
  const [usable] = (match?.candidates ?? []).filter((candidate) => whyNot(candidate, context) === undefined);
  if (usable) {
    useCandidate(device, usable, context);
    return;
  }
  const ids = pciDeviceIds(device);
  const lookedFor = [...ids.hardware, ...ids.compatible].slice(0, 4).join(', ');
  const reason = match?.candidates.map((candidate) => whyNot(candidate, context)).find((why) => why !== undefined);
  if (reason) {
    refusals.push(reason);
    return;
  }
  if (match && match.forOthers.length > 0) {
    const others = match.forOthers.map(({ name, targets }) => `${name} (${targets.join(', ')})`).join('; ');
    const { major, minor, build, architecture } = context.version;
    refusals.push({
      code: 'driver-architecture',
      text: `The store has drivers for ${device.name}, but none for Windows ${major}.${minor}.${build} on ${architecture}: ${others}. Add the package for this one (lifeboat drivers add).`,
    });
    return;
  }
  refusals.push({
    code: 'no-boot-driver',
    text: `Windows has no driver for the boot controller of '${profile.name}', ${device.name}. Looked for: ${lookedFor}. ${sourceOf(device)}, add the package with 'lifeboat drivers add', and plan again.`,
  });
}

/** What the device database says of its ids, most specific first, where the service and its file are there. */
function installedDriver(device: PciDevice, windows: WindowsInspection): { id: string; service: string } | undefined {
  const ids = pciDeviceIds(device);
  for (const id of [...ids.hardware, ...ids.compatible]) {
    for (const known of windows.bootDevices) {
      if (known.id !== id) continue;
      const service = windows.storageServices.find(({ name }) => isSame(name, known.service));
      if (service?.isImageThere) return { id, service: service.name };
    }
  }
  return undefined;
}

/** Windows for x64 has asked for signatures of boot drivers since Vista; firmware with Secure Boot makes every Windows do so. */
function whyNot(candidate: DriverCandidate, { profile, version, windows }: Context): WindowsRefusal | undefined {
  const { driver, missingFiles, package: pack, install } = candidate;
  if (missingFiles.length > 0) {
    return {
      code: 'driver-incomplete',
      text: `The package ${pack.name} has a driver for the boot controller, but lacks files that ${driver.inf} names: ${missingFiles.join(', ')}. Add the whole package.`,
    };
  }
  const names = [...install.services.map(({ name }) => name), ...install.files.map(({ target }) => target)];
  const strange = names.find((name) => !PLAIN_NAME.test(name));
  if (strange !== undefined) {
    return {
      code: 'driver-incomplete',
      text: `${driver.inf} of the package ${pack.name} installs something called '${strange}', which no service and no driver is called.`,
    };
  }
  if (!install.services.some(({ isAssociated, binary }) => isAssociated && PLAIN_NAME.test(binary))) {
    return {
      code: 'driver-incomplete',
      text: `${driver.inf} of the package ${pack.name} matches the boot controller, but installs no driver of its own; the Windows it is for has to bring it.`,
    };
  }
  const service = install.services.find(({ isAssociated, binary }) => isAssociated && binary !== '');
  const binary = install.files.find(({ target }) => isSame(target, service?.binary ?? ''));
  if (binary === undefined) {
    return {
      code: 'driver-incomplete',
      text: `${driver.inf} of the package ${pack.name} names ${service?.binary} as the driver and does not copy it, so it is not installed without Windows running.`,
    };
  }
  // As on the discs of Windows XP: expand(1) of Microsoft makes a driver of it.
  if (binary.source.endsWith('_')) {
    return {
      code: 'driver-incomplete',
      text: `The package ${pack.name} holds ${binary.source}, which is compressed. Expand it to ${binary.target}, beside its INF, and add the package again.`,
    };
  }
  const needsSignature = profile.secureBoot === true || (version.architecture !== 'x86' && version.major >= 6);
  if (needsSignature && driver.catalogueFile === undefined) {
    return {
      code: 'driver-unsigned',
      text: `The package ${pack.name} has a driver for the boot controller that is not signed (it lacks the catalogue file that its INF should name); ${profile.secureBoot ? 'Secure Boot' : `Windows for ${version.architecture}`} does not load it. Get the signed package of the vendor.`,
    };
  }
  if (windows.deviceDatabase === 'critical-devices' && compareNumbers([version.major, version.minor], [6, 2]) >= 0) {
    return {
      code: 'device-database-unknown',
      text: 'This Windows is one that keeps its devices in DriverDatabase, and SYSTEM has no such key, so a driver cannot be registered. See that it starts in the source machine and back it up again.',
    };
  }
  return undefined;
}

function useCandidate(device: PciDevice, candidate: DriverCandidate, context: Context): void {
  const { edits, drivers, warnings, windows, version } = context;
  const { driver, package: pack } = candidate;
  const registered = registerDriver(candidate, { version, windows, controlSets: controlSetsOf(context), device });
  drivers.push({
    device: device.name,
    id: candidate.match.id,
    service: registered.service,
    from: { packageId: pack.id, name: pack.name, inf: driver.inf },
  });
  edits.push(...registered.edits);
  warnings.push(
    `The driver ${registered.service} comes from ${pack.name}; that its signature is one that Windows trusts is not checked here.`,
  );
}

/** It starts without: drivers of other devices are installed by Windows itself, once it runs. */
function adviseOnNetwork(device: PciDevice, { matches, warnings }: Context): void {
  const [best] = matches.find((one) => sameDevice(one.device, device))?.candidates ?? [];
  const advice = best
    ? `install ${best.driver.inf} of ${best.package.name} there if Windows brings none`
    : 'the store has no driver for it, so it works if Windows brings one';
  warnings.push(`No driver is installed for the network device ${device.name} before Windows runs: ${advice}.`);
}

function stopAtBlueScreen(context: Context): void {
  const { edits, windows } = context;
  if (windows.restartAfterCrash === 'off') return;
  edits.push({
    kind: 'registry',
    hive: 'SYSTEM',
    why: 'a blue screen of the first start is to stay on the screen, so that it is seen and read',
    changes: controlSetsOf(context).map((set) => ({
      kind: 'set',
      key: `${set}\\Control\\CrashControl`,
      name: 'AutoReboot',
      data: { type: 'dword', number: 0 },
    })),
  });
}

function switchOffForeignProcessor(context: Context): void {
  const { profile, windows, edits } = context;
  if (profile.processor === undefined) return;
  const foreign = PROCESSOR_SERVICES[profile.processor === 'intel' ? 'amd' : 'intel'] as readonly string[];
  const services = windows.processorServices.filter(
    ({ name, start }) => foreign.some((one) => isSame(one, name)) && start !== DISABLED,
  );
  if (services.length === 0) return;
  edits.push({
    kind: 'registry',
    hive: 'SYSTEM',
    why: `${services.map(({ name }) => name).join(', ')} is for the processors of the other maker and may stop Windows on those of '${profile.name}'`,
    changes: services.flatMap(({ name }) =>
      controlSetsOf(context).map((set): RegistryChange => ({
        kind: 'set',
        key: `${set}\\Services\\${name}`,
        name: 'Start',
        data: { type: 'dword', number: DISABLED },
      })),
    ),
  });
}

/** Entries for a boot manager live in the old machine's flash and do not come along. */
function putFallbackLoader({ inventory, profile, edits, warnings }: Context): void {
  if (profile.firmware !== 'uefi') return;
  const managers = inventory.efiLoaders.filter(({ kind, path }) => kind === 'windows' && BOOT_MANAGER.test(path));
  for (const { volume, path, architecture } of managers) {
    const fallback = FALLBACKS[architecture];
    const beside = inventory.efiLoaders.find(
      (loader) => loader.volume === volume && loader.path.toUpperCase() === fallback,
    );
    if (fallback === undefined || beside?.kind === 'windows') continue;
    if (beside) {
      warnings.push(
        `${fallback} on ${volume} is not the boot manager of Windows (${beside.kind}); firmware without an entry for Windows starts that.`,
      );
      continue;
    }
    for (const disk of inventory.disks) {
      const partition = disk.partitions.find(({ number }) => isOn(volume, disk.name, number));
      if (!partition) continue;
      edits.push({
        kind: 'efi-loader',
        why: 'the new firmware has no entry for Windows, and looks here without one',
        disk: disk.name,
        offsetBytes: partition.startBytes,
        lengthBytes: partition.lengthBytes,
        from: path,
        path: fallback,
      });
    }
  }
}

const BOOT_MANAGER = /^\/EFI\/Microsoft\/Boot\/bootmgfw\.efi$/i;
/** UEFI specification, "Removable Media Boot Behavior". */
const FALLBACKS: Readonly<Record<string, string>> = {
  x86_64: '/EFI/BOOT/BOOTX64.EFI',
  x86: '/EFI/BOOT/BOOTIA32.EFI',
  aarch64: '/EFI/BOOT/BOOTAA64.EFI',
};

const SOURCES: Readonly<Record<number, string>> = {
  0x1af4: 'Get the virtio-win ISO of the Fedora project',
  0x15ad: 'Get the drivers of VMware Tools (pvscsi)',
  0x1000: 'Get the Windows driver of the controller from Broadcom',
  0x8086: 'Get the F6 driver of Intel Rapid Storage Technology',
  0x1022: 'Get the RAID or chipset driver from AMD',
};

function sourceOf({ vendor }: PciDevice): string {
  return SOURCES[vendor] ?? "Get the driver for this Windows from the controller's vendor";
}

function sameDevice(a: PciDevice, b: PciDevice): boolean {
  return (
    a.vendor === b.vendor &&
    a.device === b.device &&
    a.subsystemVendor === b.subsystemVendor &&
    a.subsystemDevice === b.subsystemDevice &&
    a.class === b.class
  );
}

function isSame(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}
