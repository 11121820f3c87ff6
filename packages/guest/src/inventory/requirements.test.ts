import { GiB } from '@lifeboat/foundation/units';
import { describe, expect, it } from 'vitest';
import type { DiskInventory, MachineInventory, PartitionInventory, SystemInventory } from './machine-inventory.ts';
import { renderRequirements, requirementsOf } from './requirements.ts';

const disk: DiskInventory = {
  name: 'vda',
  sizeBytes: 3 * GiB,
  scheme: 'gpt',
  sectorBytes: 512,
  diskId: '',
  tableProblems: [],
  bootCode: { loader: 'grub', grubCore: { offsetBytes: 512, lengthBytes: 512, place: 'gap' } },
  partitions: [],
};
const partition: PartitionInventory = {
  number: 1,
  startBytes: 32_256,
  lengthBytes: GiB,
  alignmentBytes: 512,
  type: '0x83',
  role: 'primary',
  partitionId: '',
  name: '',
  bootable: false,
};
const system: SystemInventory = {
  root: 'vda1',
  os: { id: 'debian', versionId: '12', prettyName: 'Debian' },
  architecture: 'x86_64',
  kernels: [],
  kernelCommandLines: [],
  fstab: [],
  crypttab: [],
  arrays: [],
  network: [],
};
const inventory: MachineInventory = {
  version: 1,
  takenAtMs: 0,
  hardware: { firmware: 'bios', memoryMiB: 512, vcpus: 2, nics: [{ mac: '52:54:00:00:00:01', model: 'virtio' }] },
  disks: [disk],
  volumes: [],
  efiLoaders: [],
  systems: [system],
  problems: [],
};
const loader = { volume: 'vda1', path: '/EFI/BOOT/BOOTX64.EFI', architecture: 'x86_64', version: '' } as const;
const luks = {
  kind: 'encryption',
  type: 'crypto_LUKS',
  version: '2',
  uuid: '',
  label: '',
  cipher: '',
  keySlots: 1,
  tokens: [],
  problems: [],
} as const;

describe('what another machine must have', () => {
  it.each([
    ['GRUB in the boot sector', {}, ['bios']],
    [
      'a GRUB whose core is gone',
      {
        disks: [
          { ...disk, bootCode: { loader: 'grub', grubCore: { offsetBytes: 0, lengthBytes: 0, place: 'unusable' } } },
        ],
      },
      [],
    ],
    [
      'a loader for UEFI',
      { disks: [{ ...disk, bootCode: { loader: 'none' } }], efiLoaders: [{ ...loader, kind: 'grub' }] },
      ['uefi'],
    ],
    ['both', { efiLoaders: [{ ...loader, kind: 'foreign' }] }, ['bios', 'uefi']],
    [
      'a file that is no program',
      { disks: [{ ...disk, bootCode: { loader: 'none' } }], efiLoaders: [{ ...loader, kind: 'unreadable' }] },
      [],
    ],
  ] as const)('firmware: %s', (_, change, firmware) => {
    expect(requirementsOf({ ...inventory, ...change }).firmware).toEqual(firmware);
  });

  it.each([
    [
      'a passphrase',
      { disks: [{ ...disk, partitions: [{ ...partition, alignmentBytes: 4096, content: luks }] }] },
      'vda partition 1 is encrypted by LUKS 2: have its passphrase at hand.',
    ],
    [
      'a recovery key, for a TPM',
      { disks: [{ ...disk, content: { ...luks, tokens: ['systemd-tpm2'] } }] },
      'vda is encrypted by LUKS 2: have its recovery key at hand, a TPM does not move along.',
    ],
    [
      'a recovery key, of BitLocker',
      { disks: [{ ...disk, content: { ...luks, type: 'BitLocker', version: '' } }] },
      'vda is encrypted by BitLocker: have its recovery key at hand, a TPM does not move along.',
    ],
    [
      'a passphrase for a logical volume',
      {
        volumes: [{ name: 'vg0/home', kind: 'logical-volume', sizeBytes: 1, layout: 'linear', on: [], content: luks }],
      },
      'vg0/home is encrypted by LUKS 2: have its passphrase at hand.',
    ],
    [
      'an eye on alignment',
      { disks: [{ ...disk, partitions: [partition] }] },
      'vda partition 1 is aligned to 512 B: slow on SSDs, and no disk with sectors of 4096 B takes it.',
    ],
    [
      'other names',
      {
        systems: [
          {
            ...system,
            fstab: [{ line: 1, source: '/dev/sda1', mountPoint: '/', type: 'ext4', options: [] }],
            kernelCommandLines: [{ kernel: '/vmlinuz', root: '/dev/sda1', arguments: [] }],
          },
        ],
      },
      'The system on vda1 looks for /dev/sda1, which other controllers call otherwise.',
    ],
    [
      'another card',
      {
        systems: [
          {
            ...system,
            network: [{ path: '/etc/netplan/a.yaml', kind: 'netplan', macs: ['52:54:00:00:00:01'], interfaces: [] }],
          },
        ],
      },
      '/etc/netplan/a.yaml on vda1 is for the network card 52:54:00:00:00:01.',
    ],
    [
      'keys',
      {
        hardware: { firmware: 'uefi', secureBoot: true, memoryMiB: 1, vcpus: 1, nics: [] },
        efiLoaders: [{ ...loader, kind: 'grub' }],
      },
      'It had Secure Boot, but no loader that is signed for keys other machines have was recognised.',
    ],
  ] as const)('a person sees to %s', (_, change, note) => {
    expect(requirementsOf({ ...inventory, ...change }).notes).toEqual([note]);
  });

  it('nothing more than what it had', () => {
    expect(
      requirementsOf({
        ...inventory,
        hardware: { firmware: 'uefi', secureBoot: true, memoryMiB: 1, vcpus: 1, nics: [] },
        efiLoaders: [{ ...loader, kind: 'shim' }],
      }).notes,
    ).toEqual([]);
    expect(renderRequirements(requirementsOf(inventory))).toEqual([
      'Elsewhere BIOS, x86_64, 2 cores, 512 MiB of memory, 1 network card',
      '  for vda a disk of 3.00 GiB with sectors of 512 B',
    ]);
  });
});
