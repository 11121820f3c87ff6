/**
 * One disk image, served by one `qemu-storage-daemon` that dies with us: over NBD on a UNIX socket, as a plain file
 * through FUSE, or both.
 *
 *   image ──┐                            ┌─ NBD  <name>.sock   (our readers; block status, allocation depth)
 *   overlay ┴─ qemu-storage-daemon ──────┴─ FUSE <name>.disk   (losetup, mount, tools that want a file)
 *
 * QEMU takes the resize permission for a writable FUSE export and an NBD export denies it, so a writable FUSE export
 * stands alone (seen with QEMU 7.2).
 */
import { access, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError, hasCode, messageOf, systemCode } from '@lifeboat/foundation/errors';
import { runTool, startChild, type Child, type ChildExit } from './children.ts';
import { removeIfThere } from './durable-file.ts';
import { assertStandsAlone } from './image-header.ts';
import { isMounted, unmount } from './mounts.ts';
import { greets } from './nbd-greeting.ts';
import { assertSocketPath } from './socket-path.ts';
import { giveToQemu } from './state.ts';

const READY_TIMEOUT_MS = 30_000;
const READY_POLL_MS = 10;
const CREATE_TIMEOUT_MS = 60_000;
/** Closing writes cached qcow2 metadata and syncs; on slow storage that takes its time. */
const STOP_GRACE_MS = 60_000;
const EXPORT_NAME = 'disk';

export type ImageFormat = 'raw' | 'qcow2';

export interface ImageFile {
  readonly path: string;
  readonly format: ImageFormat;
  /**
   * Open the files a qcow2 header names as well. Only for images nobody else could write to: without it such an image
   * is refused.
   */
  readonly followHeader?: boolean;
}

/** The server of a recovery point, for example. Read only. */
export interface NbdBacking {
  readonly nbdSocketPath: string;
  readonly nbdExportName: string;
}

export type ServedImage =
  | (ImageFile & { readonly kind: 'image'; readonly readOnly: boolean })
  | {
      /** A new qcow2 over a backing image that is never written. `path` must not exist. */
      readonly kind: 'overlay';
      readonly path: string;
      /** A power of two from 512 B to 2 MiB: how much one small write copies. */
      readonly clusterSizeBytes: number;
      readonly backing: ImageFile | NbdBacking;
    };

export interface ServeOptions {
  readonly image: ServedImage;
  /**
   * `allocationDepth` offers the context `qemu:allocation-depth`: what is in the overlay, what below.
   * `forQemu` makes QEMU's account the owner of the socket, so that a guest can run from it; by default only root
   * connects. `directory` must then be one that account can reach.
   */
  readonly nbd?: { readonly writable: boolean; readonly allocationDepth?: boolean; readonly forQemu?: boolean };
  readonly fuse?: { readonly writable: boolean };
  /** The operation's directory: gets `<name>.sock`, `.disk`, `.pid`, `.log`. */
  readonly directory: string;
  /** A few letters: the socket's path may have 107 bytes. */
  readonly name: string;
}

export interface DiskImageServer {
  readonly nbdSocketPath: string | undefined;
  readonly nbdExportName: string;
  /** A file of the disk's size, for the account that runs this alone. */
  readonly fusePath: string | undefined;
  /** Resolves if the server ends, asked or not. */
  readonly exited: Promise<ChildExit>;
  /**
   * Unmounts, writes everything back and ends the server; what NBD clients have in flight is lost, so flush first.
   * May be called again. Errors, after all is torn down: `host.image-server-unclean` if the server had died or did not
   * end well, `host.unmount-lazy` if the FUSE file was still in use. Either way writes may be missing.
   */
  stop(): Promise<void>;
}

/**
 * Serves an image; it answers when this resolves.
 * Errors: `input.invalid` for a combination that cannot be, `host.image-exists` (overlay), `host.fuse-missing`,
 * `host.path-too-long`, `host.image-external-reference`, `host.image-server-failed` with QEMU's own words.
 */
export async function serveDiskImage(
  options: ServeOptions,
  context: { signal: AbortSignal },
): Promise<DiskImageServer> {
  const { image, nbd, fuse, directory, name } = options;
  const { signal } = context;
  assertPossible(options);
  const nbdSocketPath = nbd && join(directory, `${name}.sock`);
  const fusePath = fuse && join(directory, `${name}.disk`);
  if (nbdSocketPath !== undefined) await prepareSocket(nbdSocketPath);
  if (fusePath !== undefined) await prepareFuse(fusePath);

  const nodes =
    image.kind === 'overlay' ? await createOverlay(image, signal) : [await imageNode(image, image.readOnly)];
  const daemonArgs = nodes.flatMap((node, level) => {
    const place = level === 0 ? {} : { backing: nodeName(level - 1, nodes.length) };
    return ['--blockdev', JSON.stringify({ ...node, ...place, 'node-name': nodeName(level, nodes.length) })];
  });
  if (nbd) {
    daemonArgs.push(
      '--nbd-server',
      JSON.stringify({ addr: { type: 'unix', path: nbdSocketPath } }),
      '--export',
      JSON.stringify({
        type: 'nbd',
        id: 'nbd',
        'node-name': 'disk',
        name: EXPORT_NAME,
        writable: nbd.writable,
        'allocation-depth': nbd.allocationDepth ?? false,
      }),
    );
  }
  if (fuse) {
    daemonArgs.push(
      '--export',
      JSON.stringify({
        type: 'fuse',
        id: 'fuse',
        'node-name': 'disk',
        mountpoint: fusePath,
        writable: fuse.writable,
        growable: false,
        'allow-other': 'off',
      }),
    );
  }
  const child = await startChild('qemu-storage-daemon', daemonArgs, { directory, name });
  const stop = once(() => stopServer(child, fusePath, nbdSocketPath));
  try {
    await waitReady(child, { nbdSocketPath, fusePath, signal });
    if (nbdSocketPath !== undefined && nbd?.forQemu === true) await giveToQemu(nbdSocketPath);
  } catch (error) {
    await stopAfterFailure(stop, error);
    throw error;
  }
  return { nbdSocketPath, nbdExportName: EXPORT_NAME, fusePath, exited: child.exited, stop };
}

function assertPossible({ image, nbd, fuse, name }: ServeOptions): void {
  const writable = (nbd?.writable ?? false) || (fuse?.writable ?? false);
  const problem = !/^[a-z0-9][a-z0-9-]{0,31}$/.test(name)
    ? `'${name}' is not a name for its files`
    : !nbd && !fuse
      ? 'neither an NBD nor a FUSE export is asked for'
      : nbd && fuse?.writable
        ? 'a writable FUSE export cannot be combined with an NBD export of the same image'
        : writable && image.kind === 'image' && image.readOnly
          ? 'a writable export of an image that is opened read-only'
          : undefined;
  if (problem !== undefined) {
    throw new LifeboatError('input.invalid', `Cannot serve ${image.path}: ${problem}`, {
      context: { path: image.path },
    });
  }
}

async function prepareSocket(path: string): Promise<void> {
  assertSocketPath(path);
  await removeIfThere(path); // a dead attempt's
}

async function prepareFuse(path: string): Promise<void> {
  try {
    await access('/dev/fuse');
  } catch (cause) {
    throw new LifeboatError('host.fuse-missing', '/dev/fuse does not exist on this host', { cause });
  }
  if (await isMounted(path)) await unmount(path); // a dead attempt's
  await writeFile(path, '', { mode: 0o600 });
}

/**
 * The top node is `disk`. A backing node is given by reference, never nested: QEMU merges nested options with the name
 * that stands in the header.
 */
function nodeName(level: number, levels: number): string {
  return level === levels - 1 ? 'disk' : `below${level}`;
}

type BlockNode = Readonly<Record<string, unknown>>;

async function imageNode(image: ImageFile, readOnly: boolean): Promise<BlockNode> {
  const common = { 'read-only': readOnly, discard: readOnly ? 'ignore' : 'unmap' };
  const file = { driver: 'file', filename: resolve(image.path), ...common };
  if (image.format === 'raw') return { driver: 'raw', file, ...common };
  if (image.followHeader === true) return { driver: 'qcow2', file, ...common };
  await assertStandsAlone(image.path);
  return { driver: 'qcow2', file, backing: null, ...common };
}

async function createOverlay(
  image: Extract<ServedImage, { kind: 'overlay' }>,
  signal: AbortSignal,
): Promise<BlockNode[]> {
  const { path, backing, clusterSizeBytes } = image;
  if (await exists(path)) {
    throw new LifeboatError('host.image-exists', `The overlay ${path} exists already`, { context: { path } });
  }
  const isNbd = 'nbdSocketPath' in backing;
  const backingNode = isNbd
    ? {
        driver: 'nbd',
        server: { type: 'unix', path: backing.nbdSocketPath },
        export: backing.nbdExportName,
        'read-only': true,
      }
    : await imageNode(backing, true);
  const reference = isNbd
    ? `nbd+unix:///${encodeURIComponent(backing.nbdExportName)}?socket=${encodeURIComponent(backing.nbdSocketPath)}`
    : resolve(backing.path);
  const overlayArgs = ['-f', 'qcow2', '-o', `cluster_size=${clusterSizeBytes}`];
  const backingArgs = ['-b', reference, '-F', isNbd ? 'raw' : backing.format];
  await runTool('qemu-img', ['create', '-q', ...overlayArgs, ...backingArgs, '--', path], {
    timeoutMs: CREATE_TIMEOUT_MS,
    signal,
  });
  const overlayFile = { driver: 'file', filename: resolve(path), discard: 'unmap' };
  return [backingNode, { driver: 'qcow2', discard: 'unmap', file: overlayFile }];
}

async function waitReady(
  child: Child,
  {
    nbdSocketPath,
    fusePath,
    signal,
  }: { nbdSocketPath?: string | undefined; fusePath?: string | undefined; signal: AbortSignal },
): Promise<void> {
  const deadlineMs = systemClock.monotonicMs() + READY_TIMEOUT_MS;
  const failed = (what: string): LifeboatError =>
    new LifeboatError(
      'host.image-server-failed',
      `The disk image server ${child.name} ${what}: ${child.outputTail()}`,
      {
        context: { name: child.name, logPath: child.logPath },
      },
    );
  for (;;) {
    if (child.exit !== undefined) throw failed(`ended with code ${child.exit.code ?? child.exit.signal}`);
    const ready =
      (nbdSocketPath === undefined || (await greets(nbdSocketPath))) &&
      (fusePath === undefined || (await isMounted(fusePath)));
    if (ready) return;
    if (systemClock.monotonicMs() > deadlineMs) throw failed(`was not ready after ${READY_TIMEOUT_MS} ms`);
    await systemClock.sleep(READY_POLL_MS, signal);
  }
}

async function stopServer(
  child: Child,
  fusePath: string | undefined,
  nbdSocketPath: string | undefined,
): Promise<void> {
  const diedBefore = child.exit;
  let lazy: unknown;
  try {
    if (fusePath !== undefined) await unmount(fusePath);
  } catch (error) {
    if (!hasCode(error, 'host.unmount-lazy')) throw error;
    lazy = error;
  }
  const exit = await child.stop({ graceMs: STOP_GRACE_MS });
  if (fusePath !== undefined) await removeIfThere(fusePath);
  if (nbdSocketPath !== undefined) await removeIfThere(nbdSocketPath);
  if (lazy !== undefined) throw lazy;
  if (diedBefore !== undefined || exit.code !== 0) {
    const how = `${diedBefore === undefined ? 'ended' : 'had died'} with ${exit.code ?? exit.signal}`;
    throw new LifeboatError(
      'host.image-server-unclean',
      `The disk image server ${child.name} ${how}: ${child.outputTail()}`,
      {
        context: { name: child.name, logPath: child.logPath },
      },
    );
  }
}

/** The failure that led here is what the caller gets; that a server which never was ready ends badly adds nothing. */
async function stopAfterFailure(stop: () => Promise<void>, failure: unknown): Promise<void> {
  try {
    await stop();
  } catch (error) {
    if (hasCode(error, 'host.image-server-unclean', 'host.unmount-lazy')) return;
    throw new AggregateError([failure, error], `${messageOf(failure)}; and stopping it failed: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** One run for all callers; a failed one may be tried again. */
function once(run: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () =>
    (running ??= run().catch((error: unknown) => {
      running = undefined;
      throw error;
    }));
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}
