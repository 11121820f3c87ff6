/**
 * One NBD connection: requests go out as the limits admit them, replies come back in any order.
 *
 * ```
 *   submit ──► limit ──► pending (by cookie) ──► socket ──► server
 *                ▲          │
 *                └──────────┴◄── readReplies ◄── FrameReader ◄── socket
 * ```
 *
 * A request that is not answered within its time ends the connection: after that nobody could say which bytes of the
 * stream belong to what. Not done here: reconnecting. A lost connection stays lost, the caller opens a new one.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { COMMAND } from '../protocol.ts';
import { encodeRequest } from '../request-codec.ts';
import type { Parser } from '../frame-reader.ts';
import { InFlightLimit } from './in-flight-limit.ts';
import { negotiate, type Negotiated } from './negotiation.ts';
import { lengthOf, payloadOf, PendingRequest, type Ask } from './pending-request.ts';
import { readReplies } from './replies.ts';
import { openTransport, type Transport } from './transport.ts';

export interface NbdTarget {
  readonly socketPath: string;
  /** '' is the server's default export. */
  readonly exportName: string;
}

/** QEMU serves 16 requests of a connection at once; more would only wait there. */
const MAX_IN_FLIGHT_REQUESTS = 16;
/** Keeps a Unix socket busy on two cores; 16 MiB did not read faster. */
const MAX_IN_FLIGHT_BYTES = 8 * 1024 * 1024;
const CLOSE_TIMEOUT_MS = 2000;

export class NbdConnection {
  readonly name: string;
  readonly #timeoutMs: number;
  readonly #pending = new Map<bigint, PendingRequest>();
  readonly #limit = new InFlightLimit({ maxBytes: MAX_IN_FLIGHT_BYTES, maxRequests: MAX_IN_FLIGHT_REQUESTS });
  readonly #transport: Transport;
  readonly #ready = Promise.withResolvers<Negotiated>();
  #failure: LifeboatError | undefined;
  #nextCookie = 1n;
  #bytesRead = 0;

  private constructor(target: NbdTarget, metaContexts: readonly string[], timeoutMs: number) {
    this.name = `export '${target.exportName}' at ${target.socketPath}`;
    this.#timeoutMs = timeoutMs;
    this.#transport = openTransport({
      socketPath: target.socketPath,
      parser: (send) => this.#converse(send, { exportName: target.exportName, metaContexts }),
      onClosed: (error) => this.#failAll(error),
    });
  }

  static async open(
    target: NbdTarget,
    options: { metaContexts: readonly string[]; timeoutMs: number; signal?: AbortSignal | undefined },
  ): Promise<{ connection: NbdConnection; negotiated: Negotiated }> {
    const { signal, timeoutMs } = options;
    signal?.throwIfAborted();
    const connection = new NbdConnection(target, options.metaContexts, timeoutMs);
    const timer = setTimeout(() => connection.#giveUp(`no handshake within ${timeoutMs} ms`), timeoutMs);
    const onAbort = (): void => {
      connection.#ready.reject(signal?.reason);
      connection.#transport.destroy(connection.#closedHere());
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return { connection, negotiated: await connection.#ready.promise };
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Payload bytes asked of the server by reads. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  /**
   * Sends a request as soon as the limits admit it. Rejects with the signal's reason or the connection's failure while
   * it waits; afterwards the request's own `done` says how it went.
   */
  async submit(ask: Ask, signal: AbortSignal | undefined): Promise<PendingRequest> {
    await this.#limit.acquire(payloadOf(ask), signal);
    const request = new PendingRequest(ask, `${describe(ask)} of ${this.name}`);
    if (this.#failure) throw this.#failure;
    const cookie = this.#nextCookie++;
    this.#pending.set(cookie, request);
    const header = encodeRequest({
      flags: 0,
      command: ask.command,
      cookie,
      offsetBytes: BigInt(ask.offsetBytes),
      lengthBytes: request.lengthBytes,
    });
    if (ask.command === COMMAND.write) this.#transport.send(header, ask.payload);
    else this.#transport.send(header);
    if (ask.command === COMMAND.read) this.#bytesRead += request.lengthBytes;
    request.timer = setTimeout(
      () => this.#giveUp(`${describe(ask)}: no answer within ${this.#timeoutMs} ms`),
      this.#timeoutMs,
    );
    return request;
  }

  /** Open requests reject with `nbd.connection-lost`. */
  async close(): Promise<void> {
    if (this.#failure) return;
    const disconnect = { flags: 0, command: COMMAND.disconnect, cookie: 0n, offsetBytes: 0n, lengthBytes: 0 };
    this.#transport.send(encodeRequest(disconnect));
    const open = this.#pending.size > 0;
    // With a reply on its way the socket must go at once: it could still land in a caller's buffer.
    if (open) this.#transport.destroy(this.#closedHere());
    else this.#failAll(this.#closedHere());
    await this.#transport.end(CLOSE_TIMEOUT_MS);
  }

  *#converse(send: Transport['send'], wanted: { exportName: string; metaContexts: readonly string[] }): Parser<void> {
    const negotiated = yield* negotiate(send, wanted);
    this.#ready.resolve(negotiated);
    yield* readReplies({
      structured: negotiated.structured,
      contextIds: new Set(negotiated.contexts.values()),
      find: (cookie) => this.#pending.get(cookie),
      remove: (cookie) => this.#remove(cookie),
    });
  }

  #remove(cookie: bigint): void {
    const request = this.#pending.get(cookie);
    if (!request) return;
    this.#pending.delete(cookie);
    clearTimeout(request.timer);
    this.#limit.release(request.payloadBytes);
  }

  #giveUp(what: string): void {
    this.#transport.destroy(new LifeboatError('nbd.timeout', `${this.name}: ${what}`));
  }

  #closedHere(): LifeboatError {
    return new LifeboatError('nbd.connection-lost', `${this.name}: closed by this side`);
  }

  #failAll(error: LifeboatError): void {
    this.#failure ??= error;
    this.#ready.reject(this.#failure);
    this.#limit.fail(this.#failure);
    for (const [cookie, request] of this.#pending) {
      this.#remove(cookie);
      request.fail(this.#failure);
    }
  }
}

function describe(ask: Ask): string {
  const name = Object.entries(COMMAND).find(([, command]) => command === ask.command)?.[0] ?? 'request';
  return ask.command === COMMAND.flush ? name : `${name} of ${lengthOf(ask)} bytes at ${ask.offsetBytes}`;
}
