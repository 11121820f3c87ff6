import { ActivityFailure, ApplicationFailure, CancelledFailure, TimeoutFailure } from '@temporalio/common';
import { WorkflowFailedError } from '@temporalio/client';
import { CommanderError } from 'commander';
import { describe, expect, it } from 'vitest';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { EXIT } from './exit-codes.ts';
import { failureLines, failureOf } from './failure.ts';
import { createOutput } from './output.ts';

/** As a client gets an activity's failure: through the activity and the workflow. */
function throughTemporal(cause: Error): Error {
  const activity = new ActivityFailure(
    'Activity task failed',
    'captureMachine',
    '1',
    'NON_RETRYABLE_FAILURE',
    'agent',
    cause,
  );
  return new WorkflowFailedError('Workflow execution failed', activity, 'NON_RETRYABLE_FAILURE');
}

describe('failures', () => {
  it('keeps code and words of an error, with what the catalogue knows', () => {
    const failure = failureOf(new LifeboatError('disk.full', '/srv has 0 B free and needs 1.50 GiB'));
    expect(failure).toMatchObject({ code: 'disk.full', message: '/srv has 0 B free and needs 1.50 GiB', exitCode: 1 });
    expect(failureLines(failure).join('\n')).toMatch(/\[disk\.full\][\s\S]*Next: +Free space on the filesystem/);
  });

  it('finds the same error behind Temporal', () => {
    const thrown = throughTemporal(ApplicationFailure.nonRetryable('/srv is full', 'disk.full'));
    expect(failureOf(thrown)).toMatchObject({ code: 'disk.full', message: '/srv is full', exitCode: EXIT.failed });
  });

  it('takes the outermost error that is known: it knew more', () => {
    const inner = new LifeboatError('device.read-failed', 'read of 4096 bytes failed');
    const outer = new LifeboatError('disk.full', 'no room', { cause: inner });
    expect(failureOf(new Error('wrapped', { cause: outer })).code).toBe('disk.full');
  });

  it.each([
    ['cancellation', throughTemporal(new CancelledFailure('cancelled')), 'operation.cancelled', EXIT.interrupted],
    [
      'a silent worker',
      throughTemporal(new TimeoutFailure('activity Heartbeat timeout', undefined, 'HEARTBEAT')),
      'temporal.no-answer',
      EXIT.failed,
    ],
    [
      'an unknown type',
      throughTemporal(ApplicationFailure.nonRetryable('x is not a function', 'TypeError')),
      'internal.bug',
      EXIT.failed,
    ],
    [
      'a code of the object prototype',
      throughTemporal(ApplicationFailure.nonRetryable('odd', 'toString')),
      'internal.bug',
      EXIT.failed,
    ],
    [
      'wrong usage',
      new CommanderError(1, 'commander.unknownOption', "error: unknown option '--x'"),
      'input.invalid',
      EXIT.usage,
    ],
    ['something that is no error', 'text', 'internal.bug', EXIT.failed],
  ])('names %s', (_, thrown, code, exitCode) => {
    expect(failureOf(thrown)).toMatchObject({ code, exitCode });
  });

  it('ends on causes that go in a circle', () => {
    const error = new Error('round');
    error.cause = error;
    expect(failureOf(error).message).toBe('round');
  });

  it('is words on stderr, and a document on stdout with --json', () => {
    const shown = (json: boolean): { out: string; err: string } => {
      const streams = { out: '', err: '' };
      const stdout = { write: (text: string) => (streams.out += text) };
      const stderr = { write: (text: string) => (streams.err += text) };
      const output = createOutput({ stdout, stderr, environment: {} }, { json });
      output.failed(failureOf(new LifeboatError('disk.full', 'full')));
      return streams;
    };
    expect(shown(false).out).toBe('');
    expect(shown(false).err).toMatch(/^error: full {2}\[disk\.full\]\n {2}Cause: /);
    expect(JSON.parse(shown(true).out)).toMatchObject({ error: { code: 'disk.full' }, exitCode: 1 });
  });
});
