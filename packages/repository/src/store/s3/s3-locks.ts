/** Object Lock, in COMPLIANCE mode: until a lock ends nobody deletes the version or shortens the lock, its owner included. */
import {
  GetObjectLegalHoldCommand,
  GetObjectRetentionCommand,
  PutObjectRetentionCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import type { Clock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { ObjectLocks, StoreOptions } from '../object-store.ts';
import type { S3Calls } from './s3-calls.ts';
import { failureOf } from './s3-errors.ts';
import { describePlace, type S3Place } from './s3-place.ts';
import { abortable, type S3Versions } from './s3-versions.ts';

interface VersionKey {
  readonly Bucket: string;
  readonly Key: string;
  readonly VersionId: string;
}

export class S3Locks implements ObjectLocks {
  readonly #client: S3Client;
  readonly #calls: S3Calls;
  readonly #place: S3Place;
  readonly #versions: S3Versions;
  readonly #clock: Clock;

  constructor(deps: { client: S3Client; calls: S3Calls; place: S3Place; versions: S3Versions; clock: Clock }) {
    this.#clock = deps.clock;
    this.#client = deps.client;
    this.#calls = deps.calls;
    this.#place = deps.place;
    this.#versions = deps.versions;
  }

  async lockedUntilMs(name: string, options: StoreOptions = {}): Promise<number | undefined> {
    const key = await this.#key(name, options);
    const what = `ask for the lock of ${name} in ${describePlace(this.#place)}`;
    const untilMs = await this.#calls.call(what, options.signal, ({ signal }) =>
      retentionOf(this.#client, key, signal),
    );
    return untilMs !== undefined && untilMs > this.#clock.nowMs() ? untilMs : undefined;
  }

  async extend(name: string, untilMs: number, options: StoreOptions = {}): Promise<void> {
    const key = await this.#key(name, options);
    const what = `extend the lock of ${name} in ${describePlace(this.#place)}`;
    await this.#calls.call(what, options.signal, async ({ signal }) => {
      // A shorter one would be refused, in words that mean the same as a right that is missing.
      const presentMs = await retentionOf(this.#client, key, signal);
      if (presentMs !== undefined && presentMs >= untilMs) return;
      const Retention = { Mode: 'COMPLIANCE' as const, RetainUntilDate: new Date(untilMs) };
      await this.#client.send(new PutObjectRetentionCommand({ ...key, Retention }), abortable(signal));
    });
  }

  async #key(name: string, options: StoreOptions): Promise<VersionKey> {
    const version = await this.#versions.earliest(name, options.signal);
    if (!version) {
      throw new LifeboatError('repository.object-missing', `${name} is not in ${describePlace(this.#place)}`, {
        context: { object: name },
      });
    }
    return { Bucket: this.#place.bucket, Key: version.key, VersionId: version.versionId };
  }
}

/** What keeps a version from being deleted now: its lock with an end, or a legal hold, which has none. */
export async function lockOfVersion(
  client: S3Client,
  key: VersionKey,
  nowMs: number,
  signal?: AbortSignal,
): Promise<{ untilMs: number | undefined } | undefined> {
  const untilMs = await retentionOf(client, key, signal);
  if (untilMs !== undefined && untilMs > nowMs) return { untilMs };
  try {
    const { LegalHold } = await client.send(new GetObjectLegalHoldCommand(key), abortable(signal));
    return LegalHold?.Status === 'ON' ? { untilMs: undefined } : undefined;
  } catch (error) {
    if (isUnlocked(error)) return undefined;
    throw error;
  }
}

async function retentionOf(client: S3Client, key: VersionKey, signal?: AbortSignal): Promise<number | undefined> {
  try {
    const { Retention } = await client.send(new GetObjectRetentionCommand(key), abortable(signal));
    return Retention?.RetainUntilDate?.getTime();
  } catch (error) {
    if (isUnlocked(error)) return undefined;
    throw error;
  }
}

/** The version has no lock, or the bucket knows none. */
function isUnlocked(error: unknown): boolean {
  const { code } = failureOf(error);
  return (
    code === 'NoSuchObjectLockConfiguration' ||
    code === 'ObjectLockConfigurationNotFoundError' ||
    code === 'InvalidRequest' ||
    // The answer for a delete marker, which carries no lock.
    code === 'MethodNotAllowed'
  );
}
