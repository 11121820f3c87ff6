/** A repository on exFAT, as USB disks have it: no hard links, roots that all look alike, pulled out at any moment. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { testObjectStore } from '@lifeboat/repository/store/conformance';
import { DirectoryStore } from '@lifeboat/repository/store/directory-store';

const MIB = 1024 * 1024;
const directory = mkdtempSync(join(tmpdir(), 'lifeboat-usb-'));
const mount = join(directory, 'mnt');
const [first, second] = [join(directory, 'first.img'), join(directory, 'second.img')];

beforeAll(() => {
  mkdirSync(mount);
  for (const image of [first, second]) {
    writeFileSync(image, '');
    truncateSync(image, 64 * MIB);
    execFileSync('mkfs.exfat', [image], { stdio: 'ignore' });
  }
  plugIn(first);
});
afterAll(() => {
  pullOut();
  rmSync(directory, { recursive: true });
});

let device = '';

/** Through FUSE: not every kernel has exFAT. */
function plugIn(image: string): void {
  device = execFileSync('losetup', ['--find', '--show', image], { encoding: 'utf8' }).trim();
  execFileSync('mount.exfat-fuse', [device, mount], { stdio: 'ignore' });
}

function pullOut(): void {
  execFileSync('umount', [mount]);
  execFileSync('losetup', ['--detach', device]);
}

let roots = 0;
testObjectStore('a directory on an exFAT disk', async () => {
  const root = join(mount, `store-${++roots}`);
  mkdirSync(root);
  return { store: new DirectoryStore(root), remove: async () => rmSync(root, { recursive: true }) };
});

describe('an exFAT disk', () => {
  const away = { code: 'repository.store-unreachable' };
  const block = [Buffer.from('superblock')];
  afterEach(() => {
    pullOut();
    plugIn(first);
  });

  it('that was pulled out leaves a mount point in which nothing grows', async () => {
    const store = new DirectoryStore(mount);
    await store.putIfAbsent('lifeboat.repository', block);
    await store.putIfAbsent('data/x', [Buffer.from('x')]);
    pullOut();
    await expect(store.putIfAbsent('data/y', block)).rejects.toMatchObject(away);
    await expect(store.get('data/x', { maxBytes: 1 })).rejects.toMatchObject(away);
    expect(readdirSync(mount)).toEqual([]);
    plugIn(first);
    expect(await store.putIfAbsent('data/y', block)).toBe('created');
    expect(Buffer.from(await store.get('data/x', { maxBytes: 1 })).toString()).toBe('x');
  });

  it('that was exchanged for the next one of the rotation is not taken for it', async () => {
    const store = new DirectoryStore(mount);
    await store.putIfAbsent('lifeboat.repository', block);
    pullOut();
    plugIn(second);
    await new DirectoryStore(mount).putIfAbsent('lifeboat.repository', [Buffer.from('that of another one')]);
    await expect(store.putIfAbsent('data/z', block)).rejects.toMatchObject(away);
    await expect(store.head('data/none')).rejects.toMatchObject(away);
  });

  it('that is full says so and leaves nothing', async () => {
    const store = new DirectoryStore(mount);
    await expect(store.putIfAbsent('data/large', [Buffer.alloc(80 * MIB)])).rejects.toMatchObject({
      code: 'disk.full',
    });
    expect(readdirSync(join(mount, 'tmp'))).toEqual([]);
  });
});
