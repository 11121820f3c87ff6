/**
 * Logical volumes and arrays of a guest's disks as files that can be written to, without the device mapper and without touching the
 * disks.
 *
 *   disk ── NBD, read-only ─┐
 *   disk ── NBD, read-only ─┴─ composed volume (disk/composed-volume.ts) ── NBD, read-only ── overlay ── FUSE file
 *
 * What is written lands in the volume's overlay; `runsOnDisks` then says which bytes of which disk that changes. Reads of the file go
 * through this process and through sockets alone, so that a thread that waits for a file waits for nobody who needs a thread.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { sliceDevice } from '@lifeboat/disk/bytes';
import { runsOnDisks, type Run } from '@lifeboat/disk/mapped-device';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { silentLog } from '@lifeboat/foundation/log';
import { KiB } from '@lifeboat/foundation/units';
import { serveDiskImage, type ImageFile, type NbdBacking } from '@lifeboat/host/disk-image-server';
import { NbdClient } from '@lifeboat/nbd/client';
import { serveNbd } from '@lifeboat/nbd/server';
import type { FilesystemInspection } from '../inspect/guest-inspection.ts';
import { addVolume, composeVolumes, type MadeVolume, type Volume } from '../inventory/compose-volumes.ts';

/** A filesystem block: one changed block copies no neighbours into the journal. QEMU then takes disks up to 8 TiB. */
export const OVERLAY_CLUSTER_BYTES = 4 * KiB;

const MEMBERS = new Set(['LVM2_member', 'linux_raid_member']);
const EXPORT_NAME = 'volume';

export interface MemberDisk {
  readonly name: string;
  readonly image: ImageFile | NbdBacking;
  readonly filesystems: readonly FilesystemInspection[];
}

export interface ComposedVolume {
  readonly filesystem: FilesystemInspection;
  /** Absent: it holds nothing that can be mounted. */
  readonly served?: {
    /** The volume with what is written to it, as a file. */
    readonly path: string;
    readonly overlayPath: string;
    /** Every place of a run of the volume on the disks, by the disks' names. */
    readonly locate: (run: Run) => readonly DiskPlace[];
  };
}

export interface DiskPlace extends Run {
  readonly disk: string;
  readonly volumeOffsetBytes: number;
}

export interface ComposedVolumes {
  readonly volumes: readonly ComposedVolume[];
  /** Sentences: what was not opened, and why. */
  readonly problems: readonly string[];
}

interface Context {
  /** The operation's directory. */
  readonly directory: string;
  /** Types that are served. */
  readonly mountable: ReadonlySet<string>;
  readonly signal: AbortSignal;
  /** Steps that take everything away again; to be run in reverse. */
  readonly undo: (() => Promise<void>)[];
}

/** Errors: those of the host and NBD rooms. A member that is missing or damaged is a problem, not an error. */
export async function openComposedVolumes(disks: readonly MemberDisk[], context: Context): Promise<ComposedVolumes> {
  const { signal } = context;
  const names = new Map<BlockDevice, string>();
  const parts: Volume[] = [];
  for (const disk of disks) {
    const members = disk.filesystems.filter(({ type }) => MEMBERS.has(type));
    if (members.length === 0) continue;
    const device = await openDisk(disk, context);
    names.set(device, disk.name);
    for (const { offsetBytes, lengthBytes, partition } of members) {
      const name = partition === undefined ? disk.name : `${disk.name} partition ${partition}`;
      await addVolume(parts, { name, device: sliceDevice(device, { offsetBytes, lengthBytes }) }, { signal });
    }
  }
  const problems: string[] = [];
  for (const { name, kind, layout, on, content } of await composeVolumes(parts, problems, { signal })) {
    if (content) continue;
    const what = kind === 'array' ? 'array' : 'logical volume';
    problems.push(`The ${what} ${name} (${layout}, on ${on.join(', ') || 'nothing that is there'}) cannot be opened.`);
  }
  const volumes: ComposedVolume[] = [];
  for (const part of parts) {
    const { made } = part;
    if (!made || MEMBERS.has(part.content.type)) continue;
    volumes.push(await openVolume({ ...part, made }, { ...context, names, number: volumes.length + 1 }));
  }
  return { volumes, problems };
}

async function openDisk({ name, image }: MemberDisk, { directory, signal, undo }: Context): Promise<NbdClient> {
  let target: NbdBacking;
  if ('path' in image) {
    const server = await serveDiskImage(
      {
        image: { kind: 'image', ...image, readOnly: true },
        nbd: { writable: false },
        directory,
        name: `${name}-below`,
      },
      { signal },
    );
    undo.push(() => server.stop());
    target = { nbdSocketPath: server.nbdSocketPath as string, nbdExportName: server.nbdExportName };
  } else target = image;
  const client = await NbdClient.connect(
    { socketPath: target.nbdSocketPath, exportName: target.nbdExportName },
    { signal },
  );
  undo.push(() => client.close());
  return client;
}

async function openVolume(
  { name, device, content, made }: Volume & { readonly made: MadeVolume },
  context: Context & { names: ReadonlyMap<BlockDevice, string>; number: number },
): Promise<ComposedVolume> {
  const { directory, names, number, signal, undo } = context;
  const nameOf = (disk: BlockDevice): string => {
    const found = names.get(disk);
    if (found === undefined) throw new LifeboatError('internal.bug', `${name} lies on a disk that was not opened`);
    return found;
  };
  const locate = (run: Run): DiskPlace[] =>
    runsOnDisks(device, run).map(({ device: disk, ...place }) => ({ disk: nameOf(disk), ...place }));
  const filesystem: FilesystemInspection = {
    disk: locate({ offsetBytes: 0, lengthBytes: 1 })[0]?.disk ?? '',
    offsetBytes: 0,
    lengthBytes: device.sizeBytes,
    type: content.type,
    uuid: content.kind === 'filesystem' ? content.uuid : '',
    label: content.kind === 'filesystem' ? content.label : '',
    partitionUuid: '',
    volume: { name, ...made },
  };
  if (!context.mountable.has(content.type)) return { filesystem };

  const socketPath = join(directory, `volume${number}.sock`);
  const overlayPath = join(directory, `volume${number}.overlay`);
  const nbd = await serveNbd({ socketPath, exports: new Map([[EXPORT_NAME, device]]), log: silentLog });
  undo.push(() => nbd.close());
  await rm(overlayPath, { force: true }); // a dead attempt's: worthless
  const server = await serveDiskImage(
    {
      image: {
        kind: 'overlay',
        path: overlayPath,
        clusterSizeBytes: OVERLAY_CLUSTER_BYTES,
        backing: { nbdSocketPath: socketPath, nbdExportName: EXPORT_NAME },
      },
      fuse: { writable: true },
      directory,
      name: `volume${number}`,
    },
    { signal },
  );
  undo.push(async () => {
    await server.stop();
    await rm(overlayPath, { force: true });
  });
  return { filesystem, served: { path: server.fusePath as string, overlayPath, locate } };
}
