import { catalogue, type CatalogueEntry, type ErrorCode } from './catalogue.ts';

export type ErrorContext = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * The one error class of Lifeboat. `message` says what happened, to which object, with both values where two disagree;
 * the catalogue entry of `code` says cause, impact and next action for the person who reads it at night.
 */
export class LifeboatError extends Error {
  override readonly name = 'LifeboatError';
  readonly code: ErrorCode;
  readonly context: ErrorContext;

  constructor(code: ErrorCode, message: string, options: { context?: ErrorContext; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.context = options.context ?? {};
  }

  /** Whether the same call may succeed when it is repeated unchanged. The catalogue decides, per code. */
  get retry(): 'transient' | 'permanent' {
    return this.entry.retry;
  }

  get entry(): CatalogueEntry {
    return catalogue[this.code];
  }
}

/** What a caller catches: by code, across package copies and process borders. */
export function hasCode(error: unknown, ...codes: readonly ErrorCode[]): error is LifeboatError {
  return error instanceof LifeboatError && codes.includes(error.code);
}

/** Text of anything thrown, for messages that wrap a cause. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The `code` of a Node system error (`ENOENT`, `ENOSPC`), or undefined. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
