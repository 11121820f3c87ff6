/**
 * State directories for one run each, side by side: `<parent>/<run>`. A run holds the lock of its directory while it
 * lives; one without a living holder is either kept on purpose (`kept` lies in it) or was left by a run that was killed.
 */
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import type { Random } from '@lifeboat/foundation/random';
import { takeLock, type FileLock } from '@lifeboat/host/file-lock';
import { mountsBeneath } from '@lifeboat/host/mounts';
import { passageMode } from '@lifeboat/host/state';

const LOCK = 'run.lock';
const KEPT = 'kept';
const EVIDENCE = /\.(log|png)$/;
const NAME = /^[0-9]{8}t[0-9]{6}-[0-9a-f]{4}$/;

export interface RunDirectory {
  readonly name: string;
  readonly path: string;
  /** Leaves it for a person; it is not removed as a dead one then. */
  keep(): Promise<void>;
  /** Removes it with all it holds, and lets go. Errors: `internal.bug` while something is mounted beneath. */
  remove(): Promise<void>;
  /** Removes all but logs and screenshots, for whoever looks into a failure, and lets go. */
  removeExceptEvidence(): Promise<void>;
  /** Lets go and leaves it as it is. */
  release(): Promise<void>;
}

/** A new directory under `parent`, locked by this process. QEMU's account may pass through it. */
export async function createRunDirectory(
  parent: string,
  options: { readonly nowMs: number; readonly random: Random },
): Promise<RunDirectory> {
  const stamp = new Date(options.nowMs)
    .toISOString()
    .replaceAll(/[-:]|\.\d+Z$/g, '')
    .toLowerCase();
  const name = `${stamp}-${Buffer.from(options.random.bytes(2)).toString('hex')}`;
  const path = join(parent, name);
  await mkdir(parent, { recursive: true, mode: passageMode() });
  await mkdir(path, { mode: passageMode() });
  const lock = await takeLock(join(path, LOCK), { waitMs: 0 });
  if (!lock) throw new LifeboatError('internal.bug', `${path} was just made and is locked by another process`);
  return runDirectory({ name, path, lock });
}

/** Runs whose process is gone, locked by this one now; the kept ones only when asked for. */
export async function takeAbandonedRuns(
  parent: string,
  options: { readonly includeKept: boolean },
): Promise<RunDirectory[]> {
  const taken: RunDirectory[] = [];
  for (const name of (await entries(parent)).filter((entry) => NAME.test(entry)).sort()) {
    const path = join(parent, name);
    const lock = await takeLock(join(path, LOCK), { waitMs: 0 });
    if (!lock) continue;
    if (!options.includeKept && (await entries(path)).includes(KEPT)) await lock.release();
    else taken.push(runDirectory({ name, path, lock }));
  }
  return taken;
}

function runDirectory({ name, path, lock }: { name: string; path: string; lock: FileLock }): RunDirectory {
  return {
    name,
    path,
    keep: () => writeFile(join(path, KEPT), ''),
    async removeExceptEvidence() {
      await assertNothingMounted(path);
      for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
        const keep = entry.isDirectory() || EVIDENCE.test(entry.name) || entry.name === LOCK;
        if (!keep) await rm(join(entry.parentPath, entry.name), { force: true });
      }
      await lock.release();
    },
    async remove() {
      await assertNothingMounted(path);
      // The lock last: while it is held nobody else starts to remove.
      for (const entry of await entries(path)) {
        if (entry !== LOCK) await rm(join(path, entry), { recursive: true, force: true });
      }
      await rm(path, { recursive: true, force: true });
      await lock.release();
    },
    release: () => lock.release(),
  };
}

async function assertNothingMounted(path: string): Promise<void> {
  const mounts = await mountsBeneath(path);
  if (mounts.length === 0) return;
  const places = mounts.map((mount) => mount.path).join(', ');
  throw new LifeboatError('internal.bug', `${path} is not removed: ${places} is still mounted`, { context: { path } });
}

async function entries(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}
