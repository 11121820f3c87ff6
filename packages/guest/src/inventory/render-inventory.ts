/** An inventory as a person reads it, a line each, indented by what belongs to what. */
import type { VolumeContent } from '@lifeboat/disk/volume-content';
import { formatBytes, MiB } from '@lifeboat/foundation/units';
import { isUnstableDeviceName } from '../linux/fstab.ts';
import { windowsLines } from '../windows/render-windows.ts';
import type { EfiLoaderKind } from './efi-loaders.ts';
import { typeName } from './partition-type-names.ts';
import type {
  BootCode,
  DiskInventory,
  KernelInventory,
  MachineInventory,
  PartitionInventory,
  SystemInventory,
  VolumeInventory,
} from './machine-inventory.ts';

export function renderInventory(inventory: MachineInventory): string[] {
  const { hardware, disks, volumes, efiLoaders, systems, windows = [], problems } = inventory;
  return [
    ...(hardware
      ? [
          `Firmware  ${hardware.firmware === 'uefi' ? 'UEFI' : 'BIOS'}${hardware.secureBoot ? ' with Secure Boot' : ''}${hardware.tpm === undefined ? '' : `, TPM ${hardware.tpm}`}`,
          `Machine   ${hardware.vcpus} vCPU, ${formatBytes(hardware.memoryMiB * MiB)} of memory${hardware.machineType === undefined ? '' : `, ${hardware.machineType}`}`,
          ...hardware.nics.map(
            ({ mac, model, network }) => `Network   ${mac} ${model}${network === undefined ? '' : ` on ${network}`}`,
          ),
        ]
      : []),
    ...disks.flatMap(diskLines),
    ...volumes.map(volumeLine),
    ...efiLoaders.map(loaderLine),
    ...systems.flatMap(systemLines),
    ...windows.flatMap(windowsLines),
    ...problems.map((problem) => `Note      ${problem}`),
  ];
}

function diskLines(disk: DiskInventory): string[] {
  const { name, sizeBytes, controller, serial, scheme, diskId, protectiveMbr, tableProblems, partitions, content } =
    disk;
  const table = scheme === 'none' ? 'no partition table' : `${scheme.toUpperCase()} ${diskId}`;
  const facts = [
    formatBytes(sizeBytes),
    ...(controller === undefined ? [] : [`on ${controller}`]),
    ...(serial === undefined ? [] : [`serial ${serial}`]),
    table,
    ...(protectiveMbr === undefined || protectiveMbr === 'protective' ? [] : [`${protectiveMbr} MBR`]),
  ];
  return [
    `Disk      ${name}: ${facts.join(', ')}`,
    ...(content ? [`  ${contentText(content)}`] : []),
    ...(scheme === 'none' ? [] : [`  boot code: ${bootCodeText(disk.bootCode)}`]),
    ...partitions.map((partition) => `  ${partitionText(partition)}`),
    ...tableProblems.map((problem) => `  problem: ${problem}`),
  ];
}

function bootCodeText({ loader, sha256, grubCore }: BootCode): string {
  switch (loader) {
    case 'none':
      return 'none';
    case 'grub':
      if (!grubCore) return 'GRUB';
      return grubCore.place === 'unusable'
        ? `GRUB, whose core is not at byte ${grubCore.offsetBytes} where it is looked for`
        : `GRUB, core of ${formatBytes(grubCore.lengthBytes)} in ${CORE_PLACES[grubCore.place]}`;
    case 'windows':
      return 'Windows';
    case 'syslinux':
      return 'Syslinux';
    default:
      return `foreign, SHA-256 ${sha256?.slice(0, 16)}`;
  }
}

const CORE_PLACES = {
  gap: 'the gap before the first partition',
  'bios-boot-partition': 'the BIOS boot partition',
  partition: 'a partition',
} as const;

function partitionText(partition: PartitionInventory): string {
  const { number, lengthBytes, type, role, name, bootable, alignmentBytes, content } = partition;
  const facts = [
    `${typeName(type)}${name === '' ? '' : ` '${name}'`}`,
    ...(role === 'logical' || role === 'extended' ? [role] : []),
    ...(bootable ? ['bootable'] : []),
    ...(alignmentBytes < MiB ? [`aligned to ${formatBytes(alignmentBytes)} only`] : []),
    ...(content ? [contentText(content)] : []),
  ];
  return `${number}: ${formatBytes(lengthBytes)}, ${facts.join(', ')}`;
}

function volumeLine({ name, kind, sizeBytes, layout, on, members, content }: VolumeInventory): string {
  const what = kind === 'array' ? 'Array     ' : 'Volume    ';
  const facts = [
    formatBytes(sizeBytes),
    `${layout}${on.length === 0 ? '' : ` on ${on.join(', ')}`}`,
    ...(members && members.found < members.wanted ? [`${members.found} of ${members.wanted} members are here`] : []),
    content ? contentText(content) : 'content not looked at',
  ];
  return `${what}${name}: ${facts.join(', ')}`;
}

const LOADERS: Readonly<Record<EfiLoaderKind, string>> = {
  shim: 'shim',
  'mok-manager': 'the key manager of shim',
  fallback: 'the fallback of shim',
  grub: 'GRUB',
  'systemd-boot': 'systemd-boot',
  'unified-kernel': 'unified kernel image',
  windows: 'Windows boot manager',
  foreign: 'foreign',
  unreadable: 'no program',
};

function loaderLine({
  volume,
  path,
  kind,
  version,
  architecture,
  sha256,
}: MachineInventory['efiLoaders'][number]): string {
  const facts = [
    `${LOADERS[kind]}${version === '' ? '' : ` ${version}`}`,
    ...(architecture === '' ? [] : [architecture]),
    ...(sha256 === undefined ? [] : [`SHA-256 ${sha256.slice(0, 16)}`]),
  ];
  return `Loader    ${volume} ${path}: ${facts.join(', ')}`;
}

function systemLines(system: SystemInventory): string[] {
  const { root, os, architecture, kernels, kernelCommandLines, fstab, crypttab, arrays, network } = system;
  const roots = new Set(kernelCommandLines.flatMap((entry) => entry.root ?? []));
  return [
    `System    ${os.prettyName}${architecture === '' ? '' : `, ${architecture}`}, root on ${root}`,
    ...kernels.flatMap(kernelLines),
    ...[...roots].map((name) => `  boots with root=${name}${note(name)}`),
    ...fstab.map(({ source, mountPoint, type }) => `  mounts ${source} at ${mountPoint} (${type})${note(source)}`),
    ...crypttab.map(({ name, source, keyFile }) => `  opens ${source} as ${name}, key ${keyFile}${note(source)}`),
    ...arrays.map(({ device, uuid, name }) => `  assembles ${device} from ${uuid || name || 'what it finds'}`),
    ...network.map(({ path, interfaces, macs }) => `  network ${path}: ${[...interfaces, ...macs].join(', ')}`),
  ];
}

/** What will not be found on other hardware. */
function note(name: string): string {
  return isUnstableDeviceName(name) ? ', a name that other hardware changes' : '';
}

function kernelLines({ version, initrd, problems }: KernelInventory): string[] {
  const drivers = initrd?.bootDrivers.join(', ') || 'no disk drivers';
  const text = initrd ? `initrd by ${initrd.generator} (${initrd.compression.join('+')}) with ${drivers}` : '';
  return [`  kernel ${version}${text === '' ? '' : `: ${text}`}`, ...problems.map((problem) => `    ${problem}`)];
}

function contentText(content: VolumeContent): string {
  switch (content.kind) {
    case 'empty':
      return 'empty';
    case 'unknown':
      return 'content not recognised';
    case 'filesystem':
      return [withLabel(content.type, content.label), ...content.notes].join('; ');
    case 'encryption': {
      const { type, version, cipher, keySlots, tokens, problems, label } = content;
      const name = type === 'BitLocker' ? 'encrypted by BitLocker' : `encrypted by LUKS ${version}`;
      const keys =
        type === 'BitLocker'
          ? ''
          : ` (${cipher}, ${keySlots} key ${keySlots === 1 ? 'slot' : 'slots'}${tokens.map((token) => `, ${token}`).join('')})`;
      return [withLabel(`${name}${keys}`, label), ...problems].join('; ');
    }
    case 'physical-volume':
      return [content.group ? `LVM of group ${content.group.name}` : 'LVM of no group', ...content.problems].join('; ');
    default: {
      const { level, label, uuid, role } = content;
      return `${typeof role === 'number' ? `member ${role}` : `${role} member`} of ${level} ${label === '' ? uuid : label}`;
    }
  }
}

function withLabel(text: string, label: string): string {
  return label === '' ? text : `${text} '${label}'`;
}
