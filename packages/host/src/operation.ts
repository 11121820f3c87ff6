/**
 * An operation that survives kill -9, also its own.
 *
 *   openOperation ─► 1 intent.json, fsynced ─► 2 older attempt in this process aborted ─► 3 flock ─► 4 leftovers of a
 *   dead attempt cleared ─► work: record facts, register cleanups ─► close: cleanups backwards, lock let go
 *
 * 1. The intent says what is about to be, before anything is: whoever finds the directory knows what to undo.
 * 2. After a heartbeat timeout the engine starts a new attempt while the old one may still run, even in this process.
 *    The newest attempt wins: it aborts the older one's `signal` and waits for it to close.
 * 3. The lock is what "alive" means to other processes and the reaper. It goes with its holder, however that dies.
 *
 * Not guaranteed: that an aborted attempt stops soon. If it does not within the limit, opening fails, transient.
 */
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';
import type { OpId } from '@lifeboat/foundation/ids';
import { createDurably, readRecord, syncDirectory, writeDurably } from './durable-file.ts';
import { assertLocked, takeLock, type FileLock } from './file-lock.ts';
import { clearLeftovers, type Leftover } from './leftovers.ts';
import {
  intentPath,
  intentRecord,
  lockPath,
  makeDirectory,
  operationDirectory,
  opsDirectory,
  readIntent,
  removeOperationDirectory,
  type IntentRecord,
} from './operation-directory.ts';
import { makeQemuDirectory, passageMode } from './state.ts';

const DEFAULT_TAKEOVER_MS = 30_000;
/** The reaper may remove the directory between our steps; each time it does, its reason for that is gone. */
const MAX_RESTARTS = 5;

export interface OpenOptions {
  readonly stateRoot: string;
  readonly opId: OpId;
  /** What the operation is to do, as JSON: the same for every attempt. */
  readonly intent: unknown;
  readonly signal: AbortSignal;
  /** The epoch of the host's live set this operation was handed out in; the reaper needs a newer one to remove it. */
  readonly epoch?: number;
  /** How long to wait for an older attempt to let go. Default 30 s. */
  readonly takeoverMs?: number;
}

export interface Operation {
  readonly opId: OpId;
  /** For everything the operation makes: `startChild`, `loopDevice`, mounts, sockets. */
  readonly directory: string;
  /** QEMU's account may create files here. */
  readonly qemuDirectory: string;
  /** Aborts with the caller's signal, or with `host.operation-superseded` when a newer attempt takes over. */
  readonly signal: AbortSignal;
  /** What an attempt that was killed had left, and what became of it. */
  readonly leftovers: readonly Leftover[];
  /** Notes a small fact for later attempts, durable when it resolves. Names: letters, digits and `-`. */
  record(name: string, value: unknown): Promise<void>;
  /** The fact as JSON, or undefined. Errors: `host.record-damaged`. */
  recall(name: string): Promise<unknown>;
  /** Registers what undoes a step, before the step. Runs once, at close, last registered first; must be idempotent. */
  onClose(cleanup: () => Promise<void> | void): void;
  /**
   * Runs all cleanups, then lets go of the lock. `remove`: the operation is over for good and its directory goes;
   * without it a later attempt finds what was recorded. May be called again.
   * Errors: `host.cleanup-failed` with the causes; the directory then stays, for the reaper.
   */
  close(options: { remove: boolean }): Promise<void>;
}

interface Attempt {
  readonly abort: AbortController;
  /** Resolves when the attempt holds nothing any more. */
  readonly released: Promise<void>;
  readonly release: () => void;
}

/** The newest attempt of each operation in this process, by directory. */
const attempts = new Map<string, Attempt>();

/**
 * Begins an attempt at an operation, the first or a later one; at most one runs on this host at a time.
 * Errors: `host.intent-mismatch` if the id was used for something else, `host.operation-busy` (transient) if another
 * attempt does not let go, `host.operation-superseded` if a newer attempt came meanwhile, `host.record-damaged`,
 * `host.cleanup-failed` if a dead attempt's leftovers cannot be cleared.
 */
export async function openOperation(options: OpenOptions): Promise<Operation> {
  const { stateRoot, opId, signal } = options;
  signal.throwIfAborted();
  const directory = operationDirectory(stateRoot, opId);
  const deadlineMs = systemClock.monotonicMs() + (options.takeoverMs ?? DEFAULT_TAKEOVER_MS);

  const older = attempts.get(directory);
  const attempt = newAttempt(directory);
  older?.abort.abort(
    new LifeboatError('host.operation-superseded', `A newer attempt at ${opId} takes over`, { context: { opId } }),
  );
  const own = AbortSignal.any([signal, attempt.abort.signal]);
  let lock: FileLock | undefined;
  try {
    lock = await becomeOwner(options, directory, { older, signal: own, deadlineMs });
    const leftovers = await clearLeftovers(directory);
    const stuck = leftovers.filter((leftover) => !leftover.gone);
    if (stuck.length > 0) {
      const list = stuck.map(({ kind, name, detail }) => `${kind} ${name}: ${detail}`).join('; ');
      throw new LifeboatError('host.cleanup-failed', `A dead attempt at ${opId} left what cannot be cleared: ${list}`, {
        context: { opId },
      });
    }
    const qemuDirectory = join(directory, 'qemu');
    await makeQemuDirectory(qemuDirectory);
    await makeDirectory(join(directory, 'facts'), 0o700);
    own.throwIfAborted();
    return operation({ opId, directory, qemuDirectory, leftovers, signal: own, lock, attempt });
  } catch (error) {
    await lock?.release();
    attempt.release();
    throw error;
  }
}

function newAttempt(directory: string): Attempt {
  const { promise, resolve } = Promise.withResolvers<void>();
  const attempt: Attempt = {
    abort: new AbortController(),
    released: promise,
    release: () => {
      if (attempts.get(directory) === attempt) attempts.delete(directory);
      resolve();
    },
  };
  attempts.set(directory, attempt);
  return attempt;
}

/** Steps 1 to 3: intent, older attempt, lock. */
async function becomeOwner(
  options: OpenOptions,
  directory: string,
  { older, signal, deadlineMs }: { older: Attempt | undefined; signal: AbortSignal; deadlineMs: number },
): Promise<FileLock> {
  const leftMs = (): number => Math.max(0, deadlineMs - systemClock.monotonicMs());
  for (let restart = 0; restart < MAX_RESTARTS; restart++) {
    try {
      await declareIntent(options, directory);
      if (older !== undefined) await waitFor(older.released, leftMs(), signal);
      const waitMs = leftMs();
      const lock = await takeLock(lockPath(directory), { waitMs, signal });
      assertLocked(lock, `operation ${options.opId}`, waitMs);
      // Removed together with the previous lock file? Then the intent is to be declared again.
      if ((await readIntent(directory, options.opId)) !== undefined) return lock;
      await lock.release();
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error; // the reaper removed the directory meanwhile
    }
  }
  throw new LifeboatError(
    'host.operation-busy',
    `The directory of ${options.opId} was removed ${MAX_RESTARTS} times while it was opened`,
    {
      context: { opId: options.opId },
    },
  );
}

async function declareIntent({ stateRoot, opId, intent, epoch }: OpenOptions, directory: string): Promise<void> {
  const wanted = JSON.parse(JSON.stringify(intentRecord(opId, epoch ?? 0, intent))) as IntentRecord;
  await makeDirectory(directory, passageMode());
  await syncDirectory(opsDirectory(stateRoot));
  if (await createDurably(intentPath(directory), JSON.stringify(wanted))) return;
  const existing = await readIntent(directory, opId);
  if (existing !== undefined && !isDeepStrictEqual(existing.intent, wanted.intent)) {
    throw new LifeboatError(
      'host.intent-mismatch',
      `Operation ${opId} was begun as ${JSON.stringify(existing.intent)} and is now to be ${JSON.stringify(wanted.intent)}`,
      { context: { opId } },
    );
  }
}

async function waitFor(released: Promise<void>, limitMs: number, signal: AbortSignal): Promise<void> {
  const timer = new AbortController();
  const limit = systemClock.sleep(limitMs, AbortSignal.any([timer.signal, signal]));
  limit.catch(() => {}); // ends with the race below; its reason is the signal's, which the race passes on
  try {
    await Promise.race([released, limit]);
  } finally {
    timer.abort();
  }
}

function operation(parts: {
  opId: OpId;
  directory: string;
  qemuDirectory: string;
  leftovers: readonly Leftover[];
  signal: AbortSignal;
  lock: FileLock;
  attempt: Attempt;
}): Operation {
  const { opId, directory, qemuDirectory, leftovers, signal, lock, attempt } = parts;
  const cleanups: (() => Promise<void> | void)[] = [];
  let closing: Promise<void> | undefined;

  const close = async (remove: boolean): Promise<void> => {
    const failures: unknown[] = [];
    const step = async (run: () => Promise<void> | void): Promise<void> => {
      try {
        await run();
      } catch (error) {
        failures.push(error); // all of them are thrown below
      }
    };
    for (let cleanup = cleanups.pop(); cleanup !== undefined; cleanup = cleanups.pop()) await step(cleanup);
    if (remove && failures.length === 0) await step(() => removeOperationDirectory(directory));
    await step(() => lock.release());
    attempt.release();
    if (failures.length > 0) {
      throw new LifeboatError(
        'host.cleanup-failed',
        `Operation ${opId} was not cleaned up: ${failures.map(messageOf).join('; ')}`,
        {
          context: { opId, directory },
          cause: failures.length === 1 ? failures[0] : new AggregateError(failures),
        },
      );
    }
  };
  return {
    opId,
    directory,
    qemuDirectory,
    signal,
    leftovers,
    record: (name, value) => writeDurably(factPath(directory, name), JSON.stringify(value)),
    recall: (name) => recallFact(directory, name),
    onClose: (cleanup) => {
      if (closing !== undefined)
        throw new LifeboatError('internal.bug', `A cleanup was registered with ${opId} after its close`);
      cleanups.push(cleanup);
    },
    close: ({ remove }) => (closing ??= close(remove)),
  };
}

/** A fact of an operation that is not open here: for whoever lists what dead operations left. Errors: `host.record-damaged`. */
export function recallFact(directory: string, name: string): Promise<unknown> {
  return readRecord(factPath(directory, name));
}

function factPath(directory: string, name: string): string {
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(name))
    throw new LifeboatError('input.invalid', `'${name}' is not a name for a fact`);
  return join(directory, 'facts', `${name}.json`);
}
