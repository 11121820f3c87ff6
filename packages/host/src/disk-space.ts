import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import { formatBytes } from '@lifeboat/foundation/units';

/** What this account may still write on the filesystem of a path; of its nearest parent if it does not exist yet. */
export async function freeBytes(path: string): Promise<number> {
  for (let at = path; ; at = dirname(at)) {
    try {
      const { bavail, bsize } = await statfs(at);
      return bavail * bsize;
    } catch (error) {
      if (systemCode(error) !== 'ENOENT' || at === dirname(at)) throw error;
    }
  }
}

/**
 * Refuses before the work starts what could only fail in the middle of it. `what` needs the space, for the message.
 * Not a reservation: others may use the space meanwhile. Errors: `disk.full`.
 */
export async function ensureFree(path: string, neededBytes: number, what: string): Promise<void> {
  const free = await freeBytes(path);
  if (free >= neededBytes) return;
  throw new LifeboatError(
    'disk.full',
    `${what} needs ${formatBytes(neededBytes)} (${neededBytes} bytes) in ${path}, where ${formatBytes(free)} (${free} bytes) are free`,
    { context: { path, neededBytes, freeBytes: free } },
  );
}
