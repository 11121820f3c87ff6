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
 * What cannot be checked (encrypted, a volume of LVM or MD, a filesystem without checker) is named, and never counts as sound.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openFileDevice } from '@lifeboat/disk/file-device';
import { partitionTypes, readPartitionTable } from '@lifeboat/disk/partition-table';
import { hasCode, messageOf } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { KiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import { serveDiskImage } from '@lifeboat/host/disk-image-server';
import { loopDevice } from '@lifeboat/host/loop-device';
import { mountFilesystem } from '@lifeboat/host/mounts';
import type { GuestDisk } from '../access/open-guest.ts';
import { probeFilesystem } from '../access/probe-filesystem.ts';
import { checkVolume, hasNothingToCheck, type Finding } from './volume-checkers.ts';

const CLUSTER_BYTES = 64 * KiB;
const REPLAY_TIMEOUT_MS = 600_000;
const EXT = new Set(['ext3', 'ext4']);
/** GPT types whose contents are no filesystem: the core of GRUB, and what Microsoft keeps free. */
const WITHOUT_FILESYSTEM: readonly string[] = [partitionTypes.biosBoot, 'e3c9e316-0b5c-4db8-817d-f92df00215ae'];
/** What mount(8) says when the kernel found its metadata wrong. */
const FOUND_DAMAGED = 'Structure needs cleaning';

export interface CheckedVolume extends Finding {
  readonly disk: string;
  /** Absent: the whole disk. */
  readonly partition?: number;
  /** Empty: nothing that is known was found there. */
  readonly type: string;
  readonly label: string;
  readonly durationMs: number;
}

/** Errors: those of the host room. What is wrong with a volume is in its result. */
export async function checkVolumes(
  access: { readonly disks: readonly GuestDisk[]; readonly directory: string },
  { signal, progress }: VerbContext,
): Promise<CheckedVolume[]> {
  await mkdir(access.directory, { recursive: true, mode: 0o700 });
  const checked: CheckedVolume[] = [];
  for (const disk of access.disks) {
    progress({ phase: 'filesystems', doneBytes: 0, detail: disk.name });
    checked.push(...(await checkDisk(disk, access.directory, { signal, progress })));
  }
  return checked;
}

async function checkDisk(disk: GuestDisk, directory: string, context: VerbContext): Promise<CheckedVolume[]> {
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
    const checked: CheckedVolume[] = [];
    for (const place of await placesOn(served, signal)) {
      signal.throwIfAborted();
      const startedMs = performance.now();
      const { type, label } = await probeFilesystem(served, place, signal);
      if (hasNothingToCheck(type)) continue;
      const finding = await checkPlace({ served, place, type, directory }, context);
      const durationMs = Math.round(performance.now() - startedMs);
      const { partition } = place;
      const where = { disk: disk.name, ...(partition === undefined ? {} : { partition }) };
      checked.push({ ...where, type, label, ...finding, durationMs });
    }
    return checked;
  } finally {
    await server.stop();
    await rm(path, { force: true });
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
  what: { readonly served: string; readonly place: Place; readonly type: string; readonly directory: string },
  { signal, progress }: VerbContext,
): Promise<Finding> {
  const { served, place, type, directory } = what;
  if (type === '') {
    // An empty partition, the gap of a BIOS boot loader, or what nobody knows: it cannot be told which.
    return { result: 'not-checked', detail: 'nothing that is known was found there' };
  }
  const name = `volume${place.partition ?? 0}`;
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
