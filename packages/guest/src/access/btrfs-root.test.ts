import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { parseFstab } from '../linux/fstab.ts';
import { findSubvolume, subvolumeOf } from './btrfs-root.ts';
import { GuestTree } from './guest-tree.ts';

const UUID = '11111111-2222-3333-4444-555555555555';
let top: string;
let tree: GuestTree;
beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), 'btrfs-'));
  tree = new GuestTree([{ mountPoint: '/', hostPath: top }]);
});
afterEach(() => rmSync(top, { recursive: true, force: true }));

/** A system in a directory at the top, as a subvolume there looks. */
function system(name: string, fstab: string): void {
  mkdirSync(join(top, name, 'etc'), { recursive: true });
  writeFileSync(join(top, name, 'etc/os-release'), 'ID=debian\n');
  writeFileSync(join(top, name, 'etc/fstab'), fstab);
}

it('the root is the subvolume whose fstab mounts itself, and not a snapshot of it', async () => {
  const fstab = `UUID=${UUID} / btrfs defaults,subvol=@ 0 0\nUUID=${UUID} /home btrfs subvol=@home 0 0\n`;
  system('@', fstab);
  system('@before-upgrade', fstab);
  mkdirSync(join(top, '@home'));
  expect(await findSubvolume(tree, UUID)).toBe('/@');
});

it('a single system is the root, whatever its fstab says; several without a word are refused', async () => {
  system('rootfs', '');
  expect(await findSubvolume(tree, UUID)).toBe('/rootfs');
  system('other', `UUID=${UUID.replaceAll('1', '9')} / btrfs subvol=other 0 0\n`);
  await expect(findSubvolume(tree, UUID)).rejects.toMatchObject({
    code: 'guest.several-roots',
    message: expect.stringContaining('/other, /rootfs') as string,
  });
});

it('where no directory holds a system there is no root', async () => {
  mkdirSync(join(top, '@home'));
  expect(await findSubvolume(tree, UUID)).toBeUndefined();
});

it.each([
  ['subvol=@home', '/@home'],
  ['noatime,subvol=/@/snapshots', '/@/snapshots'],
  ['subvolid=256', undefined],
  ['subvol=@/../x', undefined],
  ['subvol=a b', undefined],
])('options %s mean the subvolume %s', (options, expected) => {
  const [entry] = parseFstab(`UUID=x /m btrfs ${options.replaceAll(' ', '\\040')} 0 0`);
  expect(entry && subvolumeOf(entry)).toBe(expected);
});
