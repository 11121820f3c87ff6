import { LifeboatError } from '@lifeboat/foundation/errors';
import { COMMAND, errnoName, NBD_ERRNO } from '../protocol.ts';
import type { ErrorPayload, StatusEntry } from '../reply-codec.ts';
import { protocolError } from '../wire.ts';
import { Coverage } from './coverage.ts';

/** What one request asks. Offsets and lengths satisfy the server's block sizes already. */
export type Ask =
  | { readonly command: typeof COMMAND.read; readonly offsetBytes: number; readonly target: Uint8Array }
  | { readonly command: typeof COMMAND.write; readonly offsetBytes: number; readonly payload: Uint8Array }
  | {
      readonly command: typeof COMMAND.writeZeroes | typeof COMMAND.flush;
      readonly offsetBytes: number;
      readonly lengthBytes: number;
    }
  | {
      readonly command: typeof COMMAND.blockStatus;
      readonly offsetBytes: number;
      readonly lengthBytes: number;
      /** The only context whose entries are kept. */
      readonly contextId: number;
    };

/**
 * One request from the moment it is sent until its reply is complete.
 *
 * `done` settles when the outcome is known, which is before the end of the reply for an abandoned read. A caller's
 * buffer is never written after that.
 */
export class PendingRequest {
  readonly ask: Ask;
  readonly lengthBytes: number;
  /** Bytes that travel, which is what the limit in flight is about. */
  readonly payloadBytes: number;
  readonly done: Promise<void>;
  /** Ends the connection when the reply does not come in time. */
  timer: NodeJS.Timeout | undefined;
  /** Entries of the wanted context, cut off at the end of the request. */
  readonly statusEntries: StatusEntry[] = [];
  readonly #what: string;
  readonly #settle: PromiseWithResolvers<void>;
  readonly #coverage: Coverage | undefined;
  readonly #contextsSeen = new Set<number>();
  #target: Uint8Array | undefined;
  #statusBytes = 0;
  #error: ErrorPayload | undefined;
  #streaming = false;
  #abandonReason: Error | undefined;

  /** `what` names the export and the request, for messages. */
  constructor(ask: Ask, what: string) {
    this.ask = ask;
    this.lengthBytes = lengthOf(ask);
    this.payloadBytes = payloadOf(ask);
    this.#what = what;
    this.#settle = Promise.withResolvers();
    this.done = this.#settle.promise;
    if (ask.command === COMMAND.read) {
      this.#target = ask.target;
      this.#coverage = new Coverage({ offsetBytes: ask.offsetBytes, lengthBytes: this.lengthBytes });
    }
  }

  /** A read's payload is announced: where it goes, or undefined when nobody wants it any more. Checks the chunk first. */
  beginData(chunk: { offsetBytes: number; lengthBytes: number }): Uint8Array | undefined {
    this.#expectRead().add(chunk);
    this.#streaming = this.#target !== undefined;
    return this.#slice(chunk);
  }

  endData(): void {
    this.#streaming = false;
    if (this.#abandonReason) this.#drop(this.#abandonReason);
  }

  hole(chunk: { offsetBytes: number; lengthBytes: number }): void {
    this.#expectRead().add(chunk);
    this.#slice(chunk)?.fill(0);
  }

  /** Whether the entries of this context are wanted. Each context may come once. */
  beginStatus(contextId: number, known: ReadonlySet<number>): boolean {
    if (this.ask.command !== COMMAND.blockStatus) throw protocolError(`${this.#what}: answered with block status`);
    if (!known.has(contextId))
      throw protocolError(`${this.#what}: block status of context ${contextId}, which was not selected`);
    if (this.#contextsSeen.has(contextId))
      throw protocolError(`${this.#what}: block status of context ${contextId} came twice`);
    this.#contextsSeen.add(contextId);
    return contextId === this.ask.contextId;
  }

  /** Errors: `nbd.protocol-error` for an empty run, or one that begins behind the end of the request. */
  addStatus(entries: readonly StatusEntry[]): void {
    for (const { lengthBytes, flags } of entries) {
      const leftBytes = this.lengthBytes - this.#statusBytes;
      if (lengthBytes === 0) throw protocolError(`${this.#what}: block status with an empty run`);
      if (leftBytes <= 0) throw protocolError(`${this.#what}: block status beyond the end of the request`);
      // The last run may reach beyond the request.
      const keptBytes = Math.min(lengthBytes, leftBytes);
      this.statusEntries.push({ lengthBytes: keptBytes, flags });
      this.#statusBytes += keptBytes;
    }
  }

  /** The first error of a reply is the one that is told. */
  addError(error: ErrorPayload): void {
    const at = error.offsetBytes;
    const start = this.ask.offsetBytes;
    if (at !== undefined && (at < start || at > start + this.lengthBytes)) {
      throw protocolError(`${this.#what}: error at ${at}, outside the request`);
    }
    this.#error ??= error;
  }

  /** The reply is complete. Errors: `nbd.protocol-error` when it succeeded and yet left something out. */
  complete(): void {
    if (this.#error) {
      this.#settle.reject(this.#requestError(this.#error));
      return;
    }
    if (this.#coverage && !this.#coverage.complete) throw protocolError(`${this.#what}: the reply leaves bytes out`);
    if (this.ask.command === COMMAND.blockStatus && !this.#contextsSeen.has(this.ask.contextId)) {
      throw protocolError(`${this.#what}: the reply lacks the context that was asked for`);
    }
    if (this.ask.command === COMMAND.blockStatus && this.statusEntries.length === 0) {
      throw protocolError(`${this.#what}: block status without a run`);
    }
    this.#settle.resolve();
  }

  /** The connection is gone, and with it the last chance of a byte arriving. */
  fail(error: Error): void {
    this.#settle.reject(error);
  }

  /**
   * The caller gives up. A read rejects as soon as no more bytes can land in its buffer: at once, or behind the chunk
   * that is arriving. Other requests reject with their reply: their payload may still be on its way out.
   */
  abandon(reason: Error): void {
    if (this.ask.command === COMMAND.write) return;
    this.#abandonReason = reason;
    if (!this.#streaming) this.#drop(reason);
  }

  #drop(reason: Error): void {
    this.#target = undefined;
    this.#settle.reject(reason);
  }

  #expectRead(): Coverage {
    if (!this.#coverage) throw protocolError(`${this.#what}: answered with data`);
    return this.#coverage;
  }

  #slice(chunk: { offsetBytes: number; lengthBytes: number }): Uint8Array | undefined {
    const start = chunk.offsetBytes - this.ask.offsetBytes;
    return this.#target?.subarray(start, start + chunk.lengthBytes);
  }

  #requestError(error: ErrorPayload): LifeboatError {
    const errno = errnoName(error.errno);
    const message = `${this.#what}: the server says ${errno}${error.message === '' ? '' : `: ${error.message}`}`;
    const context = { errno, offsetBytes: error.offsetBytes ?? this.ask.offsetBytes, lengthBytes: this.lengthBytes };
    switch (this.ask.command) {
      case COMMAND.read:
        return new LifeboatError('device.read-failed', message, { context });
      case COMMAND.blockStatus:
        return new LifeboatError('nbd.status-failed', message, { context });
      default:
        return new LifeboatError(error.errno === NBD_ERRNO.ENOSPC ? 'disk.full' : 'device.write-failed', message, {
          context,
        });
    }
  }
}

export function payloadOf(ask: Ask): number {
  return ask.command === COMMAND.read || ask.command === COMMAND.write ? lengthOf(ask) : 0;
}

export function lengthOf(ask: Ask): number {
  switch (ask.command) {
    case COMMAND.read:
      return ask.target.length;
    case COMMAND.write:
      return ask.payload.length;
    default:
      return ask.lengthBytes;
  }
}
