/**
 * What the credentials of an agent may do in the buckets of a repository, as a bucket policy: read, with an agent's file only what a backup
 * reads, put what a backup puts, and nothing that takes an object away, hides it for good or changes what the bucket keeps. Condemn lists, tombstones, keys and the superblock are
 * put by who collects, prunes and administrates.
 *
 * `s3:PutObjectRetention` is asked for by a put that carries a lock. It also lets an agent make a lock longer, never shorter
 * (COMPLIANCE): where even that is too much, give the bucket a default retention and leave the right out (`locksInPut: false`).
 */
import {
  AGENTS,
  CHAINS,
  CONDEMNED,
  DAMAGE,
  EVIDENCE,
  FENCES,
  INDEX,
  KEYS,
  keySetsPrefix,
  MACHINE_OBJECTS,
  OUTCOMES,
  PACKS,
  POINTS,
  RELOCATIONS,
  SESSIONS,
  SUPERBLOCK,
  TOMBSTONES,
} from '../format/names.ts';
import type { S3Place } from '../store/s3/s3-place.ts';

export interface BucketPolicy {
  readonly Version: '2012-10-17';
  readonly Statement: readonly {
    readonly Sid: string;
    readonly Effect: 'Allow' | 'Deny';
    readonly Principal: { readonly AWS: readonly string[] };
    readonly Action: readonly string[];
    readonly Resource: readonly string[];
  }[];
}

/**
 * A backup that finds itself fenced, or gives up, writes fence and outcome of its own session; one that healed closes damage reports. What a
 * host proves of points is evidence. All of that is signed by the tenant, and none of it by an agent.
 */
const WRITTEN_WITH_TENANT_KEYS = [CHAINS, MACHINE_OBJECTS, EVIDENCE, FENCES, OUTCOMES, DAMAGE] as const;
const WRITTEN_BY_BACKUPS = [PACKS, POINTS, RELOCATIONS, INDEX, SESSIONS] as const;
/** Beside its keys and what it wrote: what says that it may not, that a session was ended, and what a backup keeps away from. */
const READ_BY_BACKUPS = [...WRITTEN_BY_BACKUPS, AGENTS, FENCES, OUTCOMES, TOMBSTONES, CONDEMNED, DAMAGE] as const;

export function agentPolicy(input: {
  readonly place: S3Place;
  /** As the service names its users: an ARN on AWS, an access key id on others. */
  readonly principal: string;
  readonly locksInPut: boolean;
  /** What the host opens the repository with: a way into the tenant, or the file of an agent, which decides nothing. */
  readonly keys?: 'tenant' | 'agent';
  /** Whose machines it backs up: nothing of another tenant is read or put. Default: any. */
  readonly tenant?: { readonly id: string; readonly isFirst: boolean };
}): BucketPolicy {
  const { place, locksInPut, keys = 'tenant', tenant } = input;
  const Principal = { AWS: [input.principal] };
  const bucket = `arn:aws:s3:::${place.bucket}`;
  const objects = `${bucket}/${place.prefix}*`;
  const written = keys === 'agent' ? WRITTEN_BY_BACKUPS : [...WRITTEN_BY_BACKUPS, ...WRITTEN_WITH_TENANT_KEYS];
  const ofTenants = (prefixes: readonly string[]): string[] =>
    prefixes.flatMap((under) => [
      ...(tenant && !tenant.isFirst ? [] : [under]),
      ...(tenant?.isFirst ? [] : [under.replace('/', `/tenants/${tenant?.id ?? '*'}/`)]),
    ]);
  const ownKeys = tenant ? keySetsPrefix(tenant.id) : KEYS;
  const read =
    keys === 'agent' ? [SUPERBLOCK, ...[ownKeys, ...ofTenants(READ_BY_BACKUPS)].map((under) => `${under}*`)] : ['*'];
  return {
    Version: '2012-10-17',
    Statement: [
      {
        Sid: 'LifeboatAgentLooks',
        Effect: 'Allow',
        Principal,
        Action: [
          's3:ListBucket',
          's3:ListBucketVersions',
          's3:GetBucketVersioning',
          's3:GetBucketObjectLockConfiguration',
          's3:GetLifecycleConfiguration',
        ],
        Resource: [bucket],
      },
      {
        Sid: 'LifeboatAgentWrites',
        Effect: 'Allow',
        Principal,
        Action: ['s3:PutObject'],
        Resource: ofTenants(written).map((under) => `${bucket}/${place.prefix}${under}*`),
      },
      {
        Sid: 'LifeboatAgentReads',
        Effect: 'Allow',
        Principal,
        Action: ['s3:GetObject', 's3:GetObjectVersion'],
        Resource: read.map((what) => `${bucket}/${place.prefix}${what}`),
      },
      ...(locksInPut
        ? [
            {
              Sid: 'LifeboatAgentLocks',
              Effect: 'Allow' as const,
              Principal,
              Action: ['s3:PutObjectRetention'],
              Resource: [`${bucket}/${place.prefix}data/*`],
            },
          ]
        : []),
      {
        Sid: 'LifeboatAgentTakesNothingAway',
        Effect: 'Deny',
        Principal,
        Action: ['s3:DeleteObject', 's3:DeleteObjectVersion', 's3:BypassGovernanceRetention', 's3:PutObjectLegalHold'],
        Resource: [objects],
      },
    ],
  };
}
