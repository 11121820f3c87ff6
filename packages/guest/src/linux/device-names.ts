/**
 * Where a Linux guest names its disks by controller and order (`/dev/sda1`), and what the same thing is called wherever it hangs.
 *
 *   /etc/fstab                               source            crypttab   device to unlock
 *   grub.cfg, lines of `linux`               root=, resume=
 *   /etc/default/grub                        root=, resume=    the next update-grub writes them into grub.cfg
 *   /etc/initramfs-tools/conf.d/resume       RESUME=
 */
import type { DiskInspection, FilesystemInspection } from '../inspect/guest-inspection.ts';
import { isUnstableDeviceName, parseFstab } from './fstab.ts';

export interface DeviceNameUse {
  /** Guest path of the file. */
  readonly path: string;
  /** Counted from 1. */
  readonly line: number;
  /** As it is written there. */
  readonly name: string;
  readonly purpose: 'mount' | 'root' | 'resume' | 'unlock';
  /** Of a mount; `none` for swap. */
  readonly mountPoint?: string;
  /** The machine starts without it. */
  readonly optional: boolean;
}

const OPTIONAL_MOUNTS = ['noauto', 'nofail'];

export function namesInFstab(path: string, text: string): DeviceNameUse[] {
  return parseFstab(text)
    .filter(({ source }) => isUnstableDeviceName(source))
    .map(({ line, source, mountPoint, type, options }) => ({
      path,
      line,
      name: source,
      purpose: 'mount',
      mountPoint,
      optional: type === 'swap' || options.some((option) => OPTIONAL_MOUNTS.includes(option)),
    }));
}

/** crypttab(5): name, device, key file, options. */
export function namesInCrypttab(path: string, text: string): DeviceNameUse[] {
  return usesByLine(text, (words) => {
    const [, device = '', , options = ''] = words;
    const optional = options.split(',').some((option) => OPTIONAL_MOUNTS.includes(option));
    return isUnstableDeviceName(device) ? [{ name: device, purpose: 'unlock', optional }] : [];
  }).map((use) => ({ path, ...use }));
}

/** Kernel arguments in a grub.cfg, in /etc/default/grub, and `RESUME=` of initramfs-tools. */
export function namesInArguments(path: string, text: string): DeviceNameUse[] {
  return usesByLine(text, (words) =>
    words.flatMap((word) => {
      // The first argument stands behind a quotation mark in /etc/default/grub, the last before one.
      const [, key, name = ''] = /(?:^|["'])(root|resume|RESUME)=([^"'\s]+)/.exec(word) ?? [];
      if (key === undefined || !isUnstableDeviceName(name)) return [];
      // A machine that cannot find where it would have slept waits, and starts.
      return [
        key === 'root' ? { name, purpose: 'root', optional: false } : { name, purpose: 'resume', optional: true },
      ];
    }),
  ).map((use) => ({ path, ...use }));
}

/**
 * What to write instead: `UUID=…`, or `PARTUUID=…` where a kernel without an initrd has to find it. Nothing where it cannot be told which
 * filesystem was meant: a name says the partition, but only with a single disk which disk; and a copied filesystem shares its UUID.
 */
export function stableName(
  use: DeviceNameUse,
  guest: {
    readonly disks: readonly DiskInspection[];
    readonly volumes: readonly FilesystemInspection[];
    readonly root: FilesystemInspection;
    readonly mounts: readonly { readonly mountPoint: string; readonly filesystem: FilesystemInspection }[];
  },
  { byPartition = false }: { byPartition?: boolean } = {},
): string | undefined {
  const filesystem = filesystemOf(use, guest);
  if (filesystem === undefined) return undefined;
  const key = byPartition ? 'partitionUuid' : 'uuid';
  const id = filesystem[key];
  const all = [...guest.disks.flatMap(({ filesystems }) => filesystems), ...guest.volumes];
  // Hostile or damaged: what goes into a configuration file is an id and nothing else.
  if (!/^[0-9A-Za-z-]{4,36}$/.test(id) || all.filter((other) => other[key] === id).length > 1) return undefined;
  return `${byPartition ? 'PARTUUID' : 'UUID'}=${id}`;
}

/** `/dev/sda1` as a whole word of that line; the line as it was where it is not there. */
export function replaceName(line: string, name: string, by: string): string {
  let at = -1;
  while ((at = line.indexOf(name, at + 1)) >= 0) {
    const before = line[at - 1] ?? ' ';
    const after = line[at + name.length] ?? ' ';
    if (/[\s="']/.test(before) && /[\s"']/.test(after)) return line.slice(0, at) + by + line.slice(at + name.length);
  }
  return line;
}

function filesystemOf(
  { name, purpose, mountPoint }: DeviceNameUse,
  { disks, root, mounts }: Parameters<typeof stableName>[1],
): FilesystemInspection | undefined {
  if (purpose === 'root' || mountPoint === '/') return root;
  const mounted = mounts.find((mount) => mount.mountPoint === mountPoint)?.filesystem;
  if (mounted !== undefined) return mounted;
  const [only, ...others] = disks;
  const number = /^\/dev\/(?:(?:sd|vd|hd|xvd)a|(?:nvme0n1|mmcblk0)p)(\d+)$/.exec(name)?.[1];
  if (only === undefined || others.length > 0 || number === undefined) return undefined;
  return only.filesystems.find(({ partition }) => partition === Number(number));
}

type Found = Pick<DeviceNameUse, 'name' | 'purpose' | 'optional'>;

function usesByLine(text: string, find: (words: readonly string[]) => readonly Found[]): (Found & { line: number })[] {
  return text.split('\n').flatMap((raw, index) => {
    const line = raw.trim();
    return line === '' || line.startsWith('#')
      ? []
      : find(line.split(/\s+/)).map((found) => ({ ...found, line: index + 1 }));
  });
}
