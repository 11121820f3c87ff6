/** Messages between a sealer and its threads. One request at a time is answered in order; ids pair them. */
import { LifeboatError, type ErrorContext } from '@lifeboat/foundation/errors';
import type { ErrorCode } from '@lifeboat/foundation/catalogue';

import type { FinishedPack } from './pack-builder.ts';
import type { LaneConfig, LaneReport, StoreReply, StoreRequest, StripeIds } from './sealing-lane.ts';

export interface ThreadData {
  readonly config: LaneConfig;
  readonly zstdLevel: number;
}

export type Request =
  | { readonly id: number; readonly verb: 'hash'; readonly chunks: readonly number[] }
  | { readonly id: number; readonly verb: 'store'; readonly request: StoreRequest }
  | { readonly id: number; readonly verb: 'seal' }
  | { readonly id: number; readonly verb: 'close' };

export interface Answers {
  hash: StripeIds;
  store: StoreReply;
  seal: { buffer: ArrayBuffer; pack: FinishedPack };
  close: LaneReport;
}

/** `id` 0 announces that the source is open, or why not. */
export type Response =
  | { readonly id: number; readonly value: Answers[keyof Answers] | Readonly<Record<string, never>> }
  | { readonly id: number; readonly error: WireError };

/** An error in a form that survives the way between threads with its code. */
export interface WireError {
  readonly message: string;
  readonly stack?: string | undefined;
  readonly lifeboat?: { readonly code: ErrorCode; readonly context: ErrorContext };
}

export function toWire(error: unknown): WireError {
  if (!(error instanceof Error)) return { message: String(error) };
  const { message, stack } = error;
  return error instanceof LifeboatError
    ? { message, stack, lifeboat: { code: error.code, context: error.context } }
    : { message, stack };
}

export function fromWire({ message, stack, lifeboat }: WireError): Error {
  if (lifeboat) return new LifeboatError(lifeboat.code, message, { context: lifeboat.context });
  const error = new Error(message);
  if (stack !== undefined) error.stack = stack;
  return error;
}
