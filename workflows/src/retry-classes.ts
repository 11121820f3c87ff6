/**
 * The ways an activity is retried. A permanent error (see the catalogue) ends the retries of each at once; the limits
 * below are for what may pass: a killed process, a lost network, a busy device.
 *
 * `scheduleToStartTimeout` is always set: work for a host whose agent is gone must fail with a word about it, not wait
 * forever. A heartbeat is sent every 2 s, so 12 s of silence mean that the process is dead (two cores under emulation
 * delay a live one by a few seconds), and the work goes on elsewhere soon after a kill -9.
 */
import type { ActivityOptions } from '@temporalio/workflow';

const AGENT_ABSENCE = '10 minutes';

/** Compensation must not begin while the verb still undoes; the SDK's own default does not wait. */
const cancellationType = 'WAIT_CANCELLATION_COMPLETED';

/** Seconds of work, no progress to tell: lookups, definitions. */
export const quick = {
  scheduleToStartTimeout: AGENT_ABSENCE,
  startToCloseTimeout: '2 minutes',
  heartbeatTimeout: '12 seconds',
  cancellationType,
  retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '30 seconds', maximumAttempts: 8 },
} as const satisfies ActivityOptions;

/**
 * Minutes of work, no progress to tell: looking into a guest, and compensation, which waits for what still runs and may
 * have an edit of gigabytes to take back. An attempt that is cut off begins again from the start.
 */
export const unhurried = { ...quick, startToCloseTimeout: '10 minutes' } as const satisfies ActivityOptions;

/** Minutes to a day of work that resumes: captures, restores, checks, boot tests. */
export const patient = {
  scheduleToStartTimeout: AGENT_ABSENCE,
  startToCloseTimeout: '24 hours',
  heartbeatTimeout: '12 seconds',
  cancellationType,
  retry: { initialInterval: '2 seconds', backoffCoefficient: 2, maximumInterval: '5 minutes', maximumAttempts: 16 },
} as const satisfies ActivityOptions;

/** What the next round repeats anyway: the reaper, the refresh of what is known. */
export const once = {
  scheduleToStartTimeout: '30 seconds',
  startToCloseTimeout: '5 minutes',
  heartbeatTimeout: '12 seconds',
  cancellationType,
  retry: { maximumAttempts: 1 },
} as const satisfies ActivityOptions;
