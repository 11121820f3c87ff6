/** A device or file that a disk is about to be written over: refused when anything on this host uses it, whatever its name. */
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';
import { loopsOn, meet, type Storage, storageAt } from '@lifeboat/host/storage';
import type { Hypervisor } from '@lifeboat/hypervisor/port';

export interface ClaimedTarget {
  release(): Promise<void>;
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
  } catch (error) {
    await handle.close();
    throw error;
  }
  return { release: () => handle.close() };
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
