/**
 * The embedded Temporal server: a child process with its database in a directory of ours.
 *
 *   lock the directory ─► pick ports ─► start ─► ask for the namespace until it serves ─► hand out the address
 *
 * The lock keeps a second server off the same database. The child dies with this process, also by kill -9; nothing is
 * lost then, a server started on the same directory goes on. Listens on 127.0.0.1 only.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock, type Clock } from '@lifeboat/foundation/clock';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import { startChild, type Child, type ChildExit } from '@lifeboat/host/children';
import { takeLock } from '@lifeboat/host/file-lock';
import { freePorts } from './free-ports.ts';
import { askNamespace } from './temporal-health.ts';

/** Serving takes 1.4 s when idle (two cores); a busy machine and a large database take longer. */
const DEFAULT_READY_LIMIT_MS = 60_000;
const ASK_LIMIT_MS = 2_000;
const ASK_PAUSE_MS = 100;
/** A port that was free may be taken before the server listens on it. */
const PORT_ATTEMPTS = 3;
const STOP_GRACE_MS = 10_000;

export interface TemporalServerOptions {
  /** Path of the `temporal` program, or its name to be found on PATH. */
  readonly executable: string;
  /** Holds database, log and pid file; made if absent. */
  readonly directory: string;
  readonly namespace: string;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Port of the service; absent: a free one. Give the old one to go on with clients that know it. */
  readonly port?: number;
  /** Whether to serve Temporal's own web interface, on a free port. */
  readonly ui?: boolean;
  readonly readyLimitMs?: number;
  readonly clock?: Clock;
}

export interface TemporalServer {
  /** `127.0.0.1:port`. */
  readonly address: string;
  readonly uiAddress?: string;
  readonly pid: number;
  readonly logPath: string;
  /** Resolves when it has ended, however it ended; never rejects. */
  readonly exited: Promise<ChildExit>;
  /** Ends it and gives up the directory. May be called again. */
  stop(): Promise<void>;
}

/**
 * Starts the server and returns once it serves `namespace`.
 * Errors: `stack.in-use` if another one has the directory; `temporal.missing`; `stack.not-ready` if it ends or does not
 * serve in time; the signal's reason on an abort. Nothing is left running then.
 */
export async function startTemporalServer(options: TemporalServerOptions): Promise<TemporalServer> {
  const { directory, signal } = options;
  signal.throwIfAborted();
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const lock = await takeLock(join(directory, 'server.lock'), { waitMs: 0, signal });
  if (!lock) {
    throw new LifeboatError('stack.in-use', `another process runs the Temporal server of ${directory}`, {
      context: { directory },
    });
  }
  try {
    const { child, address, uiAddress } = await startServing(options);
    return {
      address,
      ...(uiAddress ? { uiAddress } : {}),
      pid: child.pid,
      logPath: child.logPath,
      exited: child.exited,
      async stop() {
        await child.stop({ graceMs: STOP_GRACE_MS });
        await lock.release();
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

interface Serving {
  readonly child: Child;
  readonly address: string;
  readonly uiAddress?: string;
}

async function startServing(options: TemporalServerOptions): Promise<Serving> {
  for (let attempt = 1; ; attempt++) {
    // The last two: left to itself the server picks them at random and may meet another's.
    const [freePort, uiPort, httpPort, metricsPort] = (await freePorts(4)) as [number, number, number, number];
    const port = options.port ?? freePort;
    const child = await start(options, { port, uiPort, httpPort, metricsPort });
    const address = `127.0.0.1:${port}`;
    try {
      await untilServing(child, address, options);
      options.log.info('the Temporal server serves', { address, pid: child.pid });
      return { child, address, ...(options.ui ? { uiAddress: `127.0.0.1:${uiPort}` } : {}) };
    } catch (error) {
      await child.stop({ graceMs: STOP_GRACE_MS });
      const taken = /address already in use/.test(child.outputTail());
      if (!taken || options.port !== undefined || attempt >= PORT_ATTEMPTS) throw error;
      options.log.warn('a port was taken by another process meanwhile; starting again', { address, attempt });
    }
  }
}

async function start(
  { executable, directory, namespace, ui }: TemporalServerOptions,
  ports: { port: number; uiPort: number; httpPort: number; metricsPort: number },
): Promise<Child> {
  const database = join(directory, 'temporal.db');
  const args = [
    `server start-dev --ip 127.0.0.1 --port ${ports.port} --http-port ${ports.httpPort}`,
    `--metrics-port ${ports.metricsPort} ${ui ? `--ui-port ${ports.uiPort}` : '--headless'}`,
    '--log-level warn --log-format json',
  ].flatMap((words) => words.split(' '));
  args.push('--db-filename', database, '--namespace', namespace);
  try {
    return await startChild(executable, args, { directory, name: 'temporal-server' });
  } catch (cause) {
    if (!(cause instanceof LifeboatError) || cause.code !== 'host.tool-missing') throw cause;
    throw new LifeboatError('temporal.missing', `the Temporal server '${executable}' was not found`, { cause });
  }
}

async function untilServing(child: Child, address: string, options: TemporalServerOptions): Promise<void> {
  const { namespace, signal, readyLimitMs = DEFAULT_READY_LIMIT_MS, clock = systemClock } = options;
  const deadlineMs = clock.monotonicMs() + readyLimitMs;
  for (;;) {
    signal.throwIfAborted();
    let why: string;
    try {
      await askNamespace(address, namespace, { timeoutMs: ASK_LIMIT_MS });
      return;
    } catch (error) {
      why = messageOf(error);
    }
    const { exit, logPath } = child;
    if (exit || clock.monotonicMs() > deadlineMs) {
      const end = exit
        ? `ended (${exit.signal ?? `code ${exit.code}`}) before it served`
        : `did not serve within ${readyLimitMs} ms: ${why}`;
      const said = child.outputTail().trim().split('\n').slice(-3).join(' | ');
      throw new LifeboatError('stack.not-ready', `the Temporal server ${end}; ${logPath} ends with: ${said}`, {
        context: { address, logPath },
      });
    }
    await clock.sleep(ASK_PAUSE_MS, signal);
  }
}
