/** Where a guest keeps GRUB's configuration and GRUB itself, from the bytes of its volumes: nothing is mounted, nothing is run. */
import { openExt } from '@lifeboat/disk/files/ext';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { hasCode } from '@lifeboat/foundation/errors';
import { ImageTree } from '../access/image-tree.ts';
import { parseOsRelease } from '../linux/os-release.ts';

export interface GuestVolume {
  readonly device: BlockDevice;
  /** As blkid names it. */
  readonly type: string;
  readonly uuid: string;
}

export interface GuestGrub {
  /** The filesystem that holds the configuration, and the directory in it: `/boot/grub`, or `/grub` of a /boot of its own. */
  readonly uuid: string;
  readonly directory: string;
  readonly home: ImageTree;
  /** Those in which programs and modules may lie. */
  readonly trees: readonly ImageTree[];
  /** The distribution's id, as loaders of UEFI are filed: `debian`. */
  readonly vendor: string;
}

const DIRECTORIES = ['/boot/grub', '/boot/grub2', '/grub', '/grub2'];
const EXT = new Set(['ext2', 'ext3', 'ext4']);
const VENDOR = /^[a-z0-9][a-z0-9_-]{0,31}$/;

/** Undefined: no volume that can be read here has a configuration of GRUB's. Errors: those of the devices. */
export async function findGrub(
  volumes: readonly GuestVolume[],
  options: { signal?: AbortSignal } = {},
): Promise<GuestGrub | undefined> {
  const trees: { readonly uuid: string; readonly tree: ImageTree }[] = [];
  for (const { device, type, uuid } of volumes) {
    if (!EXT.has(type)) continue;
    try {
      trees.push({ uuid, tree: new ImageTree(new Map([['/', await openExt(device, options)]])) });
    } catch (error) {
      // Another one may hold it; without any, that is said.
      if (!hasCode(error, 'guest.filesystem-unreadable')) throw error;
    }
  }
  let vendor = 'linux';
  for (const { tree } of trees) {
    const release = (await tree.readText('/etc/os-release')) ?? (await tree.readText('/usr/lib/os-release'));
    const { id } = release === undefined ? { id: '' } : parseOsRelease(release);
    if (VENDOR.test(id)) vendor = id;
  }
  for (const { uuid, tree } of trees) {
    for (const directory of DIRECTORIES) {
      if (!(await tree.isFile(`${directory}/grub.cfg`))) continue;
      return { uuid, directory, home: tree, trees: trees.map((each) => each.tree), vendor };
    }
  }
  return undefined;
}

/** The first of the guest's trees that has this file. */
export async function guestFile(grub: GuestGrub, path: string): Promise<Buffer | undefined> {
  for (const tree of grub.trees) {
    if (await tree.isFile(path)) return tree.read(path);
  }
  return undefined;
}
