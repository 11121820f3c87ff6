/**
 * The files of a guest under directories of ours, seen as the guest sees them: paths and absolute symlinks begin at the
 * guest's root, and none leads out of it. Images are untrusted: every component is looked at with lstat, nothing is
 * opened that is not a regular file, and every read has a limit.
 *
 * Holds because nobody else changes the tree meanwhile: the filesystem is mounted from an overlay only we have.
 */
import { createHash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { lstat, mkdir, open, readdir, readlink, rename, statfs, unlink, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import type { OriginalFile, OriginalFiles } from '../journal/original-files.ts';
import { DEFAULT_MAX_BYTES, MAX_SYMLINKS, pathComponents, type GuestFiles } from './guest-files.ts';

const COPY_TIMEOUT_MS = 30_000;
/** How ntfs-3g shows a security descriptor. */
const NTFS_ACCESS = 'system.ntfs_acl';
const TEMPORARY_SUFFIX = '.lifeboat-new';

export interface FileEdit {
  /** Guest path with symlinks resolved. */
  readonly path: string;
  readonly oldSha256: string;
  readonly newSha256: string;
  readonly oldBytes: number;
  readonly newBytes: number;
  /** What it held, where the edit is kept; absent in journals of versions that did not keep it. */
  readonly original?: OriginalFile;
}

/** Who owns a file that is written anew, and who may do what with it. */
export interface FileDress {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

const OF_ROOT: FileDress = { mode: 0o644, uid: 0, gid: 0 };

/** Each filesystem of the guest is mounted on its own; together they are its tree. */
export interface GuestMount {
  /** Where the guest has it. */
  readonly mountPoint: string;
  /** Where it is mounted on this host. */
  readonly hostPath: string;
}

export interface FilesystemSpace {
  readonly freeBytes: number;
  readonly freeInodes: number;
  /** Zero: the filesystem has no fixed number of inodes (btrfs), so none can run out. */
  readonly totalInodes: number;
  readonly sizeBytes: number;
}

export class GuestTree implements GuestFiles {
  readonly #mounts: readonly GuestMount[];
  readonly #originals: OriginalFiles | undefined;

  /** `mounts` holds one for `/`. Mount points are guest paths without symlinks. `originals` keeps what edited files held. */
  constructor(mounts: readonly GuestMount[], originals?: OriginalFiles) {
    this.#originals = originals;
    // The deepest mount point that contains a path is where it lives.
    this.#mounts = mounts.toSorted((a, b) => b.mountPoint.length - a.mountPoint.length);
  }

  /** The guest path behind all symlinks, or undefined if something on the way does not exist. Error: `guest.path-unusable`. */
  async resolve(path: string): Promise<string | undefined> {
    let pending = pathComponents(path);
    let done: string[] = [];
    for (let links = 0; ;) {
      const [next, ...rest] = pending;
      if (next === undefined) return `/${done.join('/')}`;
      pending = rest;
      if (next === '..') {
        done = done.slice(0, -1);
        continue;
      }
      const here = this.#onHost(`/${[...done, next].join('/')}`);
      const stats = await lstatIfThere(here);
      if (stats === undefined) return undefined;
      if (!stats.isSymbolicLink()) {
        done = [...done, next];
        continue;
      }
      links += 1;
      if (links > MAX_SYMLINKS) {
        throw new LifeboatError(
          'guest.path-unusable',
          `${path} in the guest goes through more than ${MAX_SYMLINKS} symbolic links`,
          {
            context: { path },
          },
        );
      }
      const target = await readlink(here);
      if (target.startsWith('/')) done = [];
      pending = [...pathComponents(target), ...pending];
    }
  }

  /** Undefined when there is nothing. Symlinks are followed. */
  async stat(path: string): Promise<Stats | undefined> {
    const resolved = await this.resolve(path);
    return resolved === undefined ? undefined : lstat(this.#onHost(resolved));
  }

  async isFile(path: string): Promise<boolean> {
    return (await this.stat(path))?.isFile() ?? false;
  }

  async isDirectory(path: string): Promise<boolean> {
    return (await this.stat(path))?.isDirectory() ?? false;
  }

  /** Names in a directory, sorted; empty when there is no such directory. */
  async list(path: string): Promise<string[]> {
    if (!(await this.isDirectory(path))) return [];
    const resolved = (await this.resolve(path)) as string;
    return (await readdir(this.#onHost(resolved))).sort();
  }

  /**
   * The content of a regular file; undefined when there is none.
   * Errors: `guest.path-unusable` when it is no regular file or larger than `maxBytes` (default 4 MiB).
   */
  async read(path: string, options: { maxBytes?: number } = {}): Promise<Buffer | undefined> {
    const resolved = await this.resolve(path);
    if (resolved === undefined) return undefined;
    const maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
    const file = await openFile(this.#onHost(resolved));
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw unusable(path, 'is not a regular file');
      if (stats.size > maxBytes) throw unusable(path, `holds ${stats.size} bytes; at most ${maxBytes} are read`);
      return await file.readFile();
    } finally {
      await file.close();
    }
  }

  async readText(path: string, options: { maxBytes?: number } = {}): Promise<string | undefined> {
    return (await this.read(path, options))?.toString('utf8');
  }

  /**
   * Replaces the content of an existing regular file: written beside it with the same owner, mode, access control list and
   * extended attributes, fsynced, renamed over it, directory fsynced. After a power cut the guest has the old or the new file, whole.
   * Errors: `guest.path-unusable` when there is no such file; `guest.no-space`.
   */
  async replace(path: string, content: readonly Uint8Array[]): Promise<FileEdit> {
    const resolved = await this.resolve(path);
    if (resolved === undefined) throw unusable(path, 'does not exist');
    const target = this.#onHost(resolved);
    const old = await lstat(target);
    if (!old.isFile()) throw unusable(path, 'is not a regular file');
    const oldSha256 = await sha256Of(target);
    return await this.#keepingOriginal(target, async () => {
      const written = await placeWhole(path, target, content, async (file, temporary) => {
        await file.chown(old.uid, old.gid);
        await file.chmod(old.mode & 0o7777);
        // Last: a change of owner or content takes capabilities away.
        await copyAttributes(target, temporary);
      });
      return { path: resolved, oldSha256, oldBytes: old.size, ...written };
    });
  }

  /**
   * Writes a file that may be new, into a directory that is there: by default mode 0644, of root; one that is there is replaced as `replace` does it.
   * The edit of a new file has an old size of zero. Errors: those of `replace`, and `guest.path-unusable` when there is no such directory.
   */
  async write(path: string, content: Uint8Array, dress: FileDress = OF_ROOT): Promise<FileEdit> {
    if ((await this.resolve(path)) !== undefined) return this.replace(path, [content]);
    const directory = await this.resolve(dirname(path));
    if (directory === undefined || !(await this.isDirectory(directory))) {
      throw unusable(dirname(path), 'is not a directory');
    }
    const resolved = join(directory, basename(path));
    // A link of that name that leads nowhere is replaced, not followed.
    return await this.#keepingOriginal(undefined, async () => {
      const written = await placeWhole(path, this.#onHost(resolved), [content], async (file) => {
        await file.chown(dress.uid, dress.gid);
        await file.chmod(dress.mode);
      });
      return { path: resolved, oldSha256: createHash('sha256').digest('hex'), oldBytes: 0, ...written };
    });
  }

  /**
   * Writes another content into a file that is there, which stays the same file: with its access control list, short name and streams, as a
   * replaced one of NTFS would not. It may be half written after a power cut, so it is for trees in throw-away overlays.
   * Errors: `guest.path-unusable` when there is no such file; `guest.no-space`.
   */
  async overwrite(path: string, content: Uint8Array): Promise<FileEdit> {
    const resolved = await this.resolve(path);
    if (resolved === undefined) throw unusable(path, 'does not exist');
    const target = this.#onHost(resolved);
    const old = await lstat(target);
    if (!old.isFile()) throw unusable(path, 'is not a regular file');
    const oldSha256 = await sha256Of(target);
    const file = await open(target, constants.O_WRONLY | constants.O_TRUNC | constants.O_NOFOLLOW);
    try {
      await file.writeFile(content);
      await file.sync();
    } catch (error) {
      throw systemCode(error) === 'ENOSPC' ? noSpace(path, error) : error;
    } finally {
      await file.close();
    }
    const newSha256 = createHash('sha256').update(content).digest('hex');
    return { path: resolved, oldSha256, newSha256, oldBytes: old.size, newBytes: content.length };
  }

  /** Makes a directory, and those above it, where there are none. Errors: `guest.path-unusable` where something else is there. */
  async makeDirectory(path: string): Promise<void> {
    if (path === '/' || (await this.isDirectory(path))) return;
    await this.makeDirectory(dirname(path));
    const parent = (await this.resolve(dirname(path))) as string;
    const target = this.#onHost(join(parent, basename(path)));
    try {
      await mkdir(target, { mode: 0o755 });
    } catch (error) {
      if (systemCode(error) === 'ENOSPC') throw noSpace(path, error);
      throw systemCode(error) === 'EEXIST' ? unusable(path, 'is not a directory') : error;
    }
  }

  /** Gives a file or directory of NTFS the access control list of another. Both are there. */
  async copyNtfsAccess(from: string, to: string): Promise<void> {
    const [source, target] = [await this.resolve(from), await this.resolve(to)];
    if (source === undefined || target === undefined)
      throw unusable(source === undefined ? from : to, 'does not exist');
    const read = ['--absolute-names', '--encoding=hex', '-n', NTFS_ACCESS, this.#onHost(source)];
    const { stdout } = await runTool('getfattr', read, { timeoutMs: COPY_TIMEOUT_MS });
    const value = /^system\.ntfs_acl=(0x[0-9a-f]+)$/m.exec(stdout)?.[1];
    if (value === undefined) throw unusable(from, 'has no access control list');
    const write = ['-n', NTFS_ACCESS, '-v', value, this.#onHost(target)];
    await runTool('setfattr', write, { timeoutMs: COPY_TIMEOUT_MS });
  }

  /** Takes a regular file away; the edit has a new size of zero. Error: `guest.path-unusable` when there is no such file. */
  async remove(path: string): Promise<FileEdit> {
    const resolved = await this.resolve(path);
    if (resolved === undefined) throw unusable(path, 'does not exist');
    const target = this.#onHost(resolved);
    const old = await lstat(target);
    if (!old.isFile()) throw unusable(path, 'is not a regular file');
    const oldSha256 = await sha256Of(target);
    return await this.#keepingOriginal(target, async () => {
      await unlink(target);
      await syncDirectory(dirname(target));
      return {
        path: resolved,
        oldSha256,
        newSha256: createHash('sha256').digest('hex'),
        oldBytes: old.size,
        newBytes: 0,
      };
    });
  }

  /** Edits with the old file held open: its content is there until then, whatever has its name now. */
  async #keepingOriginal(target: string | undefined, edit: () => Promise<FileEdit>): Promise<FileEdit> {
    const originals = this.#originals;
    if (originals === undefined) return await edit();
    const old = target === undefined ? undefined : await openFile(target);
    try {
      const done = await edit();
      const now = target === undefined ? undefined : await openFileIfThere(target);
      try {
        return { ...done, original: await originals.keep(old, now) };
      } finally {
        await now?.close();
      }
    } finally {
      await old?.close();
    }
  }

  /** Space of the filesystem that holds `path`; the nearest parent that exists counts. */
  async space(path: string): Promise<FilesystemSpace> {
    let at = path;
    while ((await this.resolve(at)) === undefined && at !== '/') at = dirname(at);
    const resolved = (await this.resolve(at)) ?? '/';
    const { bavail, bsize, ffree, files, blocks } = await statfs(this.#onHost(resolved));
    return { freeBytes: bavail * bsize, freeInodes: ffree, totalInodes: files, sizeBytes: blocks * bsize };
  }

  #onHost(resolved: string): string {
    const inside = ({ mountPoint }: GuestMount): boolean =>
      mountPoint === '/' || resolved === mountPoint || resolved.startsWith(`${mountPoint}/`);
    const mount = this.#mounts.find(inside);
    if (mount === undefined) throw new LifeboatError('internal.bug', `no filesystem of the guest holds ${resolved}`);
    return join(mount.hostPath, mount.mountPoint === '/' ? resolved : resolved.slice(mount.mountPoint.length));
  }
}

/**
 * Beside first, then renamed: after a power cut the old or the new file is there, whole. `dress` gives the finished file owner, mode and
 * attributes before it is synced. `path` names it in errors.
 */
async function placeWhole(
  path: string,
  target: string,
  content: readonly Uint8Array[],
  dress: (file: FileHandle, temporary: string) => Promise<void>,
): Promise<Pick<FileEdit, 'newSha256' | 'newBytes'>> {
  const temporary = `${target}${TEMPORARY_SUFFIX}`;
  const hash = createHash('sha256');
  let newBytes = 0;
  try {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const file = await open(temporary, flags, 0o600);
    try {
      for (const part of content) {
        hash.update(part);
        newBytes += part.length;
        await file.writeFile(part);
      }
      await dress(file, temporary);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, target);
  } catch (error) {
    await unlinkIfThere(temporary);
    throw systemCode(error) === 'ENOSPC' ? noSpace(path, error) : error;
  }
  await syncDirectory(dirname(target));
  return { newSha256: hash.digest('hex'), newBytes };
}

/** O_NONBLOCK: a FIFO put there to hang us does not. */
function openFile(path: string): Promise<FileHandle> {
  return open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
}

async function openFileIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await openFile(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function lstatIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    // ENOTDIR: a component on the way is a file, so nothing is there either.
    if (['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) return undefined;
    throw error;
  }
}

async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}

/** Extended attributes (capabilities and labels of SELinux are such) and access control lists, for which Node has no calls. */
async function copyAttributes(from: string, to: string): Promise<void> {
  const args = ['--attributes-only', '--no-dereference', '--preserve=mode,xattr', '--', from, to];
  await runTool('cp', args, { timeoutMs: COPY_TIMEOUT_MS });
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  const file = await openFile(path);
  // The stream closes the file.
  for await (const chunk of file.createReadStream({ highWaterMark: MiB })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function noSpace(path: string, cause: unknown): LifeboatError {
  return new LifeboatError('guest.no-space', `The guest's filesystem became full while ${path} was written`, {
    cause,
    context: { path },
  });
}

function unusable(path: string, problem: string): LifeboatError {
  return new LifeboatError('guest.path-unusable', `${path} in the guest ${problem}`, { context: { path } });
}
