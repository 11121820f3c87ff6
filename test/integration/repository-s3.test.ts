/** A repository in a bucket, wired from its configuration: credentials come from the environment, as an operator gives them. */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ListObjectVersionsCommand,
  PutObjectLockConfigurationCommand,
  type DefaultRetention,
  type ListObjectVersionsCommandOutput,
} from '@aws-sdk/client-s3';
import { silentLog } from '@lifeboat/foundation/log';
import type { Repository } from '@lifeboat/repository/repository';
import { fileSource } from '@lifeboat/repository/testing/file-source';
import { MACHINE, pointId, Scratch } from '@lifeboat/repository/testing/tiny';
import { loadConfiguration, type Configuration } from '@lifeboat/runtime/configuration';
import { openConfiguredRepository, openOrMakeRepository } from '@lifeboat/runtime/repository';
import { lifeboat } from '../support/lifeboat-command.ts';
import { ROOT, startVersitygw, type S3Server } from '../support/versitygw.ts';

const MIB = 1024 * 1024;
const DAY_MS = 86_400_000;
const deps = { log: silentLog };
const scratch = new Scratch();
const content = randomBytes(6 * MIB);
const disk = scratch.file(content);
const credentials = { AWS_ACCESS_KEY_ID: ROOT.accessKeyId, AWS_SECRET_ACCESS_KEY: ROOT.secretAccessKey };

let server: S3Server;
beforeAll(async () => {
  server = await startVersitygw();
  Object.assign(process.env, credentials);
});
afterAll(async () => {
  await server.stop();
  await scratch.remove();
});

function environmentOf(input: { data: string; control?: string; lockDays?: string }): Record<string, string> {
  return {
    LIFEBOAT_STATE: scratch.directory(),
    LIFEBOAT_REPOSITORY: `s3://${input.data}/site`,
    LIFEBOAT_S3_ENDPOINT: server.endpoint,
    ...(input.control === undefined ? {} : { LIFEBOAT_CONTROL: `s3://${input.control}/site` }),
    ...(input.lockDays === undefined ? {} : { LIFEBOAT_LOCK_DAYS: input.lockDays }),
  };
}

async function backUp(repository: Repository, configuration: Configuration): Promise<void> {
  const directory = join(configuration.stateRoot, 'operation');
  mkdirSync(directory);
  const session = await repository.beginSession({ machineId: MACHINE, directory });
  const request = { name: 'vda', sizeBytes: content.length, source: fileSource(disk), changed: 'all' as const };
  const { root } = await session.writeDisk(request, { signal: new AbortController().signal });
  await session.commit({ pointId: pointId(1), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
}

async function expectReadable(repository: Repository): Promise<void> {
  const device = repository.openDisk(await repository.readPoint(MACHINE, pointId(1)), 'vda');
  const target = Buffer.alloc(content.length);
  await device.read(0, target);
  expect(Buffer.compare(target, content)).toBe(0);
}

async function versionsOf(bucket: string): Promise<NonNullable<ListObjectVersionsCommandOutput['Versions']>> {
  return (await server.root.send(new ListObjectVersionsCommand({ Bucket: bucket }))).Versions ?? [];
}

describe('a repository in a bucket', () => {
  it('is made by the first backup, read back, and listed by the command', async () => {
    const environment = environmentOf({ data: await server.makeBucket('plain') });
    const configuration = loadConfiguration({ environment });
    await expect(openConfiguredRepository(configuration, deps)).rejects.toMatchObject({
      code: 'repository.not-a-repository',
    });
    const made = await openOrMakeRepository(configuration, deps);
    const listed = await lifeboat(['points', '--json'], { ...environment, ...credentials });
    expect([listed.code, listed.json]).toEqual([0, { points: [] }]);
    await backUp(made, configuration);
    await made.close();
    const again = await openOrMakeRepository(configuration, deps);
    await expectReadable(again);
    await again.close();
    const stranger = await lifeboat(['points'], { ...environment, ...credentials, AWS_ACCESS_KEY_ID: 'stranger' });
    expect([stranger.code, stranger.stderr]).toEqual([1, expect.stringContaining('repository.store-denied')]);
  });

  it('says that there is no such bucket, or nobody at the endpoint', async () => {
    const environment = environmentOf({ data: 'never-made' });
    for (const wrong of [environment, { ...environment, LIFEBOAT_S3_ENDPOINT: 'http://127.0.0.1:9' }]) {
      await expect(openOrMakeRepository(loadConfiguration({ environment: wrong }), deps)).rejects.toMatchObject({
        code: 'repository.store-unreachable',
      });
    }
  });
});

describe('a repository under Object Lock', () => {
  it('locks everything but control objects, from the put on, to the ends of few generations', async () => {
    const data = await server.makeBucket('locked');
    const environment = environmentOf({ data, lockDays: '30' });
    const configuration = loadConfiguration({ environment });
    const repository = await openOrMakeRepository(configuration, deps);
    await backUp(repository, configuration);
    await expectReadable(repository);
    const { store } = repository.core;
    const ends = new Set<number>();
    for await (const { name } of store.list('')) {
      const untilMs = await store.locks?.lockedUntilMs(name);
      expect([name, untilMs !== undefined]).toEqual([name, !name.startsWith('control/')]);
      if (untilMs !== undefined) ends.add(untilMs);
    }
    // The border of a generation may have passed during the backup.
    expect(ends.size).toBeLessThanOrEqual(2);
    for (const untilMs of ends) expect(untilMs - Date.now()).toBeGreaterThan(30 * DAY_MS);
    await repository.close();

    const held = await lifeboat(['locks', '--json'], { ...environment, ...credentials });
    expect([held.code, held.json]).toMatchObject([0, { extension: null, report: { sound: true, points: 1 } }]);
    const longer = { ...environment, ...credentials, LIFEBOAT_LOCK_DAYS: '60' };
    expect((await lifeboat(['locks'], longer)).code).toBe(3);
    const extended = await lifeboat(['locks', '--extend'], longer);
    expect([extended.code, extended.stdout]).toEqual([0, expect.stringContaining('each is locked')]);
  });

  it('works in a bucket with a default retention, with its control objects in another', async () => {
    const data = await server.makeBucket('locked');
    const rule: DefaultRetention = { Mode: 'COMPLIANCE', Days: 1 };
    const lock = { ObjectLockEnabled: 'Enabled' as const, Rule: { DefaultRetention: rule } };
    await server.root.send(new PutObjectLockConfigurationCommand({ Bucket: data, ObjectLockConfiguration: lock }));
    await expect(
      openOrMakeRepository(loadConfiguration({ environment: environmentOf({ data }) }), deps),
    ).rejects.toMatchObject({ code: 'repository.store-unsupported' });
    expect(await versionsOf(data)).toEqual([]);

    const control = await server.makeBucket('plain');
    const configuration = loadConfiguration({ environment: environmentOf({ data, control }) });
    const repository = await openOrMakeRepository(configuration, deps);
    await backUp(repository, configuration);
    await expectReadable(repository);
    expect((await versionsOf(data)).filter(({ Key }) => Key?.includes('/control/'))).toEqual([]);
    const { store } = repository.core;
    for await (const { name } of store.list('data/')) {
      await expect(store.delete(name)).rejects.toMatchObject({ code: 'repository.object-locked' });
    }
    await expectReadable(repository);
    for await (const { name } of store.list('control/')) await store.delete(name);
    await repository.close();
  });

  it('is refused where the bucket cannot lock', async () => {
    const data = await server.makeBucket('versioned');
    const configuration = loadConfiguration({ environment: environmentOf({ data, lockDays: '30' }) });
    await expect(openOrMakeRepository(configuration, deps)).rejects.toMatchObject({
      code: 'repository.store-unsupported',
    });
    expect(await versionsOf(data)).toEqual([]);
  });
});
