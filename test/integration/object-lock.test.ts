/**
 * Object Lock in COMPLIANCE mode on a real server, against who stole an agent's credentials, and against who has those of the
 * account's owner.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectVersionsCommand,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  PutObjectLockConfigurationCommand,
  PutObjectRetentionCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { systemClock } from '@lifeboat/foundation/clock';
import { agentPolicy } from '@lifeboat/repository/lock/agent-policy';
import { checkLocks } from '@lifeboat/repository/lock/lock-check';
import { extendLocks } from '@lifeboat/repository/lock/lock-extension';
import { LockingStore } from '@lifeboat/repository/lock/locking-store';
import type { Repository } from '@lifeboat/repository/repository';
import type { ObjectStore } from '@lifeboat/repository/store/object-store';
import type { S3Place } from '@lifeboat/repository/store/s3/s3-place';
import { openS3Store } from '@lifeboat/repository/store/s3/s3-store';
import { enrolled, openAgentTiny } from '@lifeboat/repository/testing/agents';
import { noisyDisk, readDisk } from '@lifeboat/repository/testing/disks';
import { fileSource } from '@lifeboat/repository/testing/file-source';
import { initTiny, MACHINE, openTiny, pointId, Scratch, TINY_CHUNK } from '@lifeboat/repository/testing/tiny';
import type { WriteDiskRequest } from '@lifeboat/repository/write/disk-writer';
import { startVersitygw, type S3Credentials, type S3Server } from '../support/versitygw.ts';

const HOUR_MS = 3_600_000;
const policy = { retentionMs: HOUR_MS, generationMs: HOUR_MS };
const context = { signal: new AbortController().signal, progress: () => {} };
const content = noisyDisk(24);
const scratch = new Scratch();

let server: S3Server;
let users = 0;
/** A fresh locked bucket with one point in it, put there by its owner. */
let place: S3Place;
let agent: S3Credentials;
beforeAll(async () => {
  server = await startVersitygw();
});
beforeEach(async () => {
  place = server.place(await server.makeBucket('locked'), 'site/');
  agent = await server.makeUser(`agent-${++users}`);
  const Policy = JSON.stringify(agentPolicy({ place, principal: agent.accessKeyId, locksInPut: true }));
  await server.root.send(new PutBucketPolicyCommand({ Bucket: place.bucket, Policy }));
  await closing(initTiny(await lockingStore(server.root)), async (repository) => {
    await backUp(repository, 1);
  });
});
afterAll(async () => {
  await server.stop();
  await scratch.remove();
});

async function lockingStore(client: S3Client, lock = policy): Promise<ObjectStore> {
  const store = await openS3Store(place, { client: () => client });
  return new LockingStore(store, { policy: lock, clock: systemClock });
}

async function closing(opening: Promise<Repository>, use: (repository: Repository) => Promise<void>): Promise<void> {
  const repository = await opening;
  try {
    await use(repository);
  } finally {
    await repository.close();
  }
}

async function backUp(
  repository: Repository,
  n: number,
  disk = content,
  since: Pick<WriteDiskRequest, 'parent' | 'changed'> = { changed: 'all' },
) {
  const session = await repository.beginSession({ machineId: MACHINE, directory: join(scratch.directory(), 'op') });
  try {
    const source = fileSource(scratch.file(disk));
    const written = await session.writeDisk({ name: 'vda', sizeBytes: disk.length, source, ...since }, context);
    const disks = [{ name: 'vda', root: written.root }];
    await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks });
    return written;
  } finally {
    await session.detach();
  }
}

/** Key and version id of everything in the bucket. */
async function everyVersion(): Promise<{ Key: string; VersionId: string }[]> {
  const { Versions = [] } = await server.root.send(new ListObjectVersionsCommand({ Bucket: place.bucket }));
  return Versions.map(({ Key = '', VersionId = '' }) => ({ Key, VersionId }));
}

/** What the server answered, whether it is an error or not. */
async function statusOf(answer: Promise<{ $metadata: { httpStatusCode?: number } }>): Promise<number | undefined> {
  const { $metadata } = await answer.catch((error: unknown) => error as Awaited<typeof answer>);
  return $metadata.httpStatusCode;
}

const refused = { $metadata: { httpStatusCode: 403 } };

describe('with the stolen credentials of an agent', () => {
  it('one can back up, as the agent can', async () => {
    await closing(openTiny(await lockingStore(server.client(place, agent))), async (repository) => {
      await backUp(repository, 2, noisyDisk(30, 7));
      expect((await repository.points()).map((point) => point.pointId)).toEqual([pointId(1), pointId(2)]);
    });
  });

  it('one deletes nothing, hides nothing, and changes nothing about the bucket', async () => {
    const thief = server.client(place, agent);
    const Bucket = place.bucket;
    const before = await everyVersion();
    for (const version of before) {
      await expect(thief.send(new DeleteObjectCommand({ Bucket, ...version }))).rejects.toMatchObject(refused);
    }
    const [control] = before as [{ Key: string; VersionId: string }];
    expect(control.Key).toContain('/control/');
    const soon = { Mode: 'COMPLIANCE' as const, RetainUntilDate: new Date(Date.now() + 60_000) };
    const attempts = [
      new DeleteObjectCommand({ Bucket, Key: control.Key }),
      // What is collected must not be locked by who writes it.
      new PutObjectRetentionCommand({ Bucket, ...control, Retention: soon }),
      new PutBucketPolicyCommand({ Bucket, Policy: '{}' }),
      new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Suspended' } }),
      new PutObjectLockConfigurationCommand({ Bucket, ObjectLockConfiguration: { ObjectLockEnabled: 'Enabled' } }),
    ];
    for (const attempt of attempts) {
      // One union type of commands has no one type of answer.
      await expect(thief.send(attempt as DeleteObjectCommand)).rejects.toMatchObject(refused);
    }
    expect(await everyVersion()).toEqual(before);
  });

  it('one is told apart from a lock: what is not locked is an alarm, what is locked is not', async () => {
    const store = await lockingStore(server.client(place, agent));
    const owner = await lockingStore(server.root);
    const codes = new Set<string>();
    for await (const { name } of owner.list('control/')) {
      await expect(store.delete(name)).rejects.toMatchObject({ code: 'repository.store-denied' });
      codes.add(name);
    }
    expect(codes.size).toBeGreaterThan(0);
    for await (const { name } of owner.list('data/')) {
      await expect(owner.delete(name)).rejects.toMatchObject({ code: 'repository.object-locked' });
    }
  });

  it('one reads nothing: every object is sealed, and no other place of the account can be read', async () => {
    const thief = server.client(place, agent);
    const { Bucket } = { Bucket: place.bucket };
    for (const version of await everyVersion()) {
      const { Body } = await thief.send(new GetObjectCommand({ Bucket, ...version }));
      const bytes = Buffer.from((await Body?.transformToByteArray()) ?? []);
      for (let at = 0; at < content.length; at += 64) expect(bytes.includes(content.subarray(at, at + 32))).toBe(false);
    }
    const other = await server.makeBucket('plain');
    await server.root.send(new PutObjectCommand({ Bucket: other, Key: 'x', Body: 'x' }));
    await expect(thief.send(new GetObjectCommand({ Bucket: other, Key: 'x' }))).rejects.toMatchObject(refused);
  });
});

describe('with an agent’s file, and credentials for what its backups do', () => {
  /** Where the owner keeps it; on the agent's host it is the only key. */
  let file: string;
  let narrow: S3Credentials;
  beforeEach(async () => {
    narrow = await server.makeUser(`narrow-${users}`);
    await closing(openTiny(await lockingStore(server.root)), async (repository) => {
      ({ path: file } = await enrolled(repository, scratch));
      await repository.linkPoints(MACHINE);
      await repository.retention.perform({ act: { kind: 'hold', machineId: MACHINE }, reason: 'kept' });
      // As `lifeboat repo agents policy` prints it.
      const tenant = { id: repository.tenantId, isFirst: true };
      const Policy = JSON.stringify(
        agentPolicy({ place, principal: narrow.accessKeyId, locksInPut: true, keys: 'agent', tenant }),
      );
      await server.root.send(new PutBucketPolicyCommand({ Bucket: place.bucket, Policy }));
    });
  });
  const asAgent = async (): Promise<Repository> =>
    openAgentTiny(await lockingStore(server.client(place, narrow)), file);

  it('one backs up, in full and what changed; the owner reads it, and it is locked', async () => {
    const changed = Buffer.from(content);
    noisyDisk(2, 9).copy(changed, 5 * TINY_CHUNK);
    await closing(asAgent(), async (repository) => {
      await backUp(repository, 2, content);
      const parent = (await repository.newestPoint(MACHINE))?.disks[0]?.root;
      const ranges = [{ offsetBytes: 5 * TINY_CHUNK, lengthBytes: 2 * TINY_CHUNK }];
      const { stats } = await backUp(repository, 3, changed, { changed: ranges, ...(parent ? { parent } : {}) });
      expect(stats).toMatchObject({ readBytes: 2 * TINY_CHUNK, newChunks: 2 });
      await expect(readDisk(repository, MACHINE, pointId(3))).rejects.toMatchObject({
        code: 'repository.not-permitted',
      });
    });
    await closing(openTiny(await lockingStore(server.root)), async (repository) => {
      expect(Buffer.compare(await readDisk(repository, MACHINE, pointId(2)), content)).toBe(0);
      expect(Buffer.compare(await readDisk(repository, MACHINE, pointId(3)), changed)).toBe(0);
      expect(await checkLocks(repository.core, { policy, inPolicy: () => true }, context)).toMatchObject({
        sound: true,
        points: 3,
      });
    });
  });

  it('one deletes nothing, puts nothing in the place of what is there, and reads nothing a backup does not', async () => {
    await closing(asAgent(), async (repository) => {
      await backUp(repository, 2);
    });
    const thief = server.client(place, narrow);
    const Bucket = place.bucket;
    const before = await everyVersion();
    const soon = { Mode: 'COMPLIANCE' as const, RetainUntilDate: new Date(Date.now() + 60_000) };
    const readable = /\/(data\/(packs|points|relocations|agents)|control|keys)\/|lifeboat\.repository$/;
    const writable = /\/(data\/(packs|points|relocations)|control\/(index|sessions))\//;
    for (const version of before) {
      const { Key } = version;
      await expect(thief.send(new DeleteObjectCommand({ Bucket, ...version }))).rejects.toMatchObject(refused);
      await expect(thief.send(new DeleteObjectCommand({ Bucket, Key }))).rejects.toMatchObject(refused);
      const shorter = new PutObjectRetentionCommand({ Bucket, ...version, Retention: soon });
      await expect(thief.send(shorter)).rejects.toMatchObject(refused);
      const got = await statusOf(thief.send(new GetObjectCommand({ Bucket, ...version })));
      expect([Key, got]).toEqual([Key, readable.test(Key) ? 200 : 403]);
      const put = await statusOf(thief.send(new PutObjectCommand({ Bucket, Key, Body: 'your files are encrypted' })));
      expect([Key, put]).toEqual([Key, writable.test(Key) ? 200 : 403]);
    }
    for (const what of ['/data/chains/', '/data/retention/'])
      expect(before.some(({ Key }) => Key.includes(what) && !readable.test(Key))).toBe(true);
    const now = await everyVersion();
    expect(before.filter(({ VersionId }) => !now.some((version) => version.VersionId === VersionId))).toEqual([]);
    // What was there first is what is read, listed and held.
    await closing(openTiny(await lockingStore(server.root)), async (repository) => {
      expect((await repository.points()).map(({ state }) => state)).toEqual(['readable', 'readable']);
      for (const n of [1, 2]) expect(Buffer.compare(await readDisk(repository, MACHINE, pointId(n)), content)).toBe(0);
      expect(await checkLocks(repository.core, { policy, inPolicy: () => true }, context)).toMatchObject({
        sound: true,
      });
    });
  });

  it('one that was revoked commits nothing more', async () => {
    await closing(openTiny(await lockingStore(server.root)), async ({ agents }) => {
      await agents.revoke({ agent: 'host', reason: 'stolen' });
    });
    await closing(asAgent(), async (repository) => {
      await expect(backUp(repository, 2)).rejects.toMatchObject({ code: 'repository.agent-revoked' });
    });
  });
});

describe('with the credentials of the owner', () => {
  it('everything can be overwritten and marked as deleted, and every point is still read', async () => {
    const Bucket = place.bucket;
    for (const { Key } of await everyVersion()) {
      await server.root.send(new PutObjectCommand({ Bucket, Key, Body: 'your files are encrypted' }));
      await server.root.send(new DeleteObjectCommand({ Bucket, Key }));
    }
    await closing(openTiny(await lockingStore(server.root)), async (repository) => {
      const points = await repository.points();
      expect(points.map(({ state, pointId: id }) => [state, id])).toEqual([['readable', pointId(1)]]);
      const target = await readDisk(repository, MACHINE, pointId(1));
      expect(Buffer.compare(target, content)).toBe(0);
      await backUp(repository, 2);
      expect(await checkLocks(repository.core, { policy, inPolicy: () => true }, context)).toMatchObject({
        sound: true,
        points: 2,
      });
    });
  });

  it('no locked version can be deleted, and no lock made shorter', async () => {
    const Bucket = place.bucket;
    const soon = { Mode: 'COMPLIANCE' as const, RetainUntilDate: new Date(Date.now() + 60_000) };
    for (const version of await everyVersion()) {
      if (version.Key.includes('/control/')) continue;
      await expect(server.root.send(new DeleteObjectCommand({ Bucket, ...version }))).rejects.toMatchObject(refused);
      const shorter = { Bucket, ...version, Retention: soon, BypassGovernanceRetention: true };
      await expect(server.root.send(new PutObjectRetentionCommand(shorter))).rejects.toMatchObject(refused);
    }
  });

  it('what was put under the name of a point before the point does not hide it', async () => {
    const Bucket = place.bucket;
    const Key = `${place.prefix}data/points/${MACHINE}/${pointId(2)}`;
    await server.root.send(new PutObjectCommand({ Bucket, Key, Body: 'first come' }));
    await server.root.send(new DeleteObjectCommand({ Bucket, Key }));
    await closing(openTiny(await lockingStore(server.root)), async (repository) => {
      // The commit sees that the name was taken, and does not report success.
      await expect(backUp(repository, 2)).rejects.toMatchObject({ code: 'repository.point-exists' });
    });
    // A valid point that reached the store all the same is found behind what is no point.
    const versions = await server.root.send(new ListObjectVersionsCommand({ Bucket, Prefix: place.prefix }));
    const one = versions.Versions?.find((version) => version.Key?.endsWith(pointId(1)));
    const source = await server.root.send(new GetObjectCommand({ Bucket, Key: one?.Key }));
    const signed = await source.Body?.transformToByteArray();
    const elsewhere = server.place(await server.makeBucket('locked'), place.prefix);
    for (const { Key: key, VersionId } of await everyVersion()) {
      const copy = await server.root.send(new GetObjectCommand({ Bucket, Key: key, VersionId }));
      const Body = await copy.Body?.transformToByteArray();
      const garbage = key === one?.Key ? Buffer.from('first come') : undefined;
      if (garbage) await server.root.send(new PutObjectCommand({ Bucket: elsewhere.bucket, Key: key, Body: garbage }));
      await server.root.send(new PutObjectCommand({ Bucket: elsewhere.bucket, Key: key, Body }));
    }
    expect(signed?.length).toBeGreaterThan(100);
    place = elsewhere;
    await closing(openTiny(await lockingStore(server.root)), async (repository) => {
      expect(Buffer.compare(await readDisk(repository, MACHINE, pointId(1)), content)).toBe(0);
    });
  });
});

describe('locks of a bucket', () => {
  it('are extended centrally', async () => {
    await closing(openTiny(await lockingStore(server.root)), async ({ core }) => {
      const longer = { retentionMs: 5 * HOUR_MS, generationMs: HOUR_MS };
      expect((await checkLocks(core, { policy: longer, inPolicy: () => true }, context)).sound).toBe(false);
      const run = await extendLocks(core, longer, context);
      expect(run.extended).toBeGreaterThan(0);
      expect(await checkLocks(core, { policy: longer, inPolicy: () => true }, context)).toMatchObject({ sound: true });
      expect((await extendLocks(core, longer, context)).extended).toBe(0);
    });
  });

  it('end for what is pruned, and then every version of it is collected', async () => {
    place = server.place(await server.makeBucket('locked'), 'short/');
    const seconds = { retentionMs: 2000, generationMs: 1000 };
    const store = await lockingStore(server.root, seconds);
    await closing(initTiny(store), async (repository) => {
      await backUp(repository, 1);
      for (const { Key } of await everyVersion()) {
        if (!Key.includes('/data/packs/')) continue;
        await server.root.send(new PutObjectCommand({ Bucket: place.bucket, Key, Body: 'over it' }));
        await server.root.send(new DeleteObjectCommand({ Bucket: place.bucket, Key }));
      }
      await repository.retention.perform({
        act: { kind: 'prune', machineId: MACHINE, pointId: pointId(1) },
        reason: 'by hand',
      });
      const collected = async (): Promise<string[]> => {
        await repository.condemn();
        await repository.sweep({ graceMs: 0 });
        return (await everyVersion()).map(({ Key }) => Key).filter((key) => key.includes('/data/'));
      };
      await expect.poll(collected, { timeout: 30_000, interval: 500 }).toEqual([]);
    });
  });
});
