/** Reads a mounted guest into a `GuestInspection`. Reads only; nothing of the guest's is run. */
import type { GuestTree } from '../access/guest-tree.ts';
import { namesInMdadmConfig, type ArrayNameUse } from '../linux/array-names.ts';
import type { Unpackers } from '../linux/compression.ts';
import { namesInArguments, namesInCrypttab, namesInFstab, type DeviceNameUse } from '../linux/device-names.ts';
import { parseFstab } from '../linux/fstab.ts';
import { parseGrubConfig, type GrubEntry } from '../linux/grub.ts';
import { readIdentityFiles } from '../linux/identity.ts';
import { inspectKernels } from '../linux/kernels.ts';
import { normalModuleName } from '../linux/module-name.ts';
import { readAddressUses } from '../linux/network-addresses.ts';
import { parseOsRelease } from '../linux/os-release.ts';
import type { DiskInspection, FilesystemInspection, GuestInspection, SpaceInspection } from './guest-inspection.ts';

/** What is known of the disks before anything is mounted. */
export interface MountedDisks {
  readonly disks: readonly DiskInspection[];
  readonly volumes: readonly FilesystemInspection[];
  readonly root: FilesystemInspection;
  readonly mounts: GuestInspection['mounts'];
  /** Loaders on EFI system partitions, as `/EFI/BOOT/BOOTX64.EFI`. */
  readonly efiFiles: readonly string[];
}

const INITRAMFS_MODULES = '/etc/initramfs-tools/modules';
const DRACUT_CONFIGS = ['/etc/dracut.conf.d', '/usr/lib/dracut/dracut.conf.d'];
const LVM_DEVICES = '/etc/lvm/devices/system.devices';
const MDADM_CONFIGS = ['/etc/mdadm/mdadm.conf', '/etc/mdadm.conf'];
const FSTAB = '/etc/fstab';
const CRYPTTAB = '/etc/crypttab';
/** Beside grub.cfg: what the next update of it, and of the initrd, is made from. */
const ARGUMENT_FILES = ['/etc/default/grub', '/etc/initramfs-tools/conf.d/resume'];
const GRUB_CONFIGS = ['/boot/grub/grub.cfg', '/boot/grub2/grub.cfg'];
const MODPROBE_DIRECTORIES = ['/etc/modprobe.d', '/usr/lib/modprobe.d'];

/** Errors: `guest.path-unusable` where a file that must be read is no file or far too large; those of reading. */
export async function inspectGuest(
  tree: GuestTree,
  mounted: MountedDisks,
  unpackers: Unpackers,
): Promise<GuestInspection> {
  const fstab = parseFstab((await tree.readText(FSTAB)) ?? '');
  const grub = await readGrub(tree);
  const initramfsModules = await readInitramfsModules(tree);
  const dracutDrivers = await readDracutDrivers(tree);
  const { disks, volumes, root, mounts, efiFiles } = mounted;
  return {
    formatVersion: 1,
    disks,
    volumes,
    root,
    mounts,
    os: parseOsRelease((await tree.readText('/etc/os-release')) ?? (await tree.readText('/usr/lib/os-release')) ?? ''),
    kernels: await inspectKernels(tree, unpackers),
    bootLoader: {
      firmware: firmwareOf(disks, efiFiles),
      ...(grub === undefined ? {} : { grubConfigPath: grub.path }),
      grubEntries: grub?.entries ?? [],
      efiFiles,
    },
    fstab,
    unstableNames: await unstableNames(tree, grub?.path),
    networkAddresses: await readAddressUses(tree),
    arrayNames: await arrayNames(tree, volumes),
    identityFiles: await readIdentityFiles(tree),
    ...(initramfsModules === undefined ? {} : { initramfsModules }),
    ...(dracutDrivers === undefined ? {} : { dracutDrivers }),
    ...((await tree.isFile(LVM_DEVICES)) ? { lvmDevicesFile: LVM_DEVICES } : {}),
    blacklistedModules: await readBlacklist(tree),
    space: [await measure(tree, '/'), await measure(tree, '/boot')],
  };
}

async function arrayNames(tree: GuestTree, volumes: readonly FilesystemInspection[]): Promise<ArrayNameUse[]> {
  const found = volumes.flatMap(({ volume }) => (volume?.kind === 'array' ? [volume] : []));
  const uses: ArrayNameUse[] = [];
  for (const path of MDADM_CONFIGS) uses.push(...namesInMdadmConfig(path, (await tree.readText(path)) ?? '', found));
  return uses;
}

async function readGrub(tree: GuestTree): Promise<{ path: string; entries: GrubEntry[] } | undefined> {
  for (const path of GRUB_CONFIGS) {
    const text = await tree.readText(path);
    if (text !== undefined) return { path, entries: parseGrubConfig(text) };
  }
  return undefined;
}

function firmwareOf(disks: readonly DiskInspection[], efiFiles: readonly string[]): ('bios' | 'uefi')[] {
  const bios = disks.some((disk) => disk.mbrLoader !== 'none');
  return [...(bios ? (['bios'] as const) : []), ...(efiFiles.length > 0 ? (['uefi'] as const) : [])];
}

async function unstableNames(tree: GuestTree, grubConfigPath: string | undefined): Promise<DeviceNameUse[]> {
  const read = async (
    path: string,
    find: (path: string, text: string) => readonly DeviceNameUse[],
  ): Promise<readonly DeviceNameUse[]> => find(path, (await tree.readText(path)) ?? '');
  const withArguments = [...(grubConfigPath === undefined ? [] : [grubConfigPath]), ...ARGUMENT_FILES];
  const found = [await read(FSTAB, namesInFstab), await read(CRYPTTAB, namesInCrypttab)];
  for (const path of withArguments) found.push(await read(path, namesInArguments));
  return found.flat();
}

/** `add_drivers+=" a b "` and `force_drivers`, wherever dracut looks. */
async function readDracutDrivers(tree: GuestTree): Promise<string[] | undefined> {
  if (!(await tree.isDirectory('/etc/dracut.conf.d'))) return undefined;
  const files = ['/etc/dracut.conf'];
  for (const directory of DRACUT_CONFIGS) {
    for (const name of await tree.list(directory)) if (name.endsWith('.conf')) files.push(`${directory}/${name}`);
  }
  const names = new Set<string>();
  for (const file of files) {
    for (const [, value = ''] of ((await tree.readText(file)) ?? '').matchAll(
      /^\s*(?:add|force)_drivers\+?=["']?([^"'\n#]*)/gm,
    )) {
      for (const name of value.split(/\s+/)) if (name !== '') names.add(normalModuleName(name));
    }
  }
  return [...names].sort();
}

async function readInitramfsModules(tree: GuestTree): Promise<GuestInspection['initramfsModules']> {
  const text = await tree.readText(INITRAMFS_MODULES);
  if (text === undefined) return undefined;
  const modules = text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim().split(/\s+/)[0] ?? '')
    .filter((name) => name !== '')
    .map(normalModuleName);
  return { path: INITRAMFS_MODULES, modules };
}

async function readBlacklist(tree: GuestTree): Promise<string[]> {
  const names = new Set<string>();
  for (const directory of MODPROBE_DIRECTORIES) {
    for (const file of (await tree.list(directory)).filter((name) => name.endsWith('.conf'))) {
      for (const line of ((await tree.readText(`${directory}/${file}`)) ?? '').split('\n')) {
        const [keyword, name] = line.trim().split(/\s+/);
        if (keyword === 'blacklist' && name !== undefined) names.add(normalModuleName(name));
      }
    }
  }
  return [...names].sort();
}

async function measure(tree: GuestTree, path: string): Promise<SpaceInspection> {
  return { path, ...(await tree.space(path)) };
}
