/** Filesystems of whole disks, made and damaged here; captured as a running machine is, while they are mounted. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, realpathSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MiB } from '@lifeboat/foundation/units';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { checkVolumes, type CheckedVolume } from './check-volumes.ts';

const quiet = { signal: new AbortController().signal, progress: () => {} };

async function directory(): Promise<string> {
  return realpathSync(await scratchDirectory());
}

function made(base: string, sizeMib: number, mkfs: string, ...args: readonly string[]): string {
  const path = join(base, 'disk.raw');
  writeFileSync(path, '');
  truncateSync(path, sizeMib * MiB);
  execFileSync(mkfs, [...args, path], { stdio: 'ignore' });
  return path;
}

/** A copy that was taken while files were written, with a log that nobody replayed. */
function captured(base: string, path: string): string {
  const mount = join(base, 'live');
  const copy = join(base, 'captured.raw');
  mkdirSync(mount);
  const loop = execFileSync('losetup', ['-f', '--show', path], { encoding: 'utf8' }).trim();
  try {
    execFileSync('mount', [loop, mount]);
    try {
      for (let n = 0; n < 50; n += 1) writeFileSync(join(mount, `file-${n}`), Buffer.alloc(20_000, n));
      execFileSync('sync', ['-f', mount]);
      execFileSync('cp', ['--sparse=always', path, copy]);
    } finally {
      execFileSync('umount', [mount]);
    }
  } finally {
    execFileSync('losetup', ['-d', loop]);
  }
  return copy;
}

async function checked(base: string, path: string): Promise<CheckedVolume | undefined> {
  const hash = readFileSync(path);
  const disks = [{ name: 'vda', image: { path, format: 'raw' } }] as const;
  const { volumes } = await checkVolumes({ disks, directory: join(base, 'check') }, quiet);
  expect(readFileSync(path).equals(hash)).toBe(true);
  expect(volumes).toHaveLength(1);
  return volumes[0];
}

async function spoil(path: string, offsetBytes: number, lengthBytes: number): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(Buffer.alloc(lengthBytes, 0xa5), 0, lengthBytes, offsetBytes);
  await file.close();
}

test('XFS of a running machine is sound once its log was replayed; a damaged one is not', async () => {
  const base = await directory();
  const copy = captured(base, made(base, 320, 'mkfs.xfs', '-q'));
  expect(await checked(base, copy)).toMatchObject({ type: 'xfs', result: 'sound', detail: '' });
  // The head of the free space of the first group.
  await spoil(copy, 512, 512);
  expect(await checked(base, copy)).toMatchObject({ type: 'xfs', result: 'damaged' });
});

test('btrfs of a running machine is sound; a damaged one is not', async () => {
  const base = await directory();
  const copy = captured(base, made(base, 128, 'mkfs.btrfs', '-q', '-m', 'single'));
  expect(await checked(base, copy)).toMatchObject({ type: 'btrfs', result: 'sound' });
  // Everything between the first superblock and the second.
  await spoil(copy, MiB, 62 * MiB);
  expect(await checked(base, copy)).toMatchObject({ type: 'btrfs', result: 'damaged' });
});

test('NTFS that was unmounted is sound; a damaged one is not', async () => {
  const base = await directory();
  const path = made(base, 16, 'mkntfs', '-q', '-F', '-f');
  expect(await checked(base, path)).toMatchObject({ type: 'ntfs', result: 'sound' });
  const boot = readFileSync(path).subarray(0, 512);
  const clusterBytes = boot.readUInt16LE(11) * boot.readUInt8(13);
  const table = Number(boot.readBigUInt64LE(0x30)) * clusterBytes;
  const root = join(base, 'root-damaged.raw');
  copyFileSync(path, root);
  await spoil(root, table + 5 * 1024, 512);
  expect(await checked(base, root)).toMatchObject({ type: 'ntfs', result: 'damaged' });
});

test('what nobody knows, and what is encrypted, is not checked, and swap is nothing to check', async () => {
  const base = await directory();
  const path = join(base, 'disk.raw');
  writeFileSync(path, Buffer.alloc(8 * MiB));
  expect(await checked(base, path)).toMatchObject({ type: '', result: 'not-checked' });
  await spoil(path, 1 * MiB, 4096);
  const luks = await open(path, 'r+');
  await luks.write(Buffer.from('LUKS\xba\xbe\0\x01', 'latin1'), 0, 8, 0);
  await luks.close();
  expect(await checked(base, path)).toMatchObject({ result: 'not-checked' });
  execFileSync('mkswap', [path], { stdio: 'ignore' });
  const disks = [{ name: 'vda', image: { path, format: 'raw' } }] as const;
  expect((await checkVolumes({ disks, directory: join(base, 'check') }, quiet)).volumes).toEqual([]);
});
