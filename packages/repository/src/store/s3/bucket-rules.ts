/**
 * Rules of a bucket that would break a repository in it, found before it is used: what deletes or moves objects by their age, a lock
 * that is wanted and not there, and a default lock on objects that must be collected.
 */
import {
  GetBucketLifecycleConfigurationCommand,
  GetObjectLockConfigurationCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import type { LifecycleRule, ObjectLockConfiguration } from '@aws-sdk/client-s3';
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';

import type { StoreOptions } from '../object-store.ts';
import type { S3Calls } from './s3-calls.ts';
import { failureOf } from './s3-errors.ts';
import { describePlace, type S3Place } from './s3-place.ts';
import { abortable } from './s3-versions.ts';

const DAY_MS = 86_400_000;

export interface BucketRules {
  /** Undefined: objects cannot be locked in this bucket. `defaultMs`: for how long every object is that is put without a lock. */
  readonly lock: { readonly defaultMs: number | undefined } | undefined;
}

/**
 * Throws `repository.store-unsupported` for a rule that would take objects away. Credentials that may not read the rules cannot
 * look; that is logged, because a writer's credentials should have as few rights as possible.
 */
export async function readBucketRules(
  deps: { client: S3Client; calls: S3Calls; place: S3Place; log: Log },
  options: StoreOptions = {},
): Promise<BucketRules> {
  const { client, calls, place, log } = deps;
  const where = describePlace(place);
  const ask = async <T>(what: string, none: readonly string[], action: (signal?: AbortSignal) => Promise<T>) => {
    try {
      return await calls.call(`read the ${what} of ${where}`, options.signal, async ({ signal }) => {
        try {
          return await action(signal);
        } catch (error) {
          const { status, code } = failureOf(error);
          // 501: a service that does not know such rules has none.
          if (none.includes(code) || status === 501) return undefined;
          throw error;
        }
      });
    } catch (error) {
      if (!hasCode(error, 'repository.store-denied')) throw error;
      log.warn(`the ${what} of the bucket cannot be read with these credentials; it is not checked`, { store: where });
      return undefined;
    }
  };
  const lifecycle = await ask('lifecycle rules', ['NoSuchLifecycleConfiguration'], (signal) =>
    client.send(new GetBucketLifecycleConfigurationCommand({ Bucket: place.bucket }), abortable(signal)),
  );
  for (const rule of lifecycle?.Rules ?? []) {
    const harm = harmOf(rule, place.prefix);
    if (harm === undefined) continue;
    throw new LifeboatError(
      'repository.store-unsupported',
      `${where}: its lifecycle rule '${rule.ID ?? 'without a name'}' ${harm}; recovery points need objects of any age`,
      { context: { bucket: place.bucket, rule: rule.ID } },
    );
  }
  const locks = await ask(
    'lock configuration',
    ['ObjectLockConfigurationNotFoundError', 'NoSuchObjectLockConfiguration'],
    (signal) => client.send(new GetObjectLockConfigurationCommand({ Bucket: place.bucket }), abortable(signal)),
  );
  return { lock: lockOf(locks?.ObjectLockConfiguration) };
}

function lockOf(configuration: ObjectLockConfiguration | undefined): BucketRules['lock'] {
  if (configuration?.ObjectLockEnabled !== 'Enabled') return undefined;
  const { Days, Years } = configuration.Rule?.DefaultRetention ?? {};
  const days = Days ?? (Years === undefined ? undefined : Years * 365);
  return { defaultMs: days === undefined ? undefined : days * DAY_MS };
}

/** What a rule would do to objects under `prefix`, as the end of a sentence. */
function harmOf(rule: LifecycleRule, prefix: string): string | undefined {
  if (rule.Status !== 'Enabled') return undefined;
  const under = rule.Filter?.Prefix ?? rule.Filter?.And?.Prefix ?? rule.Prefix ?? '';
  if (!under.startsWith(prefix) && !prefix.startsWith(under)) return undefined;
  const { Expiration: expiration, NoncurrentVersionExpiration: noncurrent } = rule;
  if (expiration?.Days !== undefined || expiration?.Date !== undefined) return 'deletes objects by their age';
  // What lies under an overwrite or a delete marker is "noncurrent", and it is what points are read from.
  if (noncurrent) return 'deletes versions that were overwritten or marked as deleted';
  const moves = [...(rule.Transitions ?? []), ...(rule.NoncurrentVersionTransitions ?? [])];
  const frozen = moves.find(({ StorageClass }) => StorageClass === 'GLACIER' || StorageClass === 'DEEP_ARCHIVE');
  if (frozen) return `moves objects to ${frozen.StorageClass}, where they cannot be read when they are needed`;
  return undefined;
}
