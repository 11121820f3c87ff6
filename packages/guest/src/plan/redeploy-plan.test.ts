import { describe, expect, it } from 'vitest';
import type { PartitionTable } from '@lifeboat/disk/partition-table';
import type { GuestInspection } from '../inspect/guest-inspection.ts';
import type { FstabEntry } from '../linux/fstab.ts';
import type { DeviceNameUse } from '../linux/device-names.ts';
import type { KernelInspection } from '../linux/kernels.ts';
import { parseModuleTables } from '../linux/module-tables.ts';
import type { HardwareProfile } from '../profile/hardware-profile.ts';
import { loadHardwareProfile } from '../profile/shipped-profiles.ts';
import { type PlannedEdit, planRedeploy } from './redeploy-plan.ts';
import { renderInjection, renderPlan } from './render-plan.ts';

const MiB = 1024 * 1024;
const nvme = await loadHardwareProfile('nvme');

const tables = parseModuleTables(
  {
    alias: 'alias pci:v*d*sv*sd*bc01sc08i02* nvme\nalias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\n',
    dep: 'kernel/nvme.ko: kernel/nvme-core.ko\nkernel/nvme-core.ko:\nkernel/e1000e.ko:\n',
    softdep: '',
    builtin: '',
    builtinModinfo: '',
  },
  'test',
);

function kernel(
  version: string,
  change: Partial<KernelInspection> = {},
  files: readonly string[] = [],
): KernelInspection {
  return {
    version,
    imagePath: `/boot/vmlinuz-${version}`,
    initrdPath: `/boot/initrd.img-${version}`,
    initrd: {
      sizeBytes: 30 * MiB,
      sha256: `hash of ${version}`,
      generator: 'initramfs-tools',
      archives: [],
      modulesRoot: 'usr/lib/modules',
      moduleFiles: { [version]: files },
    },
    modules: tables,
    renamedModules: [],
    problems: [],
    ...change,
  };
}

function guest(kernels: readonly KernelInspection[], change: Partial<GuestInspection> = {}): GuestInspection {
  const root = {
    disk: 'vda',
    partition: 1,
    offsetBytes: 0,
    lengthBytes: 1,
    type: 'ext4',
    uuid: 'u',
    label: '',
    partitionUuid: '',
  };
  const space = { freeBytes: 500 * MiB, freeInodes: 1000, totalInodes: 2000, sizeBytes: 1000 * MiB };
  return {
    formatVersion: 1,
    disks: [],
    volumes: [],
    os: { id: 'debian', versionId: '12', prettyName: 'Debian 12' },
    root,
    mounts: [],
    kernels,
    bootLoader: { firmware: ['bios'], grubEntries: [], efiFiles: [] },
    fstab: [],
    unstableNames: [],
    networkAddresses: [],
    arrayNames: [],
    identityFiles: [],
    initramfsModules: { path: '/etc/initramfs-tools/modules', modules: [] },
    blacklistedModules: [],
    space: [
      { path: '/', ...space },
      { path: '/boot', ...space },
    ],
    ...change,
  };
}

const codes = (inspection: GuestInspection, profile: HardwareProfile = nvme) =>
  planRedeploy(inspection, profile).refusals.map((refusal) => refusal.code);

describe('planRedeploy', () => {
  it('plans for every kernel what its initrd lacks, and what later ones shall hold', () => {
    const plan = planRedeploy(guest([kernel('1'), kernel('2', {}, ['kernel/nvme-core.ko'])]), nvme);
    expect(plan.edits).toEqual([
      {
        kind: 'append-drivers',
        path: '/boot/initrd.img-1',
        why: 'QEMU NVM Express controller [1b36:0010] needs nvme',
        kernelVersion: '1',
        moduleFiles: ['kernel/nvme-core.ko', 'kernel/nvme.ko', 'kernel/e1000e.ko'],
        modules: ['nvme_core', 'nvme', 'e1000e'],
        initrdSha256: 'hash of 1',
        modulesRoot: 'usr/lib/modules',
        presentModules: [],
      },
      expect.objectContaining({ kernelVersion: '2', modules: ['nvme', 'e1000e'], presentModules: ['nvme_core'] }),
      expect.objectContaining({ kind: 'keep-drivers', modules: ['nvme', 'e1000e'] }),
    ]);
    expect(plan.refusals).toEqual([]);
    expect(plan.warnings).toEqual([]);
  });

  it('mounts an EFI system partition that the machine never had, where a UEFI machine takes it over', async () => {
    const esp = { ...guest([]).root, partition: 3, type: 'vfat', uuid: 'ABCD-1234' };
    const table = {
      scheme: 'gpt',
      partitions: [{ number: 3, type: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b' }],
    } as unknown as PartitionTable;
    const disk = { name: 'vda', sizeBytes: 1, table, mbrLoader: 'grub', filesystems: [esp] } as const;
    const disks = [disk];
    const root = { source: 'UUID=u', mountPoint: '/', type: 'ext4', options: [] } as unknown as FstabEntry;
    const bootLoader = { firmware: ['bios', 'uefi'], grubEntries: [], efiFiles: ['/EFI/BOOT/BOOTX64.EFI'] } as const;
    const mounts = (change: Partial<GuestInspection>, profile: HardwareProfile): readonly PlannedEdit[] =>
      planRedeploy(guest([kernel('1')], { disks, bootLoader, fstab: [root], ...change }), profile).edits.filter(
        ({ kind }) => kind === 'add-mount',
      );
    const uefi = await loadHardwareProfile('nvme-uefi');
    expect(mounts({}, uefi)).toEqual([
      expect.objectContaining({ path: '/etc/fstab', line: 'UUID=ABCD-1234 /boot/efi vfat umask=0077,nofail 0 1' }),
    ]);
    expect(mounts({}, nvme)).toEqual([]);
    expect(mounts({ fstab: [root, { ...root, mountPoint: '/boot/efi' }] }, uefi)).toEqual([]);
    expect(mounts({ disks: [{ ...disk, filesystems: [esp, esp] }] }, uefi)).toEqual([]);
  });

  it('is the same for the same input, and for its JSON', () => {
    const inspection = guest([kernel('1')]);
    expect(planRedeploy(JSON.parse(JSON.stringify(inspection)) as GuestInspection, nvme)).toEqual(
      planRedeploy(inspection, nvme),
    );
  });

  it('changes nothing where every driver is there, or in the kernel', () => {
    const all = ['kernel/nvme.ko', 'kernel/nvme-core.ko', 'kernel/e1000e.ko'];
    expect(planRedeploy(guest([kernel('1', {}, all)]), nvme)).toMatchObject({ edits: [], refusals: [] });
    const builtin = parseModuleTables(
      { alias: 'alias pci:* nvme\n', dep: '', softdep: '', builtin: 'kernel/nvme.ko\n', builtinModinfo: '' },
      'test',
    );
    // Then it needs no initrd either.
    const { initrd: _, initrdPath: __, ...bare } = kernel('1', { modules: builtin });
    const plan = planRedeploy(guest([bare]), nvme);
    expect(plan).toMatchObject({ edits: [], refusals: [] });
    expect(renderPlan(plan).at(-1)).toBe('nothing to change: every driver is already there');
  });

  it('refuses for the kernel GRUB starts, and only warns for the others', () => {
    const remnant = kernel('0', { problems: [] });
    const { modules: _, ...broken } = remnant;
    const boots = (entry: string) =>
      ({
        bootLoader: {
          firmware: ['bios'],
          grubEntries: [{ kernel: entry, root: undefined, arguments: [] }],
          efiFiles: [],
        },
      }) as const;
    const good = planRedeploy(guest([broken, kernel('1')], boots('/boot/vmlinuz-1')), nvme);
    expect(good.refusals).toEqual([]);
    expect(good.edits).toHaveLength(2);
    expect(good.warnings).toEqual([
      'Kernel 0 will not start there: The modules of kernel 0 cannot be used: there is no /lib/modules/0 with its index.',
    ]);
    expect(codes(guest([broken, kernel('1')], boots('/vmlinuz-0')))).toEqual(['no-modules']);
    // Not told which: then all have to start.
    expect(codes(guest([broken, kernel('1')]))).toEqual(['no-modules']);
  });

  it('a missing network driver is a warning: the machine starts', () => {
    const plan = planRedeploy(guest([kernel('1')]), {
      ...nvme,
      pciDevices: nvme.pciDevices.map((device) => (device.role === 'network' ? { ...device, device: 0xdead } : device)),
    });
    expect(plan.refusals).toEqual([]);
    expect(plan.warnings[0]).toContain('no driver for the network device Intel 82574L Gigabit [8086:dead]');
  });

  it('names the ids it looked for when the boot controller has no driver', () => {
    const plan = planRedeploy(guest([kernel('1', { modules: { ...tables, aliases: [] } })]), nvme);
    expect(plan.refusals[0]?.text).toContain('pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02');
    expect(plan.edits).toEqual([]);
    expect(renderPlan(plan).at(-1)).toMatch(/^refused \(no-boot-driver\): Kernel 1 has no driver/);
  });

  const { initrd: noInitrd, ...withoutInitrd } = kernel('1');
  it.each([
    ['no-kernel', guest([])],
    ['no-initrd', guest([withoutInitrd])],
    [
      'initrd-unreadable',
      guest([kernel('1', { initrd: { ...(noInitrd as NonNullable<typeof noInitrd>), problem: 'cut off' } })]),
    ],
    ['initrd-modules-renamed', guest([kernel('1', { renamedModules: ['ahci'] })])],
    [
      'module-dependency-missing',
      guest([
        kernel('1', {
          modules: {
            ...tables,
            modules: {
              nvme: { path: 'n.ko', dependencies: ['gone'], softDependencies: [] },
              e1000e: { path: 'e.ko', dependencies: [], softDependencies: [] },
            },
          },
        }),
      ]),
    ],
    ['firmware-change', guest([kernel('1')], { bootLoader: { firmware: ['uefi'], grubEntries: [], efiFiles: [] } })],
    ['boot-driver-blacklisted', guest([kernel('1')], { blacklistedModules: ['nvme'] })],
  ] as const)('refuses by name: %s', (code, inspection) => {
    expect(codes(inspection)).toEqual([code]);
    expect(planRedeploy(inspection, nvme).edits).toEqual([]);
  });

  it('needs space for a copy of the largest initrd, and inodes', () => {
    const full = (path: '/' | '/boot', change: object) => {
      const whole = guest([kernel('1')]);
      return codes({
        ...whole,
        space: whole.space.map((entry) => (entry.path === path ? { ...entry, ...change } : entry)),
      });
    };
    expect(full('/', { freeBytes: 100 * MiB })).toEqual([]);
    expect(full('/', { freeBytes: 100 * MiB - 1 })).toEqual(['no-space']);
    expect(full('/boot', { freeBytes: 50 * MiB })).toEqual([]);
    expect(full('/boot', { freeBytes: 50 * MiB - 1 })).toEqual(['no-space']);
    expect(full('/boot', { freeInodes: 99 })).toEqual(['no-space']);
    expect(full('/boot', { freeInodes: 0, totalInodes: 0 })).toEqual([]);
    const two = guest([kernel('1'), kernel('2')]);
    const short = two.space.map((entry) => ({
      ...entry,
      freeBytes: entry.path === '/' ? entry.freeBytes : 62 * MiB - 1,
    }));
    expect(codes({ ...two, space: short })).toEqual(['no-space']);
  });

  it('gives disks names that stay, and weighs those it cannot tell by what depends on them', () => {
    const named = (name: string, change: Partial<DeviceNameUse> = {}) =>
      guest([kernel('1')], {
        root: { ...guest([]).root, uuid: 'root-uuid' },
        unstableNames: [{ path: '/etc/fstab', line: 3, name, purpose: 'mount', optional: false, ...change }],
      });
    const plan = planRedeploy(named('/dev/sda1', { mountPoint: '/' }), nvme);
    expect(plan.edits.at(-1)).toEqual({
      kind: 'rename-disks',
      path: '/etc/fstab',
      why: "on 'nvme' disks are /dev/nvme*",
      names: [{ line: 3, from: '/dev/sda1', to: 'UUID=root-uuid' }],
    });
    expect(renderPlan(plan)).toContain('edit /etc/fstab: /dev/sda1 becomes UUID=root-uuid');
    expect(codes(named('/dev/sda2', { mountPoint: '/srv' }))).toEqual(['unstable-device-name']);
    expect(codes(named('/dev/sda2', { purpose: 'unlock' }))).toEqual(['unstable-device-name']);
    for (const harmless of [
      named('/dev/nvme0n1p1', { mountPoint: '/srv' }),
      named('/dev/sda2', { mountPoint: 'none', optional: true }),
    ]) {
      const { refusals, warnings } = planRedeploy(harmless, nvme);
      expect(refusals).toEqual([]);
      expect(warnings[0]).toContain('Better use UUID=');
    }
  });

  it('names the root by its partition where a kernel has no initrd to look for a filesystem', () => {
    const builtin = parseModuleTables(
      { alias: 'alias pci:* nvme\n', dep: '', softdep: '', builtin: 'kernel/nvme.ko\n', builtinModinfo: '' },
      'test',
    );
    const { initrd: _, initrdPath: __, ...bare } = kernel('1', { modules: builtin });
    const plan = planRedeploy(
      guest([bare], {
        root: { ...guest([]).root, uuid: 'root-uuid', partitionUuid: 'abcd1234-01' },
        unstableNames: [{ path: '/boot/grub/grub.cfg', line: 1, name: '/dev/sda1', purpose: 'root', optional: false }],
      }),
      nvme,
    );
    expect(plan.edits).toMatchObject([{ names: [{ to: 'PARTUUID=abcd1234-01' }] }]);
  });

  it('tells dracut of the drivers, too, and takes away the list of devices that LVM would wait for', () => {
    const { initramfsModules: _, ...whole } = guest([kernel('1')]);
    const byDracut = { ...whole, dracutDrivers: ['nvme'], lvmDevicesFile: '/etc/lvm/devices/system.devices' };
    expect(planRedeploy(byDracut, nvme).edits.slice(1)).toMatchObject([
      { kind: 'keep-drivers', path: '/etc/dracut.conf.d/90-lifeboat.conf', modules: ['nvme', 'e1000e'] },
      { kind: 'remove-file', path: '/etc/lvm/devices/system.devices' },
    ]);
    expect(planRedeploy({ ...whole, dracutDrivers: ['nvme', 'e1000e'] }, nvme).edits).toHaveLength(1);
  });

  it('lets mdadm look for arrays by UUID, and says what it cannot tell', () => {
    const line = { path: '/etc/mdadm/mdadm.conf', from: 'devices=/dev/sda1' };
    const arrayNames = [
      { ...line, line: 1, to: 'UUID=x' },
      { ...line, line: 2 },
    ];
    const plan = planRedeploy(guest([kernel('6.1')], { arrayNames }), nvme);
    expect(plan.edits).toContainEqual(
      expect.objectContaining({
        kind: 'rename-disks',
        path: '/etc/mdadm/mdadm.conf',
        names: [{ line: 1, from: 'devices=/dev/sda1', to: 'UUID=x' }],
      }),
    );
    expect(plan.warnings.join(' ')).toMatch(/rebuild it.*line 2 looks for an array by devices/);
  });

  it('refuses to edit a logical volume past LVM while a snapshot of it is there', () => {
    const volume = { kind: 'logical-volume', group: 'vg0', volume: 'root', name: 'vg0/root' } as const;
    const on = (isOrigin: boolean) => ({ root: { ...guest([]).root, volume: { ...volume, isOrigin } } });
    expect(planRedeploy(guest([kernel('6.1')], on(true)), nvme).refusals).toMatchObject([
      { code: 'volume-has-snapshot', text: expect.stringContaining('vg0/root') as string },
    ]);
    expect(planRedeploy(guest([kernel('6.1')], on(false)), nvme).refusals).toEqual([]);
  });
});

it('what was installed is told per kernel', () => {
  const kernels = [
    { version: '1', initrdPath: '/boot/i', modules: ['a', 'b'], addedModules: ['b'], addedBytes: 2 * MiB },
  ];
  expect(renderInjection({ kernels, edits: [], durationMs: 1, journalDirectory: '/x' })).toEqual([
    'kernel 1: 1 modules added (b), 2 in the initrd now, 2.00 MiB',
  ]);
});
