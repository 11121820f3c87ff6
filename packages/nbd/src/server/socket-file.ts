/**
 * A Unix socket comes into being under its final name, ready and with its final mode:
 *
 * 1. listen on `<dir>/.nbd-XXXXXX/s`; the directory is 0700, so nobody connects before the mode is set
 * 2. chmod, then link to the final name; a link fails where the name exists, so of two servers one wins
 * 3. where the name exists: connect to it. Somebody answers -> refuse. Nobody does -> it was left by a server that was
 *    killed; it is moved away (never simply removed: see below) and step 2 is tried again
 *
 * Between "nobody answers" and the move another server may have put a live socket there. What was moved is therefore
 * compared with what was tried, and a live one put back. Not guaranteed: a third server that takes the name in that
 * very moment.
 */
import { chmod, link, lstat, mkdtemp, rename, rm, unlink } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';

/** What the kernel takes as the name of a Unix socket (sun_path, less the final zero). */
const MAX_SOCKET_PATH_BYTES = 107;
const PROBE_TIMEOUT_MS = 2000;
const ATTEMPTS = 3;

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
    await publish(hidden, socketPath, privateDirectory);
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

async function publish(hidden: string, socketPath: string, privateDirectory: string): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    try {
      await link(hidden, socketPath);
      return;
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
    }
    await moveStaleAway(socketPath, path.join(privateDirectory, `stale-${attempt}`));
  }
  throw inUse(socketPath, 'other servers keep taking the name');
}

async function moveStaleAway(socketPath: string, aside: string): Promise<void> {
  const before = await inspect(socketPath);
  if (!before) return;
  if (!before.isSocket) {
    throw new LifeboatError(
      'nbd.listen-failed',
      `cannot make the socket ${socketPath}: a file of another kind has this name`,
    );
  }
  if (await answers(socketPath)) throw inUse(socketPath, 'a server answers there');
  try {
    await rename(socketPath, aside);
  } catch (error) {
    // Somebody else has cleared the name: as good as our own move.
    if (systemCode(error) === 'ENOENT') return;
    throw error;
  }
  if ((await lstat(aside)).ino !== before.inode) {
    await link(aside, socketPath);
    throw inUse(socketPath, 'another server has just started there');
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
