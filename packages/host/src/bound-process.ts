/**
 * Spawning processes that the kernel ends when we end.
 *
 *   node (main thread) ── setpriv --pdeathsig KILL ── sh (is that parent still mine?) ── exec program
 *
 * 1. The kernel kills a child when the thread that spawned it ends, also by kill -9. The thread, not the process:
 *    hence the main thread only.
 * 2. A parent that dies between fork and setpriv's prctl would go unnoticed, so a line of shell compares the parent's
 *    pid after the prctl and ends if it changed.
 *
 * Not guaranteed: the parent's death does not reach grandchildren.
 */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { isMainThread } from 'node:worker_threads';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { signalGroup } from './process-identity.ts';
import { findProgram, searchPath } from './programs.ts';

/** How long output may stay open after its program ended, held by a grandchild, before it is cut off. */
const DRAIN_LIMIT_MS = 2000;

// `$0` is the pid of the parent that must still be ours once the death signal is set; 125 is env(1)'s "could not run".
const STILL_MINE = '[ "$PPID" = "$0" ] || exit 125; exec "$@"';

/** Spawns a process in its own group that the kernel kills when this thread ends. */
export async function spawnBound(
  command: string,
  args: readonly string[],
  options: SpawnOptions,
): Promise<ChildProcess> {
  if (!isMainThread) {
    throw new LifeboatError(
      'internal.bug',
      `'${command}' was to be started from a worker thread; its death signal would follow that thread`,
    );
  }
  const env = options.env ?? process.env;
  const setpriv = await findProgram('setpriv', env);
  const program = await findProgram(command, env);
  const bound = ['--pdeathsig', 'KILL', '--', 'sh', '-c', STILL_MINE, String(process.pid), program, ...args];
  const child = spawn(setpriv, bound, { ...options, detached: true });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) => {
      reject(
        new LifeboatError('host.tool-failed', `'${command}' could not be started: ${cause.message}`, {
          cause,
          context: { command },
        }),
      );
    });
  });
  // Later errors are failed signals to a child that is gone; `exit` is what we go by.
  child.on('error', () => {});
  return child;
}

export function environment(options: { env?: Readonly<Record<string, string>>; cwd?: string }): SpawnOptions {
  return {
    env: { ...process.env, LC_ALL: 'C', PATH: searchPath(process.env), ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  };
}

export function kill(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): void {
  // Once Node has reaped it the pid may belong to somebody else.
  if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) signalGroup(child.pid, signal);
}

/** Resolves when the child has ended and its output is read, or is held open by a grandchild past the limit. */
export function ended(child: ChildProcess): Promise<{ code: number | null; signal: string | null }> {
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => {
      const cutOff = setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
        resolve({ code, signal });
      }, DRAIN_LIMIT_MS);
      child.once('close', () => {
        clearTimeout(cutOff);
        resolve({ code, signal });
      });
    });
  });
}
