/**
 * Two mounted file trees, compared entry by entry: type, permissions, owner, link target, device number, size, content.
 *
 * Not compared: times (an edit restores the parent's, a journal replay may not). Entries are read through `lstat`, so nothing
 * outside the two roots is ever followed. Extended attributes: compare-attributes.ts.
 */
import type { Stats } from 'node:fs';
import { type FileHandle, lstat, open, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { MiB } from '@lifeboat/foundation/units';
import type { CompareFilesSummary } from '../verbs.ts';

const READ_BYTES = MiB;
const MAX_LISTED = 1000;

export interface CompareTreesOptions {
  readonly signal: AbortSignal;
  /** Called with the bytes compared so far. */
  readonly progress?: (comparedBytes: number, path: string) => void;
}

/** `left` and `right` are directories on mounted filesystems; paths in the result begin with `/`. */
export async function compareTrees(
  left: string,
  right: string,
  options: CompareTreesOptions,
): Promise<Pick<CompareFilesSummary, 'comparedFiles' | 'comparedBytes' | 'differing'>> {
  const comparison = new Comparison(left, right, options);
  await comparison.directory('/');
  return {
    comparedFiles: comparison.comparedFiles,
    comparedBytes: comparison.comparedBytes,
    differing: comparison.differing,
  };
}

class Comparison {
  comparedFiles = 0;
  comparedBytes = 0;
  readonly differing: string[] = [];
  readonly #left: string;
  readonly #right: string;
  readonly #options: CompareTreesOptions;
  readonly #buffers = [Buffer.allocUnsafe(READ_BYTES), Buffer.allocUnsafe(READ_BYTES)] as const;

  constructor(left: string, right: string, options: CompareTreesOptions) {
    this.#left = left;
    this.#right = right;
    this.#options = options;
  }

  async directory(path: string): Promise<void> {
    // latin1 keeps names that are not UTF-8 apart from each other.
    const names = await Promise.all(
      [this.#left, this.#right].map((root) => readdir(Buffer.from(join(root, path), 'latin1'), { encoding: 'latin1' })),
    );
    const all = new Set([...(names[0] ?? []), ...(names[1] ?? [])]);
    for (const name of [...all].sort()) {
      this.#options.signal.throwIfAborted();
      const child = join(path, name);
      if (!names[0]?.includes(name) || !names[1]?.includes(name)) this.#differs(child);
      else await this.#entry(child);
    }
  }

  async #entry(path: string): Promise<void> {
    const [a, b] = await Promise.all([lstat(this.#at(this.#left, path)), lstat(this.#at(this.#right, path))]);
    this.comparedFiles++;
    if (a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid || (!a.isDirectory() && a.size !== b.size)) {
      this.#differs(path);
    } else if (!(await this.#sameContent(path, a, b))) {
      this.#differs(path);
    }
    if (a.isDirectory() && b.isDirectory()) await this.directory(path);
  }

  async #sameContent(path: string, a: Stats, b: Stats): Promise<boolean> {
    if (a.isSymbolicLink()) {
      const [x, y] = await Promise.all([readlink(this.#at(this.#left, path)), readlink(this.#at(this.#right, path))]);
      return x === y;
    }
    if (a.isCharacterDevice() || a.isBlockDevice()) return a.rdev === b.rdev;
    return a.isFile() ? this.#sameBytes(path) : true;
  }

  async #sameBytes(path: string): Promise<boolean> {
    const handles: FileHandle[] = [];
    try {
      for (const root of [this.#left, this.#right]) handles.push(await open(this.#at(root, path), 'r'));
      const [x, y] = this.#buffers;
      for (;;) {
        this.#options.signal.throwIfAborted();
        const [m = 0, n = 0] = await Promise.all(handles.map((handle, i) => readFull(handle, i === 0 ? x : y)));
        if (m !== n || x.compare(y, 0, n, 0, m) !== 0) return false;
        this.comparedBytes += m;
        this.#options.progress?.(this.comparedBytes, path);
        if (m < READ_BYTES) return true;
      }
    } finally {
      await Promise.all(handles.map((handle) => handle.close()));
    }
  }

  #at(root: string, path: string): Buffer {
    return Buffer.from(join(root, path), 'latin1');
  }

  #differs(path: string): void {
    if (this.differing.length < MAX_LISTED) this.differing.push(path);
  }
}

async function readFull(handle: FileHandle, buffer: Buffer): Promise<number> {
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await handle.read(buffer, length, buffer.length - length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return length;
}
