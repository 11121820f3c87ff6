/**
 * A byte stream inside a libvirt connection: a console (both ways) or a screenshot (read only).
 *
 *   ours                                      daemon
 *   call (opens it)            ────────►
 *                              ◄────────      reply, same serial
 *   more + bytes               ◄───────►      more + bytes
 *                              ◄────────      more, empty: nothing more to read
 *   ok (finish)                ────────►
 *                              ◄────────      ok: flushed          or  error (abort): either side, at any time
 *
 * Back pressure: the protocol has no windows. Bytes that nobody reads pile up here; above `STREAM_BACKLOG_BYTES` the
 * connection stops reading its socket as long as no call waits for an answer, and at `STREAM_BACKLOG_MAX_BYTES` the
 * stream is aborted. Not guaranteed: that a slow reader leaves events of the same connection undelayed.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

export const STREAM_BACKLOG_BYTES = 1024 * 1024;
const STREAM_BACKLOG_MAX_BYTES = 32 * 1024 * 1024;
/** The largest payload of one stream packet that every libvirt version takes. */
const PACKET_MAX_BYTES = 262_120;
const FINISH_TIMEOUT_MS = 30_000;
const READ_ALL_TIMEOUT_MS = 60_000;

/** What a stream needs of its connection. */
export interface StreamCarrier {
  sendData(bytes: Uint8Array): Promise<void>;
  sendFinish(): void;
  sendAbort(): void;
  /** The backlog shrank, or the stream is over: the socket may be read again. */
  relieved(): void;
}

interface Waiter {
  resolve(bytes: Buffer | undefined): void;
  reject(error: Error): void;
}

export class LibvirtStream implements AsyncIterable<Buffer> {
  readonly #carrier: StreamCarrier;
  readonly #what: string;
  #backlog: Buffer[] = [];
  #backlogBytes = 0;
  #waiter: Waiter | undefined;
  /** The daemon has no more to send. */
  #ended = false;
  #failure: Error | undefined;
  #closed = false;
  #finishing: { resolve(): void; reject(error: Error): void } | undefined;

  /** `what` names the stream in messages: "console of NAME". */
  constructor(carrier: StreamCarrier, what: string) {
    this.#carrier = carrier;
    this.#what = what;
  }

  get backlogBytes(): number {
    return this.#backlogBytes;
  }

  /** The next bytes, or undefined at the end. One reader at a time. Errors: `libvirt.stream-failed`, `libvirt.stream-overrun`. */
  read(): Promise<Buffer | undefined> {
    const next = this.#backlog.shift();
    if (next !== undefined) {
      this.#backlogBytes -= next.length;
      this.#carrier.relieved();
      return Promise.resolve(next);
    }
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#ended || this.#closed) return Promise.resolve(undefined);
    if (this.#waiter) {
      return Promise.reject(new LifeboatError('internal.bug', `two readers wait on the ${this.#what}`));
    }
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
    });
  }

  /** Ends when the daemon does, and closes in order; leaving the loop early aborts the stream. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    try {
      for (let bytes = await this.read(); bytes !== undefined; bytes = await this.read()) yield bytes;
    } finally {
      if (this.#ended) await this.finish();
      else this.abort();
    }
  }

  /** All bytes up to the end, then closes in order. Aborts and throws above `maxBytes` or when the signal aborts. */
  async readAll(maxBytes: number, options: { signal?: AbortSignal; timeoutMs?: number } = {}): Promise<Buffer> {
    const { signal, timeoutMs = READ_ALL_TIMEOUT_MS } = options;
    const parts: Buffer[] = [];
    let lengthBytes = 0;
    const stop = (error: Error): void => {
      if (!this.#closed) this.#carrier.sendAbort();
      this.fail(error);
    };
    const onAbort = (): void => stop(signal?.reason as Error);
    const timer = setTimeout(() => {
      stop(new LifeboatError('libvirt.timeout', `the ${this.#what} did not end in ${timeoutMs} ms`));
    }, timeoutMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      for await (const bytes of this) {
        lengthBytes += bytes.length;
        if (lengthBytes > maxBytes) {
          throw new LifeboatError('libvirt.stream-overrun', `the ${this.#what} exceeds ${maxBytes} bytes`);
        }
        parts.push(bytes);
      }
      signal?.throwIfAborted();
      return Buffer.concat(parts);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Resolves once the socket took the bytes. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length; offset += PACKET_MAX_BYTES) {
      if (this.#failure) throw this.#failure;
      if (this.#closed) throw new LifeboatError('libvirt.stream-failed', `the ${this.#what} is closed`);
      await this.#carrier.sendData(bytes.subarray(offset, offset + PACKET_MAX_BYTES));
    }
  }

  /** Closes in order; resolves when the daemon has taken all that was written. */
  async finish(): Promise<void> {
    if (this.#failure) throw this.#failure;
    if (this.#closed) return;
    this.#closed = true;
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#finishing = { resolve, reject };
        timer = setTimeout(() => {
          reject(new LifeboatError('libvirt.timeout', `the ${this.#what} did not close in ${FINISH_TIMEOUT_MS} ms`));
        }, FINISH_TIMEOUT_MS);
        this.#carrier.sendFinish();
      });
    } finally {
      clearTimeout(timer);
      this.#discard();
    }
  }

  /** Drops the stream at once, and what was not read. Idempotent. */
  abort(): void {
    if (!this.#closed && !this.#failure) this.#carrier.sendAbort();
    this.#closed = true;
    this.#discard();
    this.#waiter?.resolve(undefined);
    this.#waiter = undefined;
  }

  /** For the connection: bytes arrived. None means the end. */
  deliver(bytes: Buffer): void {
    if (this.#closed) return;
    if (bytes.length === 0) {
      this.#ended = true;
      this.#waiter?.resolve(undefined);
      this.#waiter = undefined;
      return;
    }
    if (this.#waiter) {
      this.#waiter.resolve(bytes);
      this.#waiter = undefined;
      return;
    }
    if (this.#backlogBytes + bytes.length > STREAM_BACKLOG_MAX_BYTES) {
      this.#carrier.sendAbort();
      this.fail(
        new LifeboatError('libvirt.stream-overrun', `${this.#backlogBytes} bytes of the ${this.#what} wait unread`),
      );
      return;
    }
    this.#backlog.push(bytes);
    this.#backlogBytes += bytes.length;
  }

  /** For the connection: the daemon acknowledged the finish, or finished on its own. */
  finished(): void {
    this.#ended = true;
    this.#closed = true;
    this.#finishing?.resolve();
    this.#waiter?.resolve(undefined);
    this.#waiter = undefined;
  }

  /** For the connection: the stream is over, not in order. What arrived before can still be read. */
  fail(error: Error): void {
    if (this.#closed && !this.#finishing) return;
    this.#failure = error;
    this.#closed = true;
    this.#finishing?.reject(error);
    this.#waiter?.reject(error);
    this.#waiter = undefined;
  }

  #discard(): void {
    this.#backlog = [];
    this.#backlogBytes = 0;
    this.#carrier.relieved();
  }
}
