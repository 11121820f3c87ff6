/**
 * One client of the server.
 *
 * ```
 *   socket ──► FrameReader ──► queue ──(limits)──► answer ──► socket
 *      ▲                         │                              │
 *      └──── paused while the queue is not empty         written: the limits are given back
 * ```
 *
 * A request counts against the limits until its reply has left for the kernel, so a client that asks and does not read
 * holds `maxInFlightBytes` and no more. Replies go out in the order they are ready.
 */
import type { Socket } from 'node:net';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { messageOf } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import { FrameReader, type Parser } from '../frame-reader.ts';
import { COMMAND, NBD_ERRNO } from '../protocol.ts';
import { decodeRequest, REQUEST_BYTES, type NbdRequest } from '../request-codec.ts';
import { answer, errorReply } from './answer.ts';
import type { NbdServerLimits } from './limits.ts';
import { negotiate, type ServedExport } from './negotiation.ts';

export interface ConnectionOptions {
  readonly socket: Socket;
  readonly exports: ReadonlyMap<string, BlockDevice>;
  readonly limits: NbdServerLimits;
  readonly log: Log;
  readonly onServed: (payloadBytes: number) => void;
}

export class ServerConnection {
  /** Resolves when the socket is closed and no read of a device is under way for it. */
  readonly ended: Promise<void>;
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #log: Log;
  readonly #abort = new AbortController();
  readonly #ended = Promise.withResolvers<void>();
  /** Bounded by what one read of the socket holds: the socket is paused while there is anything in here. */
  #queue: { served: ServedExport; request: NbdRequest }[] = [];
  #inFlightBytes = 0;
  #inFlightRequests = 0;
  /** No more requests are taken: the client said goodbye, or close() was called. */
  #leaving = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#socket = options.socket;
    this.#log = options.log;
    this.ended = this.#ended.promise;
    const { socket, limits } = options;
    const deadline = setTimeout(
      () => this.#drop(`no handshake within ${limits.handshakeTimeoutMs} ms`),
      limits.handshakeTimeoutMs,
    );
    const reader = new FrameReader(this.#converse(() => clearTimeout(deadline)));
    socket.on('data', (bytes: Buffer) => {
      if (this.#leaving) return;
      try {
        reader.push(bytes);
      } catch (error) {
        this.#drop(messageOf(error));
      }
    });
    socket.on('error', (error) => this.#log.debug('nbd client connection broke', { error: error.message }));
    socket.on('close', () => {
      clearTimeout(deadline);
      this.#leaving = true;
      this.#queue = [];
      this.#abort.abort(new Error('the NBD client is gone'));
      this.#settle();
    });
  }

  /**
   * Takes no more requests, lets the running ones finish, and closes. After `closeTimeoutMs` the socket goes at once,
   * and a device that still does not answer is left to itself.
   */
  async close(): Promise<void> {
    const { closeTimeoutMs } = this.#options.limits;
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      this.#drop(`not finished ${closeTimeoutMs} ms after the server was closed`);
      late.resolve();
    }, closeTimeoutMs);
    this.#leave();
    await Promise.race([this.ended, late.promise]);
    clearTimeout(timer);
  }

  *#converse(onNegotiated: () => void): Parser<void> {
    const served = yield* negotiate({
      send: (bytes) => void this.#socket.write(bytes),
      exports: this.#options.exports,
      maxRequestBytes: this.#options.limits.maxRequestBytes,
    });
    onNegotiated();
    if (served) yield* this.#requests(served);
    this.#leave();
  }

  *#requests(served: ServedExport): Parser<void> {
    for (;;) {
      const request = decodeRequest(yield { take: REQUEST_BYTES });
      if (request.command === COMMAND.disconnect) return;
      // A write is refused, but its payload is on the way and must not be taken for requests.
      if (request.command === COMMAND.write) yield { skip: request.lengthBytes };
      this.#queue.push({ served, request });
      this.#pump();
    }
  }

  /** Starts what the limits allow; reads on from the socket only when nothing waits. */
  #pump(): void {
    for (let next = this.#queue[0]; next && this.#fits(next.request); next = this.#queue[0]) {
      this.#queue.shift();
      void this.#serve(next.served, next.request);
    }
    if (this.#queue.length > 0) this.#socket.pause();
    else if (this.#socket.isPaused()) this.#socket.resume();
  }

  #fits(request: NbdRequest): boolean {
    if (this.#inFlightRequests === 0) return true;
    const { maxInFlightBytes, maxInFlightRequests } = this.#options.limits;
    return (
      this.#inFlightRequests < maxInFlightRequests && this.#inFlightBytes + this.#cost(request) <= maxInFlightBytes
    );
  }

  #cost(request: NbdRequest): number {
    // An oversized read is refused without a buffer.
    return request.command === COMMAND.read ? Math.min(request.lengthBytes, this.#options.limits.maxRequestBytes) : 0;
  }

  async #serve(served: ServedExport, request: NbdRequest): Promise<void> {
    const cost = this.#cost(request);
    this.#inFlightBytes += cost;
    this.#inFlightRequests += 1;
    const parts = await this.#reply(served, request);
    await this.#write(parts);
    this.#inFlightBytes -= cost;
    this.#inFlightRequests -= 1;
    this.#pump();
    this.#settle();
  }

  async #reply(served: ServedExport, request: NbdRequest): Promise<readonly Uint8Array[]> {
    try {
      const { maxRequestBytes } = this.#options.limits;
      const parts = await answer(served, request, { maxRequestBytes, signal: this.#abort.signal });
      this.#options.onServed(parts.reduce((sum, part) => sum + part.length, 0));
      return parts;
    } catch (error) {
      if (this.#abort.signal.aborted) return [];
      const { exportName } = served;
      const offsetBytes = Number(request.offsetBytes);
      this.#log.error('nbd request failed', {
        exportName,
        offsetBytes,
        lengthBytes: request.lengthBytes,
        error: messageOf(error),
      });
      return errorReply(served, request, NBD_ERRNO.EIO, messageOf(error));
    }
  }

  /** Resolves when the kernel has taken all parts, or the socket is gone. The parts of one reply stay together. */
  async #write(parts: readonly Uint8Array[]): Promise<void> {
    if (this.#socket.destroyed || parts.length === 0) return;
    await new Promise<void>((resolve) => {
      this.#socket.cork();
      for (const [index, part] of parts.entries()) {
        // On a destroyed socket the callback comes too, with an error that 'close' has told already.
        if (index === parts.length - 1) this.#socket.write(part, () => resolve());
        else this.#socket.write(part);
      }
      this.#socket.uncork();
    });
  }

  #leave(): void {
    this.#leaving = true;
    this.#settle();
  }

  #settle(): void {
    if (!this.#leaving || this.#inFlightRequests > 0 || this.#queue.length > 0) return;
    if (this.#socket.closed) {
      this.#ended.resolve();
    } else {
      // Not end(): a client that never closes its own side would keep the connection for ever.
      this.#socket.destroySoon();
    }
  }

  #drop(why: string): void {
    this.#log.warn('nbd client disconnected by the server', { why });
    this.#socket.destroy();
  }
}
