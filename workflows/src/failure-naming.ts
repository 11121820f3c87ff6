import { ActivityFailure, ApplicationFailure, TimeoutFailure } from '@temporalio/workflow';
import type { ErrorCode } from '@lifeboat/foundation/catalogue';

/**
 * What an operation fails with. A timeout says little about the work and much about who should have done it (the agent is
 * away, or died too often), so it gets a code of ours; every other failure has one already.
 */
export function namedFailure(error: unknown, hostId: string): unknown {
  if (!(error instanceof ActivityFailure && error.cause instanceof TimeoutFailure)) return error;
  const { timeoutType } = error.cause;
  const what =
    timeoutType === 'SCHEDULE_TO_START'
      ? `no agent took '${error.activityType}' in time`
      : `'${error.activityType}' did not report back (${timeoutType ?? 'timeout'})`;
  return ApplicationFailure.create({
    message: `host ${hostId}: ${what}`,
    type: 'temporal.no-answer' satisfies ErrorCode,
    nonRetryable: true,
    cause: error,
  });
}
