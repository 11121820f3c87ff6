/**
 * The files of a guest, from its disk images, without touching them.
 *
 *   disk image (never written)
 *     └─ overlay, 4 KiB clusters ─ qemu-storage-daemon ─ FUSE file ─ loop at the partition ─ kernel filesystem ─ GuestTree
 *
 * 1. Serve each disk under an overlay of its own. 2. Read its partition table, probe every partition; compose the logical volumes
 * and arrays, each under an overlay of its own (composed-volumes.ts). 3. Mount what may be a root read-only: a crash-consistent
 * filesystem replays its journal, into the overlay. 4. Find the root, then /boot by the root's fstab. 5. Do the work. 6. Unmount,
 * detach, end the servers, in any case.
 *
 * To edit, the same, but between 4 and 5 the filesystems are checked and mounted again for writing; after 5 they are
 * checked again, and the overlays' changes are handed to `changes` while they are still served. Then they are thrown away.
 *
 * A Windows is opened in the same way: its root is the NTFS volume that holds its registry, mounted by ntfs-3g, and it has no fstab.
 *
 * Killed at any time: the overlays are worthless, the images unchanged; what is left (a mount, a loop device) lies
 * beneath `directory` or is recorded there, where the host's clean-up finds it. Refused by name: roots on encrypted volumes, and on
 * volumes of kinds that are not composed (thin, cached, RAID 5, ...).
 */
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openFileDevice } from '@lifeboat/disk/file-device';
import { partitionTypes, readPartitionTable } from '@lifeboat/disk/partition-table';
import { hasCode, LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import {
  serveDiskImage,
  type DiskImageServer,
  type ImageFile,
  type NbdBacking,
} from '@lifeboat/host/disk-image-server';
import { loopDevice, type LoopDevice } from '@lifeboat/host/loop-device';
import { mountFilesystem, type MountedFilesystem } from '@lifeboat/host/mounts';
import type { OriginalFiles } from '../journal/original-files.ts';
import type { DiskInspection, FilesystemInspection } from '../inspect/guest-inspection.ts';
import type { MountedDisks } from '../inspect/inspect-guest.ts';
import { parseFstab, type FstabEntry } from '../linux/fstab.ts';
import { identifyMbrLoader } from '../linux/grub.ts';
import { parseMdadmConfig } from '../linux/volume-names.ts';
import { findSubvolume, subvolumeOf } from './btrfs-root.ts';
import { checkFilesystem } from './check-filesystem.ts';
import {
  openComposedVolumes,
  OVERLAY_CLUSTER_BYTES,
  type ComposedVolume,
  type ComposedVolumes,
  type DiskPlace,
} from './composed-volumes.ts';
import { listEfiFiles } from './efi-files.ts';
import { findSource, type Filesystems } from './filesystem-source.ts';
import { GuestTree, type GuestMount } from './guest-tree.ts';
import { looksLikeRoot } from './looks-like-root.ts';
import { mountFailure, placeOf } from './mount-failure.ts';
import { probeFilesystem } from './probe-filesystem.ts';
import { findWindowsDirectory } from './windows-paths.ts';

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
  /** The disks as files, with what replayed journals changed; by the name each was given. */
  readonly diskFiles: ReadonlyMap<string, string>;
}

export interface UnmountedPart {
  readonly mountPoint: string;
  readonly reason: string;
}

/** An overlay after the work, unmounted and checked: of a disk, or of a volume that is composed of runs of disks. */
export interface OverlayChanges {
  readonly overlayPath: string;
  /** The disk or volume with the changes, as a file. */
  readonly changedPath: string;
  /** Where a run of it lies on the disks, by their names; of a mirror, in every copy. Absent: it is the disk of that name itself. */
  readonly locate?: (run: { offsetBytes: number; lengthBytes: number }) => readonly DiskPlace[];
}

/** Everything that was changed. */
export interface GuestChanges {
  readonly disks: readonly (OverlayChanges & { readonly disk: GuestDisk; readonly sizeBytes: number })[];
  readonly volumes: readonly Required<OverlayChanges>[];
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
  /** What is looked for on the disks; Linux where nothing is said. */
  readonly system?: 'linux' | 'windows';
  /** For edits: keeps what the edited files held. */
  readonly originals?: OriginalFiles;
}

/** The kernel mounts these without our help; what else can hold a root is refused by name. */
const LINUX_FILESYSTEMS = new Set(['ext2', 'ext3', 'ext4', 'xfs', 'btrfs']);
const EXT_FILESYSTEMS = new Set(['ext2', 'ext3', 'ext4']);
const MDADM_CONFIGS = ['/etc/mdadm/mdadm.conf', '/etc/mdadm.conf'];
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
    changes: (changes: GuestChanges, result: T) => Promise<R>;
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

/** What there is to mount. */
interface OpenedDisks {
  readonly served: readonly ServedDisk[];
  readonly composed: ComposedVolumes;
}

interface MountedPart {
  filesystem: FilesystemInspection;
  readonly mountPoint: string;
  /** Shared by the subvolumes of one btrfs: a second device with the same filesystem would be its twin. */
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
    changes: (changes: GuestChanges, result: T) => Promise<R>;
  }): Promise<R> {
    const { directory, disks, signal } = this.#access;
    signal.throwIfAborted();
    await mkdir(directory, { recursive: true, mode: 0o700 });
    let failure: { readonly error: unknown } | undefined;
    try {
      const served: ServedDisk[] = [];
      for (const disk of disks) served.push(await this.#serve(disk));
      const composed = await openComposedVolumes(served.map(memberDisk), {
        directory,
        signal,
        undo: this.#undo,
        mountable: LINUX_FILESYSTEMS,
      });
      const opened = { served, composed };
      const parts = await this.#mountAll(opened);
      if (steps.writable) await this.#prepareForWriting(parts);
      const guest = { ...(await describe(opened, parts, this.#access)), notMounted: this.#notMounted };
      const result = await steps.work(guest);
      for (const part of parts) await this.#unmount(part);
      if (steps.writable) await checkAll(parts, 'after', signal);
      for (const part of parts) await part.loop.detach();
      const changes = changesOf(opened);
      for (const { changedPath } of [...changes.disks, ...changes.volumes]) await flush(changedPath);
      return await steps.changes(changes, result);
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
        image: { kind: 'overlay', path: overlayPath, clusterSizeBytes: OVERLAY_CLUSTER_BYTES, backing: disk.image },
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
  async #mountAll(opened: OpenedDisks): Promise<MountedPart[]> {
    const candidates = [...filesystemsOf(opened), ...opened.composed.volumes.map(({ filesystem }) => filesystem)];
    const isWindows = this.#access.system === 'windows';
    const roots: MountedPart[] = [];
    for (const filesystem of candidates.filter(isWindows ? isNtfs : isMountable)) {
      const part = await this.#findRoot(await this.#mount(opened, filesystem, '/'));
      if (part) roots.push(part);
    }
    const [root, second] = roots;
    if (root === undefined) throw noRoot(opened, isWindows);
    if (second !== undefined) throw severalRoots(roots);

    const parts = [root];
    if (isWindows) return parts;
    const tree = new GuestTree([mountOf(root)]);
    const fstab = parseFstab((await tree.readText('/etc/fstab')) ?? '');
    const filesystems = await nameable(opened, tree);
    for (const mountPoint of FURTHER_MOUNT_POINTS) {
      const entry = fstab.find((candidate) => candidate.mountPoint === mountPoint);
      if (entry === undefined) continue;
      const filesystem = findSource(entry, filesystems);
      if (!isMountable(filesystem)) {
        throw new LifeboatError(
          'guest.layout-unsupported',
          `The guest's ${mountPoint} is on ${filesystem.type || 'something unknown'} (${entry.source}), which cannot be mounted yet`,
          { context: { mountPoint, type: filesystem.type } },
        );
      }
      parts.push(await this.#mountBeside(opened, parts, { entry, filesystem }));
    }
    if (this.#access.filesystems === 'all') await this.#mountOthers(opened, { fstab, filesystems, parts });
    return parts;
  }

  /** The part with the root in it, mounted; undefined, and all released, where it holds none. */
  async #findRoot(part: MountedPart): Promise<MountedPart | undefined> {
    const tree = new GuestTree([mountOf(part)]);
    const isRoot = isNtfs(part.filesystem)
      ? (await findWindowsDirectory(tree)) !== undefined
      : await looksLikeRoot(tree);
    if (isRoot) return part;
    if (part.filesystem.type === 'btrfs' && (await this.#mountRootSubvolume(part))) return part;
    await this.#release(part);
    return undefined;
  }

  async #mountRootSubvolume(part: MountedPart): Promise<boolean> {
    const whole = part.filesystem;
    await this.#unmount(part);
    part.filesystem = { ...whole, subvolume: '/' };
    await this.#mountAgain(part, { readOnly: true });
    const subvolume = await findSubvolume(new GuestTree([mountOf(part)]), whole.uuid);
    if (subvolume === undefined) return false;
    await this.#unmount(part);
    part.filesystem = { ...whole, subvolume };
    await this.#mountAgain(part, { readOnly: true });
    return true;
  }

  /** What cannot be mounted is named, not refused. */
  async #mountOthers(
    opened: OpenedDisks,
    { fstab, filesystems, parts }: { fstab: readonly FstabEntry[]; filesystems: Filesystems; parts: MountedPart[] },
  ): Promise<void> {
    for (const entry of fstab) {
      const { mountPoint, source } = entry;
      const isThere = parts.some((part) => part.mountPoint === mountPoint);
      if (isThere || !mountPoint.startsWith('/') || !ON_A_DISK.test(source) || REMOVABLE.test(source)) continue;
      try {
        const filesystem = findSource(entry, filesystems);
        if (!isMountable(filesystem) && !OTHER_FILESYSTEMS.has(filesystem.type)) {
          throw unmountable(`it is ${filesystem.type || 'something unknown'} (${source})`);
        }
        parts.push(await this.#mountBeside(opened, parts, { entry, filesystem }));
      } catch (error) {
        if (!hasCode(error, 'guest.layout-unsupported', 'guest.mount-failed', 'guest.filesystem-twin')) throw error;
        this.#notMounted.push({ mountPoint, reason: error.message.split('\n', 1)[0] ?? '' });
      }
    }
  }

  async #mountBeside(
    opened: OpenedDisks,
    parts: readonly MountedPart[],
    { entry, filesystem }: { entry: FstabEntry; filesystem: FilesystemInspection },
  ): Promise<MountedPart> {
    const { mountPoint } = entry;
    const shared = parts.find((part) => isSameVolume(part.filesystem, filesystem));
    if (shared === undefined) return this.#mount(opened, filesystem, mountPoint);
    const subvolume = filesystem.type === 'btrfs' ? subvolumeOf(entry) : undefined;
    if (subvolume === undefined) throw unmountable(`it is a part of the filesystem at ${shared.mountPoint}`);
    const part: MountedPart = {
      filesystem: { ...filesystem, subvolume },
      mountPoint,
      loop: shared.loop,
      mount: undefined,
    };
    this.#undo.push(() => this.#unmount(part));
    await this.#mountAgain(part, { readOnly: true });
    return part;
  }

  async #mount(opened: OpenedDisks, filesystem: FilesystemInspection, mountPoint: string): Promise<MountedPart> {
    const { directory, signal } = this.#access;
    this.#counter += 1;
    const name = `part${this.#counter}`;
    const { offsetBytes, lengthBytes } = filesystem;
    const loop = detachedOnce(
      await loopDevice({
        path: fileOf(opened, filesystem),
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

  async #mountAgain(part: MountedPart, how: { readOnly: boolean }): Promise<void> {
    this.#counter += 1;
    await this.#attach(part, { name: `part${this.#counter}`, ...how });
  }

  async #attach(part: MountedPart, how: { name: string; readOnly: boolean }): Promise<void> {
    const { directory, signal } = this.#access;
    const { type } = part.filesystem;
    try {
      part.mount = await mountFilesystem({
        device: part.loop.path,
        type: isNtfs(part.filesystem) ? 'ntfs-3g' : type,
        readOnly: how.readOnly,
        options: mountOptions(part.filesystem, how.readOnly),
        directory,
        name: how.name,
        signal,
      });
    } catch (error) {
      throw mountFailure(error, part.filesystem);
    }
  }

  /** All are unmounted before the first is mounted again: subvolumes of one filesystem are one filesystem. */
  async #prepareForWriting(parts: readonly MountedPart[]): Promise<void> {
    for (const part of parts) await this.#unmount(part);
    await checkAll(parts, 'before', this.#access.signal);
    for (const part of parts) await this.#mountAgain(part, { readOnly: false });
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
  { served, composed }: OpenedDisks,
  parts: readonly MountedPart[],
  { signal, originals }: GuestAccess,
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
    tree: new GuestTree(mounts, originals),
    mounts,
    diskFiles: new Map(served.map(({ disk, path }) => [disk.name, path])),
    mounted: {
      disks: served.map(({ inspection }) => inspection),
      volumes: composed.volumes.map(({ filesystem }) => filesystem),
      root: root.filesystem,
      mounts: parts.map(({ mountPoint, filesystem }) => ({ mountPoint, filesystem })),
      efiFiles,
    },
  };
}

/** Each filesystem once, on the loop device, so that only this filesystem is seen. */
async function checkAll(parts: readonly MountedPart[], when: 'before' | 'after', signal: AbortSignal): Promise<void> {
  const seen = new Set<string>();
  for (const { filesystem, loop } of parts) {
    if (!seen.has(loop.path)) await checkFilesystem(filesystem, loop.path, when, signal);
    seen.add(loop.path);
  }
}

function mountOptions({ type, subvolume }: FilesystemInspection, readOnly: boolean): string[] {
  // ntfs-3g knows no `nosymfollow`; GuestTree looks at every part of a path itself.
  if (type === 'ntfs') return ['noatime'];
  const common = [
    'nosymfollow',
    'noatime',
    // XFS refuses a second filesystem with the same UUID, as the point's and the restored one have.
    ...(type === 'xfs' ? ['nouuid'] : []),
    ...(subvolume === undefined ? [] : [`subvol=${subvolume}`]),
  ];
  // ext4 would go on to zero unused inode tables in the background, and every block of that would enter the journal.
  return EXT_FILESYSTEMS.has(type) && !readOnly && type !== 'ext2' ? [...common, 'noinit_itable'] : common;
}

function memberDisk({ disk, inspection }: ServedDisk): Parameters<typeof openComposedVolumes>[0][number] {
  return { name: disk.name, image: disk.image, filesystems: inspection.filesystems };
}

function changesOf({ served, composed }: OpenedDisks): GuestChanges {
  return {
    disks: served.map(({ disk, overlayPath, path, inspection }) => ({
      disk,
      overlayPath,
      changedPath: path,
      sizeBytes: inspection.sizeBytes,
    })),
    volumes: composed.volumes.flatMap((volume) =>
      volume.served ? [{ ...volume.served, changedPath: volume.served.path }] : [],
    ),
  };
}

function filesystemsOf({ served }: OpenedDisks): FilesystemInspection[] {
  return served.flatMap(({ inspection }) => inspection.filesystems);
}

/** The file in which a filesystem lies at its offset. */
function fileOf({ served, composed }: OpenedDisks, filesystem: FilesystemInspection): string {
  const { volume, disk } = filesystem;
  const isIt = (candidate: ComposedVolume): boolean => candidate.filesystem.volume?.name === volume?.name;
  const path = volume
    ? composed.volumes.find(isIt)?.served?.path
    : served.find((candidate) => candidate.disk.name === disk)?.path;
  if (path === undefined) throw new LifeboatError('internal.bug', `${placeOf(filesystem)} is not served`);
  return path;
}

function isSameVolume(one: FilesystemInspection, other: FilesystemInspection): boolean {
  return one.disk === other.disk && one.offsetBytes === other.offsetBytes && one.volume?.name === other.volume?.name;
}

async function nameable(opened: OpenedDisks, tree: GuestTree): Promise<Filesystems> {
  const configs: string[] = [];
  for (const path of MDADM_CONFIGS) configs.push((await tree.readText(path)) ?? '');
  return {
    onDisks: filesystemsOf(opened),
    inVolumes: opened.composed.volumes.map(({ filesystem }) => filesystem),
    diskCount: opened.served.length,
    arrays: configs.flatMap(parseMdadmConfig),
  };
}

function unmountable(reason: string): LifeboatError {
  return new LifeboatError('guest.layout-unsupported', reason);
}

function noRoot(opened: OpenedDisks, isWindows: boolean): LifeboatError {
  const { volumes, problems } = opened.composed;
  const all = [...filesystemsOf(opened), ...volumes.map(({ filesystem }) => filesystem)];
  // What was composed of members is looked at instead of them.
  const container =
    all.find(({ type }) => type === 'crypto_LUKS' || type === 'BitLocker') ??
    (problems.length > 0 ? all.find(({ type }) => CONTAINERS[type] !== undefined) : undefined);
  const seen = all
    .map(
      (filesystem) =>
        `${filesystem.volume?.name ?? `${filesystem.disk}${filesystem.partition ?? ''}`} ${filesystem.type || 'unknown'}`,
    )
    .join(', ');
  if (container !== undefined) {
    const why = problems.length > 0 ? `. ${problems.join(' ')} Found` : ', which cannot be opened yet; found';
    return new LifeboatError(
      'guest.layout-unsupported',
      `The guest's root may lie inside ${CONTAINERS[container.type]} on ${placeOf(container)}${why}: ${seen}`,
      { context: { disk: container.disk, type: container.type } },
    );
  }
  const wanted = isWindows ? 'Windows' : 'a Linux root filesystem';
  return new LifeboatError('guest.no-root', `No partition holds ${wanted}; found: ${seen || 'nothing'}`);
}

function severalRoots(roots: readonly MountedPart[]): LifeboatError {
  const places = roots.map(({ filesystem }) => `${placeOf(filesystem)} (${filesystem.type})`);
  return new LifeboatError('guest.several-roots', `Several filesystems hold a root: ${places.join(', ')}`);
}

function isNtfs({ type }: FilesystemInspection): boolean {
  return type === 'ntfs';
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
