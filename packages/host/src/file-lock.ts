/**
 * A lock that the kernel takes back when its holder dies.
 *
 * flock(2) locks belong to the open file description. Node has no flock, so `flock 3` runs with our descriptor as its
 * 3: the lock it takes stays on our description when it ends, and goes when we close it or die. No child of ours keeps
 * it, because Node opens files close-on-exec.
 *
 * Who removes a locked file holds its lock; so after the lock is taken, the path must still lead to the file that was
 * locked. If not, the lock is on a removed file and worth nothing: once more, with the new one.
 */
import { open, stat, type FileHandle } from 'node:fs/promises';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import { runTool } from './children.ts';

/** Exit code we give flock(1) for "held by another"; its own errors are 64 and up to 78. */
const HELD = 99;
const TOOL_SLACK_MS = 10_000;

export interface FileLock {
  /** May be called again. */
  release(): Promise<void>;
}

/**
 * Takes the lock within `waitMs`; undefined if another holds it that long. Creates the file, not its directory.
 * Errors: the system's (`ENOENT` if the directory is gone); an abort throws the signal's reason.
 */
export async function takeLock(
  path: string,
  options: { waitMs: number; signal?: AbortSignal },
): Promise<FileLock | undefined> {
  const deadlineMs = systemClock.monotonicMs() + options.waitMs;
  for (;;) {
    const file = await open(path, 'a', 0o600);
    let keep = false;
    try {
      const waitMs = Math.max(0, deadlineMs - systemClock.monotonicMs());
      if (!(await lockDescription(file, waitMs, options.signal))) return undefined;
      if (await leadsTo(path, file)) {
        keep = true;
        return { release: () => file.close() };
      }
    } finally {
      if (!keep) await file.close();
    }
  }
}

async function lockDescription(file: FileHandle, waitMs: number, signal: AbortSignal | undefined): Promise<boolean> {
  const wait = waitMs > 0 ? ['-w', (waitMs / 1000).toFixed(3)] : ['-n'];
  const { code } = await runTool('flock', ['-x', '-E', String(HELD), ...wait, '3'], {
    timeoutMs: waitMs + TOOL_SLACK_MS,
    okCodes: [0, HELD],
    descriptors: [file.fd],
    ...(signal ? { signal } : {}),
  });
  return code === 0;
}

async function leadsTo(path: string, file: FileHandle): Promise<boolean> {
  const locked = await file.stat();
  try {
    const there = await stat(path);
    return there.ino === locked.ino && there.dev === locked.dev;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

export function assertLocked(lock: FileLock | undefined, what: string, waitMs: number): asserts lock is FileLock {
  if (lock === undefined) {
    throw new LifeboatError(
      'host.operation-busy',
      `${what} is held by another process and was not let go within ${waitMs} ms`,
      {
        context: { what, waitMs },
      },
    );
  }
}
