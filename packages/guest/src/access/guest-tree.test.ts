import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GuestTree } from './guest-tree.ts';

let base: string;
let root: string;
let tree: GuestTree;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'tree-'));
  root = join(base, 'root');
  mkdirSync(join(root, 'etc'), { recursive: true });
  writeFileSync(join(base, 'secret'), 'of the host');
  writeFileSync(join(root, 'etc/hostname'), 'guest\n');
  tree = new GuestTree([{ mountPoint: '/', hostPath: root }]);
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

const link = (target: string, path: string) => symlinkSync(target, join(root, path));

describe('GuestTree', () => {
  it('follows links as the guest would', async () => {
    link('/etc', 'absolute');
    link('../../../../etc/hostname', 'etc/up');
    link('hostname', 'etc/beside');
    for (const path of ['/absolute/hostname', '/etc/up', '/etc/beside', 'etc//./hostname', '/absolute/../etc/beside']) {
      expect(await tree.readText(path)).toBe('guest\n');
    }
    expect(await tree.resolve('/absolute/beside')).toBe('/etc/hostname');
  });

  it('never leaves the guest', async () => {
    link(`${'../'.repeat(20)}${base}/secret`, 'etc/escape');
    link(join(base, 'secret'), 'etc/direct');
    link('..', 'etc/out');
    for (const path of ['/etc/escape', '/etc/direct', '/../secret', '/etc/out/../../secret', '../secret']) {
      expect(await tree.read(path)).toBeUndefined();
    }
  });

  it('ends on links in a circle', async () => {
    link('b', 'a');
    link('a', 'b');
    await expect(tree.read('/a')).rejects.toMatchObject({ code: 'guest.path-unusable' });
  });

  it('opens regular files only, and none that is too large', async () => {
    execFileSync('mkfifo', [join(root, 'fifo')]);
    await expect(tree.read('/fifo')).rejects.toMatchObject({ code: 'guest.path-unusable' });
    await expect(tree.read('/etc')).rejects.toMatchObject({ code: 'guest.path-unusable' });
    truncateSync(join(root, 'etc/hostname'), 5 * 1024 * 1024);
    await expect(tree.read('/etc/hostname')).rejects.toMatchObject({ code: 'guest.path-unusable' });
    expect((await tree.read('/etc/hostname', { maxBytes: 6 * 1024 * 1024 }))?.length).toBe(5 * 1024 * 1024);
  });

  it('says that nothing is there where nothing is', async () => {
    expect(await tree.read('/no/such')).toBeUndefined();
    expect(await tree.read('/etc/hostname/below')).toBeUndefined();
    expect(await tree.list('/no')).toEqual([]);
    expect(await tree.stat('/no')).toBeUndefined();
    expect(await tree.isDirectory('/etc')).toBe(true);
  });

  it('finds a path on the filesystem that is mounted there', async () => {
    const boot = join(base, 'boot');
    mkdirSync(boot);
    mkdirSync(join(root, 'boot'));
    writeFileSync(join(root, 'boot/hidden'), 'below the mount');
    writeFileSync(join(boot, 'kernel'), 'k');
    symlinkSync('/etc/hostname', join(boot, 'back'));
    link('boot/kernel', 'vmlinuz');
    const mounted = new GuestTree([
      { mountPoint: '/', hostPath: root },
      { mountPoint: '/boot', hostPath: boot },
    ]);
    expect(await mounted.list('/boot')).toEqual(['back', 'kernel']);
    expect(await mounted.readText('/vmlinuz')).toBe('k');
    expect(await mounted.readText('/boot/back')).toBe('guest\n');
    expect(await mounted.readText('/boot/../etc/hostname')).toBe('guest\n');
    expect(await mounted.read('/boot/hidden')).toBeUndefined();
  });

  it('replaces a file whole, with owner and mode, and tells both hashes', async () => {
    const path = join(root, 'etc/hostname');
    chmodSync(path, 0o640);
    chownSync(path, process.getuid?.() === 0 ? 1234 : (process.getuid?.() ?? 0), process.getgid?.() ?? 0);
    const { uid } = statSync(path);
    link('hostname', 'etc/beside');
    const edit = await tree.replace('/etc/beside', [Buffer.from('new '), Buffer.from('name')]);
    const hash = (text: string) => createHash('sha256').update(text).digest('hex');
    expect(edit).toEqual({
      path: '/etc/hostname',
      oldSha256: hash('guest\n'),
      newSha256: hash('new name'),
      oldBytes: 6,
      newBytes: 8,
    });
    expect(readFileSync(path, 'utf8')).toBe('new name');
    expect(statSync(path)).toMatchObject({ mode: 0o100640, uid });
    expect(readdirSync(join(root, 'etc'))).toEqual(['beside', 'hostname']);
  });

  it('replaces a file with its extended attributes', async () => {
    const path = join(root, 'etc/hostname');
    execFileSync('setfattr', ['-n', 'user.note', '-v', 'kept', path]);
    await tree.replace('/etc/hostname', [Buffer.from('new name')]);
    const args = ['--only-values', '-n', 'user.note', '--absolute-names', path];
    expect(execFileSync('getfattr', args, { encoding: 'utf8' })).toBe('kept');
    expect(readFileSync(path, 'utf8')).toBe('new name');
  });

  it('does not follow a trap beside the file it replaces', async () => {
    link(join(base, 'secret'), 'etc/hostname.lifeboat-new');
    await expect(tree.replace('/etc/hostname', [Buffer.from('x')])).rejects.toThrow(/EEXIST/);
    expect(readFileSync(join(base, 'secret'), 'utf8')).toBe('of the host');
    expect(readFileSync(join(root, 'etc/hostname'), 'utf8')).toBe('guest\n');
  });

  it('replaces only what is there and is a file', async () => {
    await expect(tree.replace('/etc/none', [])).rejects.toMatchObject({ code: 'guest.path-unusable' });
    await expect(tree.replace('/etc', [])).rejects.toMatchObject({ code: 'guest.path-unusable' });
  });

  it('writes a new file into a directory that is there, and takes one away', async () => {
    const hash = (text: string) => createHash('sha256').update(text).digest('hex');
    link('../etc', 'usr-etc');
    expect(await tree.write('/usr-etc/new.conf', Buffer.from('new'))).toEqual({
      path: '/etc/new.conf',
      oldSha256: hash(''),
      newSha256: hash('new'),
      oldBytes: 0,
      newBytes: 3,
    });
    expect(statSync(join(root, 'etc/new.conf')).mode & 0o777).toBe(0o644);
    expect(await tree.write('/etc/new.conf', Buffer.from('newer'))).toMatchObject({ oldBytes: 3, newBytes: 5 });
    expect(await tree.remove('/etc/new.conf')).toMatchObject({ oldSha256: hash('newer'), oldBytes: 5, newBytes: 0 });
    expect(await tree.read('/etc/new.conf')).toBeUndefined();
    expect(readdirSync(join(root, 'etc'))).toEqual(['hostname']);
    // One after the other: a rejection that nobody waits for yet would end the run.
    const wrong = [
      () => tree.write('/none/x', Buffer.alloc(1)),
      ...['/etc/new.conf', '/etc'].map((path) => () => tree.remove(path)),
    ];
    for (const attempt of wrong) await expect(attempt()).rejects.toMatchObject({ code: 'guest.path-unusable' });
  });

  it('writes through no link that leads out', async () => {
    link(join(base, 'secret'), 'etc/new.conf');
    await tree.write('/etc/new.conf', Buffer.from('x'));
    expect(readFileSync(join(base, 'secret'), 'utf8')).toBe('of the host');
    expect(readFileSync(join(root, 'etc/new.conf'), 'utf8')).toBe('x');
  });
});
