import { describe, expect, it } from 'vitest';
import type { DeviceMatch, DriverCandidate } from '../drivers/match-drivers.ts';
import type { MachineInventory } from '../inventory/machine-inventory.ts';
import type { HardwareProfile, PciDevice } from '../profile/hardware-profile.ts';
import { AHCI_INF, VIRTIO_BLOCK_INF } from '../testing/sample-infs.ts';
import { pciDeviceIds } from './device-ids.ts';
import { matchIds } from './driver-rank.ts';
import { readHeader, readInstall, readModels } from './inf-driver.ts';
import { InfFile } from './inf-file.ts';
import { planWindows, type WindowsPlanInput } from './plan-windows.ts';
import { renderWindowsPlan } from './render-windows.ts';
import type { WindowsInspection } from './windows-inspection.ts';
import type { WindowsPlan } from './windows-plan.ts';
import type { WindowsVersion } from './windows-version.ts';

const AMD64_10: WindowsVersion = { major: 10, minor: 0, build: 20348, architecture: 'amd64', productType: 'server' };
const AMD64_7: WindowsVersion = { major: 6, minor: 1, build: 7601, architecture: 'amd64', productType: 'workstation' };

const service = (name: string, start: number, more: object = {}) => ({
  name,
  start,
  hasStartOverride: false,
  image: `System32/drivers/${name}.sys`,
  isImageThere: true,
  ...more,
});

const server: WindowsInspection = {
  root: 'sda2',
  directory: 'Windows',
  productName: 'Windows Server 2022 Standard',
  servicePack: '',
  version: AMD64_10,
  controlSets: { current: 1, default: 1 },
  storageServices: [
    service('storahci', 0),
    service('stornvme', 3, { hasStartOverride: true }),
    service('pciide', 3),
    service('vmd', 3, { isImageThere: false }),
  ],
  processorServices: [service('intelppm', 3), service('amdppm', 3)],
  deviceDatabase: 'driver-database',
  bootDevices: [
    { id: 'PCI\\CC_010601', service: 'storahci' },
    { id: 'PCI\\CC_010802', service: 'stornvme' },
  ],
  hives: [
    { name: 'SYSTEM', state: 'replayed', logEntries: 2 },
    { name: 'SOFTWARE', state: 'clean', logEntries: 0 },
  ],
  hibernation: 'none',
  restartAfterCrash: 'automatic',
  devicePath: '%SystemRoot%\\inf',
  filesystem: { isDirty: false, hasOpenLog: false },
  problems: [],
};

const device = (
  vendor: number,
  id: number,
  classCode: number,
  name: string,
  role: PciDevice['role'] = 'boot-storage',
): PciDevice => ({
  vendor,
  device: id,
  subsystemVendor: 0x1af4,
  subsystemDevice: 2,
  class: classCode,
  role,
  name,
});
const AHCI = device(0x8086, 0x2922, 0x010601, 'AHCI controller');
const VIRTIO = device(0x1af4, 0x1001, 0x010000, 'virtio block device');
const NIC = device(0x1af4, 0x1000, 0x020000, 'virtio network', 'network');

const profile = (devices: readonly PciDevice[], more: Partial<HardwareProfile> = {}): HardwareProfile => ({
  name: 'target',
  description: 'a machine',
  firmware: 'uefi',
  pciDevices: devices,
  emulation: { diskController: 'virtio-blk', nicModel: 'virtio' },
  ...more,
});

const uefi = { disks: [], efiLoaders: [{ kind: 'windows' }] } as unknown as MachineInventory;
const bios = {
  disks: [{ name: 'sda', scheme: 'mbr', bootCode: { loader: 'windows' }, partitions: [] }],
  efiLoaders: [],
} as unknown as MachineInventory;

/** As `matchDrivers` gives it for a store with one package. */
function matchOf(
  wanted: PciDevice,
  version: WindowsVersion,
  text = VIRTIO_BLOCK_INF,
  more: Partial<DriverCandidate> = {},
): DeviceMatch {
  const inf = InfFile.parse(text, 'vioblk.inf');
  const ids = pciDeviceIds(wanted);
  const { classGuid, className, driverVersion } = readHeader(inf);
  const candidates = readModels(inf, version).flatMap((model): DriverCandidate[] => {
    const match = matchIds(ids, model.ids);
    const install = match && readInstall(inf, model, version);
    if (!match || !install) return [];
    const files = ['vioblk.cat', 'vioblk.inf', 'vioblk.sys'].map((path, i) => ({
      path: `w10/${path}`,
      sizeBytes: 10,
      sha256: `${i}`.repeat(64),
    }));
    return [
      {
        match,
        featureScore: 255,
        driverVersion,
        package: { id: 'abcdef0123456789'.repeat(4), name: 'virtio-win' },
        driver: {
          inf: 'w10/vioblk.inf',
          provider: 'Example',
          className,
          classGuid,
          date: '2024-07-12',
          version: '100.95',
          catalogueFile: 'w10/vioblk.cat',
        },
        description: model.description,
        modelIds: model.ids,
        install,
        files,
        services: install.services.map(({ name }) => name),
        missingFiles: [],
        ...more,
      },
    ];
  });
  return { device: wanted, lookedFor: [...ids.hardware, ...ids.compatible], candidates, forOthers: [] };
}

const plan = (input: Partial<WindowsPlanInput> = {}): WindowsPlan =>
  planWindows({ inventory: uefi, windows: server, profile: profile([AHCI]), matches: [], ...input });
const codes = (made: WindowsPlan): string[] => made.refusals.map(({ code }) => code);
const changesOf = (made: WindowsPlan, hive = 'SYSTEM') =>
  made.edits.flatMap((edit) => (edit.kind === 'registry' && edit.hive === hive ? edit.changes : []));

describe('a Windows that has the driver', () => {
  it('only gets what it brings started at boot, and stops at a blue screen', () => {
    const made = plan();
    expect(made.refusals).toEqual([]);
    expect(made.drivers).toEqual([
      { device: 'AHCI controller', id: 'PCI\\CC_010601', service: 'storahci', from: 'installed' },
    ]);
    expect(changesOf(made)).toEqual([
      { kind: 'set', key: 'ControlSet001\\Services\\stornvme', name: 'Start', data: { type: 'dword', number: 0 } },
      { kind: 'delete-key', key: 'ControlSet001\\Services\\stornvme\\StartOverride' },
      { kind: 'set', key: 'ControlSet001\\Services\\pciide', name: 'Start', data: { type: 'dword', number: 0 } },
      { kind: 'delete-key', key: 'ControlSet001\\Services\\pciide\\StartOverride' },
      {
        kind: 'set',
        key: 'ControlSet001\\Control\\CrashControl',
        name: 'AutoReboot',
        data: { type: 'dword', number: 0 },
      },
    ]);
    expect(made.warnings).toEqual([
      expect.stringContaining('vmd is registered, but System32/drivers/vmd.sys is not there'),
    ]);
  });

  it('is edited in both control sets where it starts with another one than it ran with', () => {
    const made = plan({ windows: { ...server, controlSets: { current: 1, default: 3 } } });
    const keys = changesOf(made).map(({ key }) => key);
    expect(keys).toContain('ControlSet001\\Services\\stornvme');
    expect(keys).toContain('ControlSet003\\Services\\stornvme');
    expect(keys).toContain('ControlSet003\\Control\\CrashControl');
  });

  it("loses what is for the other maker's processors, and nothing where the maker is not known", () => {
    const disabled = (processor?: 'intel' | 'amd') =>
      changesOf(plan({ profile: profile([AHCI], processor === undefined ? {} : { processor }) }))
        .filter((change) => change.kind === 'set' && change.data.type === 'dword' && change.data.number === 4)
        .map(({ key }) => key);
    expect(disabled('amd')).toEqual(['ControlSet001\\Services\\intelppm']);
    expect(disabled('intel')).toEqual(['ControlSet001\\Services\\amdppm']);
    expect(disabled()).toEqual([]);
  });
});

describe('the boot manager on the EFI system partition', () => {
  const manager = { kind: 'windows', volume: 'sda1', path: '/EFI/Microsoft/Boot/bootmgfw.efi', architecture: 'x86_64' };
  const partitions = [
    { number: 1, startBytes: 1 << 20, lengthBytes: 1 << 27, type: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b' },
  ];
  const withLoaders = (...more: object[]) =>
    plan({
      inventory: {
        disks: [{ name: 'sda', scheme: 'gpt', bootCode: { loader: 'none' }, partitions }],
        efiLoaders: [manager, ...more],
      } as unknown as MachineInventory,
    });
  const copies = (made: WindowsPlan) => made.edits.filter(({ kind }) => kind === 'efi-loader');

  it('is put where firmware without an entry looks, unless it is there', () => {
    expect(copies(withLoaders())).toMatchObject([
      { disk: 'sda', offsetBytes: 1 << 20, lengthBytes: 1 << 27, from: manager.path, path: '/EFI/BOOT/BOOTX64.EFI' },
    ]);
    expect(copies(withLoaders({ ...manager, path: '/EFI/Boot/bootx64.efi' }))).toEqual([]);
  });

  it('does not take the place of another loader', () => {
    const made = withLoaders({ ...manager, kind: 'grub', path: '/EFI/BOOT/BOOTX64.EFI' });
    expect(copies(made)).toEqual([]);
    expect(made.warnings.join(' ')).toContain('is not the boot manager of Windows (grub)');
  });
});

describe('a driver of the store', () => {
  const withStore = (more: Partial<WindowsPlanInput> = {}): WindowsPlan =>
    plan({ profile: profile([VIRTIO, NIC]), matches: [matchOf(VIRTIO, AMD64_10)], ...more });

  it('becomes a service and an entry of the driver database from Windows 8 on', () => {
    const made = withStore();
    expect(made.refusals).toEqual([]);
    expect(made.drivers).toEqual([
      {
        device: 'virtio block device',
        id: 'PCI\\VEN_1AF4&DEV_1001',
        service: 'vioblk',
        from: { packageId: 'abcdef0123456789'.repeat(4), name: 'virtio-win', inf: 'w10/vioblk.inf' },
      },
    ]);
    const files = made.edits.flatMap((edit) => (edit.kind === 'driver-file' ? [[edit.source.path, edit.path]] : []));
    expect(files).toEqual([
      ['w10/vioblk.sys', 'System32/drivers/vioblk.sys'],
      ['w10/vioblk.cat', 'Lifeboat/vioblk-abcdef01/w10/vioblk.cat'],
      ['w10/vioblk.inf', 'Lifeboat/vioblk-abcdef01/w10/vioblk.inf'],
      ['w10/vioblk.sys', 'Lifeboat/vioblk-abcdef01/w10/vioblk.sys'],
    ]);
    const set = Object.fromEntries(
      changesOf(made).flatMap((change) =>
        change.kind === 'set' ? [[`${change.key}|${change.name}`, change.data]] : [],
      ),
    );
    const pack = 'DriverDatabase\\DriverPackages\\lifeboat-vioblk.inf_amd64_abcdef0123456789';
    expect(set).toMatchObject({
      'ControlSet001\\Services\\vioblk|Type': { number: 1 },
      'ControlSet001\\Services\\vioblk|Start': { number: 0 },
      'ControlSet001\\Services\\vioblk|ErrorControl': { number: 1 },
      'ControlSet001\\Services\\vioblk|Group': { type: 'string', text: 'SCSI miniport' },
      'ControlSet001\\Services\\vioblk|ImagePath': { type: 'expand-string', text: 'System32\\drivers\\vioblk.sys' },
      'ControlSet001\\Services\\vioblk\\Parameters\\PnpInterface|5': { type: 'dword', number: 1 },
      'DriverDatabase\\DriverInfFiles\\lifeboat-vioblk.inf|': {
        type: 'multi-string',
        texts: ['lifeboat-vioblk.inf_amd64_abcdef0123456789'],
      },
      'DriverDatabase\\DeviceIds\\PCI\\VEN_1AF4&DEV_1001|lifeboat-vioblk.inf': { type: 'binary', hex: '01ff0000' },
      [`${pack}|Version`]: {
        type: 'binary',
        hex: `00ff0900000000007be9364d25e3ce11bfc108002be10318${'00'.repeat(24)}`,
      },
      [`${pack}\\Configurations\\vioblk_conf|ConfigFlags`]: { number: 0 },
      [`${pack}\\Configurations\\vioblk_conf|Service`]: { text: 'vioblk' },
      [`${pack}\\Descriptors\\PCI\\VEN_1AF4&DEV_1001|Configuration`]: { text: 'vioblk_conf' },
    });
    expect(Object.keys(set).some((key) => key.includes('CriticalDeviceDatabase'))).toBe(false);
    expect(changesOf(made, 'SOFTWARE')).toEqual([
      {
        kind: 'set',
        key: 'Microsoft\\Windows\\CurrentVersion',
        name: 'DevicePath',
        data: { type: 'expand-string', text: '%SystemRoot%\\inf;%SystemRoot%\\Lifeboat\\vioblk-abcdef01\\w10' },
      },
    ]);
    expect(made.warnings.join('\n')).toContain('network device virtio network');
    const text = renderWindowsPlan(made).join('\n');
    expect(text).toContain('virtio block device (PCI\\VEN_1AF4&DEV_1001): vioblk of virtio-win');
    expect(text).toContain("set ControlSet001\\Services\\vioblk 'Start' to 0");
  });

  it('becomes an entry of CriticalDeviceDatabase up to Windows 7, with the class that its INF has', () => {
    const windows: WindowsInspection = { ...server, version: AMD64_7, deviceDatabase: 'critical-devices' };
    const hdc = VIRTIO_BLOCK_INF.replace('{4D36E97B', '{4D36E96A');
    const made = withStore({ windows, matches: [matchOf(VIRTIO, AMD64_7, hdc)] });
    const critical = changesOf(made).filter(({ key }) => key.includes('CriticalDeviceDatabase'));
    const key = 'ControlSet001\\Control\\CriticalDeviceDatabase\\PCI#VEN_1AF4&DEV_1001';
    expect(critical).toEqual([
      { kind: 'set', key, name: 'Service', data: { type: 'string', text: 'vioblk' } },
      { kind: 'set', key, name: 'ClassGUID', data: { type: 'string', text: '{4D36E96A-E325-11CE-BFC1-08002BE10318}' } },
    ]);
    expect(changesOf(made).some(({ key: other }) => other.startsWith('DriverDatabase'))).toBe(false);
  });

  it('is not taken where Windows has one, whose image is there', () => {
    expect(plan({ matches: [matchOf(AHCI, AMD64_10, AHCI_INF)] }).drivers[0]?.from).toBe('installed');
    const without = { ...server, storageServices: [service('storahci', 0, { isImageThere: false })] };
    expect(codes(plan({ windows: without }))).toEqual(['no-boot-driver']);
  });

  it.each([
    ['lacks files', { missingFiles: ['vioblk.sys'] }, {}, 'driver-incomplete'],
    [
      'is unsigned, on x64',
      { driver: { inf: 'a.inf', provider: '', className: '', classGuid: '', date: '', version: '' } },
      {},
      'driver-unsigned',
    ],
  ])('that %s is refused by name', (_, more, input, code) => {
    const made = withStore({
      matches: [matchOf(VIRTIO, AMD64_10, VIRTIO_BLOCK_INF, more)],
      ...input,
    });
    expect(codes(made)).toEqual([code]);
    expect(made.edits).toEqual([]);
  });

  it.each([
    ['is compressed, as on old discs', 'vioblk.sys,vioblk.sy_', 'Expand it to vioblk.sys'],
    ['is not copied', 'other.sys,vioblk.sys', 'does not copy it'],
  ])('that %s is refused', (_, line, text) => {
    const inf = VIRTIO_BLOCK_INF.replace('vioblk.sys,,,2', line);
    expect(withStore({ matches: [matchOf(VIRTIO, AMD64_10, inf)] }).refusals).toMatchObject([
      { code: 'driver-incomplete', text: expect.stringContaining(text) as string },
    ]);
  });

  it('whose INF names a file outside its folder is refused', () => {
    const made = withStore({
      matches: [matchOf(VIRTIO, AMD64_10, VIRTIO_BLOCK_INF.replace('vioblk.sys,,,2', '..\\..\\hal.dll,vioblk.sys'))],
    });
    expect(made.refusals).toMatchObject([
      { code: 'driver-incomplete', text: expect.stringContaining('hal.dll') as string },
    ]);
  });

  it('unsigned, may be taken by x86 without Secure Boot and by no firmware with it', () => {
    const version: WindowsVersion = { ...AMD64_7, architecture: 'x86' };
    const windows: WindowsInspection = { ...server, version, deviceDatabase: 'critical-devices' };
    const match = matchOf(VIRTIO, version);
    const [candidate] = match.candidates as [DriverCandidate];
    const { catalogueFile: _, ...unsigned } = candidate.driver;
    const matches = [{ ...match, candidates: [{ ...candidate, driver: unsigned }] }];
    expect(codes(withStore({ windows, matches }))).toEqual([]);
    expect(codes(withStore({ windows, matches, profile: profile([VIRTIO], { secureBoot: true }) }))).toEqual([
      'driver-unsigned',
    ]);
  });

  it('for another architecture only is told from none', () => {
    const forOthers = [{ name: 'virtio-win', targets: ['arm64 from 10.0'] }];
    const made = withStore({ matches: [{ ...matchOf(VIRTIO, AMD64_10), candidates: [], forOthers }] });
    expect(made.refusals).toMatchObject([
      { code: 'driver-architecture', text: expect.stringContaining('arm64 from 10.0') as string },
    ]);
    const none = withStore({ matches: [] });
    expect(none.refusals).toMatchObject([
      {
        code: 'no-boot-driver',
        text: expect.stringMatching(
          /PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4.*virtio-win ISO.*lifeboat drivers add/,
        ) as string,
      },
    ]);
  });
});

describe('what is refused by name, whatever the drivers', () => {
  const hive = (state: 'dirty' | 'unreadable') => [
    { name: 'SYSTEM' as const, state, logEntries: 0, problem: 'its logs are gone' },
  ];
  it.each([
    ['a hibernated Windows', { windows: { ...server, hibernation: 'hibernated' } }, 'hibernated', 'shutdown /s /t 0'],
    [
      'a hiberfil.sys that is not understood',
      { windows: { ...server, hibernation: 'unknown' } },
      'hibernated',
      'hiberfil.sys',
    ],
    [
      'a filesystem that was not closed',
      { windows: { ...server, filesystem: { isDirty: false, hasOpenLog: true } } },
      'filesystem-not-closed',
      'its log only',
    ],
    ['a dirty hive', { windows: { ...server, hives: hive('dirty') } }, 'hive-dirty', 'its logs are gone'],
    ['a damaged hive', { windows: { ...server, hives: hive('unreadable') } }, 'hive-unreadable', 'SYSTEM'],
    ['BIOS to UEFI', { inventory: bios }, 'firmware-change', 'mbr2gpt'],
    ['UEFI to BIOS', { profile: profile([AHCI], { firmware: 'bios' }) }, 'firmware-change', 'UEFI'],
  ] as const)('%s', (_, input, code, text) => {
    const made = plan(input);
    expect(codes(made)).toEqual([code]);
    expect(made.refusals[0]?.text).toContain(text);
    expect(made.edits).toEqual([]);
  });

  it('a Windows of unknown version', () => {
    const { version: _, ...windows } = server;
    expect(codes(plan({ windows }))).toEqual(['version-unknown']);
  });

  it('a dynamic disk, where Windows is on it', () => {
    const disks = [
      { name: 'sda', scheme: 'mbr', bootCode: { loader: 'windows' }, partitions: [{ number: 2, type: '42' }] },
    ];
    const inventory = { disks, efiLoaders: [] } as unknown as MachineInventory;
    const target = profile([AHCI], { firmware: 'bios' });
    expect(codes(plan({ inventory, profile: target }))).toEqual(['dynamic-disk']);
    expect(codes(plan({ inventory, profile: target, windows: { ...server, root: 'sdb1' } }))).toEqual([]);
  });

  it('an XP whose HAL is not for ACPI; one for a single processor is told', () => {
    const version: WindowsVersion = {
      major: 5,
      minor: 1,
      build: 2600,
      architecture: 'x86',
      productType: 'workstation',
    };
    const xp = (hal: string): WindowsInspection => ({
      ...server,
      version,
      deviceDatabase: 'critical-devices',
      hal: { hal, kernel: 'ntoskrnl.exe' },
    });
    expect(codes(plan({ windows: xp('halmps.dll') }))).toEqual(['hal-not-acpi']);
    expect(codes(plan({ windows: xp('halmacpi.dll') }))).toEqual([]);
    const single = plan({ windows: xp('halacpi.dll') });
    expect([codes(single), single.warnings.some((text) => text.includes('one processor'))]).toEqual([[], true]);
  });
});
