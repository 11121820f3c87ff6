import { mkdir, readdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, describe, expect, test } from 'vitest';

import { Scratch } from '../testing/tiny.ts';
import { testObjectLocks, testObjectStore } from './conformance.ts';
import { DirectoryStore } from './directory-store.ts';
import { nodeFiles, type Files } from './files.ts';
import { MemoryStore } from './memory-store.ts';
import { TenantStore } from './tenant-store.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());

testObjectStore('a directory', async () => {
  const root = scratch.directory();
  return { store: new DirectoryStore(root), remove: () => rm(root, { recursive: true }) };
});
/** As FAT and exFAT are. */
const withoutLinks: Files = {
  ...nodeFiles,
  link: () => Promise.reject(Object.assign(new Error('no links'), { code: 'EPERM' })),
};
testObjectStore('a directory without hard links', async () => {
  const root = scratch.directory();
  return { store: new DirectoryStore(root, { files: withoutLinks }), remove: () => rm(root, { recursive: true }) };
});
const openMemory = async () => ({ store: new MemoryStore(), remove: () => Promise.resolve() });
testObjectStore('one tenant of a directory', async () => {
  const root = scratch.directory();
  const tenant = '0123456789abcdef0123456789abcdef';
  return { store: new TenantStore(new DirectoryStore(root), tenant), remove: () => rm(root, { recursive: true }) };
});
testObjectStore('memory', openMemory);
testObjectLocks('memory', openMemory, () => Date.now());

/** Real files whose handles fail as `fault` says. */
function failing(fault: (operation: 'write' | 'sync' | 'read', path: string) => string | undefined): Files {
  const check = (operation: 'write' | 'sync' | 'read', path: string): void => {
    const code = fault(operation, path);
    if (code) throw Object.assign(new Error(`${code}: injected`), { code });
  };
  return {
    ...nodeFiles,
    open: async (path, flags, mode) => {
      const file = await nodeFiles.open(path, flags, mode);
      return new Proxy(file, {
        get(target, key) {
          if (key === 'write' || key === 'sync' || key === 'read') {
            return async (...parameters: never[]) => {
              check(key, path);
              return (target[key] as (...all: never[]) => Promise<unknown>).apply(target, parameters);
            };
          }
          const value: unknown = Reflect.get(target, key, target);
          return typeof value === 'function' ? (value.bind(target) as FileHandle) : value;
        },
      });
    },
  };
}

async function everything(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
}

describe('a directory store', () => {
  test.each([
    ['ENOSPC', 'disk.full'],
    ['EDQUOT', 'disk.full'],
    ['EIO', 'repository.store-failed'],
    ['EROFS', 'repository.store-denied'],
  ] as const)('that meets %s in a write reports it and leaves nothing', async (systemCode, code) => {
    for (const operation of ['write', 'sync'] as const) {
      const root = scratch.directory();
      const store = new DirectoryStore(root, { files: failing((op) => (op === operation ? systemCode : undefined)) });
      await expect(store.putIfAbsent('top', [Buffer.from('x')])).rejects.toMatchObject({ code });
      expect(await everything(root)).toEqual([]);
    }
  });

  test('tells an object on bad sectors from a disk that is going away', async () => {
    const root = scratch.directory();
    await new DirectoryStore(root).putIfAbsent('lifeboat.repository', [Buffer.from('one')]);
    await new DirectoryStore(root).putIfAbsent('data/x', [Buffer.from('x')]);
    const reads: ((store: DirectoryStore) => Promise<unknown>)[] = [
      (store) => store.get('data/x', { maxBytes: 1 }),
      (store) => store.getRange('data/x', { offsetBytes: 0, lengthBytes: 1 }),
    ];
    const bad = failing((op, path) => (op === 'read' && path.endsWith('data/x') ? 'EIO' : undefined));
    for (const read of reads)
      await expect(read(new DirectoryStore(root, { files: bad }))).rejects.toMatchObject({
        code: 'repository.object-unreadable',
        retry: 'permanent',
      });
    const away = failing((op) => (op === 'read' ? 'EIO' : undefined));
    for (const read of reads)
      await expect(read(new DirectoryStore(root, { files: away }))).rejects.toMatchObject({
        code: 'repository.store-failed',
        retry: 'transient',
      });
  });

  test('whose last fsync of the directory fails does not call the object durable', async () => {
    const root = scratch.directory();
    const store = new DirectoryStore(root, {
      files: failing((op, path) => (op === 'sync' && path === join(root, 'a') ? 'EIO' : undefined)),
    });
    await expect(store.putIfAbsent('a/b', [Buffer.from('x')])).rejects.toMatchObject({
      code: 'repository.store-failed',
    });
    // It may be there; a repeated put makes it durable before it says "exists".
    expect(await new DirectoryStore(root).putIfAbsent('a/b', [Buffer.from('x')])).toBe('exists');
  });

  test('whose writes come up short writes the rest', async () => {
    const files: Files = {
      ...nodeFiles,
      open: async (path, flags, mode) => {
        const file = await nodeFiles.open(path, flags, mode);
        if (flags === 'wx') {
          const write = file.write.bind(file) as (
            b: Uint8Array,
            o: number,
            l: number,
          ) => Promise<{ bytesWritten: number }>;
          Object.assign(file, { write: (b: Uint8Array, o: number, l: number) => write(b, o, Math.min(l, 3)) });
        }
        return file;
      },
    };
    const store = new DirectoryStore(scratch.directory(), { files });
    await store.putIfAbsent('a', [Buffer.from('0123456789')]);
    expect(Buffer.from(await store.get('a', { maxBytes: 10 })).toString()).toBe('0123456789');
  });

  test('on a filesystem that can neither link nor rename without replacing says so', async () => {
    const files: Files = { ...withoutLinks, renameNew: () => Promise.reject(new Error('mv: invalid argument')) };
    const root = scratch.directory();
    await expect(new DirectoryStore(root, { files }).putIfAbsent('a', [])).rejects.toMatchObject({
      code: 'repository.store-unsupported',
    });
    expect(await everything(root)).toEqual([]);
  });

  test('holds no object that a FAT disk could not hold', async () => {
    const part = Buffer.alloc(64 * 1024 * 1024);
    const root = scratch.directory();
    const parts = Array.from({ length: 64 }, () => part);
    await expect(new DirectoryStore(root).putIfAbsent('a', parts)).rejects.toMatchObject({
      code: 'repository.limit-exceeded',
    });
    expect(await everything(root)).toEqual([]);
  });

  test.each(['an empty mount point', 'another disk'])(
    'whose disk was exchanged for %s touches nothing',
    async (what) => {
      const root = scratch.directory();
      const store = new DirectoryStore(root);
      await store.putIfAbsent('lifeboat.repository', [Buffer.from('one')]);
      await store.putIfAbsent('data/x', [Buffer.from('x')]);
      await rename(root, `${root}-away`);
      await mkdir(root);
      if (what === 'another disk') {
        await new DirectoryStore(root).putIfAbsent('lifeboat.repository', [Buffer.from('two')]);
      }
      const before = await everything(root);
      const away = { code: 'repository.store-unreachable' };
      await expect(store.putIfAbsent('data/y', [])).rejects.toMatchObject(away);
      await expect(store.get('data/x', { maxBytes: 1 })).rejects.toMatchObject(away);
      await expect(store.head('data/x')).rejects.toMatchObject(away);
      await expect(store.delete('data/x')).rejects.toMatchObject(away);
      await expect(
        (async () => {
          for await (const _ of store.list('data/')) throw new Error('listed something');
        })(),
      ).rejects.toMatchObject(away);
      await expect(
        (async () => {
          for await (const _ of store.names('data/')) throw new Error('listed something');
        })(),
      ).rejects.toMatchObject(away);
      expect(await everything(root)).toEqual(before);

      await rm(root, { recursive: true });
      await rename(`${root}-away`, root);
      expect(await store.putIfAbsent('data/y', [])).toBe('created');
    },
  );

  test('whose disk is pulled out after a read has lost nothing', async () => {
    const root = scratch.directory();
    const made = new DirectoryStore(root);
    await made.putIfAbsent('lifeboat.repository', [Buffer.from('one')]);
    await made.putIfAbsent('data/x', [Buffer.from('x')]);
    const store = new DirectoryStore(root);
    await store.get('data/x', { maxBytes: 1 });
    await rename(root, `${root}-away`);
    await mkdir(root);
    await expect(store.get('data/x', { maxBytes: 1 })).rejects.toMatchObject({ code: 'repository.store-unreachable' });
  });

  test('whose disk is pulled out in the middle of a write names nothing on the next one', async () => {
    const root = scratch.directory();
    const files: Files = {
      ...nodeFiles,
      open: async (path, flags, mode) => {
        const file = await nodeFiles.open(path, flags, mode);
        if (flags !== 'wx' || (await everything(root)).length < 2) return file;
        const close = file.close.bind(file);
        return Object.assign(file, {
          close: async () => {
            await close();
            await rename(root, `${root}-away`);
            await mkdir(root);
          },
        });
      },
    };
    const store = new DirectoryStore(root, { files });
    await store.putIfAbsent('lifeboat.repository', [Buffer.from('one')]);
    await expect(store.putIfAbsent('data/x', [Buffer.from('x')])).rejects.toMatchObject({
      code: 'repository.store-unreachable',
    });
    expect(await everything(root)).toEqual([]);
    expect((await everything(`${root}-away`)).filter((path) => !path.startsWith('tmp/'))).toEqual([
      'lifeboat.repository',
    ]);
  });

  test('does not pretend to lock', async () => {
    const root = scratch.directory();
    await expect(new DirectoryStore(root).putIfAbsent('a', [], { lockUntilMs: 1 })).rejects.toMatchObject({
      code: 'repository.store-unsupported',
    });
    expect(await everything(root)).toEqual([]);
  });

  test('that was unplugged is not taken for an empty one', async () => {
    const store = new DirectoryStore(join(scratch.directory(), 'not-mounted'));
    const unreachable = { code: 'repository.store-unreachable' };
    await expect(store.head('a')).rejects.toMatchObject(unreachable);
    await expect(store.get('a', { maxBytes: 1 })).rejects.toMatchObject(unreachable);
    await expect(store.putIfAbsent('a', [])).rejects.toMatchObject(unreachable);
    await expect(
      (async () => {
        for await (const _ of store.list('data/')) throw new Error('listed something');
      })(),
    ).rejects.toMatchObject(unreachable);
  });

  test('whose listing fails half way throws instead of ending', async () => {
    const root = scratch.directory();
    const store = new DirectoryStore(root, {
      files: {
        ...nodeFiles,
        readdir: (path) =>
          path.endsWith('/b')
            ? Promise.reject(Object.assign(new Error('bad sector'), { code: 'EIO' }))
            : nodeFiles.readdir(path),
      },
    });
    for (const name of ['data/a/1', 'data/b/2', 'data/c/3']) await store.putIfAbsent(name, []);
    await expect(
      (async () => {
        for await (const object of store.list('data/')) expect(object.sizeBytes).toBe(0);
      })(),
    ).rejects.toMatchObject({ code: 'repository.store-failed' });
    await expect(
      (async () => {
        for await (const name of store.names('data/')) expect(name).toMatch(/^data\/[abc]\/\d$/);
      })(),
    ).rejects.toMatchObject({ code: 'repository.store-failed' });
  });

  test('refuses names that lead out of it', async () => {
    const store = new DirectoryStore(scratch.directory());
    for (const name of ['../a', 'a/../../b', '/etc/passwd', 'a//b', './a', 'tmp/x', 'a\0b', '']) {
      await expect(store.putIfAbsent(name, [])).rejects.toMatchObject({ code: 'internal.bug' });
    }
  });

  test('sweeps what killed writers left, and nothing else', async () => {
    const root = scratch.directory();
    const store = new DirectoryStore(root);
    await store.putIfAbsent('data/x', [Buffer.from('x')]);
    await writeFile(join(root, 'tmp', 'left'), 'half');
    expect(await store.sweepTemporary({ nowMs: Date.now(), minimumAgeMs: 60_000 })).toBe(0);
    expect(await store.sweepTemporary({ nowMs: Date.now() + 120_000, minimumAgeMs: 60_000 })).toBe(1);
    expect(await everything(root)).toEqual(['data/x']);
  });

  test('does not list temporary files', async () => {
    const root = scratch.directory();
    const store = new DirectoryStore(root);
    await mkdir(join(root, 'tmp'));
    await writeFile(join(root, 'tmp', 'left'), 'half');
    const found: string[] = [];
    for await (const { name } of store.list('')) found.push(name);
    expect(found).toEqual([]);
  });

  test('reads through a root that is a symbolic link', async () => {
    const root = scratch.directory();
    await new DirectoryStore(root).putIfAbsent('data/x', [Buffer.from('x')]);
    const link = `${root}-link`;
    await symlink(root, link);
    expect((await new DirectoryStore(link).head('data/x'))?.sizeBytes).toBe(1);
  });

  test('keeps its files from other users', async () => {
    const root = scratch.directory();
    await new DirectoryStore(root).putIfAbsent('data/x', [Buffer.from('x')]);
    const { mode } = await stat(join(root, 'data', 'x'));
    expect((mode & 0o777).toString(8)).toBe('600');
  });
});
