/**
 * Change tracking: checkpoints `lb-<pointId>`, each with a dirty bitmap in every tracked image.
 *
 *   point 1        point 2        now
 *     ├─ bitmap 1 ───┤─ bitmap 2 ──┤      changes since point 1 = bitmap 1 + bitmap 2; libvirt joins them
 *
 * A bitmap lives in QEMU's memory and reaches the image when QEMU ends in order. After kill -9, or a crash of the host, it
 * is absent or marked inconsistent: nothing is known of the changes since, and only a comparison helps.
 */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { PointId } from '@lifeboat/foundation/ids';
import { runTool } from '@lifeboat/host/children';
import {
  checkpointByName,
  checkpointXml,
  deleteCheckpoint as deleteInLibvirt,
  listCheckpoints as listInLibvirt,
} from '@lifeboat/libvirt/backup-calls';
import type { LibvirtConnection } from '@lifeboat/libvirt/connection';
import { monitorCommand } from '@lifeboat/libvirt/guest-calls';
import type { CheckpointRef, DomainRef } from '@lifeboat/libvirt/references';
import { attributeOf, child, childrenOf, readXml, textOf } from '../xml/xml-reader.ts';
import { checkpointName, pointOfCheckpoint } from './backup-xml.ts';
import { inspectImage } from './disk-image.ts';
import { isRunning } from './domains.ts';
import type { DomainDisk } from './machine-description.ts';

const BITMAP_TIMEOUT_MS = 60_000;

/** Points that have a checkpoint on this domain, oldest first. */
export async function listPoints(connection: LibvirtConnection, domain: DomainRef): Promise<PointId[]> {
  const checkpoints = await listInLibvirt(connection, domain, { topological: true });
  return checkpoints.map(({ name }) => pointOfCheckpoint(name)).filter((pointId) => pointId !== undefined);
}

/** Why the bitmap since `pointId` cannot be used for this disk; undefined when it can. */
export async function bitmapDoubt(
  connection: LibvirtConnection,
  domain: DomainRef,
  disk: DomainDisk,
  pointId: PointId,
): Promise<string | undefined> {
  const checkpoint = await checkpointIfThere(connection, domain, pointId);
  if (!checkpoint)
    return `the machine has no checkpoint of point ${pointId}: it was made while the machine was off, or the checkpoint was removed`;
  if (!(await isRunning(connection, domain))) return stoppedDoubt(connection, checkpoint, disk);
  // With sizes libvirt joins all bitmaps since the checkpoint, and gives none when one is missing or inconsistent.
  let xml: string;
  try {
    xml = await checkpointXml(connection, checkpoint, { size: true });
  } catch (error) {
    if (hasCode(error, 'libvirt.checkpoint-inconsistent')) return inconsistent(disk, pointId);
    throw error;
  }
  const entry = diskIn(xml, disk.name);
  if (attributeOf(entry, '', 'checkpoint') !== 'bitmap')
    return `the checkpoint of ${pointId} does not cover ${disk.name}`;
  return attributeOf(entry, '', 'size') === undefined ? inconsistent(disk, pointId) : undefined;
}

/**
 * Removes the checkpoint and its bitmaps; what the bitmaps hold goes to the next older checkpoint. A broken bitmap cannot be
 * merged: then only libvirt's record and the remains in the image go. Idempotent.
 */
export async function deleteCheckpoint(
  connection: LibvirtConnection,
  domain: DomainRef,
  disks: readonly DomainDisk[],
  pointId: PointId,
): Promise<void> {
  const checkpoint = await checkpointIfThere(connection, domain, pointId);
  if (!checkpoint) return;
  try {
    const running = await isRunning(connection, domain);
    await (running ? deleteRunning(connection, checkpoint) : deleteStopped(connection, checkpoint, disks));
  } catch (error) {
    // Libvirt was still busy with the same request of an attempt that was killed, and has carried it out.
    if (!hasCode(error, 'libvirt.no-such-checkpoint')) throw error;
  }
}

async function deleteRunning(connection: LibvirtConnection, checkpoint: CheckpointRef): Promise<void> {
  try {
    await deleteInLibvirt(connection, checkpoint);
    return;
  } catch (error) {
    // A missing bitmap is an "internal error" to libvirt, an inconsistent one in a chain has a code of its own.
    if (!hasCode(error, 'libvirt.call-failed', 'libvirt.checkpoint-inconsistent', 'libvirt.operation-failed'))
      throw error;
  }
  await deleteInLibvirt(connection, checkpoint, { metadataOnly: true });
  await removeBrokenBitmaps(connection, checkpoint.domain, checkpoint.name);
}

async function checkpointIfThere(
  connection: LibvirtConnection,
  domain: DomainRef,
  pointId: PointId,
): Promise<CheckpointRef | undefined> {
  try {
    return await checkpointByName(connection, domain, checkpointName(pointId));
  } catch (error) {
    if (hasCode(error, 'libvirt.no-such-checkpoint')) return undefined;
    throw error;
  }
}

/** Of a machine that is off: the image itself says which bitmaps it holds. Only the newest checkpoint's is one bitmap. */
async function stoppedDoubt(
  connection: LibvirtConnection,
  checkpoint: CheckpointRef,
  disk: DomainDisk,
): Promise<string | undefined> {
  const newer = await childrenOfCheckpoint(connection, checkpoint);
  if (newer.length > 0) return `checkpoint ${newer.join(', ')} is newer, and the machine is shut off`;
  const { bitmaps } = await inspectImage(disk.path, disk.format);
  const bitmap = bitmaps.find(({ name }) => name === checkpoint.name);
  if (!bitmap || bitmap.broken) return `the dirty bitmap ${checkpoint.name} of ${disk.name} is missing or inconsistent`;
  return undefined;
}

async function childrenOfCheckpoint(connection: LibvirtConnection, checkpoint: CheckpointRef): Promise<string[]> {
  const names: string[] = [];
  for (const other of await listInLibvirt(connection, checkpoint.domain)) {
    const parent = textOf(readXml(await checkpointXml(connection, other)), 'parent/name');
    if (parent === checkpoint.name) names.push(other.name);
  }
  return names;
}

/** libvirt deletes checkpoints of running machines only; here the image is edited as libvirt would have QEMU do it. */
async function deleteStopped(
  connection: LibvirtConnection,
  checkpoint: CheckpointRef,
  disks: readonly DomainDisk[],
): Promise<void> {
  const xml = readXml(await checkpointXml(connection, checkpoint));
  const parent = textOf(xml, 'parent/name');
  const isNewest = (await childrenOfCheckpoint(connection, checkpoint)).length === 0;
  for (const disk of disks) {
    if (attributeOf(diskIn(xml, disk.name), '', 'checkpoint') !== 'bitmap') continue;
    const { bitmaps } = await inspectImage(disk.path, disk.format);
    const own = bitmaps.find(({ name }) => name === checkpoint.name);
    if (!own) continue;
    const into = bitmaps.find(({ name }) => name === parent);
    if (into && !into.broken && !own.broken) {
      const enable = isNewest ? ['--enable'] : [];
      await editBitmap(disk, ['--merge', own.name, ...enable], into.name);
    }
    await editBitmap(disk, ['--remove'], own.name);
  }
  await deleteInLibvirt(connection, checkpoint, { metadataOnly: true });
}

async function editBitmap(disk: DomainDisk, actions: readonly string[], bitmap: string): Promise<void> {
  await runTool('qemu-img', ['bitmap', ...actions, '-f', disk.format, disk.path, bitmap], {
    timeoutMs: BITMAP_TIMEOUT_MS,
  });
}

interface BlockDeviceInfo {
  readonly inserted?: {
    readonly 'node-name'?: string;
    readonly 'dirty-bitmaps'?: readonly { readonly name?: string; readonly inconsistent?: boolean }[];
  };
}

/** An inconsistent bitmap would stay in the image for ever once libvirt has forgotten it. */
async function removeBrokenBitmaps(connection: LibvirtConnection, domain: DomainRef, name: string): Promise<void> {
  const answer = await monitorCommand(connection, domain, JSON.stringify({ execute: 'query-block' }));
  for (const { inserted } of (JSON.parse(answer) as { return: readonly BlockDeviceInfo[] }).return) {
    const broken = inserted?.['dirty-bitmaps']?.some((bitmap) => bitmap.name === name && bitmap.inconsistent === true);
    const node = inserted?.['node-name'];
    if (!broken || node === undefined) continue;
    const command = { execute: 'block-dirty-bitmap-remove', arguments: { node, name } };
    const result = JSON.parse(await monitorCommand(connection, domain, JSON.stringify(command))) as {
      error?: { desc?: string };
    };
    if (result.error) {
      throw new LifeboatError('libvirt.operation-failed', `bitmap ${name} of ${domain.name}: ${result.error.desc}`, {
        context: { machine: domain.name, bitmap: name },
      });
    }
  }
}

function diskIn(xml: string | ReturnType<typeof readXml>, name: string): ReturnType<typeof readXml> | undefined {
  const root = typeof xml === 'string' ? readXml(xml) : xml;
  return childrenOf(child(root, 'disks'), 'disk').find((disk) => disk.attributes.get('name') === name);
}

function inconsistent(disk: DomainDisk, pointId: PointId): string {
  return `the dirty bitmap of ${disk.name} since ${pointId} is missing or inconsistent: QEMU or the host ended abruptly`;
}
