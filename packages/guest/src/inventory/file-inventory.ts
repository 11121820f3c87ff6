/**
 * What the files on a machine's volumes say: loaders on FAT, installed systems on ext, Windows on NTFS. A volume that cannot be read is a
 * sentence among the problems, and the rest goes on. XFS and btrfs are named, not read.
 */
import { openExt } from '@lifeboat/disk/files/ext';
import { openFat } from '@lifeboat/disk/files/fat';
import type { FileNode } from '@lifeboat/disk/files/file-node';
import { openNtfs } from '@lifeboat/disk/files/ntfs';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';
import { ImageTree } from '../access/image-tree.ts';
import type { Unpackers } from '../linux/compression.ts';
import { parseFstab, type FstabEntry } from '../linux/fstab.ts';
import { parseGrubConfig, type GrubEntry } from '../linux/grub.ts';
import { inspectInitrd, type InitrdInspection } from '../linux/initrd.ts';
import { findInitrd, findKernels } from '../linux/kernels.ts';
import { moduleNameOf } from '../linux/module-name.ts';
import { readNetworkFiles } from '../linux/network-names.ts';
import { parseOsRelease } from '../linux/os-release.ts';
import { parseCrypttab, parseMdadmConfig } from '../linux/volume-names.ts';
import { inspectWindows } from '../windows/inspect-windows.ts';
import type { WindowsInspection } from '../windows/windows-inspection.ts';
import { readEfiLoaders } from './efi-loaders.ts';
import type { InitrdInventory, KernelInventory, MachineInventory, SystemInventory } from './machine-inventory.ts';
import { mapperName, type Volume } from './compose-volumes.ts';

export interface FileSources {
  /** For initrds that Node cannot unpack. */
  readonly unpackers: Unpackers;
  /** The machine's inventory before: an initrd that was not written to since is not unpacked again. */
  readonly earlier?: MachineInventory;
}

interface Context extends FileSources {
  readonly problems: string[];
}

type FileInventory = Pick<MachineInventory, 'efiLoaders' | 'systems' | 'windows'>;

const EXT = new Set(['ext2', 'ext3', 'ext4']);
/** What may hold a root and is not read here. */
const OTHER_ROOTS = new Set(['xfs', 'btrfs']);
const MAX_SYSTEMS = 8;
/** The rest of a large file would keep the backup waiting. A Debian initrd with all drivers has 40 MB. */
const MAX_INITRD_BYTES = 128 * MiB;
/** A Debian initrd with all drivers unpacks to some 200 MB. */
const MAX_UNPACKED_BYTES = 384 * MiB;
/** The newest; of those before only the names are told. */
const MAX_UNPACKED_INITRDS = 3;
const MAX_COMMAND_LINES = 50;
const MAX_FSTAB_ENTRIES = 500;
const GRUB_CONFIGS = ['/boot/grub/grub.cfg', '/boot/grub2/grub.cfg'];
const MDADM_CONFIGS = ['/etc/mdadm/mdadm.conf', '/etc/mdadm.conf'];
const FURTHER_MOUNT_POINTS = ['/usr', '/boot'];
/** Where a kernel's tree keeps what disks hang on. */
const BOOT_DRIVERS =
  /^kernel\/drivers\/(?:ata|block|scsi|nvme|message|virtio|md|mmc|xen|hv|nvdimm|usb\/storage|pci\/controller|target|cdrom|bus|firewire)\//;

export async function inventoryOfFiles(
  volumes: readonly Volume[],
  context: Context,
  options: { signal?: AbortSignal },
): Promise<FileInventory> {
  const efiLoaders: FileInventory['efiLoaders'][number][] = [];
  const roots = new Map<Volume, FileNode>();
  const windows: WindowsInspection[] = [];
  for (const volume of volumes) {
    const { name, device, content } = volume;
    if (content.kind !== 'filesystem') continue;
    await orProblem(context, `The files on ${name} were not looked at`, async () => {
      if (content.type === 'vfat') {
        const found = await readEfiLoaders(await openFat(device, options));
        efiLoaders.push(...found.map((loader) => ({ ...loader, volume: name })));
      } else if (EXT.has(content.type)) roots.set(volume, await openExt(device, options));
      else if (content.type === 'ntfs') {
        const found = await inspectWindows(await openNtfs(device, options), name);
        if (found) windows.push(found);
      } else if (OTHER_ROOTS.has(content.type)) {
        context.problems.push(
          `The files on ${name} were not looked at: ${content.type} is not read without being mounted.`,
        );
      }
    });
  }
  const systems: SystemInventory[] = [];
  for (const [volume, root] of roots) {
    if (systems.length >= MAX_SYSTEMS) break;
    await orProblem(context, `The system on ${volume.name} was not looked at to the end`, async () => {
      if (await looksLikeRoot(new ImageTree(new Map([['/', root]]))))
        systems.push(await readSystem(volume, roots, context));
    });
  }
  return { efiLoaders, systems, ...(windows.length === 0 ? {} : { windows }) };
}

async function looksLikeRoot(tree: ImageTree): Promise<boolean> {
  const hasRelease = (await tree.isFile('/etc/os-release')) || (await tree.isFile('/usr/lib/os-release'));
  return hasRelease && (await tree.isDirectory('/etc'));
}

async function readSystem(
  volume: Volume,
  roots: ReadonlyMap<Volume, FileNode>,
  context: Context,
): Promise<SystemInventory> {
  const mounts = new Map<string, FileNode>([['/', roots.get(volume) as FileNode]]);
  const fstab = parseFstab((await new ImageTree(mounts).readText('/etc/fstab')) ?? '');
  for (const mountPoint of FURTHER_MOUNT_POINTS) {
    const entry = fstab.find((candidate) => candidate.mountPoint === mountPoint);
    const found = entry && [...roots].find(([candidate]) => isSource(entry, candidate));
    if (found) mounts.set(mountPoint, found[1]);
    else if (entry)
      context.problems.push(`${mountPoint} of the system on ${volume.name}, ${entry.source}, was not looked at.`);
  }
  const tree = new ImageTree(mounts);
  const read = async <T>(what: string, work: () => Promise<T>, otherwise: T): Promise<T> =>
    (await orProblem(context, `${what} of the system on ${volume.name} cannot be told`, work)) ?? otherwise;
  const text = async (paths: readonly string[]): Promise<string> => {
    for (const path of paths) if (await tree.isFile(path)) return (await tree.readText(path)) ?? '';
    return '';
  };
  return {
    root: volume.name,
    os: parseOsRelease(await text(['/etc/os-release', '/usr/lib/os-release'])),
    architecture: await read('The architecture', () => architectureOf(tree), ''),
    kernels: await read('The kernels', () => readKernels(tree, context), []),
    kernelCommandLines: await read('The kernel command line', async () => commandLines(await text(GRUB_CONFIGS)), []),
    fstab: fstab.slice(0, MAX_FSTAB_ENTRIES),
    crypttab: await read('crypttab', async () => parseCrypttab(await text(['/etc/crypttab'])), []),
    arrays: await read('mdadm.conf', async () => parseMdadmConfig(await text(MDADM_CONFIGS)), []),
    network: await read('The network configuration', () => readNetworkFiles(tree), []),
  };
}

/** Whether this volume is what the entry mounts. A name by controller and order says nothing here. */
function isSource(entry: FstabEntry, { name, content, partitionId }: Volume): boolean {
  if (content.kind !== 'filesystem') return false;
  const [, key, value] =
    /^(UUID|LABEL|PARTUUID)="?([^"]+)"?$/i.exec(entry.source) ??
    /^\/dev\/disk\/by-(uuid|label|partuuid)\/(.+)$/.exec(entry.source) ??
    [];
  switch (key?.toUpperCase()) {
    case 'UUID':
      return content.uuid.toLowerCase() === value?.toLowerCase();
    case 'LABEL':
      return content.label === value;
    case 'PARTUUID':
      return partitionId === value?.toLowerCase();
    default:
      return entry.source === `/dev/${name}` || entry.source === `/dev/mapper/${mapperName(name)}`;
  }
}

const ELF_MACHINES: Readonly<Record<number, string>> = {
  3: 'x86',
  40: 'arm',
  62: 'x86_64',
  183: 'aarch64',
  243: 'riscv64',
  21: 'ppc64',
  22: 's390x',
};

async function architectureOf(tree: ImageTree): Promise<string> {
  for (const path of ['/bin/sh', '/usr/bin/env', '/sbin/init']) {
    if (!(await tree.isFile(path))) continue;
    const header = (await tree.read(path, { maxBytes: 64 * MiB }))?.subarray(0, 20);
    if (header?.length !== 20 || header.toString('latin1', 0, 4) !== '\x7fELF') continue;
    const machine = header[5] === 2 ? header.readUInt16BE(18) : header.readUInt16LE(18);
    return ELF_MACHINES[machine] ?? `ELF machine ${machine}`;
  }
  return '';
}

function commandLines(text: string): GrubEntry[] {
  const seen = new Set<string>();
  const entries = parseGrubConfig(text).filter((entry) => {
    const key = JSON.stringify(entry);
    const isNew = !seen.has(key);
    seen.add(key);
    return isNew;
  });
  return entries.slice(0, MAX_COMMAND_LINES);
}

async function readKernels(tree: ImageTree, context: Context): Promise<KernelInventory[]> {
  const kernels: KernelInventory[] = [];
  let unpacked = 0;
  const newestFirst = (await findKernels(tree)).toSorted((a, b) =>
    b.version.localeCompare(a.version, 'en', { numeric: true }),
  );
  for (const kernel of newestFirst) {
    const problems: string[] = [];
    let initrd: InitrdInventory | undefined;
    const path = await findInitrd(tree, kernel.version);
    if (path === undefined) problems.push('it has no initrd');
    else {
      const stamp = (await tree.stamp(path)) ?? '';
      initrd = knownInitrd(context.earlier, path, stamp);
      if (!initrd && unpacked < MAX_UNPACKED_INITRDS) {
        unpacked += 1;
        initrd = await readInitrd(tree, { path, stamp, version: kernel.version }, problems, context);
      } else if (!initrd)
        problems.push(`its initrd ${path} was not looked at: there are ${newestFirst.length} kernels`);
    }
    kernels.push({ ...kernel, ...(initrd ? { initrd } : {}), problems });
  }
  return kernels;
}

function knownInitrd(earlier: MachineInventory | undefined, path: string, stamp: string): InitrdInventory | undefined {
  const before = earlier?.systems.flatMap(({ kernels }) => kernels.flatMap(({ initrd }) => initrd ?? [])) ?? [];
  return stamp === '' ? undefined : before.find((initrd) => initrd.path === path && initrd.stamp === stamp);
}

async function readInitrd(
  tree: ImageTree,
  at: { path: string; stamp: string; version: string },
  problems: string[],
  { unpackers }: Context,
): Promise<InitrdInventory | undefined> {
  const { path, stamp, version } = at;
  let inspected: InitrdInspection;
  try {
    const bytes = await tree.read(path, { maxBytes: MAX_INITRD_BYTES });
    if (!bytes) return undefined;
    inspected = await inspectInitrd(bytes, path, unpackers, { maxUnpackedBytes: MAX_UNPACKED_BYTES });
  } catch (error) {
    if (!isFinding(error)) throw error;
    problems.push(`its initrd cannot be read: ${messageOf(error)}`);
    return undefined;
  }
  if (inspected.problem !== undefined) problems.push(inspected.problem);
  const { sizeBytes, generator, foreignGenerator, archives, moduleFiles } = inspected;
  const drivers = (moduleFiles[version] ?? []).filter((file) => BOOT_DRIVERS.test(file)).map(moduleNameOf);
  return {
    path,
    sizeBytes,
    stamp,
    generator: foreignGenerator ?? generator,
    compression: archives.map(({ compression }) => compression),
    bootDrivers: [...new Set(drivers)].sort(),
  };
}

/** What the guest's bytes are to blame for is a sentence; what the device or the host is, an error. */
async function orProblem<T>(context: Context, what: string, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (!isFinding(error)) throw error;
    context.problems.push(`${what}: ${messageOf(error)}.`);
    return undefined;
  }
}

function isFinding(error: unknown): boolean {
  return error instanceof LifeboatError && (error.code.startsWith('guest.') || error.code.startsWith('host.tool-'));
}
