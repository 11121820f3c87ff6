/**
 * The embedded stack: a Temporal server, the worker and the agent of this host, as child processes of whoever started it.
 *
 *   <state>/stack/
 *     lock          held by the owner for as long as the stack runs: one stack per state directory
 *     stack.json    there while the stack is ready: owner, addresses, processes (pid and start time)
 *     users/<pid>   a process that uses another's stack; the owner waits for it before it stops
 *     *.log, *.pid  of the three processes
 *
 *   connect:  lock taken?  yes ─► clear leftovers ─► start ─► ready ─► stack.json          (owned)
 *                          no ──► users/<pid> ─► stack.json still there and its owner alive?  (used)
 *                                                    no: take the note back, look again
 *   stop:     wait for users ─► remove stack.json ─► users again? put it back, wait ─► stop, unlock
 *
 * The note before the look, and the look again after the removal, are what keeps a stack from stopping under somebody
 * who has just found it. A process that ends although nobody asked is started again, a few times; Temporal's database
 * is a file, so operations in flight go on.
 *
 * Not guaranteed: the stack after kill -9 of its owner. Its processes die with it, and the next command starts it anew.
 */
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import { killRecorded, startChild, type Child, type ChildExit } from '@lifeboat/host/children';
import { readRecord, removeIfThere, writeDurably } from '@lifeboat/host/durable-file';
import { takeLock, type FileLock } from '@lifeboat/host/file-lock';
import { identifyProcess, parseProcessIdentity, stillRuns } from '@lifeboat/host/process-identity';
import { configurationEnvironment, type Configuration } from './configuration.ts';
import { startTemporalServer } from './temporal-server.ts';

/** Start takes 3 s on an idle machine; this is for a busy one that also bundles the workflows for the first time. */
const READY_LIMIT_MS = 90_000;
const READY_POLL_MS = 100;
const USERS_POLL_MS = 500;
/** A process that ends unasked more often than this within the window is broken, not unlucky. */
const RESTART_LIMIT = 5;
const RESTART_WINDOW_MS = 60_000;
/** The agent undoes what it was doing before it ends. */
const STOP_GRACE_MS = 30_000;

export interface StackOptions {
  /** The `temporal` program, by path or as found on PATH. */
  readonly temporalExecutable: string;
  /** Entry points of the processes, TypeScript that Node runs as it is. */
  readonly entries: { readonly worker: string; readonly agent: string };
  /** Whether work that is submitted now would begin: asked until it says yes. */
  readonly isReady: (temporal: TemporalPlace) => Promise<boolean>;
  readonly signal: AbortSignal;
  readonly log: Log;
  /** For a person: what is waited for, what was started again. */
  readonly say: (text: string) => void;
}

export interface TemporalPlace {
  readonly address: string;
  readonly namespace: string;
}

export interface StackProcess {
  readonly name: string;
  readonly pid: number;
  readonly logPath: string;
}

export interface Stack {
  readonly temporal: TemporalPlace;
  /** Whether this process started it, so that it ends with `release`. */
  readonly owned: boolean;
  /** Of an owned stack; those of another's are in its `stack.json`. */
  readonly processes: () => readonly StackProcess[];
  /** Aborts with a LifeboatError when a process of an owned stack cannot be kept running. */
  readonly broken: AbortSignal;
  /** Lets go of the stack; an owned one stops once nobody else uses it. Idempotent. Errors: `host.child-stuck`. */
  release(): Promise<void>;
}

/** A stack that runs, or one that is started now. Errors: `stack.not-ready`, `temporal.*`, `host.*`. */
export async function connectStack(configuration: Configuration, options: StackOptions): Promise<Stack> {
  const { address, namespace } = configuration.temporal;
  if (address !== undefined) return remoteStack({ address, namespace });
  const directory = await stackDirectory(configuration);
  const deadlineMs = systemClock.monotonicMs() + READY_LIMIT_MS;
  for (let said = false; ; said = true) {
    const lock = await takeLock(join(directory, 'lock'), { waitMs: 0, signal: options.signal });
    if (lock) return await startLocked(configuration, directory, lock, options);
    const used = await useRunning(directory, namespace);
    if (used) return used;
    if (!said) options.say('another process is starting or stopping the stack; waiting for it');
    if (systemClock.monotonicMs() > deadlineMs) {
      throw new LifeboatError(
        'stack.not-ready',
        `another process holds ${join(directory, 'lock')} and its stack was not ready after ${READY_LIMIT_MS / 1000} s`,
        { context: { directory } },
      );
    }
    await systemClock.sleep(READY_POLL_MS, options.signal);
  }
}

/** Where Temporal is, for who only asks a question: the configured cluster, or a stack that runs. Undefined: neither. */
export async function temporalInUse(configuration: Configuration): Promise<TemporalPlace | undefined> {
  const { address, namespace } = configuration.temporal;
  if (address !== undefined) return { address, namespace };
  const record = await readStackRecord(join(configuration.stateRoot, 'stack'));
  return record && (await stillRuns(record.owner)) ? { address: record.temporal.address, namespace } : undefined;
}

/** Starts the stack; for a process that is the stack. Errors: `stack.in-use` when there is one, as `connectStack`. */
export async function startStack(configuration: Configuration, options: StackOptions): Promise<Stack> {
  const directory = await stackDirectory(configuration);
  const lock = await takeLock(join(directory, 'lock'), { waitMs: 0, signal: options.signal });
  if (lock) return await startLocked(configuration, directory, lock, options);
  const record = await readStackRecord(directory);
  throw new LifeboatError(
    'stack.in-use',
    `the stack of ${configuration.stateRoot} is owned by ${record ? `process ${record.owner.pid}` : 'another process'}`,
    { context: { stateRoot: configuration.stateRoot, pid: record?.owner.pid } },
  );
}

async function stackDirectory(configuration: Configuration): Promise<string> {
  const directory = join(configuration.stateRoot, 'stack');
  // The state root itself must let QEMU's account pass; what is in here is nobody else's business.
  await mkdir(configuration.stateRoot, { recursive: true, mode: 0o711 });
  await mkdir(join(directory, 'users'), { recursive: true, mode: 0o700 });
  return directory;
}

function remoteStack(temporal: TemporalPlace): Stack {
  return {
    temporal,
    owned: false,
    processes: () => [],
    broken: new AbortController().signal,
    release: async () => {},
  };
}

// ---------------------------------------------------------------- using another's

interface StackRecord {
  readonly version: 1;
  readonly owner: NonNullable<ReturnType<typeof parseProcessIdentity>>;
  readonly temporal: { readonly address: string };
}

async function useRunning(directory: string, namespace: string): Promise<Stack | undefined> {
  const self = await identifyProcess(process.pid);
  if (!self) throw new LifeboatError('internal.bug', `process ${process.pid} does not find itself in /proc`);
  const note = join(directory, 'users', String(process.pid));
  await writeDurably(note, JSON.stringify(self));
  const record = await readStackRecord(directory);
  if (!record || !(await stillRuns(record.owner))) {
    await removeIfThere(note);
    return undefined;
  }
  return {
    temporal: { address: record.temporal.address, namespace },
    owned: false,
    processes: () => [],
    broken: new AbortController().signal,
    release: () => removeIfThere(note),
  };
}

async function readStackRecord(directory: string): Promise<StackRecord | undefined> {
  const value = await readRecord(join(directory, 'stack.json'));
  if (typeof value !== 'object' || value === null) return undefined;
  const { version, owner, temporal } = value as Record<string, unknown>;
  const identity = parseProcessIdentity(owner);
  const address =
    typeof temporal === 'object' && temporal !== null ? (temporal as Record<string, unknown>)['address'] : undefined;
  if (version !== 1 || !identity || typeof address !== 'string') return undefined;
  return { version, owner: identity, temporal: { address } };
}

/** Processes that use the stack and still run; notes of others are removed. */
async function livingUsers(directory: string): Promise<number[]> {
  const users: number[] = [];
  for (const name of await readdir(join(directory, 'users'))) {
    const path = join(directory, 'users', name);
    // A note that is being written has a temporary name; it counts from the next look on.
    if (!/^\d+$/.test(name)) continue;
    const identity = parseProcessIdentity(await readRecord(path));
    if (identity && (await stillRuns(identity))) users.push(identity.pid);
    else await removeIfThere(path);
  }
  return users;
}

// ---------------------------------------------------------------- owning one

async function startLocked(
  configuration: Configuration,
  directory: string,
  lock: FileLock,
  options: StackOptions,
): Promise<Stack> {
  const processes = new Processes(configuration, directory, options);
  try {
    await removeIfThere(join(directory, 'stack.json'));
    // Of an owner that was killed: its processes died with it, unless something kept one alive.
    await killRecorded(directory);
    await processes.start();
    const record = await recordOf(processes);
    await writeDurably(join(directory, 'stack.json'), record);
    return ownedStack({ directory, lock, processes, record, options });
  } catch (error) {
    await processes.stop();
    await lock.release();
    throw error;
  }
}

async function recordOf(processes: Processes): Promise<string> {
  const living = await Promise.all(
    processes.list().map(async ({ name, pid }) => ({ name, ...(await identifyProcess(pid)) })),
  );
  return JSON.stringify(
    { version: 1, owner: await identifyProcess(process.pid), temporal: processes.temporal, processes: living },
    null,
    2,
  );
}

function ownedStack(parts: {
  directory: string;
  lock: FileLock;
  processes: Processes;
  record: string;
  options: StackOptions;
}): Stack {
  const { directory, lock, processes, record, options } = parts;
  const path = join(directory, 'stack.json');
  const release = async (): Promise<void> => {
    try {
      for (let said = false; ; said = true) {
        await removeIfThere(path);
        const users = await livingUsers(directory);
        if (users.length === 0) break;
        await writeDurably(path, record);
        if (!said) options.say(`the stack is still used by process ${users.join(', ')}; waiting for that to end`);
        await systemClock.sleep(USERS_POLL_MS);
      }
      await processes.stop();
    } finally {
      await lock.release();
    }
  };
  let released: Promise<void> | undefined;
  return {
    temporal: processes.temporal,
    owned: true,
    processes: () => processes.list(),
    broken: processes.broken,
    release: () => (released ??= release()),
  };
}

interface Kept {
  readonly pid: number;
  readonly logPath: string;
  readonly exited: Promise<ChildExit>;
  stop(): Promise<void>;
}

/** The three processes, kept running until they are told to stop. */
class Processes {
  readonly #configuration: Configuration;
  readonly #directory: string;
  readonly #options: StackOptions;
  readonly #broken = new AbortController();
  readonly #running = new Map<string, Kept>();
  /** When each was found to have ended unasked. */
  readonly #deaths = new Map<string, number[]>();
  #address: string | undefined;
  #stopping = false;

  constructor(configuration: Configuration, directory: string, options: StackOptions) {
    this.#configuration = configuration;
    this.#directory = directory;
    this.#options = options;
  }

  get broken(): AbortSignal {
    return this.#broken.signal;
  }

  get temporal(): TemporalPlace {
    if (this.#address === undefined) throw new LifeboatError('internal.bug', 'the stack has no address yet');
    return { address: this.#address, namespace: this.#configuration.temporal.namespace };
  }

  list(): StackProcess[] {
    return [...this.#running].map(([name, { pid, logPath }]) => ({ name, pid, logPath }));
  }

  async start(): Promise<void> {
    const { signal, isReady, entries } = this.#options;
    await this.#keep('temporal', () => this.#startTemporal());
    await this.#keep('worker', () => this.#startNode('worker', entries.worker));
    await this.#keep('agent', () => this.#startNode('agent', entries.agent));
    const deadlineMs = systemClock.monotonicMs() + READY_LIMIT_MS;
    for (;;) {
      signal.throwIfAborted();
      this.#broken.signal.throwIfAborted();
      if (await answers(() => isReady(this.temporal))) return;
      if (systemClock.monotonicMs() > deadlineMs) {
        throw new LifeboatError(
          'stack.not-ready',
          `worker and agent did not ask for work within ${READY_LIMIT_MS / 1000} s; their logs are in ${this.#directory}`,
          { context: { directory: this.#directory } },
        );
      }
      await systemClock.sleep(READY_POLL_MS, signal);
    }
  }

  /** In the order that lets each tell the next one its end: the agent undoes, the worker notes it, Temporal keeps it. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const name of ['agent', 'worker', 'temporal']) await this.#running.get(name)?.stop();
    this.#running.clear();
  }

  async #keep(name: string, start: () => Promise<Kept>): Promise<void> {
    const child = await start();
    // The stop came while it started.
    if (this.#stopping) return await child.stop();
    this.#running.set(name, child);
    void child.exited.then((exit) => this.#ended(name, { child, exit, start }));
  }

  async #ended(
    name: string,
    { child, exit, start }: { child: Kept; exit: ChildExit; start: () => Promise<Kept> },
  ): Promise<void> {
    if (this.#stopping || this.#broken.signal.aborted) return;
    const nowMs = systemClock.monotonicMs();
    const recent = [...(this.#deaths.get(name) ?? []), nowMs].filter((atMs) => atMs > nowMs - RESTART_WINDOW_MS);
    this.#deaths.set(name, recent);
    const how = exit.signal ?? `code ${exit.code}`;
    if (recent.length > RESTART_LIMIT) {
      this.#break(
        `${name} ended (${how}) although nobody asked it to, ${recent.length} times in a minute; its log is ${child.logPath}`,
      );
      return;
    }
    this.#options.say(
      `${name} ended (${how}) although nobody asked it to; starting it again. Its log: ${child.logPath}`,
    );
    try {
      await child.stop();
      await this.#keep(name, start);
    } catch (error) {
      this.#break(`${name} could not be started again: ${messageOf(error)}`);
    }
  }

  #break(message: string): void {
    this.#broken.abort(new LifeboatError('stack.process-ended', message, { context: { directory: this.#directory } }));
  }

  async #startTemporal(): Promise<Kept> {
    const { temporalExecutable: executable, log, signal } = this.#options;
    // Started again it keeps its port: worker, agent and whoever waits for an operation know it by that.
    const port = this.#address === undefined ? {} : { port: Number(this.#address.split(':').at(-1)) };
    const server = await startTemporalServer({
      executable,
      directory: this.#directory,
      namespace: this.#configuration.temporal.namespace,
      log,
      signal,
      ...port,
    });
    this.#address = server.address;
    return server;
  }

  async #startNode(name: string, entry: string): Promise<Kept> {
    const { address, namespace } = this.temporal;
    const env = configurationEnvironment({ ...this.#configuration, temporal: { address, namespace } });
    const child = await startChild(process.execPath, [entry], { directory: this.#directory, name, env });
    return { pid: child.pid, logPath: child.logPath, exited: child.exited, stop: () => stopGently(child) };
  }
}

async function stopGently(child: Child): Promise<void> {
  await child.stop({ graceMs: STOP_GRACE_MS });
}

/** Not yet an answer is no: a server that comes up refuses connections first. */
async function answers(ask: () => Promise<boolean>): Promise<boolean> {
  try {
    return await ask();
  } catch {
    return false;
  }
}
