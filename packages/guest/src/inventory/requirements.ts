/** What another machine, a physical one at that, must have to take a machine over as it is: a pure function of its inventory. */
import { formatBytes, MiB } from '@lifeboat/foundation/units';
import type { VolumeContent } from '@lifeboat/disk/volume-content';
import { isUnstableDeviceName } from '../linux/fstab.ts';
import type { DiskInventory, MachineInventory, SystemInventory } from './machine-inventory.ts';

export interface MachineRequirements {
  /** Firmware its boot chain starts by, either where there are two; empty: nothing on its disks starts. */
  readonly firmware: readonly ('bios' | 'uefi')[];
  /** As far as programs on it tell. */
  readonly architectures: readonly string[];
  readonly memoryMiB?: number;
  readonly vcpus?: number;
  /** In their order; the first is the one it starts from. At least as large, with logical sectors of this size. */
  readonly disks: readonly { readonly name: string; readonly sizeBytes: number; readonly sectorBytes: number }[];
  readonly nics: number;
  /** What a person has to see to, a sentence each. */
  readonly notes: readonly string[];
}

export function requirementsOf(inventory: MachineInventory): MachineRequirements {
  const { hardware, disks, systems, efiLoaders } = inventory;
  const bios = disks.some(startsByBios);
  const uefi = efiLoaders.some(({ kind }) => kind !== 'unreadable');
  return {
    firmware: [...(bios ? (['bios'] as const) : []), ...(uefi ? (['uefi'] as const) : [])],
    architectures: [...new Set(systems.map(({ architecture }) => architecture).filter((name) => name !== ''))],
    ...(hardware ? { memoryMiB: hardware.memoryMiB, vcpus: hardware.vcpus } : {}),
    disks: disks.map(({ name, sizeBytes, sectorBytes }) => ({ name, sizeBytes, sectorBytes })),
    nics: hardware?.nics.length ?? 0,
    notes: [
      ...(hardware?.secureBoot && !efiLoaders.some(({ kind }) => kind === 'shim' || kind === 'windows')
        ? ['It had Secure Boot, but no loader that is signed for keys other machines have was recognised.']
        : []),
      ...contentsOf(inventory).flatMap(([name, content]) => keyNotes(name, content)),
      ...disks.flatMap(alignmentNotes),
      ...systems.flatMap(nameNotes),
    ],
  };
}

export function renderRequirements(needs: MachineRequirements): string[] {
  const { firmware, architectures, memoryMiB, vcpus, disks, nics, notes } = needs;
  const names = { bios: 'BIOS', uefi: 'UEFI' };
  const facts = [
    firmware.length === 0
      ? 'nothing on its disks that firmware starts'
      : firmware.map((kind) => names[kind]).join(' or '),
    ...architectures,
    ...(vcpus === undefined ? [] : [`${vcpus} ${vcpus === 1 ? 'core' : 'cores'}`]),
    ...(memoryMiB === undefined ? [] : [`${formatBytes(memoryMiB * MiB)} of memory`]),
    `${nics} network ${nics === 1 ? 'card' : 'cards'}`,
  ];
  return [
    `Elsewhere ${facts.join(', ')}`,
    ...disks.map(
      ({ name, sizeBytes, sectorBytes }) =>
        `  for ${name} a disk of ${formatBytes(sizeBytes)} with sectors of ${sectorBytes} B`,
    ),
    ...notes.map((note) => `  ${note}`),
  ];
}

/** A boot sector whose loader is not there any more starts nothing. */
function startsByBios({ bootCode }: DiskInventory): boolean {
  return bootCode.loader !== 'none' && bootCode.grubCore?.place !== 'unusable';
}

function contentsOf({ disks, volumes }: MachineInventory): (readonly [name: string, content: VolumeContent])[] {
  return [
    ...disks.flatMap((disk) => [
      ...(disk.content ? [[disk.name, disk.content] as const] : []),
      ...disk.partitions.flatMap(({ number, content }) =>
        content ? [[`${disk.name} partition ${number}`, content] as const] : [],
      ),
    ]),
    ...volumes.flatMap(({ name, content }) => (content ? [[name, content] as const] : [])),
  ];
}

function keyNotes(name: string, content: VolumeContent): string[] {
  if (content.kind !== 'encryption') return [];
  const isBitLocker = content.type === 'BitLocker';
  const what = isBitLocker ? 'BitLocker' : `LUKS ${content.version}`;
  // Sealed to a chip that stays behind.
  const bound = isBitLocker || content.tokens.some((token) => /tpm/i.test(token));
  return [
    `${name} is encrypted by ${what}: have its ${bound ? 'recovery key' : 'passphrase'} at hand${bound ? ', a TPM does not move along' : ''}.`,
  ];
}

function alignmentNotes({ name, partitions }: DiskInventory): string[] {
  return partitions
    .filter(({ role, alignmentBytes }) => role !== 'extended' && alignmentBytes < 4096)
    .map(
      ({ number, alignmentBytes }) =>
        `${name} partition ${number} is aligned to ${alignmentBytes} B: slow on SSDs, and no disk with sectors of 4096 B takes it.`,
    );
}

function nameNotes({ root, fstab, crypttab, kernelCommandLines, network }: SystemInventory): string[] {
  const names = new Set(
    [
      ...fstab.map(({ source }) => source),
      ...crypttab.map(({ source }) => source),
      ...kernelCommandLines.flatMap((line) => line.root ?? []),
    ].filter(isUnstableDeviceName),
  );
  return [
    ...[...names].map((name) => `The system on ${root} looks for ${name}, which other controllers call otherwise.`),
    ...network.flatMap(({ path, macs }) => macs.map((mac) => `${path} on ${root} is for the network card ${mac}.`)),
  ];
}
