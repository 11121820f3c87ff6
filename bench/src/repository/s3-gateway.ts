/** The files of a repository in a directory, given out by a real S3 server: the same objects, a request and a connection further away. */
import { mkdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { hasCode } from '@lifeboat/foundation/errors';
import { startChild } from '@lifeboat/host/children';
import type { ObjectStore } from '@lifeboat/repository/store/object-store';
import { s3Client, type S3Place } from '@lifeboat/repository/store/s3/s3-place';
import { openS3Store } from '@lifeboat/repository/store/s3/s3-store';
import { freePorts } from '@lifeboat/runtime/free-ports';

const CREDENTIALS = { accessKeyId: 'the-benchmark', secretAccessKey: 'secret-of-the-benchmark' };

/** `storePath`: its directory's name becomes the bucket. `directory`: for what the server itself keeps. */
export async function serveS3(input: {
  storePath: string;
  directory: string;
}): Promise<{ store: ObjectStore; stop(): Promise<void> }> {
  const { storePath, directory } = input;
  const users = join(directory, 's3-users');
  await mkdir(users, { recursive: true });
  const [port] = await freePorts(1);
  const address = `127.0.0.1:${port}`;
  const options = ['--port', address, '--iam-dir', users, '--quiet', 'posix', dirname(storePath)];
  const child = await startChild(process.env['LIFEBOAT_VERSITYGW'] ?? 'versitygw', options, {
    directory,
    name: 'versitygw',
    env: { ROOT_ACCESS_KEY: CREDENTIALS.accessKeyId, ROOT_SECRET_KEY: CREDENTIALS.secretAccessKey },
  });
  const bucket = basename(storePath);
  const place: S3Place = { bucket, prefix: '', endpoint: `http://${address}`, region: 'us-east-1', pathStyle: true };
  const client = ({ fresh }: { fresh: boolean }) => s3Client(place, { fresh, config: { credentials: CREDENTIALS } });
  try {
    for (;;) {
      try {
        const store = await openS3Store(place, { client });
        return { store, stop: async () => void (await child.stop()) };
      } catch (error) {
        // It is not listening yet; the store itself waits between its attempts.
        if (child.exit || !hasCode(error, 'repository.store-unreachable')) throw error;
      }
    }
  } catch (error) {
    await child.stop();
    throw error;
  }
}
