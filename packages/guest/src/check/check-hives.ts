/** The registry of a Windows on an NTFS volume, read to its last key and value: with what its logs hold, as Windows would have it. */
import { findNtfs, type NtfsVolume } from '@lifeboat/disk/files/ntfs';
import { hasCode } from '@lifeboat/foundation/errors';
import { RegistryHive, type RegistryKey } from '../windows/registry/registry-hive.ts';

const DIRECTORIES = ['Windows', 'WINNT'];
const CONFIG = 'System32/config';
/** Without these Windows does not start, or nobody signs in. */
const HIVES = ['SYSTEM', 'SOFTWARE', 'SAM', 'SECURITY', 'DEFAULT', 'DRIVERS', 'BCD-Template'];
const MAX_LOG_BYTES = 64 * 1024 * 1024;
/** A large installation has a million. */
const MAX_KEYS = 5_000_000;
/** Windows allows 512. */
const MAX_DEPTH = 512;

export interface CheckedHive {
  /** On its volume. */
  readonly path: string;
  readonly result: 'sound' | 'damaged';
  readonly detail: string;
}

/** None where there is no Windows. Errors: those of the device; what is wrong with a hive is in its result. */
export async function checkHives(volume: NtfsVolume, signal: AbortSignal): Promise<CheckedHive[]> {
  const checked: CheckedHive[] = [];
  for (const directory of DIRECTORIES) {
    for (const name of HIVES) {
      const path = `${directory}/${CONFIG}/${name}`;
      try {
        if (!(await findNtfs(volume.root, path))) continue;
        await readHive(volume, path, signal);
        checked.push({ path, result: 'sound', detail: '' });
      } catch (error) {
        if (!hasCode(error, 'guest.hive-unreadable', 'guest.hive-dirty', 'guest.filesystem-unreadable')) throw error;
        checked.push({ path, result: 'damaged', detail: error.message });
      }
    }
  }
  return checked;
}

async function readHive(volume: NtfsVolume, path: string, signal: AbortSignal): Promise<void> {
  const file = await findNtfs(volume.root, path);
  if (!file) return;
  const logs: (() => Promise<Buffer>)[] = [];
  for (const suffix of ['.LOG1', '.LOG2', '.LOG']) {
    const log = await findNtfs(volume.root, `${path}${suffix}`);
    if (log?.kind === 'file') logs.push(() => log.read(MAX_LOG_BYTES));
  }
  const hive = await RegistryHive.open({ hive: file, logs, what: path });
  const pending: { readonly key: RegistryKey; readonly depth: number }[] = [{ key: await hive.root(), depth: 0 }];
  for (let keys = 1; pending.length > 0;) {
    signal.throwIfAborted();
    const { key, depth } = pending.pop() as (typeof pending)[number];
    await key.values();
    const subkeys = await key.subkeys();
    keys += subkeys.length;
    // A key that is its own descendant is damage as well, and without an end.
    if (depth > MAX_DEPTH || keys > MAX_KEYS)
      throw hive.unreadable(`'${key.name}' lies too deep, or there are too many`);
    pending.push(...subkeys.map((subkey) => ({ key: subkey, depth: depth + 1 })));
  }
}
