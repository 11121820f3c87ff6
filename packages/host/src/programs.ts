import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { LifeboatError } from '@lifeboat/foundation/errors';

/** Searched after PATH: an account that is not root often lacks them, and losetup, mkfs and sgdisk live there. */
const SYSTEM_DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'];

/** Which Debian package brings a program, for the message of `host.tool-missing`. */
const DEBIAN_PACKAGES: Readonly<Record<string, string>> = {
  blkid: 'util-linux',
  bsdtar: 'libarchive-tools',
  btrfs: 'btrfs-progs',
  cp: 'coreutils',
  cpio: 'cpio',
  depmod: 'kmod',
  dnsmasq: 'dnsmasq-base',
  dumpe2fs: 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  flock: 'util-linux',
  'fsck.vfat': 'dosfstools',
  fusermount3: 'fuse3',
  getent: 'libc-bin',
  getfattr: 'attr',
  'grub-mkimage': 'grub-common',
  hivexregedit: 'libwin-hivex-perl',
  losetup: 'mount',
  mcopy: 'mtools',
  mdir: 'mtools',
  mformat: 'mtools',
  mmd: 'mtools',
  mount: 'mount',
  nbdcopy: 'libnbd-bin',
  nbdinfo: 'libnbd-bin',
  nbdkit: 'nbdkit',
  'ntfs-3g': 'ntfs-3g',
  ntfsfix: 'ntfs-3g',
  ntfsinfo: 'ntfs-3g',
  ntfsresize: 'ntfs-3g',
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  'qemu-storage-daemon': 'qemu-system-common',
  'qemu-system-x86_64': 'qemu-system-x86',
  resize2fs: 'e2fsprogs',
  setfattr: 'attr',
  setpriv: 'util-linux',
  sgdisk: 'gdisk',
  'ssh-keygen': 'openssh-client',
  umount: 'mount',
  xfs_growfs: 'xfsprogs',
  xfs_repair: 'xfsprogs',
  xz: 'xz-utils',
  zstd: 'zstd',
};

/** The search path children get: ours, then the system directories. */
export function searchPath(env: NodeJS.ProcessEnv): string {
  return [...(env['PATH'] ?? '').split(':').filter((part) => part !== ''), ...SYSTEM_DIRECTORIES].join(':');
}

/**
 * The absolute path of a program; a name with a slash must be absolute.
 * Errors: `host.tool-missing`, naming the Debian package where it is known.
 */
export async function findProgram(command: string, env: NodeJS.ProcessEnv): Promise<string> {
  const candidates = isAbsolute(command)
    ? [command]
    : command.includes('/')
      ? []
      : searchPath(env)
          .split(':')
          .map((directory) => join(directory, command));
  for (const candidate of candidates) {
    try {
      await access(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not in this directory: the next one is tried, and the end of the list is an error.
      continue;
    }
  }
  const name = command.slice(command.lastIndexOf('/') + 1);
  const debianPackage = DEBIAN_PACKAGES[name];
  throw new LifeboatError(
    'host.tool-missing',
    debianPackage === undefined
      ? `The program '${command}' is not installed on this host`
      : `The program '${command}' is not installed on this host; on Debian: apt-get install ${debianPackage}`,
    { context: { command, debianPackage } },
  );
}
