/**
 * The files of a guest from the bytes of its volumes: nothing is mounted. As `GuestTree`, paths and symlinks begin at the guest's root,
 * and none leads out of it.
 */
import type { FileNode } from '@lifeboat/disk/files/file-node';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { DEFAULT_MAX_BYTES, MAX_SYMLINKS, pathComponents, type GuestFiles } from './guest-files.ts';

export class ImageTree implements GuestFiles {
  readonly #roots: Map<string, FileNode>;

  /** By mount point; one is for `/`. Mount points are guest paths without symlinks. */
  constructor(roots: ReadonlyMap<string, FileNode>) {
    this.#roots = new Map(roots);
  }

  async resolve(path: string): Promise<string | undefined> {
    return (await this.#find(path))?.path;
  }

  async isFile(path: string): Promise<boolean> {
    return (await this.#find(path))?.node.kind === 'file';
  }

  async isDirectory(path: string): Promise<boolean> {
    return (await this.#find(path))?.node.kind === 'directory';
  }

  async list(path: string): Promise<string[]> {
    const found = await this.#find(path);
    return found?.node.kind === 'directory' ? (await found.node.names()).sort() : [];
  }

  async read(path: string, options: { maxBytes?: number } = {}): Promise<Buffer | undefined> {
    const found = await this.#find(path);
    if (!found) return undefined;
    const { maxBytes = DEFAULT_MAX_BYTES } = options;
    const { kind, sizeBytes } = found.node;
    if (kind !== 'file') throw unusable(path, 'is not a regular file');
    if (sizeBytes > maxBytes) throw unusable(path, `holds ${sizeBytes} bytes; at most ${maxBytes} are read`);
    return found.node.read();
  }

  async readText(path: string, options: { maxBytes?: number } = {}): Promise<string | undefined> {
    return (await this.read(path, options))?.toString('utf8');
  }

  /** See `FileNode.stamp`; undefined also when there is nothing. */
  async stamp(path: string): Promise<string | undefined> {
    return (await this.#find(path))?.node.stamp;
  }

  async #find(path: string): Promise<{ path: string; node: FileNode } | undefined> {
    const root = this.#roots.get('/');
    if (!root) throw new LifeboatError('internal.bug', 'a tree has no root');
    let pending = pathComponents(path);
    let done: { name: string; node: FileNode }[] = [];
    for (let links = 0; ;) {
      const inside = done.at(-1)?.node ?? root;
      const [next, ...rest] = pending;
      const here = `/${done.map(({ name }) => name).join('/')}`;
      if (next === undefined) return { path: here, node: inside };
      pending = rest;
      if (next === '..') {
        done = done.slice(0, -1);
        continue;
      }
      if (inside.kind !== 'directory') return undefined;
      const at = here === '/' ? `/${next}` : `${here}/${next}`;
      const node = this.#roots.get(at) ?? (await inside.child(next));
      if (!node) return undefined;
      if (node.kind !== 'symlink') {
        done = [...done, { name: next, node }];
        continue;
      }
      links += 1;
      if (links > MAX_SYMLINKS) throw unusable(path, `goes through more than ${MAX_SYMLINKS} symbolic links`);
      const target = await node.target();
      if (target.startsWith('/')) done = [];
      pending = [...pathComponents(target), ...pending];
    }
  }
}

function unusable(path: string, problem: string): LifeboatError {
  return new LifeboatError('guest.path-unusable', `${path} in the guest ${problem}`, { context: { path } });
}
