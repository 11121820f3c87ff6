/**
 * Anything that was thrown, as a person needs it: what happened, the code, the usual cause, and what to do next. The code
 * survives the way through Temporal as the type of an ApplicationFailure, wrapped in as many failures as there were
 * workflows and activities on the way; the outermost one that the catalogue knows is what happened: whoever wrapped a
 * cause knew more about it.
 */
import { ApplicationFailure, CancelledFailure, TemporalFailure, TimeoutFailure } from '@temporalio/common';
import { CommanderError } from 'commander';
import { catalogue, type ErrorCode } from '@lifeboat/foundation/catalogue';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { EXIT, type ExitCode } from './exit-codes.ts';

export interface Failure {
  readonly code: ErrorCode;
  readonly message: string;
  readonly cause: string;
  readonly impact: string;
  readonly next: string;
  readonly exitCode: ExitCode;
}

export function failureOf(error: unknown): Failure {
  const chain = causesOf(error);
  for (const link of chain) {
    if (link instanceof LifeboatError) return failure(link.code, link.message);
    if (link instanceof ApplicationFailure && isKnown(link.type)) return failure(link.type, link.message);
  }
  if (chain.some((link) => link instanceof CancelledFailure)) {
    return failure('operation.cancelled', 'the operation was cancelled');
  }
  const timeout = chain.findLast((link) => link instanceof TimeoutFailure);
  if (timeout) return failure('temporal.no-answer', `an activity got no answer in time: ${timeout.message}`);
  const service = chain.find(isGrpcError);
  if (service) return failure('temporal.unreachable', `Temporal did not answer: ${messageOf(service)}`);
  if (error instanceof CommanderError) return failure('input.invalid', error.message.replace(/^error: /, ''));
  const inner = chain.findLast((link) => link instanceof TemporalFailure) ?? error;
  return failure('internal.bug', messageOf(inner));
}

/** For a person: what happened first, then what it means and what to do. */
export function failureLines(failure: Failure): string[] {
  return [
    `${failure.message}  [${failure.code}]`,
    `Cause:  ${failure.cause}`,
    `Impact: ${failure.impact}`,
    `Next:   ${failure.next}`,
  ];
}

function failure(code: ErrorCode, message: string): Failure {
  const { cause, impact, next } = catalogue[code];
  return { code, message, cause, impact, next, exitCode: exitCodeOf(code) };
}

function exitCodeOf(code: ErrorCode): ExitCode {
  if (BAD_INPUT.has(code)) return EXIT.usage;
  if (code === 'operation.cancelled') return EXIT.interrupted;
  return EXIT.failed;
}

/** Found before anything was started. */
const BAD_INPUT: ReadonlySet<ErrorCode> = new Set([
  'input.invalid',
  'guest.profile-not-found',
  'guest.profile-invalid',
]);

function isKnown(type: string | undefined | null): type is ErrorCode {
  return typeof type === 'string' && Object.hasOwn(catalogue, type);
}

/** As the client itself tells them; asked here, because loading the client takes longer than all of a wrong usage. */
function isGrpcError(link: unknown): boolean {
  return link instanceof Error && 'details' in link && 'metadata' in link;
}

/** The error and its causes, outermost first. */
function causesOf(error: unknown): unknown[] {
  const chain: unknown[] = [];
  for (let link = error; link !== undefined && link !== null && !chain.includes(link);) {
    chain.push(link);
    link = link instanceof Error ? link.cause : undefined;
  }
  return chain;
}
