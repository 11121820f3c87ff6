/**
 * A Unix socket comes into being under its final name, ready and with its final mode:
 *
 * 1. listen on `<dir>/.nbd-XXXXXX/s`; the directory is 0700, so nobody connects before the mode is set; chmod
 * 2. take the lock of the final name, so that of several servers that start at once one goes on
 * 3. where the name exists: connect to it. Somebody answers -> refuse. Nobody does -> a killed server left it: remove it
 * 4. link to the final name, which fails where it exists; let go of the lock
 *
 * The lock is a socket in Linux' abstract namespace, which the kernel frees when its holder dies. Not guaranteed: a
 * server of another maker, which knows no such lock, may take the name between 3 and 4 or have its own removed in 3.
 */
import { createHash } from 'node:crypto';
import { chmod, link, lstat, mkdtemp, realpath, rm, unlink } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';

/** What the kernel takes as the name of a Unix socket (sun_path, less the final zero). */
const MAX_SOCKET_PATH_BYTES = 107;
const PROBE_TIMEOUT_MS = 2000;
/** The lock is held for some milliseconds, or for one probe that nobody answers. */
const LOCK_TIMEOUT_MS = 10_000;
const LOCK_RETRY_MS = 20;

/** The name under which clients find the server. */
export interface SocketFile {
  /** Removes the name, if it still is this server's. */
  remove(): Promise<void>;
}

/** Lets `server` listen at `socketPath`. Errors: `nbd.socket-in-use`, `nbd.listen-failed`, `input.invalid` (path too long). */
export async function listenAt(server: net.Server, socketPath: string, mode: number): Promise<SocketFile> {
  const directory = path.dirname(socketPath);
  const longest = Math.max(Buffer.byteLength(socketPath), Buffer.byteLength(path.join(directory, '.nbd-XXXXXX/s')));
  if (longest > MAX_SOCKET_PATH_BYTES) {
    throw new LifeboatError(
      'input.invalid',
      `socket path ${socketPath} needs ${longest} bytes; the kernel allows ${MAX_SOCKET_PATH_BYTES}`,
    );
  }
  let privateDirectory: string | undefined;
  try {
    privateDirectory = await mkdtemp(path.join(directory, '.nbd-'));
    const hidden = path.join(privateDirectory, 's');
    await listen(server, hidden);
    await chmod(hidden, mode);
    await withNameLock(socketPath, () => publish(hidden, socketPath));
    const inode = (await lstat(socketPath)).ino;
    return { remove: () => removeOwn(socketPath, inode) };
  } catch (cause) {
    if (server.listening) server.close();
    if (cause instanceof LifeboatError) throw cause;
    throw new LifeboatError(
      'nbd.listen-failed',
      `cannot make the socket ${socketPath}: ${systemCode(cause) ?? String(cause)}`,
      {
        cause,
        context: { socketPath },
      },
    );
  } finally {
    if (privateDirectory) await rm(privateDirectory, { recursive: true, force: true });
  }
}

async function publish(hidden: string, socketPath: string): Promise<void> {
  const found = await inspect(socketPath);
  if (found && !found.isSocket) {
    throw new LifeboatError(
      'nbd.listen-failed',
      `cannot make the socket ${socketPath}: a file of another kind has this name`,
    );
  }
  if (found) {
    if (await answers(socketPath)) throw inUse(socketPath, 'a server answers there');
    await rm(socketPath, { force: true });
  }
  await link(hidden, socketPath);
}

async function withNameLock(socketPath: string, work: () => Promise<void>): Promise<void> {
  // The name by which the kernel would find it: two ways of writing a path must meet in one lock.
  const real = path.join(await realpath(path.dirname(socketPath)), path.basename(socketPath));
  const name = `\0lifeboat-nbd-${createHash('sha256').update(real).digest('hex')}`;
  const lock = net.createServer();
  const deadline = performance.now() + LOCK_TIMEOUT_MS;
  while (!(await tryListen(lock, name))) {
    if (performance.now() > deadline) throw inUse(socketPath, 'another server has been starting there for too long');
    await delay(LOCK_RETRY_MS);
  }
  try {
    await work();
  } finally {
    await new Promise<void>((resolve) => lock.close(() => resolve()));
  }
}

/** Whether the name was free. */
async function tryListen(server: net.Server, name: string): Promise<boolean> {
  try {
    await listen(server, name);
    return true;
  } catch (error) {
    if (systemCode(error) === 'EADDRINUSE') return false;
    throw error;
  }
}

async function inspect(socketPath: string): Promise<{ inode: number; isSocket: boolean } | undefined> {
  try {
    const found = await lstat(socketPath);
    return { inode: found.ino, isSocket: found.isSocket() };
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Only a refused connection proves that nobody listens; a full backlog or a timeout is a live server. */
async function answers(socketPath: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const probe = net.connect(socketPath);
    const finish = (alive: boolean): void => {
      clearTimeout(timer);
      probe.destroy();
      resolve(alive);
    };
    const timer = setTimeout(() => finish(true), PROBE_TIMEOUT_MS);
    probe.on('connect', () => finish(true));
    probe.on('error', (error) => finish(!['ECONNREFUSED', 'ENOENT'].includes(systemCode(error) ?? '')));
  });
}

async function removeOwn(socketPath: string, inode: number): Promise<void> {
  const found = await inspect(socketPath);
  if (found?.inode === inode) await unlink(socketPath);
}

async function listen(server: net.Server, socketPath: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketPath, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function inUse(socketPath: string, why: string): LifeboatError {
  return new LifeboatError('nbd.socket-in-use', `${socketPath} is in use: ${why}`, { context: { socketPath } });
}
