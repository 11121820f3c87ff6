import net from 'node:net';
import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';
import { FrameReader, type Parser } from '../frame-reader.ts';

/** A Unix socket with a parser on its incoming bytes. */
export interface Transport {
  /** In order, in one system call where they come in one turn of the event loop. The bytes must not change until the peer has answered. */
  send(...parts: readonly Uint8Array[]): void;
  /** Says no more; resolves when the socket is closed, at the latest after `timeoutMs`. */
  end(timeoutMs: number): Promise<void>;
  /** Closes at once. No byte is read from the socket, or into any buffer, after this returns. */
  destroy(error: LifeboatError): void;
}

export interface TransportOptions {
  readonly socketPath: string;
  /** Gets the transport's send(). It may be called before the socket is connected: what is sent waits. */
  readonly parser: (send: Transport['send']) => Parser<void>;
  /** Exactly once, with the reason: refused, lost, broken protocol, or what destroy() was given. */
  readonly onClosed: (error: LifeboatError) => void;
}

export function openTransport({ socketPath, parser, onClosed }: TransportOptions): Transport {
  let closed = false;
  let connected = false;
  let corked = false;
  const close = (error: LifeboatError): void => {
    if (closed) return;
    closed = true;
    socket.destroy();
    onClosed(error);
  };
  const send = (...parts: readonly Uint8Array[]): void => {
    if (closed) return;
    if (!corked) {
      corked = true;
      socket.cork();
      process.nextTick(() => {
        corked = false;
        socket.uncork();
      });
    }
    for (const part of parts) socket.write(part);
  };
  // Before the socket: connect() asks for the first buffer at once.
  const reader = new FrameReader(parser(send));
  const socket = net.connect({
    path: socketPath,
    // Node asks for the buffer of the next read each time: FrameReader hands out the caller's own memory for payloads.
    onread: {
      buffer: () => reader.space(),
      callback: (count) => {
        try {
          reader.commit(count);
        } catch (error) {
          close(asLifeboatError(error, socketPath));
        }
        return !closed;
      },
    },
  });
  socket.on('connect', () => {
    connected = true;
  });
  socket.on('error', (cause) => {
    const code = connected ? 'nbd.connection-lost' : 'nbd.connect-failed';
    const what = connected ? 'the connection broke' : 'no connection';
    close(
      new LifeboatError(code, `NBD server at ${socketPath}: ${what} (${systemCode(cause) ?? messageOf(cause)})`, {
        cause,
        context: { socketPath },
      }),
    );
  });
  const onEnd = (): void => {
    close(
      new LifeboatError('nbd.connection-lost', `NBD server at ${socketPath}: it closed the connection`, {
        context: { socketPath },
      }),
    );
  };
  socket.on('end', onEnd);
  socket.on('close', onEnd);
  return {
    send,
    destroy: close,
    end: (timeoutMs) =>
      new Promise((resolve) => {
        if (socket.destroyed) {
          resolve();
          return;
        }
        const timer = setTimeout(() => socket.destroy(), timeoutMs);
        socket.once('close', () => {
          clearTimeout(timer);
          resolve();
        });
        socket.end();
      }),
  };
}

/** Adds the socket to what a parser threw; anything but a LifeboatError is a bug of ours and says so. */
function asLifeboatError(error: unknown, socketPath: string): LifeboatError {
  if (!(error instanceof LifeboatError)) {
    return new LifeboatError('internal.bug', `NBD client on ${socketPath}: ${messageOf(error)}`, { cause: error });
  }
  const context = { ...error.context, socketPath };
  return new LifeboatError(error.code, `NBD server at ${socketPath}: ${error.message}`, { cause: error, context });
}
