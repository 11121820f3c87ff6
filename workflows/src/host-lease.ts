import {
  ApplicationFailure,
  CancellationScope,
  condition,
  defineSignal,
  getExternalWorkflowHandle,
  log,
  setHandler,
} from '@temporalio/workflow';
import { HOST, LEASE_ANSWER } from '@lifeboat/contracts/workflow/host';
import type { LeaseAnswer, LeaseRelease, LeaseRequest } from '@lifeboat/contracts/workflow/host';
import { hostWorkflowId } from '@lifeboat/contracts/workflow/names';
import type { ErrorCode } from '@lifeboat/foundation/catalogue';
import { central } from './activity-proxies.ts';

const FIRST_REMINDER_MS = 60_000;
const LONGEST_REMINDER_MS = 3_600_000;
const WAIT_LIMIT_MS = 24 * 3_600_000;

const answerSignal = defineSignal<[LeaseAnswer]>(LEASE_ANSWER);
const releaseSignal = defineSignal<[LeaseRelease]>(HOST.release);

/**
 * Waits until the host has room, and returns the epoch at which the operation was admitted. The request is repeated at
 * growing intervals in case the entity was started anew and has forgotten it. Gives up after a day.
 * Errors: `lease.refused`, `lease.timeout`.
 */
export async function acquireLease(hostId: string, request: LeaseRequest): Promise<number> {
  let answer: LeaseAnswer | undefined;
  setHandler(answerSignal, (given) => {
    answer ??= given;
  });
  let waitedMs = 0;
  let reminderMs = FIRST_REMINDER_MS;
  await central.requestLease({ hostId, request });
  while (!(await condition(() => answer !== undefined, reminderMs))) {
    waitedMs += reminderMs;
    if (waitedMs >= WAIT_LIMIT_MS) {
      throw failure(
        'lease.timeout',
        `host ${hostId} gave ${request.holder} no room within ${WAIT_LIMIT_MS / 3_600_000} h`,
      );
    }
    reminderMs = Math.min(reminderMs * 2, LONGEST_REMINDER_MS);
    await central.requestLease({ hostId, request });
  }
  return admitted(hostId, answer);
}

function admitted(hostId: string, answer: LeaseAnswer | undefined): number {
  if (answer?.kind === 'granted') return answer.epoch;
  throw failure('lease.refused', `host ${hostId} refused: ${answer?.reason ?? 'no answer'}`);
}

/** Idempotent, and harmless without a lease. A release that cannot be told is found by the host when it looks. */
export async function releaseLease(hostId: string, holder: string): Promise<void> {
  await CancellationScope.nonCancellable(async () => {
    try {
      await getExternalWorkflowHandle(hostWorkflowId(hostId)).signal(releaseSignal, { holder });
    } catch (error) {
      log.warn('the host could not be told that a lease ended', { hostId, holder, error });
    }
  });
}

function failure(code: ErrorCode, message: string): ApplicationFailure {
  return ApplicationFailure.nonRetryable(message, code);
}
