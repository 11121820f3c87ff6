/** Gives what an S3 service, or the way to it, says a meaning. */
import type { ErrorCode } from '@lifeboat/foundation/catalogue';
import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';

/** HTTP status of an answer, and the service's own code for it; both undefined where nothing answered. */
export interface S3Failure {
  readonly status: number | undefined;
  readonly code: string;
}

export function failureOf(error: unknown): S3Failure {
  const metadata =
    typeof error === 'object' && error !== null && '$metadata' in error
      ? (error.$metadata as { httpStatusCode?: number })
      : {};
  return { status: metadata.httpStatusCode, code: error instanceof Error ? error.name : '' };
}

/** The object is not there. A bucket that is not there is something else. */
export function isMissing(error: unknown): boolean {
  const { status, code } = failureOf(error);
  return code === 'NoSuchKey' || code === 'NoSuchVersion' || (status === 404 && code !== 'NoSuchBucket');
}

/** The answer of a conditional put whose name is taken. */
export function isTaken(error: unknown): boolean {
  return failureOf(error).status === 412;
}

/** Nobody listens, or nothing leads there: what a repetition in some seconds may find mended. */
const UNREACHABLE = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT', 'EHOSTDOWN'];

/** What a service says when it has no room left; none of these is in the S3 reference. */
const FULL = ['XMinioStorageFull', 'QuotaExceeded', 'QuotaExceededException', 'InsufficientStorage', 'StorageFull'];

/** Bytes that changed on the way; sent again they may arrive. */
const DAMAGED_ON_THE_WAY = ['BadDigest', 'XAmzContentChecksumMismatch', 'XAmzContentSHA256Mismatch', 'IncompleteBody'];

export function asStoreError(error: unknown, what: string): LifeboatError {
  if (error instanceof LifeboatError) return error;
  const { status, code } = failureOf(error);
  const said = [status, code].filter(Boolean).join(' ');
  const text = `could not ${what}: ${said ? `${said}: ` : ''}${messageOf(error)}`;
  const context = { status, serviceCode: code };
  return new LifeboatError(meaning(error, { status, code }), text, { context, cause: error });
}

function meaning(error: unknown, { status, code }: S3Failure): ErrorCode {
  if (code === 'CredentialsProviderError') return 'repository.store-denied';
  if (code === 'NoSuchBucket' || UNREACHABLE.includes(systemCode(error) ?? '')) return 'repository.store-unreachable';
  if (FULL.includes(code) || status === 507) return 'disk.full';
  if (DAMAGED_ON_THE_WAY.includes(code)) return 'repository.store-failed';
  // The client would sign the next attempt with the service's time and hide what is wrong.
  if (code === 'RequestTimeTooSkewed' || code === 'RequestExpired') return 'repository.clock-skewed';
  if (code === 'RequestTimeout') return 'repository.store-failed';
  if (code === 'EntityTooLarge') return 'repository.limit-exceeded';
  if (status === 501) return 'repository.store-unsupported';
  // 301 and 400 AuthorizationHeaderMalformed: another region than the one these credentials signed for.
  if (status === 401 || status === 403 || status === 301 || code === 'AuthorizationHeaderMalformed') {
    return 'repository.store-denied';
  }
  if (status === 405 || status === 400) return 'repository.store-unsupported';
  // 409 (two conditional puts at once), 429, 5xx, cut connections, timeouts, answers that cannot be parsed.
  return 'repository.store-failed';
}
