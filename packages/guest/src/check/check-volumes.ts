/**
 * Every volume of a machine's disks: its journal replayed, then checked by its own checker.
 *
 *   disk (a point's export, or an image; never written)
 *     └─ overlay ─ qemu-storage-daemon ─ FUSE file ─ loop at the volume ─ replay ─ checker, reading
 *
 * A healthy machine that was captured while it ran has journals that are not replayed, and a check before that is red for no reason. The
 * replay goes into the overlay, which is thrown away. ext replays by its own program, XFS when the kernel mounts it; what btrfs has beside its
 * trees its checker reads as it is.
 *
 * Volumes of LVM and MD are composed of all disks and checked the same way (composed-volumes.ts). The registry of a Windows is read besides.
 * What cannot be checked (encrypted, without a checker, a member that is missing) is named, and never counts as sound.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openFileDevice } from '@lifeboat/disk/file-device';
import { sliceDevice } from '@lifeboat/disk/bytes';
import { openNtfs } from '@lifeboat/disk/files/ntfs';
import { partitionTypes, readPartitionTable } from '@lifeboat/disk/partition-table';
import { hasCode, messageOf } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { KiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import { serveDiskImage } from '@lifeboat/host/disk-image-server';
import { loopDevice } from '@lifeboat/host/loop-device';
import { mountFilesystem } from '@lifeboat/host/mounts';
import { openComposedVolumes, type MemberDisk } from '../access/composed-volumes.ts';
import type { GuestDisk } from '../access/open-guest.ts';
import { probeFilesystem } from '../access/probe-filesystem.ts';
import type { FilesystemInspection } from '../inspect/guest-inspection.ts';
import { checkHives, type CheckedHive } from './check-hives.ts';
import { CHECKED_TYPES, checkVolume, hasNothingToCheck, type Finding } from './volume-checkers.ts';

const CLUSTER_BYTES = 64 * KiB;
const REPLAY_TIMEOUT_MS = 600_000;
const EXT = new Set(['ext3', 'ext4']);
/** GPT types whose contents are no filesystem: the core of GRUB, and what Microsoft keeps free. */
const WITHOUT_FILESYSTEM: readonly string[] = [partitionTypes.biosBoot, 'e3c9e316-0b5c-4db8-817d-f92df00215ae'];
/** What mount(8) says when the kernel found its metadata wrong. */
const NOTHING_KNOWN = 'nothing that is known was found there';
const FOUND_DAMAGED = 'Structure needs cleaning';

export interface CheckedVolume extends Finding {
  readonly disk: string;
  /** Absent: the whole disk, or a volume. */
  readonly partition?: number;
  /** Of LVM or MD: `group/volume`, or the array's name. */
  readonly volume?: string;
  /** Empty: nothing that is known was found there. */
  readonly type: string;
  readonly label: string;
  readonly durationMs: number;
}

export interface CheckedDisks {
  readonly volumes: readonly CheckedVolume[];
  readonly hives: readonly (CheckedHive & { readonly disk: string })[];
}

const MEMBERS = new Set(['LVM2_member', 'linux_raid_member']);

/** Errors: those of the host room. What is wrong with a volume or a hive is in its result. */
export async function checkVolumes(
  access: { readonly disks: readonly GuestDisk[]; readonly directory: string },
  context: VerbContext,
): Promise<CheckedDisks> {
  const { directory } = access;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const volumes: CheckedVolume[] = [];
  const hives: (CheckedHive & { disk: string })[] = [];
  const members: MemberDisk[] = [];
  for (const disk of access.disks) {
    context.progress({ phase: 'filesystems', doneBytes: 0, detail: disk.name });
    const found = await checkDisk(disk, directory, context);
    volumes.push(...found.volumes);
    hives.push(...found.hives);
    if (found.members.length > 0) members.push({ ...disk, filesystems: found.members });
  }
  if (members.length > 0) volumes.push(...(await checkComposed(members, directory, context)));
  return { volumes, hives };
}

async function checkDisk(
  disk: GuestDisk,
  directory: string,
  context: VerbContext,
): Promise<CheckedDisks & { readonly members: readonly FilesystemInspection[] }> {
  const { signal } = context;
  const path = join(directory, `${disk.name}.overlay`);
  await rm(path, { force: true }); // a dead attempt's: worthless
  const server = await serveDiskImage(
    {
      image: { kind: 'overlay', path, clusterSizeBytes: CLUSTER_BYTES, backing: disk.image },
      fuse: { writable: true },
      directory,
      name: disk.name,
    },
    { signal },
  );
  try {
    const served = server.fusePath as string;
    const volumes: CheckedVolume[] = [];
    const hives: (CheckedHive & { disk: string })[] = [];
    const members: FilesystemInspection[] = [];
    for (const place of await placesOn(served, signal)) {
      signal.throwIfAborted();
      const startedMs = performance.now();
      const probed = await probeFilesystem(served, place, signal);
      const { type, label } = probed;
      if (hasNothingToCheck(type)) continue;
      if (MEMBERS.has(type)) {
        members.push({ disk: disk.name, ...place, ...probed, partitionUuid: '' });
        continue;
      }
      const name = `volume${place.partition ?? 0}`;
      const finding = await checkPlace({ served, place, type, directory, name }, context);
      const durationMs = Math.round(performance.now() - startedMs);
      const { partition } = place;
      volumes.push({
        disk: disk.name,
        ...(partition === undefined ? {} : { partition }),
        type,
        label,
        ...finding,
        durationMs,
      });
      if (type === 'ntfs' && finding.result !== 'damaged') {
        for (const hive of await hivesAt(served, place, signal)) hives.push({ disk: disk.name, ...hive });
      }
    }
    return { volumes, hives, members };
  } finally {
    await server.stop();
    await rm(path, { force: true });
  }
}

async function checkComposed(
  members: readonly MemberDisk[],
  directory: string,
  context: VerbContext,
): Promise<CheckedVolume[]> {
  const { signal } = context;
  const undo: (() => Promise<void>)[] = [];
  const checked: CheckedVolume[] = [];
  try {
    const { volumes, problems } = await openComposedVolumes(members, {
      directory,
      mountable: CHECKED_TYPES,
      signal,
      undo,
    });
    for (const [index, { filesystem, served }] of volumes.entries()) {
      const { type, label, disk, lengthBytes, volume } = filesystem;
      if (hasNothingToCheck(type)) continue;
      const startedMs = performance.now();
      const place = { offsetBytes: 0, lengthBytes };
      const finding: Finding = served
        ? await checkPlace({ served: served.path, place, type, directory, name: `composed${index}` }, context)
        : { result: 'not-checked', detail: type === '' ? NOTHING_KNOWN : `there is no checker for ${type}` };
      const durationMs = Math.round(performance.now() - startedMs);
      checked.push({ disk, volume: volume?.name ?? '', type, label, ...finding, durationMs });
    }
    // Of which disk cannot be said of what is not there.
    const disk = members[0]?.name ?? '';
    const unopened = { disk, volume: '', type: '', label: '', result: 'not-checked', durationMs: 0 } as const;
    checked.push(...problems.map((detail) => ({ ...unopened, detail })));
    return checked;
  } finally {
    for (const step of undo.toReversed()) await step();
  }
}

async function hivesAt(served: string, place: Place, signal: AbortSignal): Promise<CheckedHive[]> {
  const device = await openFileDevice(served);
  try {
    return await checkHives(await openNtfs(sliceDevice(device, place), { signal }), signal);
  } finally {
    await device.close();
  }
}

interface Place {
  readonly partition?: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

async function placesOn(path: string, signal: AbortSignal): Promise<Place[]> {
  const device = await openFileDevice(path);
  try {
    const table = await readPartitionTable(device, { signal });
    if (table.scheme === 'none') return [{ offsetBytes: 0, lengthBytes: device.sizeBytes }];
    return table.partitions
      .filter(({ role, type }) => role !== 'extended' && !WITHOUT_FILESYSTEM.includes(type))
      .map(({ number, startBytes, lengthBytes }) => ({ partition: number, offsetBytes: startBytes, lengthBytes }));
  } finally {
    await device.close();
  }
}

async function checkPlace(
  what: {
    readonly served: string;
    readonly place: Place;
    readonly type: string;
    readonly directory: string;
    /** Of what is made there meanwhile. */
    readonly name: string;
  },
  { signal, progress }: VerbContext,
): Promise<Finding> {
  const { served, place, type, directory, name } = what;
  if (type === '') {
    // An empty partition, the gap of a BIOS boot loader, or what nobody knows: it cannot be told which.
    return { result: 'not-checked', detail: NOTHING_KNOWN };
  }
  if (type === 'ntfs') {
    const why = await unclosedNtfs(served, place, signal);
    if (why) return why;
  }
  progress({ phase: 'filesystems', doneBytes: place.offsetBytes, detail: `${type} on ${name}` });
  const loop = await loopDevice({
    path: served,
    offsetBytes: place.offsetBytes,
    sizeLimitBytes: place.lengthBytes,
    readOnly: false,
    directory,
    name,
    signal,
  });
  try {
    const replay = await replayJournal({ type, device: loop.path, directory, name, signal });
    if (replay.includes(FOUND_DAMAGED)) return { result: 'damaged', detail: replay };
    const found = await checkVolume(type, loop.path, signal);
    // Without a replay a checker may find damage that is none; that it finds none stands.
    if (replay === '' || found.result === 'sound') return found;
    return { result: 'not-checked', detail: `${replay}; ${found.detail}` };
  } finally {
    await loop.detach();
  }
}

/** Its log can be replayed by Windows alone; before that, its tables may look damaged and be none. */
async function unclosedNtfs(served: string, place: Place, signal: AbortSignal): Promise<Finding | undefined> {
  const device = await openFileDevice(served);
  try {
    const { hasOpenLog, isDirty } = await openNtfs(sliceDevice(device, place), { signal });
    if (!hasOpenLog && !isDirty) return undefined;
    const detail = hasOpenLog ? 'its log is open, and only Windows replays it' : 'Windows wants chkdsk to look at it';
    return { result: 'not-checked', detail };
  } catch (error) {
    if (!hasCode(error, 'guest.filesystem-unreadable')) throw error;
    return { result: 'damaged', detail: error.message };
  } finally {
    await device.close();
  }
}

/** Resolves with why the journal could not be replayed; empty when it was, or there is none. */
async function replayJournal(what: {
  readonly type: string;
  readonly device: string;
  readonly directory: string;
  readonly name: string;
  readonly signal: AbortSignal;
}): Promise<string> {
  const { type, device, directory, name, signal } = what;
  if (EXT.has(type)) {
    // 8 and more: it could not; the check that follows says what is wrong.
    const options = { timeoutMs: REPLAY_TIMEOUT_MS, okCodes: [0, 1, 2, 4, 8, 12], signal };
    await runTool('e2fsck', ['-y', '-E', 'journal_only', device], options);
    return '';
  }
  if (type !== 'xfs') return '';
  try {
    // Read-only, and it replays all the same, as the device can be written to.
    const mount = await mountFilesystem({ device, type, readOnly: true, options: ['nouuid'], directory, name, signal });
    await mount.unmount();
    return '';
  } catch (error) {
    if (!hasCode(error, 'host.tool-failed')) throw error;
    return `its log was not replayed: ${messageOf(error)}`;
  }
}
