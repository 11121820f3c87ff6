/**
 * A repository in an S3 bucket: an object is an S3 object, put by one request with a checksum.
 *
 * ```
 *   put   PUT, If-None-Match: *  ──412──► exists (whose? see `putIfAbsent`)
 *                                ──200──► in a bucket with versions: LIST the name; is ours the earliest?
 *   get   without versions: by name; with them: by the id of the earliest version, remembered per name
 *   list  ListObjectsV2, or ListObjectVersions: what carries a delete marker is still there
 *   delete  every version by its id, newest first, so that no later one ever takes the place of the earliest
 * ```
 * Not guaranteed: one winner among writers of a name where the service ignores If-None-Match and the bucket keeps no versions. No
 * repository is made in such a bucket (`store/capabilities.ts`).
 */
import {
  DeleteObjectCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type GetObjectCommandOutput,
  type ListObjectsV2CommandOutput,
  type S3Client,
} from '@aws-sdk/client-s3';
import { systemClock, type Clock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { silentLog, type Log } from '@lifeboat/foundation/log';
import { systemRandom, type Random } from '@lifeboat/foundation/random';

import type {
  ByteRange,
  ObjectInfo,
  ObjectLocks,
  ObjectStore,
  ObjectVersion,
  PutOptions,
  StoreOptions,
  StoreTraits,
} from '../object-store.ts';
import { readBucketRules, type BucketRules } from './bucket-rules.ts';
import { S3Calls } from './s3-calls.ts';
import { failureOf, isMissing, isTaken } from './s3-errors.ts';
import { lockOfVersion, S3Locks } from './s3-locks.ts';
import { describePlace, s3Client, type S3Place } from './s3-place.ts';
import { abortable, S3Versions, type Version } from './s3-versions.ts';

export interface S3StoreDeps {
  readonly clock?: Clock;
  readonly random?: Random;
  readonly log?: Log;
  /** How requests are sent: tests put faults in between. `fresh`: over connections that are not used again. */
  readonly client?: (options: { readonly fresh: boolean }) => S3Client;
}

/**
 * Asks the bucket what it keeps and which rules it has, and opens it. Needs the right to ask for its versioning.
 * Errors: those of a store; `repository.store-unreachable` also where there is no such bucket, `repository.store-unsupported` for rules
 * that would take objects away.
 */
export async function openS3Store(
  place: S3Place,
  deps: S3StoreDeps = {},
  options: StoreOptions = {},
): Promise<S3Store> {
  const client = deps.client ?? (({ fresh }) => s3Client(place, { fresh }));
  const clock = deps.clock ?? systemClock;
  const calls = new S3Calls({ clock, random: deps.random ?? systemRandom });
  const usual = client({ fresh: false });
  const { Status } = await calls.call(`open ${describePlace(place)}`, options.signal, ({ signal }) =>
    usual.send(new GetBucketVersioningCommand({ Bucket: place.bucket }), abortable(signal)),
  );
  // 'Suspended' keeps the versions that are there.
  const versioned = Status !== undefined;
  const rules = await readBucketRules({ client: usual, calls, place, log: deps.log ?? silentLog }, options);
  return new S3Store({ place, calls, clock, client: usual, fresh: client({ fresh: true }), versioned, rules });
}

export class S3Store implements ObjectStore {
  readonly description: string;
  readonly locks: ObjectLocks | undefined;
  readonly versions: ObjectStore['versions'];
  readonly rules: BucketRules;
  readonly #place: S3Place;
  readonly #calls: S3Calls;
  readonly #clock: Clock;
  readonly #client: S3Client;
  readonly #fresh: S3Client;
  /** Undefined: the bucket keeps one version of each object. */
  readonly #versions: S3Versions | undefined;

  /** Use `openS3Store`. */
  constructor(input: {
    place: S3Place;
    calls: S3Calls;
    clock: Clock;
    client: S3Client;
    fresh: S3Client;
    versioned: boolean;
    rules: BucketRules;
  }) {
    const { place, calls, client, clock } = input;
    this.#clock = clock;
    this.#place = place;
    this.#calls = calls;
    this.#client = client;
    this.#fresh = input.fresh;
    this.rules = input.rules;
    this.description = describePlace(place);
    if (input.versioned) {
      const versions = new S3Versions({ client, calls, place });
      this.#versions = versions;
      if (input.rules.lock) this.locks = new S3Locks({ client, calls, place, versions, clock });
      this.versions = (name, options) => this.#allVersions(versions, name, options);
    }
  }

  /**
   * 'exists' after an attempt whose answer was lost may be our own object. What is there decides: equal bytes are ours, or as good.
   */
  async putIfAbsent(
    name: string,
    parts: readonly Uint8Array[],
    options: PutOptions = {},
  ): Promise<'created' | 'exists'> {
    const { signal, lockUntilMs } = options;
    const what = `put ${name} into ${this.description}`;
    if (lockUntilMs !== undefined && !this.locks) {
      throw new LifeboatError('repository.store-unsupported', `could not ${what}: its bucket cannot lock objects`);
    }
    // One body, because a signature covers its hash. A pack arrives as one part and is not copied.
    const body = parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts);
    let attempts = 0;
    const put = await this.#calls.call(what, signal, async (attempt) => {
      attempts = attempt.number;
      // A service that finds the name taken may cut the connection while the body is still being sent, every time.
      if (attempts > 1 && (await this.#isThere(name, attempt.signal))) return 'taken';
      try {
        return await this.#client.send(
          new PutObjectCommand({
            ...this.#key(name),
            Body: body,
            ContentLength: body.length,
            ChecksumAlgorithm: 'CRC32',
            IfNoneMatch: '*',
            ...(lockUntilMs === undefined
              ? {}
              : { ObjectLockMode: 'COMPLIANCE' as const, ObjectLockRetainUntilDate: new Date(lockUntilMs) }),
          }),
          abortable(attempt.signal),
        );
      } catch (error) {
        if (isTaken(error)) return 'taken';
        throw error;
      }
    });
    if (put === 'taken') return attempts > 1 && (await this.#holds(name, body, options)) ? 'created' : 'exists';
    if (!this.#versions) return 'created';
    // A delete marker hides an earlier version from the condition above, and not every service honours the condition.
    const earliest = await this.#versions.earliest(name, signal);
    return earliest?.versionId === put.VersionId ? 'created' : 'exists';
  }

  async get(name: string, options: StoreOptions & { readonly maxBytes: number }): Promise<Uint8Array> {
    return this.#ofVersion(name, options, (version, signal) => this.#read(name, version, { ...options, signal }));
  }

  async getRange(
    name: string,
    range: ByteRange & { readonly atMost?: boolean },
    options: StoreOptions = {},
  ): Promise<Uint8Array> {
    const { offsetBytes, lengthBytes, atMost = false } = range;
    if (lengthBytes === 0) {
      const { sizeBytes } = await this.#ofVersion(name, options, (version, signal) =>
        this.#head(name, version, signal),
      );
      if (offsetBytes > sizeBytes && !atMost) throw this.#damaged(name, `it ends at ${sizeBytes}, not ${offsetBytes}`);
      return new Uint8Array(0);
    }
    return this.#ofVersion(name, options, async (version, signal) => {
      const last = offsetBytes + lengthBytes - 1;
      let answer: GetObjectCommandOutput;
      try {
        const request = { ...this.#key(name), ...versionOf(version), Range: `bytes=${offsetBytes}-${last}` };
        answer = await this.#reader(options).send(new GetObjectCommand(request), abortable(signal));
      } catch (error) {
        if (failureOf(error).status !== 416) throw error;
        if (atMost) return new Uint8Array(0);
        throw this.#damaged(name, `it ends before ${offsetBytes}`);
      }
      const bytes = await this.#body(name, answer, lengthBytes);
      if (bytes.length < lengthBytes && !atMost) {
        throw this.#damaged(name, `it ends at ${offsetBytes + bytes.length}, ${last + 1} were expected`);
      }
      return bytes;
    });
  }

  async head(name: string, options: StoreOptions = {}): Promise<ObjectInfo | undefined> {
    if (this.#versions) {
      // Asked anew: who looks whether an object is there does not want to hear what was so a while ago.
      this.#versions.forget(name);
      const version = await this.#versions.earliest(name, options.signal);
      return version && { name, sizeBytes: version.sizeBytes, storedMs: version.createdMs };
    }
    return this.#calls.call(`look up ${name} in ${this.description}`, options.signal, ({ signal }) =>
      this.#isThere(name, signal),
    );
  }

  /** By its name; one attempt. */
  async #isThere(name: string, signal: AbortSignal | undefined): Promise<ObjectInfo | undefined> {
    try {
      return await this.#head(name, undefined, signal);
    } catch (error) {
      if (!isMissing(error)) throw error;
      // The answer to HEAD has no body to say whether object or bucket is missing.
      await this.#client.send(new HeadBucketCommand({ Bucket: this.#place.bucket }), abortable(signal));
      return undefined;
    }
  }

  list(prefix: string, options: StoreOptions = {}): AsyncIterable<ObjectInfo> {
    return this.#versions ? this.#versions.names(prefix, options.signal) : this.#listCurrent(prefix, options);
  }

  async traits(): Promise<StoreTraits> {
    return { versions: this.#versions !== undefined, hardLinks: false };
  }

  async delete(name: string, options: StoreOptions = {}): Promise<void> {
    const { signal } = options;
    if (!this.#versions) return this.#deleteVersion(name, undefined, signal);
    this.#versions.forget(name);
    let locked: LifeboatError | undefined;
    for await (const version of this.#versions.of(name, signal)) {
      const failure = await this.#deleteUnlessLocked(name, version, signal);
      locked ??= failure;
    }
    if (locked) throw locked;
  }

  async *#listCurrent(prefix: string, options: StoreOptions): AsyncIterable<ObjectInfo> {
    const what = `list ${prefix || 'the objects'} of ${this.description}`;
    let token: string | undefined;
    do {
      const from = token;
      const page: ListObjectsV2CommandOutput = await this.#calls.call(what, options.signal, async ({ signal }) => {
        const answer = await this.#client.send(
          new ListObjectsV2Command({
            Bucket: this.#place.bucket,
            Prefix: this.#place.prefix + prefix,
            ...(from === undefined ? {} : { ContinuationToken: from }),
          }),
          abortable(signal),
        );
        if (answer.IsTruncated && (!answer.NextContinuationToken || answer.NextContinuationToken === from)) {
          throw new LifeboatError(
            'repository.store-failed',
            `could not ${what}: the answer ends early and leads nowhere`,
          );
        }
        if (answer.KeyCount !== undefined && answer.KeyCount !== (answer.Contents ?? []).length) {
          const said = `${answer.KeyCount} were announced, ${(answer.Contents ?? []).length} came`;
          throw new LifeboatError('repository.store-failed', `could not ${what}: ${said}`);
        }
        return answer;
      });
      for (const { Key, Size } of page.Contents ?? []) {
        if (!Key?.startsWith(this.#place.prefix) || Size === undefined) {
          throw new LifeboatError('repository.store-failed', `could not ${what}: it holds '${Key}' of ${Size} bytes`);
        }
        yield { name: Key.slice(this.#place.prefix.length), sizeBytes: Size };
      }
      token = page.IsTruncated ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  /** Runs a read on the version that is the object. A remembered version that is gone is looked up once more. */
  async #ofVersion<T>(
    name: string,
    options: StoreOptions,
    read: (version: Version | undefined, signal: AbortSignal | undefined) => Promise<T>,
  ): Promise<T> {
    for (let again = false; ; again = true) {
      const version = await this.#versions?.earliest(name, options.signal);
      if (this.#versions && !version) throw this.#missing(name);
      let missing: unknown;
      const found = await this.#calls.call(
        `read ${name} from ${this.description}`,
        options.signal,
        async ({ signal }): Promise<[T] | undefined> => {
          try {
            return [await read(version, signal)];
          } catch (error) {
            if (!isMissing(error)) throw error;
            missing = error;
            return undefined;
          }
        },
      );
      if (found) return found[0];
      this.#versions?.forget(name);
      if (!this.#versions || again) throw this.#missing(name, missing);
    }
  }

  async #read(
    name: string,
    version: Version | undefined,
    options: StoreOptions & { readonly maxBytes: number },
  ): Promise<Uint8Array> {
    const request = new GetObjectCommand({ ...this.#key(name), ...versionOf(version) });
    const answer = await this.#reader(options).send(request, abortable(options.signal));
    return this.#body(name, answer, options.maxBytes);
  }

  /** Exactly as long as the service announced, and at most `maxBytes`; a body that was cut short is worth another attempt. */
  async #body(name: string, answer: GetObjectCommandOutput, maxBytes: number): Promise<Uint8Array> {
    const { ContentLength: lengthBytes, Body: body } = answer;
    if (!body || lengthBytes === undefined) {
      throw new LifeboatError(
        'repository.store-failed',
        `${name} in ${this.description}: the answer has no body or no length`,
      );
    }
    const chunks = body as unknown as AsyncIterable<Uint8Array> & { destroy(): void };
    if (lengthBytes > maxBytes) {
      chunks.destroy();
      throw this.#damaged(name, `${lengthBytes} bytes exceed the ${maxBytes} it may have`);
    }
    const target = Buffer.allocUnsafeSlow(lengthBytes);
    let at = 0;
    for await (const chunk of chunks) {
      if (at + chunk.length > lengthBytes) break;
      target.set(chunk, at);
      at += chunk.length;
    }
    if (at === lengthBytes) return target;
    throw new LifeboatError(
      'repository.store-failed',
      `${name} in ${this.description}: the answer ended after ${at} of ${lengthBytes} bytes`,
      { context: { object: name } },
    );
  }

  async #head(name: string, version: Version | undefined, signal?: AbortSignal): Promise<ObjectInfo> {
    if (version?.sizeBytes !== undefined) return { name, sizeBytes: version.sizeBytes };
    const { ContentLength, LastModified } = await this.#client.send(
      new HeadObjectCommand(this.#key(name)),
      abortable(signal),
    );
    if (ContentLength === undefined) {
      throw new LifeboatError('repository.store-failed', `${name} in ${this.description}: the answer says no size`);
    }
    return { name, sizeBytes: ContentLength, ...(LastModified ? { storedMs: LastModified.getTime() } : {}) };
  }

  async #holds(name: string, body: Uint8Array, options: StoreOptions): Promise<boolean> {
    const there = await this.head(name, options);
    if (there?.sizeBytes !== body.length) return false;
    return Buffer.compare(await this.get(name, { ...options, maxBytes: body.length }), body) === 0;
  }

  async #deleteVersion(name: string, version: Version | undefined, signal?: AbortSignal): Promise<void> {
    await this.#calls.call(`delete ${name} from ${this.description}`, signal, async (attempt) => {
      try {
        await this.#client.send(
          new DeleteObjectCommand({ ...this.#key(name), ...versionOf(version) }),
          abortable(attempt.signal),
        );
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
    });
  }

  /** A refusal (403, 400 on some services) says not why: only what the version's lock says tells locked from not permitted. */
  async #deleteUnlessLocked(name: string, version: Version, signal?: AbortSignal): Promise<LifeboatError | undefined> {
    try {
      await this.#deleteVersion(name, version, signal);
      return undefined;
    } catch (error) {
      if (!(error instanceof LifeboatError)) throw error;
      const { status } = error.context;
      if (status !== 403 && status !== 400) throw error;
      const what = `ask for the lock of ${name} in ${this.description}`;
      const lock = await this.#calls.call(what, signal, (attempt) =>
        lockOfVersion(
          this.#client,
          { ...this.#key(name), VersionId: version.versionId },
          this.#clock.nowMs(),
          attempt.signal,
        ),
      );
      const untilMs = lock ? lock.untilMs : this.#defaultLockMs(version);
      if (!lock && untilMs === undefined) throw error;
      const until = untilMs === undefined ? 'somebody lifts its legal hold' : new Date(untilMs).toISOString();
      return new LifeboatError('repository.object-locked', `${name} in ${this.description} is locked until ${until}`, {
        context: { object: name, versionId: version.versionId, untilMs },
        cause: error,
      });
    }
  }

  /** Some services hold what is younger than the bucket's default retention without saying so of the object. */
  #defaultLockMs({ createdMs }: Version): number | undefined {
    const untilMs = createdMs + (this.rules.lock?.defaultMs ?? 0);
    return untilMs > this.#clock.nowMs() ? untilMs : undefined;
  }

  async #allVersions(
    versions: S3Versions,
    name: string,
    options: StoreOptions = {},
  ): Promise<readonly ObjectVersion[]> {
    const found: ObjectVersion[] = [];
    for await (const version of versions.of(name, options.signal)) {
      const { versionId, sizeBytes } = version;
      if (sizeBytes === undefined) continue;
      found.push({
        versionId,
        sizeBytes,
        get: ({ maxBytes, signal }) =>
          this.#calls.call(`read version ${versionId} of ${name} from ${this.description}`, signal, (attempt) =>
            this.#read(name, version, { maxBytes, signal: attempt.signal }),
          ),
      });
      if (found.length > MAX_VERSIONS_OF_NAME) {
        throw new LifeboatError(
          'repository.limit-exceeded',
          `${name} in ${this.description} has more than ${MAX_VERSIONS_OF_NAME} versions`,
        );
      }
    }
    return found.toReversed();
  }

  #reader(options: StoreOptions): S3Client {
    return options.fresh ? this.#fresh : this.#client;
  }

  #key(name: string): { Bucket: string; Key: string } {
    const safe = name.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
    if (!safe || name.includes('\0')) {
      throw new LifeboatError('internal.bug', `'${name}' is not the name of an object`);
    }
    return { Bucket: this.#place.bucket, Key: this.#place.prefix + name };
  }

  #missing(name: string, cause?: unknown): LifeboatError {
    return new LifeboatError('repository.object-missing', `${name} is not in ${this.description}`, {
      context: { object: name },
      cause,
    });
  }

  #damaged(name: string, why: string): LifeboatError {
    return new LifeboatError('repository.object-damaged', `${name} in ${this.description}: ${why}`, {
      context: { object: name },
    });
  }
}

/** Versions of one name that are looked at: each costs a read, and whoever may put can make more. */
const MAX_VERSIONS_OF_NAME = 1000;

function versionOf(version: Version | undefined): { VersionId?: string } {
  return version ? { VersionId: version.versionId } : {};
}
