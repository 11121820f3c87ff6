/** Installed Windows for tests, reduced to what decides on which hardware they start: shapes of keys and values after the real ones. */
import { expandString, hexOf, makeHive, type RegistryTree } from './hives.ts';

export type SampleRelease = 'xp' | '7' | '10';

/** Path below the volume's root, with slashes, to content. */
export type SampleFiles = Record<string, Buffer>;

const SETUP_CLASS = {
  hdc: '{4d36e96a-e325-11ce-bfc1-08002be10318}',
  scsi: '{4d36e97b-e325-11ce-bfc1-08002be10318}',
} as const;

interface Shape {
  readonly product: string;
  readonly version: Readonly<Record<string, string>>;
  readonly architecture: string;
  /** Service to its Start. */
  readonly services: Readonly<Record<string, number>>;
  /** Id after `PCI\` to service and class. */
  readonly devices: Readonly<Record<string, readonly [string, keyof typeof SETUP_CLASS]>>;
}

const SHAPES: Readonly<Record<SampleRelease, Shape>> = {
  xp: {
    product: 'Microsoft Windows XP',
    version: { CurrentVersion: '"5.1"', CurrentBuildNumber: '"2600"', CSDVersion: '"Service Pack 3"' },
    architecture: 'x86',
    services: { atapi: 0, intelide: 0, pciide: 4, symmpi: 4, intelppm: 1, amdk8: 4 },
    devices: { CC_0101: ['pciide', 'hdc'], 'VEN_8086&DEV_7111': ['intelide', 'hdc'] },
  },
  7: {
    product: 'Windows 7 Professional',
    version: { CurrentVersion: '"6.1"', CurrentBuildNumber: '"7601"', CSDVersion: '"Service Pack 1"' },
    architecture: 'AMD64',
    services: { atapi: 0, intelide: 0, pciide: 3, msahci: 3, LSI_SAS: 3, megasas: 3, intelppm: 3, amdppm: 3 },
    devices: {
      CC_0101: ['pciide', 'hdc'],
      'VEN_8086&DEV_7111': ['intelide', 'hdc'],
      CC_0106: ['msahci', 'hdc'],
      'VEN_1000&DEV_0054': ['LSI_SAS', 'scsi'],
    },
  },
  10: {
    product: 'Windows 10 Pro',
    version: {
      CurrentVersion: '"6.3"',
      CurrentBuildNumber: '"19045"',
      CurrentMajorVersionNumber: 'dword:0000000a',
      CurrentMinorVersionNumber: 'dword:00000000',
      UBR: 'dword:00000fe6',
    },
    architecture: 'AMD64',
    services: { storahci: 0, stornvme: 3, pciide: 3, atapi: 3, LSI_SAS: 3, LSI_SAS3: 3, intelppm: 3, amdppm: 3 },
    devices: {
      CC_0101: ['pciide', 'hdc'],
      CC_010601: ['storahci', 'hdc'],
      CC_010802: ['stornvme', 'scsi'],
      'VEN_1000&DEV_0054': ['LSI_SAS', 'scsi'],
    },
  },
};

/** SYSTEM, as a tree for `makeHive`. `NT AUTHORITY` and most of the rest is left out. */
export function sampleSystem(release: SampleRelease): RegistryTree {
  const { architecture, services, devices } = SHAPES[release];
  const set = 'ControlSet001';
  const tree: Record<string, Record<string, string>> = {
    Select: {
      Current: 'dword:00000001',
      Default: 'dword:00000001',
      Failed: 'dword:00000000',
      LastKnownGood: 'dword:00000001',
    },
    [`${set}\\Control\\Session Manager\\Environment`]: { PROCESSOR_ARCHITECTURE: `"${architecture}"` },
    [`${set}\\Control\\ProductOptions`]: { ProductType: '"WinNT"' },
    [`${set}\\Control\\CrashControl`]: { AutoReboot: 'dword:00000001', CrashDumpEnabled: 'dword:00000007' },
    [`${set}\\Enum\\Root\\ACPI_HAL\\0000`]: {
      HardwareID: `hex(7):${hexOf(Buffer.from('acpiapic_mp\0\0', 'utf16le'))}`,
    },
  };
  for (const [name, start] of Object.entries(services)) {
    tree[`${set}\\Services\\${name}`] = {
      Type: 'dword:00000001',
      Start: `dword:0000000${start}`,
      ErrorControl: 'dword:00000001',
      ...(name === 'atapi' ? {} : { ImagePath: expandString(`System32\\drivers\\${name}.sys`) }),
    };
    if (release === '10' && start > 0)
      tree[`${set}\\Services\\${name}\\StartOverride`] = { 0: `dword:0000000${start}` };
  }
  for (const [id, [service, kind]] of Object.entries(devices)) {
    const classGuid = SETUP_CLASS[kind];
    if (release !== '10') {
      tree[`${set}\\Control\\CriticalDeviceDatabase\\pci#${id.toLowerCase()}`] = {
        ClassGUID: `"${classGuid.toUpperCase()}"`,
        Service: `"${service}"`,
      };
      continue;
    }
    const inf = `${service.toLowerCase()}.inf`;
    const pack = `DriverDatabase\\DriverPackages\\${inf}_amd64_0123456789abcdef`;
    tree[pack] = { '': `"${inf}"`, Version: `hex:${hexOf(versionBlob(kind))}` };
    tree[`${pack}\\Configurations\\${service}_Inst`] = { ConfigFlags: 'dword:00000000', Service: `"${service}"` };
    tree[`${pack}\\Descriptors\\PCI\\${id}`] = { Configuration: `"${service}_Inst"` };
    tree[`DriverDatabase\\DeviceIds\\PCI\\${id}`] = { [inf]: 'hex:01,ff,00,00' };
    tree[`DriverDatabase\\DriverInfFiles\\${inf}`] = {
      '': `hex(7):${hexOf(Buffer.from(`${inf}_amd64_0123456789abcdef\0\0`, 'utf16le'))}`,
    };
  }
  return tree;
}

function sampleSoftware(release: SampleRelease): RegistryTree {
  const { product, version } = SHAPES[release];
  return {
    'Microsoft\\Windows NT\\CurrentVersion': { ProductName: `"${product}"`, ...version },
    'Microsoft\\Windows\\CurrentVersion': { DevicePath: expandString('%SystemRoot%\\inf') },
  };
}

/** What lies on its volume. `more` is laid over it. */
export function sampleWindows(release: SampleRelease, more: SampleFiles = {}): SampleFiles {
  const config = 'Windows/System32/config';
  const files: SampleFiles = {
    [`${config}/SYSTEM`]: makeHive(sampleSystem(release)),
    [`${config}/SOFTWARE`]: makeHive(sampleSoftware(release)),
    [`${config}/SYSTEM.LOG1`]: Buffer.alloc(0),
    [`${config}/SYSTEM.LOG2`]: Buffer.alloc(0),
    'Windows/System32/hal.dll': sampleProgram('halmacpi.dll'),
    'Windows/System32/ntoskrnl.exe': sampleProgram('ntkrnlmp.exe'),
    'Windows/INF/machine.inf': Buffer.from(''),
  };
  for (const name of Object.keys(SHAPES[release].services)) {
    files[`Windows/System32/drivers/${name}.sys`] = sampleProgram(`${name}.sys`);
  }
  return { ...files, ...more };
}

function sampleProgram(original: string): Buffer {
  const resource = Buffer.from(`OriginalFilename\0\0${original}\0`, 'utf16le');
  return Buffer.concat([Buffer.from('MZ'), Buffer.alloc(4094), resource, Buffer.alloc(512)]);
}

/** Two words, then the class, as a GUID is stored, then what is of no matter here. */
function versionBlob(kind: keyof typeof SETUP_CLASS): Buffer {
  const stored = kind === 'hdc' ? '6ae9364d25e3ce11bfc108002be10318' : '7be9364d25e3ce11bfc108002be10318';
  return Buffer.from(`00ff090000000000${stored}${'00'.repeat(24)}`, 'hex');
}
