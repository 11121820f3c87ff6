/** Takes away what a dead attempt left in its operation's directory; the caller holds the operation's lock. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '@lifeboat/foundation/errors';
import { killRecorded } from './children.ts';
import { detachRecordedLoops } from './loop-device.ts';
import { mountsBeneath, unmount, type Mount } from './mounts.ts';

export interface Leftover {
  readonly kind: 'child' | 'loop' | 'mount';
  readonly name: string;
  /** False: it is still there. */
  readonly gone: boolean;
  readonly detail: string;
}

/**
 * From the top of the pile down, so that nothing is busy: children; filesystems; the loop devices they are on; then
 * the FUSE files these read. Children first although a served image would sync: of a dead attempt nobody uses what
 * was not synced, and a server that hangs would hang the unmounts. One failure does not stop the others.
 */
export async function clearLeftovers(directory: string): Promise<Leftover[]> {
  const found: Leftover[] = [];
  const rooms = await recordDirectories(directory);
  for (const room of rooms) await attempt(found, 'child', room, () => clearChildren(found, room));
  await unmountAll(found, directory, (mount) => !isServedFile(mount));
  for (const room of rooms) await attempt(found, 'loop', room, () => clearLoops(found, room));
  await unmountAll(found, directory, isServedFile);
  return found;
}

/** QEMU's account writes there: a record in it would be somebody's wish, not ours. */
const QEMU_DIRECTORY = 'qemu';

/**
 * Where records may lie: the directory and what an operation divides it into. Mount points (`*.mnt`) are never looked into:
 * what is in them was written by a guest.
 */
async function recordDirectories(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  const parts = entries.filter(
    (entry) => entry.isDirectory() && entry.name !== QEMU_DIRECTORY && /^[a-z0-9-]+$/.test(entry.name),
  );
  return [directory, ...parts.map(({ name }) => join(directory, name))];
}

async function clearChildren(found: Leftover[], directory: string): Promise<void> {
  for (const { name, pid, outcome } of await killRecorded(directory)) {
    found.push({
      kind: 'child',
      name,
      gone: outcome !== 'unreadable',
      detail: pid === undefined ? outcome : `${outcome}, pid ${pid}`,
    });
  }
}

async function clearLoops(found: Leftover[], directory: string): Promise<void> {
  for (const { name, device, outcome } of await detachRecordedLoops(directory)) {
    found.push({
      kind: 'loop',
      name,
      gone: outcome !== 'unreadable',
      detail: device === undefined ? outcome : `${outcome}, ${device}`,
    });
  }
}

/** An image shown as a file (qemu-storage-daemon, nbdfuse); `fuseblk` is a filesystem on a device (ntfs-3g). */
function isServedFile(mount: Mount): boolean {
  return mount.type === 'fuse' || mount.type.startsWith('fuse.');
}

async function unmountAll(found: Leftover[], directory: string, which: (mount: Mount) => boolean): Promise<void> {
  const mounts = (await mountsBeneath(directory)).filter(which);
  for (const { path } of mounts.toReversed()) {
    await attempt(found, 'mount', path, async () => {
      await unmount(path);
      found.push({ kind: 'mount', name: path, gone: true, detail: 'unmounted' });
    });
  }
}

async function attempt(
  found: Leftover[],
  kind: Leftover['kind'],
  name: string,
  step: () => Promise<void>,
): Promise<void> {
  try {
    await step();
  } catch (error) {
    found.push({ kind, name, gone: false, detail: messageOf(error) });
  }
}
