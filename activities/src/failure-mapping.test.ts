import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { describe, expect, test } from 'vitest';
import { catalogue } from '@lifeboat/foundation/catalogue';
import type { ErrorCode } from '@lifeboat/foundation/catalogue';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { failureOf } from './failure-mapping.ts';

const calm = new AbortController().signal;
const cancelled = AbortSignal.abort();

describe('an error becomes a failure', () => {
  test.each(Object.keys(catalogue) as ErrorCode[])('%s keeps its code and what the catalogue says', (code) => {
    const failure = failureOf(new LifeboatError(code, 'disk vda of web-1', { context: { disk: 'vda' } }), calm);
    const { retry, cause, impact, next } = catalogue[code];
    expect(failure).toBeInstanceOf(ApplicationFailure);
    expect(failure).toMatchObject({
      message: 'disk vda of web-1',
      type: code,
      nonRetryable: retry === 'permanent',
      details: [{ message: 'disk vda of web-1', context: { disk: 'vda' }, cause, impact, next }],
    });
  });

  test('what only a person can decide on is said at once', () => {
    const busy = new LifeboatError('engine.machine-busy', 'web-1 is being backed up already, by another program');
    expect(failureOf(busy, calm)).toMatchObject({ nonRetryable: true });
  });

  test('an error of the system is retried, because it may pass', () => {
    const error = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
    expect(failureOf(error, calm)).toMatchObject({ type: 'internal.bug', nonRetryable: false, cause: error });
  });

  test('anything else is a bug and is not retried', () => {
    const error = new TypeError('x is not a function');
    expect(failureOf(error, calm)).toMatchObject({ type: 'internal.bug', nonRetryable: true, cause: error });
    expect(failureOf('thrown text', calm)).toMatchObject({ message: 'thrown text', nonRetryable: true });
  });

  test('what already is a failure passes unchanged', () => {
    const failure = ApplicationFailure.retryable('again', 'x');
    expect(failureOf(failure, calm)).toBe(failure);
  });
});

describe('a cancelled verb', () => {
  test.each([
    ['our own code', new LifeboatError('operation.cancelled', 'stopped')],
    ['an AbortError of Node', new DOMException('This operation was aborted', 'AbortError')],
    ["the signal's own reason", new CancelledFailure('CANCELLED')],
  ])('%s is a cancellation', (_, error) => {
    expect(failureOf(error, cancelled)).toBeInstanceOf(CancelledFailure);
  });

  test('what could not be undone stays an error', () => {
    const failure = failureOf(new LifeboatError('disk.full', '/scratch'), cancelled);
    expect(failure).toMatchObject({ type: 'disk.full' });
  });

  test('nobody cancelled: an abort is an error like any other', () => {
    expect(failureOf(new DOMException('aborted', 'AbortError'), calm)).toBeInstanceOf(ApplicationFailure);
    expect(failureOf(new LifeboatError('operation.cancelled', 'stopped'), calm)).toMatchObject({ nonRetryable: true });
  });
});
