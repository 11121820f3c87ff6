import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateBucketCommand, ListBucketsCommand, PutBucketVersioningCommand, S3Client } from '@aws-sdk/client-s3';
import { systemClock } from '@lifeboat/foundation/clock';
import { messageOf } from '@lifeboat/foundation/errors';
import { runTool, startChild, type Child } from '@lifeboat/host/children';
import { s3Client, type S3Place } from '@lifeboat/repository/store/s3/s3-place';
import { freePorts } from '@lifeboat/runtime/free-ports';

const READY_LIMIT_MS = 30_000;
const READY_POLL_MS = 50;
/** A port that was free a moment ago may be somebody's now. */
const START_ATTEMPTS = 3;

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** The account that owns everything: what a test sets up with, never what it puts to the test. */
export const ROOT: S3Credentials = { accessKeyId: 'root-of-the-test', secretAccessKey: 'secret-of-the-test' };

export const CREDENTIALS_OF_ROOT = { ROOT_ACCESS_KEY: ROOT.accessKeyId, ROOT_SECRET_KEY: ROOT.secretAccessKey };

/** A real S3 server over a directory of the test. */
export interface S3Server {
  readonly endpoint: string;
  readonly directory: string;
  /** Speaks as `ROOT`. */
  readonly root: S3Client;
  place(bucket: string, prefix?: string): S3Place;
  /** A client of a place, as whom is said; connections are kept. */
  client(place: S3Place, credentials?: S3Credentials): S3Client;
  /** An account without any right but those a bucket's policy gives it. */
  makeUser(accessKeyId: string): Promise<S3Credentials>;
  makeBucket(kind: 'plain' | 'versioned' | 'locked'): Promise<string>;
  /** Ends server and clients and removes the directory. */
  stop(): Promise<void>;
}

export async function startVersitygw(): Promise<S3Server> {
  const directory = await newDirectory();
  const { child, endpoint } = await startServing(directory);
  return serverAt(endpoint, { directory, end: () => child.stop({}) });
}

export async function newDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lifeboat-versitygw-'));
  for (const part of ['data', 'versions', 'iam']) await mkdir(join(directory, part));
  return directory;
}

export function serverAt(endpoint: string, server: { directory: string; end(): Promise<unknown> }): S3Server {
  const { directory } = server;
  const clients: S3Client[] = [];
  const place = (bucket: string, prefix = ''): S3Place => ({
    bucket,
    prefix,
    endpoint,
    region: 'us-east-1',
    pathStyle: true,
  });
  const client = (at: S3Place, credentials = ROOT): S3Client => {
    const made = s3Client(at, { config: { credentials } });
    clients.push(made);
    return made;
  };
  const root = client(place('unused'));
  let buckets = 0;
  return {
    endpoint,
    directory,
    root,
    place,
    client,
    async makeUser(accessKeyId) {
      const secretAccessKey = `secret-of-${accessKeyId}`;
      await runTool(
        program(),
        [
          ...`admin --access ${ROOT.accessKeyId} --secret ${ROOT.secretAccessKey} --endpoint-url ${endpoint}`.split(
            ' ',
          ),
          ...`create-user --access ${accessKeyId} --secret ${secretAccessKey} --role user`.split(' '),
        ],
        { timeoutMs: READY_LIMIT_MS },
      );
      return { accessKeyId, secretAccessKey };
    },
    async makeBucket(kind) {
      const Bucket = `bucket-${++buckets}`;
      await root.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: kind === 'locked' }));
      if (kind === 'versioned') {
        const VersioningConfiguration = { Status: 'Enabled' as const };
        await root.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration }));
      }
      return Bucket;
    },
    async stop() {
      for (const made of clients) made.destroy();
      await server.end();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function startServing(directory: string): Promise<{ child: Child; endpoint: string }> {
  for (let attempt = 1; ; attempt++) {
    const [port] = (await freePorts(1)) as [number];
    const child = await startChild(program(), serverOptions(directory, port), {
      directory,
      name: 'versitygw',
      env: CREDENTIALS_OF_ROOT,
    });
    const endpoint = `http://127.0.0.1:${port}`;
    try {
      await untilServing(endpoint, () => child.exit && child.outputTail());
      return { child, endpoint };
    } catch (error) {
      await child.stop({});
      if (attempt >= START_ATTEMPTS) throw error;
    }
  }
}

export function program(): string {
  return process.env['LIFEBOAT_VERSITYGW'] ?? 'versitygw';
}

export function serverOptions(directory: string, port: number): string[] {
  const common = ['--port', `127.0.0.1:${port}`, '--iam-dir', join(directory, 'iam'), '--quiet'];
  const store = ['posix', '--versioning-dir', join(directory, 'versions'), join(directory, 'data')];
  return [...common, ...store];
}

/** `ended`: what it said last, once it is known to have ended. */
export async function untilServing(endpoint: string, ended: () => string | undefined): Promise<void> {
  const place = { bucket: 'unused', prefix: '', endpoint, region: 'us-east-1', pathStyle: true };
  const client = s3Client(place, { config: { credentials: ROOT } });
  const deadlineMs = systemClock.monotonicMs() + READY_LIMIT_MS;
  try {
    for (;;) {
      try {
        await client.send(new ListBucketsCommand({}));
        return;
      } catch (error) {
        const last = ended();
        if (last !== undefined || systemClock.monotonicMs() > deadlineMs) {
          throw new Error(`versitygw does not serve (${messageOf(error)}): ${last ?? ''}`, { cause: error });
        }
      }
      await systemClock.sleep(READY_POLL_MS);
    }
  } finally {
    client.destroy();
  }
}
