import { LifeboatError } from '@lifeboat/foundation/errors';
import { expect, test } from 'vitest';
import { mountFailure } from './mount-failure.ts';

const said = (text: string): LifeboatError => new LifeboatError('host.tool-failed', `mount ended with 32: ${text}`);
const twin = 'mount: /ops/1/b/part1.mnt: mount(2) system call failed: File exists.';
const on = (type: string) => ({ type, disk: 'vda', partition: 2 });

test('a copy that cannot be mounted beside its original is told from a filesystem that cannot be mounted', () => {
  expect(mountFailure(said(twin), on('btrfs'))).toMatchObject({
    code: 'guest.filesystem-twin',
    message: expect.stringMatching(/btrfs filesystem on vda partition 2 .* beside its copy/) as string,
  });
  expect(mountFailure(said(twin), on('ext4'))).toMatchObject({ code: 'guest.mount-failed' });
  expect(mountFailure(said('wrong fs type, bad superblock'), on('btrfs'))).toMatchObject({
    code: 'guest.mount-failed',
    message: expect.stringContaining('bad superblock') as string,
  });
  const other = new LifeboatError('operation.cancelled', 'Ctrl-C');
  expect(mountFailure(other, on('btrfs'))).toBe(other);
});
