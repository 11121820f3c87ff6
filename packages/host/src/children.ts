/**
 * Child processes that never outlive their purpose: tools that run to their end, and servers that run as long as we do.
 * The kernel ends both when we end, however we end (bound-process.ts).
 *
 * A long-lived child leaves `<name>.pid` (pid, start time, boot) in its operation's directory, so that the next attempt
 * and the reaper end it should that ever fail.
 *
 * Not guaranteed: grandchildren are killed by `stop`, a timeout or an abort (the whole process group), but not by our
 * death; and between reading a start time and the signal a pid could in theory be reused (Node has no pidfd).
 */
import type { ChildProcess } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';
import { ended, environment, kill, spawnBound } from './bound-process.ts';
import { CappedLog } from './capped-log.ts';
import { readRecord, removeIfThere, writeDurably } from './durable-file.ts';
import {
  identifyProcess,
  parseProcessIdentity,
  signalGroup,
  stillRuns,
  type ProcessIdentity,
} from './process-identity.ts';

const DEFAULT_OUTPUT_BYTES = 4 * MiB;
const STDERR_TAIL_BYTES = 4096;
const DEFAULT_LOG_BYTES = 4 * MiB;
const DEFAULT_GRACE_MS = 5000;
/** From KILL to gone. Longer means a process stuck in the kernel (state D), which no signal ends. */
const KILL_LIMIT_MS = 10_000;
const GONE_POLL_MS = 10;
const PID_SUFFIX = '.pid';

export interface ToolOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly stdin?: string | Uint8Array;
  /** More on stdout fails the call: a cut answer must not be parsed as a whole one. Default 4 MiB. */
  readonly maxOutputBytes?: number;
  /** Added to our environment. `LC_ALL` is `C` unless given here, so that answers can be parsed. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Exit codes that are not a failure. Default `[0]`; e2fsck also says 1 for "repaired". */
  readonly okCodes?: readonly number[];
  /** Open descriptors of ours the program gets as 3, 4, … */
  readonly descriptors?: readonly number[];
}

export interface ToolResult {
  /** UTF-8 text of `stdoutBytes`. */
  readonly stdout: string;
  readonly stdoutBytes: Buffer;
  /** The last 4 KiB. */
  readonly stderr: string;
  readonly code: number;
}

/**
 * Runs a program to its end. It dies with this process; a timeout or an abort kills its whole process group.
 * Errors: `host.tool-missing`, `host.tool-failed` (with the last of stderr), `host.tool-timeout`,
 * `host.tool-output-too-big`, `host.child-stuck` (killed, but held in the kernel); an abort throws the signal's reason.
 */
export async function runTool(command: string, args: readonly string[], options: ToolOptions): Promise<ToolResult> {
  const { signal, timeoutMs, maxOutputBytes = DEFAULT_OUTPUT_BYTES, okCodes = [0] } = options;
  signal?.throwIfAborted();
  const child = await spawnBound(command, args, {
    ...environment(options),
    stdio: [options.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe', ...(options.descriptors ?? [])],
  });
  const what = `${command} ${args.join(' ')}`;
  const chunks: Buffer[] = [];
  let outputBytes = 0;
  let stderr: Buffer = Buffer.alloc(0);
  let failure: unknown;
  const stuck = Promise.withResolvers<never>();
  let stuckTimer: NodeJS.Timeout | undefined;
  const end = (reason: unknown): void => {
    if (failure !== undefined) return;
    failure = reason;
    kill(child, 'SIGKILL');
    stuckTimer = setTimeout(() => stuck.reject(stuckError(command, child.pid, reason)), KILL_LIMIT_MS);
  };

  child.stdout?.on('data', (chunk: Buffer) => {
    outputBytes += chunk.length;
    if (outputBytes <= maxOutputBytes) chunks.push(chunk);
    else {
      end(
        new LifeboatError('host.tool-output-too-big', `'${what}' printed more than ${maxOutputBytes} bytes`, {
          context: { command, maxOutputBytes },
        }),
      );
    }
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = Buffer.concat([stderr, chunk]).subarray(-STDERR_TAIL_BYTES);
  });
  // A program may end without reading all of its input (EPIPE); its exit code then says whether that was right.
  child.stdin?.on('error', () => {});
  child.stdin?.end(options.stdin);

  const timer = setTimeout(() => {
    end(
      new LifeboatError('host.tool-timeout', `'${what}' did not end within ${timeoutMs} ms`, {
        context: { command, timeoutMs },
      }),
    );
  }, timeoutMs);
  const onAbort = (): void => end(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    const exit = await Promise.race([ended(child), stuck.promise]);
    if (failure !== undefined) throw failure;
    const errorText = stderr.toString('utf8').trim();
    if (exit.code === null || !okCodes.includes(exit.code)) {
      throw new LifeboatError(
        'host.tool-failed',
        `'${what}' ${describeExit(exit)}: ${errorText || 'it said nothing'}`,
        {
          context: { command, code: exit.code ?? undefined, signal: exit.signal ?? undefined, stderr: errorText },
        },
      );
    }
    const stdoutBytes = Buffer.concat(chunks);
    return { stdout: stdoutBytes.toString('utf8'), stdoutBytes, stderr: errorText, code: exit.code };
  } finally {
    clearTimeout(timer);
    clearTimeout(stuckTimer);
    signal?.removeEventListener('abort', onAbort);
  }
}

export interface ChildOptions {
  /** The operation's directory: gets `<name>.pid` and `<name>.log`. */
  readonly directory: string;
  readonly name: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Of output kept on disk; the newest stays. Default 4 MiB. */
  readonly logLimitBytes?: number;
}

export interface ChildExit {
  readonly code: number | null;
  readonly signal: string | null;
}

/** A long-lived child that dies with this process. */
export interface Child {
  readonly name: string;
  readonly pid: number;
  readonly logPath: string;
  /** Resolves when it has ended, however it ended; never rejects. */
  readonly exited: Promise<ChildExit>;
  /** How it ended; undefined while it runs. */
  readonly exit: ChildExit | undefined;
  /** The last it printed, for messages. */
  outputTail(): string;
  /**
   * TERM to its process group, KILL after `graceMs` (default 5 s). Resolves when it is gone; may be called again.
   * Errors: `host.child-stuck` if even KILL does not end it.
   */
  stop(options?: { graceMs?: number }): Promise<ChildExit>;
}

/**
 * Starts a child for as long as this process lives, at most. Ready is the caller's to find out.
 * Errors: `host.tool-missing`; a program that starts and ends at once is seen by `exited`.
 */
export async function startChild(command: string, args: readonly string[], options: ChildOptions): Promise<Child> {
  const { directory, name } = options;
  const log = new CappedLog(join(directory, `${name}.log`), options.logLimitBytes ?? DEFAULT_LOG_BYTES);
  const pidPath = join(directory, `${name}${PID_SUFFIX}`);
  let spawned: ChildProcess;
  try {
    spawned = await spawnBound(command, args, { ...environment(options), stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    log.close();
    throw error;
  }
  const pid = spawned.pid as number;
  spawned.stdout?.on('data', (chunk: Buffer) => log.write(chunk));
  spawned.stderr?.on('data', (chunk: Buffer) => log.write(chunk));

  let exit: ChildExit | undefined;
  const exited = ended(spawned).then((result) => {
    exit = result;
    log.close();
    return result;
  });
  try {
    // Undefined: it has ended already, so there is nobody a pid file could lead to.
    const identity = await identifyProcess(pid);
    if (identity !== undefined) await writeDurably(pidPath, JSON.stringify({ ...identity, command }));
  } catch (error) {
    kill(spawned, 'SIGKILL');
    throw error;
  }

  const stop = async (graceMs: number): Promise<ChildExit> => {
    for (const [signal, limitMs] of [['SIGTERM', graceMs] as const, ['SIGKILL', KILL_LIMIT_MS] as const]) {
      if (exit === undefined) kill(spawned, signal);
      const result = await within(exited, limitMs);
      if (result !== undefined) {
        await removeIfThere(pidPath);
        return result;
      }
    }
    throw stuckError(`${name} (${command})`, pid);
  };
  let stopping: Promise<ChildExit> | undefined;
  return {
    name,
    pid,
    logPath: log.path,
    exited,
    get exit() {
      return exit;
    },
    outputTail: () => log.tail(),
    stop: (stopOptions = {}) =>
      (stopping ??= stop(stopOptions.graceMs ?? DEFAULT_GRACE_MS).catch((error: unknown) => {
        stopping = undefined;
        throw error;
      })),
  };
}

export interface RecordedChild {
  readonly name: string;
  readonly pid: number | undefined;
  /**
   * - `killed`: it ran and is gone now.
   * - `gone`: it had ended before.
   * - `not-ours`: the pid belongs to another process by now, which was left alone.
   * - `unreadable`: the pid file is damaged; it names nobody and was left for a person.
   */
  readonly outcome: 'killed' | 'gone' | 'not-ours' | 'unreadable';
}

/**
 * Ends the children a dead attempt recorded in its operation's directory, and removes their pid files. The caller
 * holds the operation's lock, so nobody starts new ones meanwhile.
 * Errors: `host.child-stuck` if KILL does not end one.
 */
export async function killRecorded(directory: string): Promise<RecordedChild[]> {
  const results: RecordedChild[] = [];
  const files = (await readdir(directory)).filter((file) => file.endsWith(PID_SUFFIX));
  for (const file of files.sort()) {
    const path = join(directory, file);
    const name = file.slice(0, -PID_SUFFIX.length);
    const identity = await readIdentity(path);
    if (identity === undefined) {
      results.push({ name, pid: undefined, outcome: 'unreadable' });
      continue;
    }
    results.push({ name, pid: identity.pid, outcome: await killProcess(identity, name) });
    await removeIfThere(path);
  }
  return results;
}

async function readIdentity(path: string): Promise<ProcessIdentity | undefined> {
  try {
    return parseProcessIdentity(await readRecord(path));
  } catch (error) {
    if (error instanceof LifeboatError) return undefined; // damaged: reported as such
    throw error;
  }
}

async function killProcess(identity: ProcessIdentity, name: string): Promise<RecordedChild['outcome']> {
  if (!(await stillRuns(identity))) {
    return (await identifyProcess(identity.pid)) === undefined ? 'gone' : 'not-ours';
  }
  // Its directory is about to be reused or removed, so there is nothing to end in order for.
  signalGroup(identity.pid, 'SIGKILL');
  const deadlineMs = systemClock.monotonicMs() + KILL_LIMIT_MS;
  while (await stillRuns(identity)) {
    if (systemClock.monotonicMs() > deadlineMs) {
      throw stuckError(name, identity.pid);
    }
    await systemClock.sleep(GONE_POLL_MS);
  }
  return 'killed';
}

async function within<T>(promise: Promise<T>, limitMs: number): Promise<T | undefined> {
  const timer = new AbortController();
  try {
    return await Promise.race([promise, systemClock.sleep(limitMs, timer.signal).then(() => undefined)]);
  } finally {
    timer.abort();
  }
}

function stuckError(what: string, pid: number | undefined, cause?: unknown): LifeboatError {
  return new LifeboatError('host.child-stuck', `${what}, pid ${pid}, did not end ${KILL_LIMIT_MS} ms after KILL`, {
    context: { what, pid },
    cause,
  });
}

function describeExit(exit: ChildExit): string {
  return exit.signal === null ? `ended with code ${exit.code}` : `was ended by ${exit.signal}`;
}
