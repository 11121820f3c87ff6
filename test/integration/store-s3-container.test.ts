/** The S3 store on a server in a container, as people run them: another process tree, another filesystem, the same conformance. */
import { afterAll, beforeAll } from 'vitest';
import { testObjectLocks, testObjectStore, type StoreUnderTest } from '@lifeboat/repository/store/conformance';
import { openS3Store } from '@lifeboat/repository/store/s3/s3-store';
import { startDocker, type Docker } from '../support/docker.ts';
import { startContainedVersitygw } from '../support/versitygw-container.ts';
import type { S3Server } from '../support/versitygw.ts';

let docker: Docker | undefined;
let server: S3Server | undefined;
beforeAll(async () => {
  docker = await startDocker();
  server = await startContainedVersitygw(docker);
});
afterAll(async () => {
  await server?.stop();
  await docker?.stop();
});

async function lockedBucket(): Promise<StoreUnderTest> {
  const running = server;
  if (!running) throw new TypeError('there is a server once the tests begin');
  const place = running.place(await running.makeBucket('locked'), 'machines/');
  // Buckets go with the server.
  return { store: await openS3Store(place, { client: () => running.client(place) }), remove: () => Promise.resolve() };
}

testObjectStore('a bucket with locks, of a server in a container', lockedBucket);
testObjectLocks('a bucket with locks, of a server in a container', lockedBucket, () => Date.now());
