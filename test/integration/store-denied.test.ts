/** A store that stops letting us in: a credential revoked in the middle of a backup, and a directory that can only be read. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { DeleteBucketPolicyCommand, PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { agentPolicy } from '@lifeboat/repository/lock/agent-policy';
import type { Repository } from '@lifeboat/repository/repository';
import { DirectoryStore } from '@lifeboat/repository/store/directory-store';
import type { ObjectStore } from '@lifeboat/repository/store/object-store';
import { openS3Store } from '@lifeboat/repository/store/s3/s3-store';
import { noisyDisk, readDisk } from '@lifeboat/repository/testing/disks';
import { fileSource } from '@lifeboat/repository/testing/file-source';
import { initTiny, MACHINE, openTiny, pointId, Scratch } from '@lifeboat/repository/testing/tiny';
import { withFault } from '../support/s3-faults.ts';
import { startVersitygw, type S3Server } from '../support/versitygw.ts';

const context = { signal: new AbortController().signal, progress: () => {} };
const first = noisyDisk(100);
const second = noisyDisk(300, 7);
const scratch = new Scratch();
let server: S3Server;
beforeAll(async () => {
  server = await startVersitygw();
});
afterAll(async () => {
  await server.stop();
  await scratch.remove();
});

/** Returns how many bytes had to be stored. */
async function backUp(
  repository: Repository,
  { n, disk, directory }: { n: number; disk: Buffer; directory: string },
): Promise<number> {
  const session = await repository.beginSession({ machineId: MACHINE, directory });
  try {
    const source = fileSource(scratch.file(disk));
    const request = { name: 'vda', sizeBytes: disk.length, source, changed: 'all' as const };
    const { root, stats } = await session.writeDisk(request, context);
    await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
    return stats.newBytes;
  } finally {
    await session.detach();
  }
}

test('a credential revoked in the middle of a backup: nothing becomes visible, and with a new grant it goes on', async () => {
  const place = server.place(await server.makeBucket('plain'), 'site/');
  const agent = await server.makeUser('agent');
  const Policy = JSON.stringify(agentPolicy({ place, principal: agent.accessKeyId, locksInPut: false }));
  const grant = (): Promise<unknown> => server.root.send(new PutBucketPolicyCommand({ Bucket: place.bucket, Policy }));
  await grant();
  const owner = await initTiny(await openS3Store(place, { client: () => server.root }));
  await backUp(owner, { n: 1, disk: first, directory: scratch.directory() });

  let packs = 0;
  let revoked = false;
  const client = withFault(server.client(place, agent), async ({ method, path }, send) => {
    if (method === 'PUT' && path.includes('/packs/') && ++packs === 3) {
      await server.root.send(new DeleteBucketPolicyCommand({ Bucket: place.bucket }));
      revoked = true;
    }
    return send();
  });
  const repository = await openTiny(await openS3Store(place, { client: () => client }));
  const directory = scratch.directory();
  await expect(backUp(repository, { n: 2, disk: second, directory })).rejects.toMatchObject({
    code: 'repository.store-denied',
  });
  expect(revoked).toBe(true);
  expect((await owner.points()).map((point) => point.pointId)).toEqual([pointId(1)]);
  expect(Buffer.compare(await readDisk(owner, MACHINE, pointId(1)), first)).toBe(0);

  await grant();
  // What had arrived before is not sent again.
  expect(await backUp(repository, { n: 2, disk: second, directory })).toBeLessThan(second.length);
  expect(Buffer.compare(await readDisk(owner, MACHINE, pointId(2)), second)).toBe(0);
  await Promise.all([repository.close(), owner.close()]);
});

test('a directory that can only be read: every point is read and checked, and what would write says so', async () => {
  const root = scratch.directory();
  const directory = scratch.directory();
  const made = await initTiny(new DirectoryStore(root));
  await backUp(made, { n: 1, disk: first, directory });
  await made.close();
  const mount = join(scratch.path, 'read-only');
  mkdirSync(mount);
  execFileSync('mount', ['--bind', root, mount]);
  try {
    execFileSync('mount', ['-o', 'remount,bind,ro', mount]);
    const store: ObjectStore = new DirectoryStore(mount);
    const repository = await openTiny(store);
    expect(await repository.points()).toMatchObject([{ state: 'readable' }]);
    expect(Buffer.compare(await readDisk(repository, MACHINE, pointId(1)), first)).toBe(0);
    const point = await repository.readPoint(MACHINE, pointId(1));
    expect(await repository.checkPoint(point, 'content', context)).toMatchObject({ sound: true });
    const denied = { code: 'repository.store-denied', message: expect.stringContaining(mount) as string };
    await expect(backUp(repository, { n: 2, disk: second, directory: scratch.directory() })).rejects.toMatchObject(
      denied,
    );
    await expect(repository.keys.rotate()).rejects.toMatchObject(denied);
    await repository.close();
  } finally {
    execFileSync('umount', [mount]);
  }
});
