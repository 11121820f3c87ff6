import { ActivityFailure, ApplicationFailure, TimeoutFailure } from '@temporalio/common';
import { describe, expect, test } from 'vitest';
import { namedFailure } from '@lifeboat/workflows/failure-naming';

function failed(cause: Error): ActivityFailure {
  return new ActivityFailure('Activity task failed', 'captureMachine', '1', 'TIMEOUT', 'agent', cause);
}

describe('what an operation fails with', () => {
  test('work that nobody took says that the agent is away', () => {
    const error = failed(new TimeoutFailure('activity timeout', undefined, 'SCHEDULE_TO_START'));
    expect(namedFailure(error, 'host-a')).toMatchObject({
      type: 'temporal.no-answer',
      message: "host host-a: no agent took 'captureMachine' in time",
      nonRetryable: true,
      cause: error,
    });
  });

  test('work that was never reported back says so', () => {
    const error = failed(new TimeoutFailure('activity timeout', undefined, 'HEARTBEAT'));
    expect(namedFailure(error, 'host-a')).toMatchObject({
      message: "host host-a: 'captureMachine' did not report back (HEARTBEAT)",
    });
  });

  test('what has a code keeps it', () => {
    const error = failed(ApplicationFailure.nonRetryable('no space', 'disk.full'));
    expect(namedFailure(error, 'host-a')).toBe(error);
  });
});
