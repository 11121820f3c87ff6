/**
 * One connection to a libvirt daemon over its unix socket.
 *
 *   1. connect; ask which authentication it wants; polkit decides without a dialogue here; open the hypervisor by URI
 *   2. calls: each carries a serial, replies come in any order, so that one slow call does not hold up the others
 *   3. events go to their subscriptions, stream packets to their streams, keepalive pings are answered
 *   4. close, or the first thing that cannot be right: every waiting call, stream and subscription is told
 *
 * Guaranteed: a call settles once, within its timeout. Not guaranteed: that a call which timed out, was aborted, or met
 * the end of the connection had no effect; ask the daemon for the state. Domains started with auto-destroy end with
 * the connection that started them.
 */
import net from 'node:net';
import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';
import { readRemoteError } from './errors.ts';
import { EVENT_ID, readEvent, type DomainEvent, type EventName, type ReceivedEvent } from './events.ts';
import {
  decodeMessage,
  encodeMessage,
  FrameSplitter,
  MESSAGE_STATUS,
  MESSAGE_TYPE,
  type Message,
  type MessageHeader,
} from './message.ts';
import { KEEPALIVE_PROCEDURE, PROGRAM, PROTOCOL_VERSION, procedureNumber, type Procedure } from './procedures.ts';
import { writeDomain, type DomainRef } from './references.ts';
import { LibvirtStream, STREAM_BACKLOG_BYTES } from './stream.ts';
import { malformed, XdrReader, XdrWriter } from './xdr.ts';

const DEFAULT_SOCKET_PATH = '/run/libvirt/libvirt-sock';
export const DEFAULT_URI = 'qemu:///system';
/** Above the 30 s that libvirt itself waits for another job before it answers "busy". */
const CALL_TIMEOUT_MS = 60_000;
const CALLS_IN_FLIGHT_MAX = 256;
const EARLY_EVENTS_MAX = 256;
const AUTH = { none: 0, polkit: 2 } as const;
const AUTH_TYPES_MAX = 20;
const FEATURE_PROGRAM_KEEPALIVE = 10;

export interface OpenOptions {
  readonly socketPath?: string;
  readonly uri?: string;
  /** For each call that brings none of its own, and for the opening. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /**
   * Lets the daemon ping this end and drop it after about 30 s without an answer. Off: the daemon notices a dead process
   * by its socket, but not a stopped one.
   */
  readonly keepalive?: boolean;
}

export interface CallOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface Call<T> extends CallOptions {
  readonly procedure: Procedure;
  /** Names what the call is about in its error message. */
  readonly object?: string;
  readonly write?: (writer: XdrWriter) => void;
  readonly read: (reader: XdrReader) => T;
}

export interface Subscription {
  /** Idempotent. No event is handed over after the call. */
  cancel(): Promise<void>;
}

interface Pending {
  readonly procedure: Procedure;
  readonly object: string;
  readonly stream: LibvirtStream | undefined;
  settle(outcome: { body: Buffer } | { error: Error }): void;
}

interface OpenStream {
  readonly stream: LibvirtStream;
  readonly what: string;
}

/** What a call without a result reads. */
export const nothing = (): undefined => undefined;

export class LibvirtConnection {
  readonly #socket: net.Socket;
  readonly #timeoutMs: number;
  readonly #splitter = new FrameSplitter();
  readonly #pending = new Map<number, Pending>();
  readonly #streams = new Map<number, OpenStream>();
  readonly #subscribers = new Map<number, (event: ReceivedEvent) => void>();
  /** Serials of stream calls nobody waits for any more; their streams are aborted when the reply comes. */
  readonly #orphans = new Map<number, Procedure>();
  #registering = 0;
  #earlyEvents: ReceivedEvent[] = [];
  #lastSerial = 0;
  #failure: Error | undefined;
  #pingsAnswered = 0;
  readonly #closed = Promise.withResolvers<Error | undefined>();

  private constructor(socket: net.Socket, timeoutMs: number) {
    this.#socket = socket;
    this.#timeoutMs = timeoutMs;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', (error) => this.#fail(lost(messageOf(error), error)));
    socket.on('close', () => this.#fail(lost('the daemon closed the connection')));
  }

  /**
   * Errors: `libvirt.not-running`, `libvirt.not-permitted`, `libvirt.timeout`, `libvirt.connection-lost`, and libvirt's own
   * when it does not know the URI.
   */
  static async open(options: OpenOptions = {}): Promise<LibvirtConnection> {
    const { socketPath = DEFAULT_SOCKET_PATH, uri = DEFAULT_URI, timeoutMs = CALL_TIMEOUT_MS, signal } = options;
    const socket = await connect(socketPath, timeoutMs, signal);
    const connection = new LibvirtConnection(socket, timeoutMs);
    try {
      await connection.#authenticate(signal ? { signal } : {});
      // The one feature that is asked for before the opening: it is the connection's, not the hypervisor's.
      if (options.keepalive) await connection.#offerKeepalive(signal ? { signal } : {});
      await connection.call({
        procedure: 'connectOpen',
        object: uri,
        write: (writer) => writer.optional(uri, (value) => writer.string(value)).u32(0),
        read: nothing,
        ...(signal ? { signal } : {}),
      });
    } catch (error) {
      connection.#fail(lost('the connection could not be opened', error));
      throw error;
    }
    return connection;
  }

  /** Resolves when the connection is over: to undefined after `close`, else to the reason. Never rejects. */
  get closed(): Promise<Error | undefined> {
    return this.#closed.promise;
  }

  get pingsAnswered(): number {
    return this.#pingsAnswered;
  }

  /** One call and its answer. Errors as in errors.ts, `libvirt.timeout`, `libvirt.connection-lost`; the signal's own reason. */
  async call<T>(call: Call<T>): Promise<T> {
    const { reply } = this.#send(call, undefined);
    return this.#decode(await reply, call);
  }

  /** A call that opens a stream. `what` names it in messages. */
  async openStream<T>(call: Call<T>, what: string): Promise<{ stream: LibvirtStream; result: T }> {
    const { procedure } = call;
    const serial = this.#lastSerial + 1;
    const stream = new LibvirtStream(
      {
        sendData: (bytes) => this.#sendStreamData(procedure, serial, bytes),
        sendFinish: () => this.#sendStreamEnd(procedure, serial, MESSAGE_STATUS.ok),
        sendAbort: () => this.#sendStreamEnd(procedure, serial, MESSAGE_STATUS.error),
        relieved: () => this.#regulate(),
      },
      what,
    );
    const { reply } = this.#send(call, stream);
    return { stream, result: this.#decode(await reply, call) };
  }

  /**
   * Calls `handler` for each event of `name`, of one domain or of all. A handler that throws ends the connection: an event
   * that got lost unnoticed would be worse. When the connection ends, events end without a sign here: see `closed`.
   */
  async subscribe<N extends EventName>(
    name: N,
    handler: (event: DomainEvent<N>) => void,
    options: CallOptions & { domain?: DomainRef } = {},
  ): Promise<Subscription> {
    const { domain, ...callOptions } = options;
    this.#registering += 1;
    try {
      const callbackId = await this.call({
        ...callOptions,
        procedure: 'connectDomainEventCallbackRegisterAny',
        object: name,
        write: (writer) => writer.i32(EVENT_ID[name]).optional(domain, (value) => writeDomain(writer, value)),
        read: (reader) => reader.i32(),
      });
      const deliver = (received: ReceivedEvent): void => {
        if (received.name !== name) throw malformed(`a '${received.name}' event came to a subscription of '${name}'`);
        handler(received.event as unknown as DomainEvent<N>);
      };
      this.#subscribers.set(callbackId, deliver);
      // The daemon may send the first event before the reply that says which callback it is for.
      const early = this.#earlyEvents.filter((event) => event.callbackId === callbackId);
      this.#earlyEvents = this.#earlyEvents.filter((event) => event.callbackId !== callbackId);
      early.forEach(deliver);
      return { cancel: () => this.#unsubscribe(callbackId) };
    } finally {
      this.#registering -= 1;
      if (this.#registering === 0) this.#earlyEvents = [];
    }
  }

  /** Says good-bye and closes. Idempotent; never rejects because the daemon is gone already. */
  async close(): Promise<void> {
    if (this.#failure) return;
    try {
      await this.call({ procedure: 'connectClose', read: nothing, timeoutMs: Math.min(this.#timeoutMs, 10_000) });
    } catch (error) {
      // The socket is closed next in any case, which says the same to the daemon.
      this.#fail(lost('the daemon did not answer the good-bye', error), { expected: true });
      return;
    }
    this.#fail(lost('the connection was closed by this end'), { expected: true });
  }

  async #authenticate(options: CallOptions): Promise<void> {
    const types = await this.call({
      ...options,
      procedure: 'authList',
      read: (reader) => reader.array(() => reader.i32(), AUTH_TYPES_MAX),
    });
    if (types.length === 0 || types.includes(AUTH.none)) return;
    if (!types.includes(AUTH.polkit)) {
      throw new LifeboatError(
        'libvirt.not-permitted',
        `libvirt asks for authentication of type ${types.join(', ')}; Lifeboat can pass none and polkit`,
      );
    }
    try {
      await this.call({ ...options, procedure: 'authPolkit', read: (reader) => reader.i32() });
    } catch (error) {
      // Where polkit itself is absent, libvirt says "internal error"; to the user it is the same closed door.
      if (!(error instanceof LifeboatError) || error.context['libvirtCode'] === undefined) throw error;
      throw new LifeboatError(
        'libvirt.not-permitted',
        `libvirt lets this user in only through polkit: ${error.message}`,
        {
          cause: error,
          context: { ...error.context },
        },
      );
    }
  }

  async #offerKeepalive(options: CallOptions): Promise<void> {
    await this.call({
      ...options,
      procedure: 'connectSupportsFeature',
      write: (writer) => writer.i32(FEATURE_PROGRAM_KEEPALIVE),
      read: (reader) => reader.i32(),
    });
  }

  #send<T>(call: Call<T>, stream: LibvirtStream | undefined): { serial: number; reply: Promise<Buffer> } {
    const { procedure, object = '', signal, timeoutMs = this.#timeoutMs } = call;
    signal?.throwIfAborted();
    if (this.#failure) throw this.#failure;
    if (this.#pending.size >= CALLS_IN_FLIGHT_MAX) {
      throw new LifeboatError('libvirt.too-many-calls', `${this.#pending.size} calls wait for libvirt already`);
    }
    const writer = new XdrWriter();
    call.write?.(writer);
    // Encoded first: a call that cannot be written must leave no trace.
    const serial = this.#lastSerial + 1;
    const header: MessageHeader = {
      ...procedureNumber(procedure),
      version: PROTOCOL_VERSION,
      type: MESSAGE_TYPE.call,
      serial,
      status: MESSAGE_STATUS.ok,
    };
    const bytes = encodeMessage({ header, body: writer.bytes() });
    this.#lastSerial = serial;

    const reply = new Promise<Buffer>((resolve, reject) => {
      const abandon = (error: Error): void => {
        if (stream && this.#streams.delete(serial)) this.#orphans.set(serial, procedure);
        this.#pending.get(serial)?.settle({ error });
      };
      const onAbort = (): void => abandon(signal?.reason as Error);
      const timer = setTimeout(() => {
        abandon(
          new LifeboatError(
            'libvirt.timeout',
            `${procedure}${object === '' ? '' : ` of ${object}`}: no answer in ${timeoutMs} ms`,
            { context: { procedure, timeoutMs } },
          ),
        );
      }, timeoutMs);
      signal?.addEventListener('abort', onAbort, { once: true });
      const settle: Pending['settle'] = (outcome) => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        this.#pending.delete(serial);
        if ('body' in outcome) resolve(outcome.body);
        else reject(outcome.error);
        this.#regulate();
      };
      this.#pending.set(serial, { procedure, object, stream, settle });
      if (stream) this.#streams.set(serial, { stream, what: `${procedure} ${object}` });
    });
    this.#socket.write(bytes);
    this.#regulate();
    return { serial, reply };
  }

  #decode<T>(body: Buffer, call: Call<T>): T {
    const reader = new XdrReader(body);
    try {
      const result = call.read(reader);
      reader.end();
      return result;
    } catch (error) {
      // A reply that does not parse means that both ends disagree on the protocol: nothing after it can be trusted.
      this.#fail(lost(`the answer to ${call.procedure} does not parse`, error));
      throw error;
    }
  }

  #receive(chunk: Buffer): void {
    try {
      for (const frame of this.#splitter.push(chunk)) {
        if (this.#failure) return;
        this.#dispatch(decodeMessage(frame));
      }
    } catch (error) {
      this.#fail(lost(messageOf(error), error));
    }
    this.#regulate();
  }

  #dispatch(message: Message): void {
    const { header, body } = message;
    if (header.program === PROGRAM.keepalive) {
      if (header.procedure === KEEPALIVE_PROCEDURE.ping) this.#pong();
      return;
    }
    switch (header.type) {
      case MESSAGE_TYPE.reply:
        return this.#onReply(header, body);
      case MESSAGE_TYPE.event:
        return this.#onEvent(header, body);
      case MESSAGE_TYPE.stream:
        return this.#onStream(header, body);
      default:
        throw malformed(`the daemon sent a message of type ${header.type}`);
    }
  }

  #onReply(header: MessageHeader, body: Buffer): void {
    const { serial, status } = header;
    const pending = this.#pending.get(serial);
    if (!pending) {
      // Late: the caller has given up. Only a serial that was never used is wrong.
      if (serial === 0 || serial > this.#lastSerial) throw malformed(`a reply carries the unknown serial ${serial}`);
      const procedure = this.#orphans.get(serial);
      this.#orphans.delete(serial);
      if (procedure && status === MESSAGE_STATUS.ok) this.#sendStreamEnd(procedure, serial, MESSAGE_STATUS.error);
      return;
    }
    if (status === MESSAGE_STATUS.ok) {
      pending.settle({ body });
      return;
    }
    const error = readRemoteError(new XdrReader(body), pending);
    this.#streams.delete(serial);
    pending.settle({ error });
  }

  #onEvent(header: MessageHeader, body: Buffer): void {
    const received = readEvent(header.procedure, new XdrReader(body));
    if (!received) return;
    const subscriber = this.#subscribers.get(received.callbackId);
    if (subscriber) {
      subscriber(received);
    } else if (this.#registering > 0) {
      if (this.#earlyEvents.length >= EARLY_EVENTS_MAX) throw malformed('too many events before their registration');
      this.#earlyEvents.push(received);
    }
    // Else it was cancelled a moment ago.
  }

  #onStream(header: MessageHeader, body: Buffer): void {
    const open = this.#streams.get(header.serial);
    // Aborted here while packets were under way.
    if (!open) return;
    if (header.status === MESSAGE_STATUS.more) {
      // Copied: the packet is a view of the socket's buffer, and a reader may keep it for long.
      open.stream.deliver(Buffer.from(body));
      return;
    }
    this.#streams.delete(header.serial);
    if (header.status === MESSAGE_STATUS.ok) {
      open.stream.finished();
      return;
    }
    const cause = readRemoteError(new XdrReader(body), { procedure: open.what, object: '' });
    open.stream.fail(
      new LifeboatError('libvirt.stream-failed', cause.message, { cause, context: { ...cause.context } }),
    );
  }

  #pong(): void {
    this.#pingsAnswered += 1;
    const header = {
      program: PROGRAM.keepalive,
      version: PROTOCOL_VERSION,
      procedure: KEEPALIVE_PROCEDURE.pong,
      type: MESSAGE_TYPE.event,
      serial: 0,
      status: MESSAGE_STATUS.ok,
    };
    this.#socket.write(encodeMessage({ header, body: Buffer.alloc(0) }));
  }

  #sendStreamData(procedure: Procedure, serial: number, body: Uint8Array): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    const bytes = encodeMessage(streamMessage(procedure, serial, MESSAGE_STATUS.more, Buffer.from(body)));
    return new Promise((resolve, reject) => {
      this.#socket.write(bytes, (error) => (error ? reject(lost(messageOf(error), error)) : resolve()));
    });
  }

  #sendStreamEnd(procedure: Procedure, serial: number, status: number): void {
    if (this.#failure) return;
    // After an abort nothing more is wanted; after a finish the acknowledgement still is.
    if (status === MESSAGE_STATUS.error) this.#streams.delete(serial);
    this.#socket.write(encodeMessage(streamMessage(procedure, serial, status, Buffer.alloc(0))));
  }

  /** Stops reading the socket while a stream's reader is behind, unless a call waits for an answer behind the stream's bytes. */
  #regulate(): void {
    let behind = false;
    for (const { stream } of this.#streams.values()) behind ||= stream.backlogBytes > STREAM_BACKLOG_BYTES;
    if (behind && this.#pending.size === 0) this.#socket.pause();
    else if (this.#socket.isPaused()) this.#socket.resume();
  }

  async #unsubscribe(callbackId: number): Promise<void> {
    if (!this.#subscribers.delete(callbackId) || this.#failure) return;
    await this.call({
      procedure: 'connectDomainEventCallbackDeregisterAny',
      write: (writer) => writer.i32(callbackId),
      read: nothing,
    });
  }

  #fail(reason: LifeboatError, options: { expected?: boolean } = {}): void {
    if (this.#failure) return;
    this.#failure = reason;
    this.#socket.destroy();
    for (const pending of this.#pending.values()) pending.settle({ error: reason });
    for (const { stream } of this.#streams.values()) stream.fail(reason);
    this.#streams.clear();
    this.#subscribers.clear();
    this.#closed.resolve(options.expected ? undefined : reason);
  }
}

function streamMessage(procedure: Procedure, serial: number, status: number, body: Buffer): Message {
  const header = {
    ...procedureNumber(procedure),
    version: PROTOCOL_VERSION,
    type: MESSAGE_TYPE.stream,
    serial,
    status,
  };
  return { header, body };
}

function lost(why: string, cause?: unknown): LifeboatError {
  return new LifeboatError('libvirt.connection-lost', `connection to libvirt lost: ${why}`, { cause });
}

async function connect(socketPath: string, timeoutMs: number, signal: AbortSignal | undefined): Promise<net.Socket> {
  signal?.throwIfAborted();
  const socket = net.connect(socketPath);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => {
    reject(new LifeboatError('libvirt.timeout', `${socketPath}: no connection in ${timeoutMs} ms`));
  }, timeoutMs);
  const onAbort = (): void => reject(signal?.reason as Error);
  const onError = (error: Error): void => reject(refused(socketPath, error));
  signal?.addEventListener('abort', onAbort, { once: true });
  socket.once('connect', resolve);
  socket.once('error', onError);
  try {
    await promise;
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    socket.off('error', onError);
  }
}

function refused(socketPath: string, error: Error): LifeboatError {
  const reason = systemCode(error) ?? 'unknown';
  const denied = reason === 'EACCES' || reason === 'EPERM';
  return new LifeboatError(
    denied ? 'libvirt.not-permitted' : 'libvirt.not-running',
    `cannot connect to libvirt at ${socketPath}: ${messageOf(error)}`,
    { cause: error, context: { socketPath, reason } },
  );
}
