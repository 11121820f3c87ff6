/** A repository, and an operation directory, on a real filesystem that runs out of space in the middle of a backup. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { initRepository, openRepository, type Repository } from '@lifeboat/repository/repository';
import { DirectoryStore } from '@lifeboat/repository/store/directory-store';
import { fileSource } from '@lifeboat/repository/testing/file-source';
import { MACHINE, pointId, Scratch } from '@lifeboat/repository/testing/tiny';

const MIB = 1024 * 1024;
const scratch = new Scratch();
const mount = join(scratch.path, 'small');
const ballast = join(mount, 'ballast');
const content = randomBytes(24 * MIB);
const disk = scratch.file(content);
const secret = { passphrase: 'x' };
const signal = new AbortController().signal;

beforeAll(() => {
  mkdirSync(mount);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', mount]);
});
afterAll(async () => {
  execFileSync('umount', [mount]);
  await scratch.remove();
});

async function backUp(repository: Repository, directory: string): Promise<void> {
  const session = await repository.beginSession({ machineId: MACHINE, directory });
  try {
    const request = { name: 'vda', sizeBytes: content.length, source: fileSource(disk), changed: 'all' as const };
    const { root } = await session.writeDisk(request, { signal });
    await session.commit({ pointId: pointId(1), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
  } finally {
    await session.detach();
  }
}

test('a full repository: a clear error, nothing visible, and the next attempt goes on', async () => {
  const root = join(mount, 'repository');
  mkdirSync(root);
  const limits = { stripeChunks: 4, packBytes: 6 * MIB, spareBuffers: 1, waitingLeaves: 64, pagePackBytes: MIB };
  const repository = await initRepository({ store: new DirectoryStore(root), secret, deps: { writerLimits: limits } });
  writeFileSync(ballast, Buffer.alloc(36 * MIB));
  const directory = scratch.directory();
  await expect(backUp(repository, directory)).rejects.toMatchObject({
    code: 'disk.full',
    message: expect.stringContaining(root) as string,
  });
  expect(await repository.points()).toEqual([]);
  expect(readdirSync(join(root, 'tmp'))).toEqual([]);

  rmSync(ballast);
  await backUp(repository, directory);
  const reopened = await openRepository({ store: new DirectoryStore(root), secret });
  const device = reopened.openDisk(await reopened.readPoint(MACHINE, pointId(1)), 'vda');
  const target = Buffer.alloc(content.length);
  await device.read(0, target);
  expect(Buffer.compare(target, content)).toBe(0);
  await Promise.all([repository.close(), reopened.close()]);
  rmSync(root, { recursive: true });
});

test('a full operation directory: a clear error, and the journal is still good', async () => {
  const directory = join(mount, 'operation');
  mkdirSync(directory);
  const root = scratch.directory();
  const limits = { stripeChunks: 1, packBytes: 2 * MIB, spareBuffers: 1, waitingLeaves: 64, pagePackBytes: MIB };
  const repository = await initRepository({ store: new DirectoryStore(root), secret, deps: { writerLimits: limits } });
  const session = await repository.beginSession({ machineId: MACHINE, directory });
  await session.detach();
  // Not a page is left: the journal grows by one with its first records.
  let free = 48 * MIB;
  for (const step of [MIB, 4096]) {
    for (;;) {
      try {
        writeFileSync(`${ballast}-${free}`, Buffer.alloc(step));
        free -= step;
      } catch {
        // The filesystem is full, as it should be.
        rmSync(`${ballast}-${free}`, { force: true });
        break;
      }
    }
  }
  await expect(backUp(repository, directory)).rejects.toMatchObject({ code: 'disk.full' });
  expect(await repository.points()).toEqual([]);
  for (const name of readdirSync(mount)) if (name.startsWith('ballast')) rmSync(join(mount, name));
  const before = statSync(join(directory, 'session.journal')).size;
  await backUp(repository, directory);
  expect(before).toBeGreaterThan(0);
  expect((await repository.points()).map(({ state }) => state)).toEqual(['readable']);
  await repository.close();
});
