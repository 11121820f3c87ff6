/**
 * The files of a guest, from its disk images, without touching them.
 *
 *   disk image (never written)
 *     └─ overlay, 4 KiB clusters ─ qemu-storage-daemon ─ FUSE file ─ loop at the partition ─ kernel filesystem ─ GuestTree
 *
 * 1. Serve each disk under an overlay of its own. 2. Read its partition table, probe every partition. 3. Mount what may
 * be a root read-only: a crash-consistent filesystem replays its journal, into the overlay. 4. Find the root, then
 * /boot by the root's fstab. 5. Do the work. 6. Unmount, detach, end the servers, in any case.
 *
 * To edit, the same, but between 4 and 5 the filesystems are checked and mounted again for writing; after 5 they are
 * checked again, and the overlays' changes are handed to `changes` while they are still served. Then they are thrown away.
 *
 * Killed at any time: the overlays are worthless, the images unchanged; what is left (a mount, a loop device) lies
 * beneath `directory` or is recorded there, where the host's clean-up finds it. Not supported yet, and refused by name:
 * roots on LVM, LUKS or MD.
 */
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openFileDevice } from '@lifeboat/disk/file-device';
import { partitionTypes, readPartitionTable } from '@lifeboat/disk/partition-table';
import { hasCode, LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { KiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import {
  serveDiskImage,
  type DiskImageServer,
  type ImageFile,
  type NbdBacking,
} from '@lifeboat/host/disk-image-server';
import { loopDevice, type LoopDevice } from '@lifeboat/host/loop-device';
import { mountFilesystem, type MountedFilesystem } from '@lifeboat/host/mounts';
import type { DiskInspection, FilesystemInspection } from '../inspect/guest-inspection.ts';
import type { MountedDisks } from '../inspect/inspect-guest.ts';
import { parseFstab, type FstabEntry } from '../linux/fstab.ts';
import { identifyMbrLoader } from '../linux/grub.ts';
import { listEfiFiles } from './efi-files.ts';
import { GuestTree, type GuestMount } from './guest-tree.ts';
import { mountFailure } from './mount-failure.ts';
import { probeFilesystem } from './probe-filesystem.ts';

export interface GuestDisk {
  /** A few letters; names files in the working directory. */
  readonly name: string;
  /** Restored image, or a point's export (for inspection). */
  readonly image: ImageFile | NbdBacking;
}

export interface OpenGuest {
  readonly tree: GuestTree;
  readonly mounted: MountedDisks;
  /** Every mounted filesystem, `/` first, for whoever compares whole trees. */
  readonly mounts: readonly GuestMount[];
  /** With `filesystems: 'all'`: what the guest mounts from its disks and could not be mounted here, each with why. */
  readonly notMounted: readonly UnmountedPart[];
}

export interface UnmountedPart {
  readonly mountPoint: string;
  readonly reason: string;
}

/** One disk's overlay after the work, unmounted and checked. */
export interface OverlayChanges {
  readonly disk: GuestDisk;
  readonly sizeBytes: number;
  readonly overlayPath: string;
  /** The disk with the changes, as a file. */
  readonly changedPath: string;
}

export interface GuestAccess {
  readonly disks: readonly GuestDisk[];
  /** For overlays, mounts and records; made if need be. One attempt at a time (the operation's lock). */
  readonly directory: string;
  readonly signal: AbortSignal;
  /**
   * `system`, the default: the root and what the guest needs to start. `all`: besides, everything else its fstab mounts from
   * its disks, as far as the kernel of this host can.
   */
  readonly filesystems?: 'system' | 'all';
}

/** The kernel mounts these without our help; what else can hold a root is refused by name. */
const LINUX_FILESYSTEMS = new Set(['ext2', 'ext3', 'ext4', 'xfs', 'btrfs']);
const EXT_FILESYSTEMS = new Set(['ext2', 'ext3', 'ext4']);
const CONTAINERS: Readonly<Record<string, string>> = {
  LVM2_member: 'LVM',
  crypto_LUKS: 'LUKS encryption',
  linux_raid_member: 'MD RAID',
  BitLocker: 'BitLocker encryption',
};
/** Mounted when they are partitions of their own; nothing else is edited. */
const FURTHER_MOUNT_POINTS = ['/boot', '/usr'];
/** For comparison only. Many kernels of hosts lack vfat. */
const OTHER_FILESYSTEMS = new Set(['vfat']);
/** Filesystems in fstab that lie on no disk, or on one that is no part of the machine. */
const REMOVABLE = /^\/dev\/(?:sr\d+|cdrom\d*|dvd\w*|fd\d+|floppy\w*)$/;
const ON_A_DISK = /^(?:(?:UUID|LABEL|PARTUUID|PARTLABEL)=|\/dev\/)/;
/** A filesystem block: one changed block copies no neighbours into the journal. QEMU then takes disks up to 8 TiB. */
const CLUSTER_BYTES = 4 * KiB;
const CHECK_TIMEOUT_MS = 600_000;

/** Looks into a guest. Errors: `guest.no-root`, `guest.several-roots`, `guest.layout-unsupported`, `guest.mount-failed`, `guest.filesystem-twin`, those of the host room. */
export async function withGuest<T>(access: GuestAccess, work: (guest: OpenGuest) => Promise<T>): Promise<T> {
  return new Session(access).run({ writable: false, work, changes: async (_, result) => result });
}

/**
 * Edits a guest in throw-away overlays. `work` edits the tree; `changes` then gets what came of it, and alone decides
 * what reaches the images. Errors as for `withGuest`, and `guest.filesystem-damaged` before or after.
 */
export async function withEditableGuest<T, R>(
  access: GuestAccess,
  steps: {
    work: (guest: OpenGuest) => Promise<T>;
    changes: (overlays: readonly OverlayChanges[], result: T) => Promise<R>;
  },
): Promise<R> {
  return new Session(access).run({ writable: true, ...steps });
}

interface ServedDisk {
  readonly disk: GuestDisk;
  readonly server: DiskImageServer;
  readonly overlayPath: string;
  readonly path: string;
  readonly inspection: DiskInspection;
}

interface MountedPart {
  readonly filesystem: FilesystemInspection;
  readonly mountPoint: string;
  readonly loop: LoopDevice;
  mount: MountedFilesystem | undefined;
}

class Session {
  readonly #access: GuestAccess;
  readonly #undo: (() => Promise<void>)[] = [];
  readonly #notMounted: UnmountedPart[] = [];
  #counter = 0;

  constructor(access: GuestAccess) {
    this.#access = access;
  }

  async run<T, R>(steps: {
    writable: boolean;
    work: (guest: OpenGuest) => Promise<T>;
    changes: (overlays: readonly OverlayChanges[], result: T) => Promise<R>;
  }): Promise<R> {
    const { directory, disks, signal } = this.#access;
    signal.throwIfAborted();
    await mkdir(directory, { recursive: true, mode: 0o700 });
    let failure: { readonly error: unknown } | undefined;
    try {
      const served: ServedDisk[] = [];
      for (const disk of disks) served.push(await this.#serve(disk));
      const parts = await this.#mountAll(served);
      if (steps.writable) await this.#prepareForWriting(parts);
      const guest = { ...(await describe(served, parts, signal)), notMounted: this.#notMounted };
      const result = await steps.work(guest);
      for (const part of parts) await this.#unmount(part);
      if (steps.writable) for (const part of parts) await check(part, 'after', signal);
      for (const part of parts) await part.loop.detach();
      for (const { path } of served) await flush(path);
      return await steps.changes(
        served.map(({ disk, overlayPath, path, inspection }) => ({
          disk,
          overlayPath,
          changedPath: path,
          sizeBytes: inspection.sizeBytes,
        })),
        result,
      );
    } catch (error) {
      failure = { error };
      throw error;
    } finally {
      await this.#undoAll(failure);
    }
  }

  async #serve(disk: GuestDisk): Promise<ServedDisk> {
    const { directory, signal } = this.#access;
    const overlayPath = join(directory, `${disk.name}.overlay`);
    await rm(overlayPath, { force: true }); // a dead attempt's: worthless
    const server = await serveDiskImage(
      {
        image: { kind: 'overlay', path: overlayPath, clusterSizeBytes: CLUSTER_BYTES, backing: disk.image },
        fuse: { writable: true },
        directory,
        name: disk.name,
      },
      { signal },
    );
    this.#undo.push(async () => {
      await server.stop();
      await rm(overlayPath, { force: true });
    });
    const path = server.fusePath as string;
    return { disk, server, overlayPath, path, inspection: await inspectDisk(disk.name, path, signal) };
  }

  /** Finds the root, then what its fstab mounts into it. */
  async #mountAll(served: readonly ServedDisk[]): Promise<MountedPart[]> {
    const candidates = served.flatMap(({ inspection }) => inspection.filesystems.filter(isMountable));
    const roots: MountedPart[] = [];
    for (const filesystem of candidates) {
      const part = await this.#mount(served, filesystem, '/');
      const isRoot = await looksLikeRoot(new GuestTree([mountOf(part)]));
      if (isRoot) roots.push(part);
      else await this.#release(part);
    }
    const [root, second] = roots;
    if (root === undefined) throw noRoot(served);
    if (second !== undefined) throw severalRoots(roots);

    const parts = [root];
    const fstab = parseFstab((await new GuestTree([mountOf(root)]).readText('/etc/fstab')) ?? '');
    for (const mountPoint of FURTHER_MOUNT_POINTS) {
      const entry = fstab.find((candidate) => candidate.mountPoint === mountPoint);
      if (entry === undefined) continue;
      const filesystem = findSource(entry, served);
      if (!isMountable(filesystem)) {
        throw new LifeboatError(
          'guest.layout-unsupported',
          `The guest's ${mountPoint} is on ${filesystem.type || 'something unknown'} (${entry.source}), which cannot be mounted yet`,
          { context: { mountPoint, type: filesystem.type } },
        );
      }
      parts.push(await this.#mount(served, filesystem, mountPoint));
    }
    if (this.#access.filesystems === 'all') await this.#mountOthers(served, fstab, parts);
    return parts;
  }

  /** What cannot be mounted is named, not refused. */
  async #mountOthers(served: readonly ServedDisk[], fstab: readonly FstabEntry[], parts: MountedPart[]): Promise<void> {
    for (const entry of fstab) {
      const { mountPoint, source } = entry;
      const isThere = parts.some((part) => part.mountPoint === mountPoint);
      if (isThere || !mountPoint.startsWith('/') || !ON_A_DISK.test(source) || REMOVABLE.test(source)) continue;
      try {
        const filesystem = findSource(entry, served);
        const shared = parts.find((part) => part.filesystem === filesystem);
        if (shared) throw unmountable(`it is a part of the filesystem at ${shared.mountPoint}`);
        if (!isMountable(filesystem) && !OTHER_FILESYSTEMS.has(filesystem.type)) {
          throw unmountable(`it is ${filesystem.type || 'something unknown'} (${source})`);
        }
        parts.push(await this.#mount(served, filesystem, mountPoint));
      } catch (error) {
        if (!hasCode(error, 'guest.layout-unsupported', 'guest.mount-failed', 'guest.filesystem-twin')) throw error;
        this.#notMounted.push({ mountPoint, reason: error.message.split('\n', 1)[0] ?? '' });
      }
    }
  }

  async #mount(
    served: readonly ServedDisk[],
    filesystem: FilesystemInspection,
    mountPoint: string,
  ): Promise<MountedPart> {
    const { directory, signal } = this.#access;
    const disk = served.find((candidate) => candidate.disk.name === filesystem.disk);
    if (disk === undefined) throw new LifeboatError('internal.bug', `no disk ${filesystem.disk} is served`);
    this.#counter += 1;
    const name = `part${this.#counter}`;
    const { offsetBytes, lengthBytes } = filesystem;
    const loop = detachedOnce(
      await loopDevice({
        path: disk.path,
        offsetBytes,
        sizeLimitBytes: lengthBytes,
        readOnly: false,
        directory,
        name,
        signal,
      }),
    );
    this.#undo.push(() => loop.detach());
    const part: MountedPart = { filesystem, mountPoint, loop, mount: undefined };
    this.#undo.push(() => this.#unmount(part));
    await this.#attach(part, { name, readOnly: true });
    return part;
  }

  async #attach(part: MountedPart, how: { name: string; readOnly: boolean }): Promise<void> {
    const { directory, signal } = this.#access;
    const { type } = part.filesystem;
    try {
      part.mount = await mountFilesystem({
        device: part.loop.path,
        type,
        readOnly: how.readOnly,
        options: mountOptions(type, how.readOnly),
        directory,
        name: how.name,
        signal,
      });
    } catch (error) {
      throw mountFailure(error, part.filesystem);
    }
  }

  async #prepareForWriting(parts: readonly MountedPart[]): Promise<void> {
    for (const part of parts) {
      await this.#unmount(part);
      await check(part, 'before', this.#access.signal);
      this.#counter += 1;
      await this.#attach(part, { name: `part${this.#counter}`, readOnly: false });
    }
  }

  async #unmount(part: MountedPart): Promise<void> {
    const { mount } = part;
    if (mount === undefined) return;
    await mount.unmount();
    part.mount = undefined;
  }

  async #release(part: MountedPart): Promise<void> {
    await this.#unmount(part);
    await part.loop.detach();
  }

  /** All of it, in reverse, whatever fails on the way; the first failure is told, unless the work itself failed. */
  async #undoAll(failure: { readonly error: unknown } | undefined): Promise<void> {
    const problems: unknown[] = [];
    for (const undo of this.#undo.toReversed()) {
      try {
        await undo();
      } catch (error) {
        problems.push(error); // thrown below
      }
    }
    if (problems.length === 0) return;
    if (failure === undefined) throw problems[0];
    const text = `${messageOf(failure.error)}; and cleaning up failed: ${problems.map(messageOf).join('; ')}`;
    throw new AggregateError([failure.error, ...problems], text, { cause: failure.error });
  }
}

/** The undoing detaches again what is detached already; to find that out costs a losetup, 60 ms on a busy host. */
function detachedOnce(loop: LoopDevice): LoopDevice {
  let isDetached = false;
  return {
    path: loop.path,
    async detach() {
      if (isDetached) return;
      await loop.detach();
      isDetached = true;
    },
  };
}

async function inspectDisk(name: string, path: string, signal: AbortSignal): Promise<DiskInspection> {
  const device = await openFileDevice(path);
  try {
    const table = await readPartitionTable(device, { signal });
    const first = new Uint8Array(Math.min(512, device.sizeBytes));
    await device.read(0, first, { signal });
    const runs =
      table.scheme === 'none'
        ? [{ offsetBytes: 0, lengthBytes: device.sizeBytes, partitionUuid: '' }]
        : table.partitions
            .filter((partition) => partition.role !== 'extended')
            .map((partition) => ({
              partition: partition.number,
              offsetBytes: partition.startBytes,
              lengthBytes: partition.lengthBytes,
              partitionUuid: partition.partitionId,
            }));
    const filesystems: FilesystemInspection[] = [];
    for (const run of runs) filesystems.push({ disk: name, ...run, ...(await probeFilesystem(path, run, signal)) });
    const mbrLoader = table.scheme === 'none' ? 'none' : identifyMbrLoader(first);
    return { name, sizeBytes: device.sizeBytes, table, mbrLoader, filesystems };
  } finally {
    await device.close();
  }
}

async function describe(
  served: readonly ServedDisk[],
  parts: readonly MountedPart[],
  signal: AbortSignal,
): Promise<Omit<OpenGuest, 'notMounted'>> {
  const mounts = parts.map(mountOf);
  const efiFiles: string[] = [];
  for (const { inspection, path } of served) {
    for (const partition of inspection.table.partitions) {
      const isEfi = partition.type === partitionTypes.efiSystem || partition.type === partitionTypes.mbrEfiSystem;
      if (isEfi) efiFiles.push(...(await listEfiFiles(path, partition.startBytes, signal)));
    }
  }
  const [root] = parts;
  if (root === undefined) throw new LifeboatError('internal.bug', 'a guest was opened without a root');
  return {
    tree: new GuestTree(mounts),
    mounts,
    mounted: {
      disks: served.map(({ inspection }) => inspection),
      root: root.filesystem,
      mounts: parts.map(({ mountPoint, filesystem }) => ({ mountPoint, filesystem })),
      efiFiles,
    },
  };
}

/** Read-only, on the loop device, so that only this filesystem is seen. */
async function check(part: MountedPart, when: 'before' | 'after', signal: AbortSignal): Promise<void> {
  const { type, disk, partition } = part.filesystem;
  if (!EXT_FILESYSTEMS.has(type)) return;
  const result = await runTool('e2fsck', ['-fn', part.loop.path], {
    timeoutMs: CHECK_TIMEOUT_MS,
    okCodes: [0, 1, 2, 4, 8, 12],
    signal,
  });
  if (result.code === 0) return;
  throw new LifeboatError(
    'guest.filesystem-damaged',
    `The ${type} filesystem on ${disk} partition ${partition ?? 'none'} is damaged ${when} the edit (e2fsck -fn ends with ${result.code}): ${result.stdout.trim().slice(-800)}`,
    { context: { disk, partition, when, code: result.code } },
  );
}

function mountOptions(type: string, readOnly: boolean): string[] {
  // XFS refuses a second filesystem with the same UUID, as the point's and the restored one have.
  const common = ['nosymfollow', 'noatime', ...(type === 'xfs' ? ['nouuid'] : [])];
  // ext4 would go on to zero unused inode tables in the background, and every block of that would enter the journal.
  return EXT_FILESYSTEMS.has(type) && !readOnly && type !== 'ext2' ? [...common, 'noinit_itable'] : common;
}

async function looksLikeRoot(tree: GuestTree): Promise<boolean> {
  const hasRelease = (await tree.isFile('/etc/os-release')) || (await tree.isFile('/usr/lib/os-release'));
  return hasRelease && (await tree.isDirectory('/etc'));
}

function findSource(entry: FstabEntry, served: readonly ServedDisk[]): FilesystemInspection {
  const all = served.flatMap(({ inspection }) => inspection.filesystems);
  const [, key, value] = /^(UUID|LABEL|PARTUUID)="?([^"]+)"?$/.exec(entry.source) ?? byLink(entry.source) ?? [];
  const found = all.filter((filesystem) => {
    if (key === 'UUID') return filesystem.uuid.toLowerCase() === value?.toLowerCase();
    if (key === 'LABEL') return filesystem.label === value;
    if (key === 'PARTUUID') return filesystem.partitionUuid === value?.toLowerCase();
    // A kernel name says which partition, but not which disk; with one disk there is no doubt.
    const number = /^\/dev\/(?:[a-z]+|nvme\d+n\d+p|mmcblk\d+p)(\d+)$/.exec(entry.source)?.[1];
    return served.length === 1 && number !== undefined && filesystem.partition === Number(number);
  });
  const [only] = found;
  if (only === undefined || found.length > 1) {
    throw new LifeboatError(
      'guest.layout-unsupported',
      `The guest's fstab mounts ${entry.mountPoint} from ${entry.source}, which is ${found.length} of its filesystems`,
      { context: { mountPoint: entry.mountPoint, source: entry.source } },
    );
  }
  return only;
}

function byLink(source: string): string[] | undefined {
  const match = /^\/dev\/disk\/by-(uuid|label|partuuid)\/(.+)$/.exec(source);
  return match === null ? undefined : ['', (match[1] ?? '').toUpperCase(), match[2] ?? ''];
}

function unmountable(reason: string): LifeboatError {
  return new LifeboatError('guest.layout-unsupported', reason);
}

function noRoot(served: readonly ServedDisk[]): LifeboatError {
  const all = served.flatMap(({ inspection }) => inspection.filesystems);
  const container = all.find(({ type }) => CONTAINERS[type] !== undefined);
  const seen = all.map(({ disk, partition, type }) => `${disk}${partition ?? ''} ${type || 'unknown'}`).join(', ');
  if (container !== undefined) {
    return new LifeboatError(
      'guest.layout-unsupported',
      `The guest's root may lie inside ${CONTAINERS[container.type]} on ${container.disk} partition ${container.partition ?? 'none'}, which cannot be opened yet; found: ${seen}`,
      { context: { disk: container.disk, type: container.type } },
    );
  }
  return new LifeboatError('guest.no-root', `No partition holds a Linux root filesystem; found: ${seen || 'nothing'}`);
}

function severalRoots(roots: readonly MountedPart[]): LifeboatError {
  const places = roots.map(({ filesystem: { disk, partition, type } }) => `${disk}${partition ?? ''} (${type})`);
  return new LifeboatError('guest.several-roots', `Several partitions hold a root filesystem: ${places.join(', ')}`);
}

function isMountable(filesystem: FilesystemInspection): boolean {
  return LINUX_FILESYSTEMS.has(filesystem.type);
}

function mountOf(part: MountedPart): GuestMount {
  if (part.mount === undefined) throw new LifeboatError('internal.bug', `${part.mountPoint} is not mounted`);
  return { mountPoint: part.mountPoint, hostPath: part.mount.path };
}

/** What the kernel has written to the file must be in the overlay before anybody maps it. */
async function flush(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
