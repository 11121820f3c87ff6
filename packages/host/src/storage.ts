/**
 * What a path really is. Links, bind mounts and aliases of a device give one thing many names; a loop device gives a file a
 * second one; a partition or a mapped device is a piece of another device.
 */
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { systemCode } from '@lifeboat/foundation/errors';
import { deviceNumber } from './device-number.ts';
import { attachedLoops, type AttachedLoop } from './loop-device.ts';

export interface Storage {
  /** Its identities: of the file or device, and of what a loop device shows in another form. */
  readonly own: ReadonlySet<string>;
  /** `own`, and every file and device whose bytes it consists of: the disk of a partition, what a mapped device is made of. */
  readonly all: ReadonlySet<string>;
}

/** Undefined when there is nothing at this path. Errors: those of the filesystem, when it cannot be looked at. */
export async function storageAt(path: string): Promise<Storage | undefined> {
  const identity = await identityOf(path);
  if (identity === undefined) return undefined;
  const loops = await attachedLoops();
  const own = new Set<string>();
  for (let at: string | undefined = identity; at !== undefined && !own.has(at); at = await behindLoop(at, loops)) {
    own.add(at);
  }
  const all = new Set(own);
  // A set that grows while it is walked is walked to its end.
  for (const each of all) {
    for (const part of await partsOf(each)) all.add(part);
    const behind = await behindLoop(each, loops);
    if (behind !== undefined) all.add(behind);
  }
  return { own, all };
}

/** Whether a write to one may be a write to the other. Two partitions of one disk do not meet. */
export function meet(a: Storage, b: Storage): boolean {
  return [...a.own].some((each) => b.all.has(each)) || [...b.own].some((each) => a.all.has(each));
}

/** Loop devices that stand on this, other than itself and those it consists of. */
export async function loopsOn(storage: Storage): Promise<string[]> {
  const found: string[] = [];
  for (const loop of await attachedLoops()) {
    const device = await identityOf(loop.device);
    if (device !== undefined && storage.all.has(device)) continue;
    const file = await fileBehind(loop);
    if (file !== undefined && storage.own.has(file)) found.push(loop.device);
  }
  return found;
}

async function identityOf(path: string): Promise<string | undefined> {
  try {
    const stats = await stat(path, { bigint: true });
    if (stats.isBlockDevice()) return deviceIdentity(deviceNumber(stats.rdev));
    return fileIdentity(deviceNumber(stats.dev), stats.ino);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function behindLoop(identity: string, loops: readonly AttachedLoop[]): Promise<string | undefined> {
  for (const loop of loops) {
    if ((await identityOf(loop.device)) === identity) return fileBehind(loop);
  }
  return undefined;
}

async function fileBehind({ path, file }: AttachedLoop): Promise<string | undefined> {
  // It may stand on another device, which the inode of its node would not tell.
  if (path.startsWith('/dev/')) return identityOf(path);
  // Without an inode its FUSE server is dead: nothing that can be looked at is the same.
  return file && fileIdentity(file.fileDevice, BigInt(file.inode));
}

/** Of a partition its disk, of a mapped device or an array its members, as the kernel's sysfs says. */
async function partsOf(identity: string): Promise<string[]> {
  const [kind, number = ''] = identity.split(' ');
  if (kind !== 'device') return [];
  const directory = `/sys/dev/block/${number}`;
  const members = await ifThere(readdir(join(directory, 'slaves')));
  const parts = (members ?? []).map((name) => join(directory, 'slaves', name));
  if ((await ifThere(stat(join(directory, 'partition')))) !== undefined) parts.push(dirname(await realpath(directory)));
  return Promise.all(parts.map(async (part) => deviceIdentity((await readFile(join(part, 'dev'), 'utf8')).trim())));
}

async function ifThere<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function deviceIdentity(number: string): string {
  return `device ${number}`;
}

function fileIdentity(fileDevice: string, inode: bigint): string {
  return `file ${fileDevice} ${inode}`;
}
