/** A device or file that a disk is about to be written over: refused when anything on this host uses it, whatever its name. */
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileDeviceOver } from '@lifeboat/disk/file-device';
import type { WritableBlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';
import { formatBytes } from '@lifeboat/foundation/units';
import { differences, type DiskIdentity, findDisks, identifyDisk } from '@lifeboat/host/disk-identity';
import { loopsOn, meet, type Storage, storageAt } from '@lifeboat/host/storage';
import type { Hypervisor } from '@lifeboat/hypervisor/port';

export interface ClaimedTarget {
  readonly path: string;
  /** Of what is open, not of what the path names by now. */
  readonly identity: DiskIdentity;
  /** Leads to what is open, whatever the path names by now; as long as it is claimed. */
  readonly ownPath: string;
  /** Looks again, and compares. Errors: `engine.target-changed`. */
  assertSame(expected: DiskIdentity): Promise<void>;
  /** What is claimed, as a disk. Closing it keeps the claim. */
  asDisk(): WritableBlockDevice;
  release(): Promise<void>;
}

/** How a target may be named besides by its path. */
const CHOICE = /^(serial|wwn|size):(.+)$/;

/**
 * The path of the one disk of this host that `serial:…`, `wwn:…` or `size:<bytes>` names; a path is given back as it is.
 * Errors: `engine.target-ambiguous` for none and for several.
 */
export async function chooseTarget(named: string, sysfs = '/sys'): Promise<string> {
  const [, by, value = ''] = CHOICE.exec(named) ?? [];
  if (by === undefined) return resolve(named);
  const found = await findDisks(by === 'size' ? { sizeBytes: Number(value) } : { [by]: value }, sysfs);
  const [only] = found;
  if (only && found.length === 1) return join('/dev', only.name.replaceAll('!', '/'));
  const which = found.map(({ name, identity }) => `${name} (${formatBytes(identity.sizeBytes)})`).join(', ');
  throw new LifeboatError(
    'engine.target-ambiguous',
    found.length === 0
      ? `no disk of this host has ${named}`
      : `${found.length} disks of this host have ${named}: ${which}`,
    { context: { named } },
  );
}

/**
 * While it is claimed, nobody can mount a block device or make it part of a volume. Errors: `input.invalid`,
 * `engine.target-in-use`, also when it cannot be told whether a machine runs from it.
 */
export async function claimTarget(hypervisor: Pick<Hypervisor, 'listSources'>, path: string): Promise<ClaimedTarget> {
  const handle = await openAlone(path);
  try {
    const target = await storageAt(path);
    if (!target) throw new LifeboatError('input.invalid', `target ${path} is gone`);
    const identity = await identifyDisk(handle);
    const [loop] = await loopsOn(target);
    if (loop !== undefined) throw inUse(path, `loop device ${loop} stands on it`);
    for (const machine of await hypervisor.listSources()) {
      for (const source of machine.paths) {
        const storage = await storageOf(source, path, machine.machine);
        if (storage && meet(storage, target)) throw inUse(path, `machine ${machine.machine} runs from it`);
      }
      const [untold] = machine.untold;
      if (untold !== undefined) {
        throw inUse(path, `that machine ${machine.machine} does not run from it cannot be told, as ${untold}`);
      }
    }
    return {
      path,
      identity,
      assertSame: async (expected) => {
        const differing = differences(expected, await identifyDisk(handle));
        if (differing.length === 0) return;
        throw new LifeboatError(
          'engine.target-changed',
          `${path} is not the disk that was shown: ${differing.join(', ')}`,
          {
            context: { path },
          },
        );
      },
      ownPath: `/proc/${process.pid}/fd/${handle.fd}`,
      asDisk: () => fileDeviceOver({ handle, devicePath: path, sizeBytes: identity.sizeBytes }),
      release: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openAlone(path: string): Promise<FileHandle> {
  try {
    const stats = await stat(path);
    // The kernel refuses exclusive use of a device that is mounted, part of LVM or MD, or open exclusively.
    if (stats.isBlockDevice()) return await open(path, constants.O_RDWR | constants.O_EXCL);
    if (stats.isFile()) return await open(path, constants.O_RDWR);
  } catch (cause) {
    const code = systemCode(cause) ?? 'unknown';
    if (code === 'EBUSY') throw inUse(path, 'it is mounted or part of a volume');
    throw new LifeboatError('input.invalid', `target ${path} cannot be opened (${code})`, { cause });
  }
  throw new LifeboatError('input.invalid', `target ${path} is neither a file nor a block device`);
}

async function storageOf(source: string, path: string, machine: string): Promise<Storage | undefined> {
  try {
    return await storageAt(source);
  } catch (error) {
    throw inUse(path, `that machine ${machine} does not run from it cannot be told: ${messageOf(error)}`);
  }
}

function inUse(path: string, how: string): LifeboatError {
  return new LifeboatError('engine.target-in-use', `${path} is in use: ${how}`, { context: { path } });
}
