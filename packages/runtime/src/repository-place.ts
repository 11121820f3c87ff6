/** Where a repository lies: a directory, or a bucket of an S3 service. */
import { resolve } from 'node:path';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { S3Place } from '@lifeboat/repository/store/s3/s3-place';

export type RepositoryPlace =
  | { readonly kind: 'directory'; readonly path: string }
  | {
      readonly kind: 's3';
      readonly data: S3Place;
      /** Control objects, where the bucket of the data is no place for them. */
      readonly control?: S3Place;
      /** Retention of Object Lock; undefined: nothing is locked. */
      readonly lockDays?: number;
    };

/** As the configuration says it, all text. */
export interface PlaceSettings {
  readonly repository?: string;
  readonly control?: string;
  readonly s3Endpoint?: string;
  readonly s3Region?: string;
  readonly s3PathStyle?: string;
  readonly lockDays?: string;
}

const S3_URL = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/;
const MAX_LOCK_DAYS = 36_500;

/** Errors: `input.invalid`. */
export function repositoryPlace(
  settings: PlaceSettings,
  environment: Readonly<Record<string, string | undefined>>,
  defaultDirectory: string,
): RepositoryPlace {
  const { repository = defaultDirectory, control, lockDays } = settings;
  if (!repository.startsWith('s3:')) {
    if (control !== undefined || lockDays !== undefined) {
      throw new LifeboatError(
        'input.invalid',
        `control and lockDays are for buckets, but the repository is ${repository}`,
      );
    }
    return { kind: 'directory', path: resolve(repository) };
  }
  const region = settings.s3Region ?? environment['AWS_REGION'] ?? environment['AWS_DEFAULT_REGION'] ?? 'us-east-1';
  const endpoint = settings.s3Endpoint === undefined ? undefined : parseEndpoint(settings.s3Endpoint);
  const pathStyle = settings.s3PathStyle === undefined ? endpoint !== undefined : parseYes(settings.s3PathStyle);
  const at = (url: string): S3Place => ({ ...parseBucket(url), region, pathStyle, ...(endpoint ? { endpoint } : {}) });
  return {
    kind: 's3',
    data: at(repository),
    ...(control === undefined ? {} : { control: at(control) }),
    ...(lockDays === undefined ? {} : { lockDays: parseDays(lockDays) }),
  };
}

/** The same place as environment variables. */
export function placeEnvironment(place: RepositoryPlace): Record<string, string> {
  if (place.kind === 'directory') return { LIFEBOAT_REPOSITORY: place.path };
  const { data, control, lockDays } = place;
  return {
    LIFEBOAT_REPOSITORY: urlOf(data),
    LIFEBOAT_S3_REGION: data.region,
    LIFEBOAT_S3_PATH_STYLE: data.pathStyle ? 'yes' : 'no',
    ...(data.endpoint === undefined ? {} : { LIFEBOAT_S3_ENDPOINT: data.endpoint }),
    ...(control ? { LIFEBOAT_CONTROL: urlOf(control) } : {}),
    ...(lockDays === undefined ? {} : { LIFEBOAT_LOCK_DAYS: String(lockDays) }),
  };
}

function urlOf({ bucket, prefix }: S3Place): string {
  return `s3://${bucket}/${prefix}`;
}

function parseBucket(url: string): { bucket: string; prefix: string } {
  const [, bucket, path = ''] = S3_URL.exec(url) ?? [];
  const parts = path.split('/').filter((part, i, all) => part !== '' || i < all.length - 1);
  if (bucket === undefined || parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new LifeboatError('input.invalid', `'${url}' is not of the form s3://bucket/prefix`);
  }
  return { bucket, prefix: parts.map((part) => `${part}/`).join('') };
}

function parseEndpoint(text: string): string {
  const url = URL.parse(text);
  if (!url || !/^https?:$/.test(url.protocol) || url.username !== '' || url.pathname !== '/') {
    throw new LifeboatError('input.invalid', `the S3 endpoint '${text}' is not of the form https://host:port`);
  }
  return url.origin;
}

function parseYes(text: string): boolean {
  if (text === 'yes' || text === 'no') return text === 'yes';
  throw new LifeboatError('input.invalid', `s3PathStyle is '${text}'; it is yes or no`);
}

function parseDays(text: string): number {
  const days = Number(text);
  if (Number.isInteger(days) && days >= 1 && days <= MAX_LOCK_DAYS) return days;
  throw new LifeboatError('input.invalid', `lockDays is '${text}'; it is a whole number from 1 to ${MAX_LOCK_DAYS}`);
}
