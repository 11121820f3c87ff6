/**
 * A repository in a directory: an object is a file.
 *
 * A file appears under its name only when it is whole and durable:
 * 1. write a temporary file in `tmp/` of the same filesystem, fsync it
 * 2. link it to its name: fails when the name is taken, so nothing is ever replaced (where the filesystem has no hard links, as FAT and
 *    exFAT of USB disks: a rename that replaces nothing)
 * 3. unlink the temporary name
 * 4. fsync the directory of the name (and, where a directory was made, the one above it)
 *
 * A directory may be a disk that is pulled out, or exchanged for another one, at any moment; what is then found under the same path is the
 * empty mount point, or another repository. So before a name is given, and before an object counts as missing, the directory
 * must still be the one that was there at first.
 *
 * Not guaranteed: one winner between two *processes* that put one name on a filesystem with neither links nor such a rename (names are
 * unique or say what the content is, so nothing rests on it); and that `tmp/` is empty after a crash. What lies there has no meaning and is removed by `sweepTemporary`.
 */
import type { FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';
import { systemRandom, type Random } from '@lifeboat/foundation/random';

import { MAX_SUPERBLOCK_BYTES } from '../format/limits.ts';
import { hex, SUPERBLOCK } from '../format/names.ts';
import { Slots } from '../read/slots.ts';
import { nodeFiles, type Files } from './files.ts';
import type { ByteRange, ObjectInfo, ObjectStore, PutOptions, StoreOptions, StoreTraits } from './object-store.ts';

const TEMPORARY = 'tmp';
/** FAT keeps no file of 4 GiB; a repository without one can be copied to any disk. */
const MAX_OBJECT_BYTES = 2 ** 32 - 1;
/** What links fail with where there are none. */
const NO_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL', 'EMLINK'];
/** A disk or a server that went away, as different filesystems say it. */
const AWAY = ['ENOENT', 'ENOTDIR', 'ENODEV', 'ENXIO', 'ESTALE', 'ENOTCONN', 'EHOSTDOWN', 'ETIMEDOUT', 'ESHUTDOWN'];
/** What the medium, or the filesystem on it, says of bytes it lost; -117 is EUCLEAN, which libuv gives no name. */
const UNREADABLE = ['EIO', 'EBADMSG', 'Unknown system error -117'];
/** Files of a listing whose sizes are asked for side by side: each question waits for a thread. */
const LISTED_TOGETHER = 64;
/** Bytes per write call, so that an abort is noticed within a pack. */
const WRITE_STEP_BYTES = 8 * 1024 * 1024;

export class DirectoryStore implements ObjectStore {
  readonly description: string;
  readonly #root: string;
  readonly #files: Files;
  readonly #random: Random;
  /** Directories known to exist and to be durable. */
  readonly #known = new Set<string>();
  readonly #renames = new Slots(1);
  /** What the directory was at first. */
  #identity: { readonly root: string; readonly superblock: string | undefined } | undefined;

  constructor(root: string, deps: { files?: Files; random?: Random } = {}) {
    this.#root = root;
    this.#files = deps.files ?? nodeFiles;
    this.#random = deps.random ?? systemRandom;
    this.description = `directory ${root}`;
  }

  async putIfAbsent(
    name: string,
    parts: readonly Uint8Array[],
    options: PutOptions = {},
  ): Promise<'created' | 'exists'> {
    const path = this.#path(name);
    if (options.lockUntilMs !== undefined) {
      throw new LifeboatError('repository.store-unsupported', `${this.description} cannot lock objects (${name})`, {
        context: { object: name },
      });
    }
    const sizeBytes = parts.reduce((sum, part) => sum + part.length, 0);
    if (sizeBytes > MAX_OBJECT_BYTES) {
      throw new LifeboatError(
        'repository.limit-exceeded',
        `${name} has ${sizeBytes} bytes; an object has at most ${MAX_OBJECT_BYTES}`,
      );
    }
    return this.#reporting('write', path, async () => {
      await this.#assertSameDisk();
      if ((await this.#stat(path)) !== undefined) {
        // The writer before us may have died between link and fsync: what we report as there must be durable.
        await this.#syncDirectory(dirname(path));
        return 'exists';
      }
      await this.#makeDirectory(join(this.#root, TEMPORARY));
      await this.#makeDirectory(dirname(path));
      const temporary = join(this.#root, TEMPORARY, hex(this.#random.bytes(16)));
      try {
        await this.#writeDurably(temporary, parts, options.signal);
        await this.#assertSameDisk();
        return await this.#giveName(temporary, path);
      } finally {
        await this.#unlink(temporary);
      }
    });
  }

  async get(name: string, options: StoreOptions & { readonly maxBytes: number }): Promise<Uint8Array> {
    const path = this.#path(name);
    return this.#reading(name, path, () =>
      this.#withFile(name, path, async (file) => {
        const { size } = await file.stat();
        if (size > options.maxBytes)
          throw this.#short(name, `${size} bytes exceed the ${options.maxBytes} it may have`);
        return this.#readExactly(file, { name, offsetBytes: 0, lengthBytes: size }, options.signal);
      }),
    );
  }

  async getRange(
    name: string,
    range: ByteRange & { readonly atMost?: boolean },
    options: StoreOptions = {},
  ): Promise<Uint8Array> {
    const path = this.#path(name);
    return this.#reading(name, path, () =>
      this.#withFile(name, path, async (file) => {
        if (!range.atMost) return this.#readExactly(file, { name, ...range }, options.signal);
        const { size } = await file.stat();
        const lengthBytes = Math.max(0, Math.min(range.lengthBytes, size - range.offsetBytes));
        return this.#readExactly(file, { name, offsetBytes: range.offsetBytes, lengthBytes }, options.signal);
      }),
    );
  }

  async head(name: string): Promise<ObjectInfo | undefined> {
    const path = this.#path(name);
    return this.#reading(name, path, async () => {
      const found = await this.#stat(path);
      if (found) return { name, sizeBytes: found.size, storedMs: Math.floor(found.mtimeMs) };
      // A missing file below a missing root is a disk that was unplugged, not an object that was lost.
      await this.#assertSameDisk();
      return undefined;
    });
  }

  async *list(prefix: string, options: StoreOptions = {}): AsyncIterable<ObjectInfo> {
    for await (const files of this.#walk(prefix, options)) {
      for (let at = 0; at < files.length; at += LISTED_TOGETHER) {
        options.signal?.throwIfAborted();
        const some = files.slice(at, at + LISTED_TOGETHER);
        const found = await Promise.all(
          some.map((name) => {
            const path = join(this.#root, name);
            return this.#reporting('look up', path, () => this.#stat(path));
          }),
        );
        for (const [i, name] of some.entries()) {
          const size = found[i]?.size;
          if (size !== undefined) yield { name, sizeBytes: size };
        }
      }
    }
    await this.#assertListedWhole(prefix);
  }

  async *names(prefix: string, options: StoreOptions = {}): AsyncIterable<string> {
    for await (const files of this.#walk(prefix, options)) yield* files;
    await this.#assertListedWhole(prefix);
  }

  /** Names of objects, directory by directory. */
  async *#walk(prefix: string, options: StoreOptions): AsyncGenerator<string[]> {
    const start = prefix.replace(/\/$/, '');
    await this.#reporting('list', join(this.#root, start), () => this.#assertSameDisk());
    // One directory at a time is open; what is still to visit are names, at most one per folder of the layout.
    const pending = [start];
    for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
      options.signal?.throwIfAborted();
      const within = directory;
      const current = join(this.#root, within);
      const entries = await this.#reporting('list', current, async () => {
        try {
          return await this.#files.readdir(current);
        } catch (error) {
          if (systemCode(error) !== 'ENOENT' || within !== start) throw error;
          await this.#assertSameDisk();
          return [];
        }
      });
      const files: string[] = [];
      for (const entry of entries) {
        const name = within === '' ? entry.name : `${within}/${entry.name}`;
        if (!entry.isDirectory()) files.push(name);
        else if (name !== TEMPORARY) pending.push(name);
      }
      yield files;
    }
  }

  /** A disk that was exchanged meanwhile must not make half a listing look whole. */
  async #assertListedWhole(prefix: string): Promise<void> {
    await this.#reporting('list', join(this.#root, prefix), () => this.#assertSameDisk());
  }

  async delete(name: string): Promise<void> {
    const path = this.#path(name);
    await this.#reporting('delete', path, async () => {
      await this.#assertSameDisk();
      await this.#unlink(path);
      if ((await this.#stat(dirname(path))) !== undefined) await this.#syncDirectory(dirname(path));
    });
  }

  /** Tries a link, in `tmp/`. */
  async traits(): Promise<StoreTraits> {
    const directory = join(this.#root, TEMPORARY);
    return this.#reporting('try', directory, async () => {
      await this.#makeDirectory(directory);
      const [file, other] = [0, 1].map(() => join(directory, hex(this.#random.bytes(16)))) as [string, string];
      try {
        await this.#writeDurably(file, [], undefined);
        await this.#files.link(file, other);
        return { versions: false, hardLinks: true };
      } catch (error) {
        if (!NO_LINKS.includes(systemCode(error) ?? '')) throw error;
        return { versions: false, hardLinks: false };
      } finally {
        for (const path of [file, other]) await this.#unlink(path);
      }
    });
  }

  /** Removes temporary files older than `minimumAgeMs`, which their writers left when they were killed. Returns how many. */
  async sweepTemporary(input: { nowMs: number; minimumAgeMs: number }): Promise<number> {
    const directory = join(this.#root, TEMPORARY);
    return this.#reporting('clean', directory, async () => {
      let removed = 0;
      for (const entry of (await this.#stat(directory)) === undefined ? [] : await this.#files.readdir(directory)) {
        const path = join(directory, entry.name);
        const { mtimeMs } = await this.#files.stat(path);
        if (input.nowMs - mtimeMs < input.minimumAgeMs) continue;
        await this.#unlink(path);
        removed++;
      }
      return removed;
    });
  }

  #path(name: string): string {
    const safe = name.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
    if (!safe || name.includes('\0') || name.startsWith(`${TEMPORARY}/`)) {
      throw new LifeboatError('internal.bug', `'${name}' is not the name of an object`);
    }
    return join(this.#root, name);
  }

  async #writeDurably(path: string, parts: readonly Uint8Array[], signal: AbortSignal | undefined): Promise<void> {
    const file = await this.#files.open(path, 'wx', 0o600);
    try {
      for (const part of parts) {
        for (let at = 0; at < part.length;) {
          signal?.throwIfAborted();
          const { bytesWritten } = await file.write(part, at, Math.min(WRITE_STEP_BYTES, part.length - at));
          at += bytesWritten;
        }
      }
      await file.sync();
    } finally {
      await file.close();
    }
  }

  async #giveName(temporary: string, path: string): Promise<'created' | 'exists'> {
    let outcome: 'created' | 'exists' = 'created';
    try {
      await this.#files.link(temporary, path);
    } catch (error) {
      const code = systemCode(error) ?? '';
      if (code === 'EEXIST') outcome = 'exists';
      else if (NO_LINKS.includes(code)) outcome = await this.#renameTo(temporary, path);
      else throw error;
    }
    await this.#syncDirectory(dirname(path));
    return outcome;
  }

  /**
   * One after the other: a filesystem without links may also know no rename that replaces nothing (exFAT through FUSE), and then the
   * look and the rename are two steps.
   */
  async #renameTo(temporary: string, path: string): Promise<'created' | 'exists'> {
    try {
      await this.#renames.run(() => this.#files.renameNew(temporary, path));
    } catch (error) {
      throw new LifeboatError(
        'repository.store-unsupported',
        `the filesystem of ${this.#root} can neither link files nor rename without replacing (${messageOf(error)})`,
        { context: { path }, cause: error },
      );
    }
    // The temporary name is nobody else's: when it is gone, it was renamed.
    return (await this.#stat(temporary)) === undefined ? 'created' : 'exists';
  }

  /**
   * Throws when the directory is not the one it was at first: gone, the empty mount point below a disk that was pulled out, or another
   * disk. Device and inode numbers tell little (FAT numbers every root 1, and a disk that comes back may get others), so what counts is
   * the superblock, as soon as there is one.
   */
  async #assertSameDisk(): Promise<void> {
    const { dev, ino } = await this.#files.stat(this.#root);
    const root = `${dev}:${ino}`;
    const superblock = await this.#superblock();
    const first = (this.#identity ??= { root, superblock });
    if (first.superblock === undefined ? root !== first.root : superblock !== first.superblock) {
      throw new LifeboatError(
        'repository.store-unreachable',
        `${this.description} is not the one it was: its disk was pulled out or exchanged`,
        { context: { path: this.#root } },
      );
    }
    this.#identity = { root, superblock };
  }

  async #superblock(): Promise<string | undefined> {
    let file: FileHandle;
    try {
      file = await this.#files.open(join(this.#root, SUPERBLOCK), 'r');
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw error;
    }
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_SUPERBLOCK_BYTES), 0, MAX_SUPERBLOCK_BYTES, 0);
      return buffer.toString('base64', 0, bytesRead);
    } finally {
      await file.close();
    }
  }

  /** Makes a directory and everything above it up to the root, each durable before the next. */
  async #makeDirectory(directory: string): Promise<void> {
    if (this.#known.has(directory)) return;
    if (directory !== this.#root) {
      await this.#makeDirectory(dirname(directory));
      try {
        await this.#files.mkdir(directory, 0o700);
      } catch (error) {
        if (systemCode(error) !== 'EEXIST') throw error;
      }
      await this.#syncDirectory(dirname(directory));
    } else {
      // The root itself is never made here: a repository on a disk that is not mounted must not grow a second one below.
      await this.#files.stat(directory);
    }
    this.#known.add(directory);
  }

  async #syncDirectory(directory: string): Promise<void> {
    const handle = await this.#files.open(directory, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  async #withFile<T>(name: string, path: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
    let file: FileHandle;
    try {
      file = await this.#files.open(path, 'r');
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
      await this.#assertSameDisk();
      throw new LifeboatError('repository.object-missing', `${name} is not in ${this.description}`, {
        context: { object: name },
        cause: error,
      });
    }
    try {
      // Who only reads must know the disk as well, to tell one that was pulled out from objects that are lost.
      if (!this.#identity) await this.#assertSameDisk();
      return await use(file);
    } finally {
      await file.close();
    }
  }

  async #readExactly(
    file: FileHandle,
    { name, offsetBytes, lengthBytes }: ByteRange & { name: string },
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> {
    const target = Buffer.allocUnsafeSlow(lengthBytes);
    for (let at = 0; at < lengthBytes;) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(target, at, lengthBytes - at, offsetBytes + at);
      if (bytesRead === 0)
        throw this.#short(name, `it ends at ${offsetBytes + at}, ${offsetBytes + lengthBytes} were expected`);
      at += bytesRead;
    }
    return target;
  }

  async #stat(path: string): Promise<{ readonly size: number; readonly mtimeMs: number } | undefined> {
    try {
      return await this.#files.stat(path);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  async #unlink(path: string): Promise<void> {
    try {
      await this.#files.unlink(path);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
    }
  }

  #short(name: string, why: string): LifeboatError {
    return new LifeboatError('repository.object-damaged', `${name} in ${this.description}: ${why}`, {
      context: { object: name },
    });
  }

  /** An error of the medium is one of this object alone only while the rest of the directory can be read. */
  async #reading<T>(name: string, path: string, action: () => Promise<T>): Promise<T> {
    return this.#reporting('read', path, async () => {
      try {
        return await action();
      } catch (error) {
        if (!UNREADABLE.includes(systemCode(error) ?? '')) throw error;
        await this.#assertSameDisk();
        throw new LifeboatError('repository.object-unreadable', `could not read ${path}: ${messageOf(error)}`, {
          context: { object: name, path, systemCode: systemCode(error) },
          cause: error,
        });
      }
    });
  }

  /** Gives what the operating system says a meaning. */
  async #reporting<T>(verb: string, path: string, action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      const code = systemCode(error);
      if (code === undefined || error instanceof LifeboatError) throw error;
      const context = { path, systemCode: code };
      const text = `could not ${verb} ${path}: ${messageOf(error)}`;
      if (code === 'ENOSPC' || code === 'EDQUOT') throw new LifeboatError('disk.full', text, { context, cause: error });
      if (code === 'EFBIG') throw new LifeboatError('repository.limit-exceeded', text, { context, cause: error });
      if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
        throw new LifeboatError('repository.store-denied', text, { context, cause: error });
      }
      if (AWAY.includes(code)) {
        throw new LifeboatError('repository.store-unreachable', text, { context, cause: error });
      }
      if (/^E[A-Z0-9]+$/.test(code))
        throw new LifeboatError('repository.store-failed', text, { context, cause: error });
      throw error;
    }
  }
}
