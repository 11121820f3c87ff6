import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import type { FailureDetails } from '@lifeboat/contracts/workflow/activities';
import { hasCode, LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';

/**
 * What an activity throws for what its verb threw. The only place where our errors become Temporal's:
 *
 *   thrown                                      becomes
 *   ------------------------------------------  --------------------------------------------------------------
 *   anything, once cancellation has undone it   CancelledFailure: `operation.cancelled` or an AbortError while the
 *                                               activity's signal is aborted
 *   LifeboatError                               ApplicationFailure, type = code, details = message, context and
 *                                               catalogue text; permanent codes are not retried
 *   an error of the system (ENOENT, ...)        the same under `internal.bug`, but retried: a verb should have named it,
 *                                               and it may pass
 *   anything else                               the same under `internal.bug`, not retried
 *
 * An error that is not the cancellation itself stays an error, also while cancelling: something could not be undone.
 */
export function failureOf(error: unknown, signal: AbortSignal): ApplicationFailure | CancelledFailure {
  if (error instanceof CancelledFailure || error instanceof ApplicationFailure) return error;
  if (signal.aborted && (hasCode(error, 'operation.cancelled') || isAbort(error))) {
    return new CancelledFailure(messageOf(error));
  }
  const named =
    error instanceof LifeboatError ? error : new LifeboatError('internal.bug', messageOf(error), { cause: error });
  const mayPass = named === error ? named.retry === 'transient' : systemCode(error) !== undefined;
  return ApplicationFailure.create({
    message: named.message,
    type: named.code,
    nonRetryable: !mayPass,
    details: [detailsOf(named)],
    cause: error instanceof Error ? error : named,
  });
}

function detailsOf({ message, context, entry }: LifeboatError): FailureDetails {
  const { cause, impact, next } = entry;
  return { message, context, cause, impact, next };
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}
