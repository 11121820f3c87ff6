import net from 'node:net';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import type { Log } from '@lifeboat/foundation/log';
import { ServerConnection } from './server/connection.ts';
import { DEFAULT_LIMITS, type NbdServerLimits } from './server/limits.ts';
import { listenAt } from './server/socket-file.ts';

export type { NbdServerLimits } from './server/limits.ts';

export interface NbdServerOptions {
  /** At most 107 bytes. A socket that a killed server left behind is replaced. */
  readonly socketPath: string;
  /** By export name; may change while the server runs. The devices stay the caller's: close() does not close them. */
  readonly exports: ReadonlyMap<string, BlockDevice>;
  readonly log: Log;
  readonly limits?: Partial<NbdServerLimits>;
  /** Who may connect: permissions of the socket file. Default 0600; QEMU under another user needs more. */
  readonly socketMode?: number;
}

export interface NbdServer {
  readonly socketPath: string;
  /** Clients connected now. */
  readonly connections: number;
  /** Bytes of all successful replies so far, with their headers. */
  readonly bytesServed: number;
  /** Takes no new clients, lets running requests finish within `closeTimeoutMs`, removes the socket. May be called twice. */
  close(): Promise<void>;
}

const DEFAULT_SOCKET_MODE = 0o600;

/**
 * Serves devices read-only over a Unix socket, until close(). One process may run any number of servers.
 * A client never sees a short or zero-filled read: what cannot be read is answered with EIO and the device's message.
 * Errors: `nbd.socket-in-use`, `nbd.listen-failed`, `input.invalid` (socket path too long).
 */
export async function serveNbd(options: NbdServerOptions): Promise<NbdServer> {
  const { socketPath, exports, log } = options;
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const connections = new Set<ServerConnection>();
  let bytesServed = 0;
  const server = net.createServer((socket) => {
    if (connections.size >= limits.maxConnections) {
      log.warn('nbd client turned away', { socketPath, connections: connections.size });
      socket.destroy();
      return;
    }
    const onServed = (payloadBytes: number): void => {
      bytesServed += payloadBytes;
    };
    const connection = new ServerConnection({ socket, exports, limits, log, onServed });
    connections.add(connection);
    void connection.ended.then(() => connections.delete(connection));
  });
  const file = await listenAt(server, socketPath, options.socketMode ?? DEFAULT_SOCKET_MODE);
  server.on('error', (error) => log.error('nbd server', { socketPath, error: error.message }));
  log.debug('nbd server listens', { socketPath, exports: exports.size });
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    await file.remove();
    await Promise.all([...connections].map((connection) => connection.close()));
    await closed;
  };
  return {
    socketPath,
    get connections() {
      return connections.size;
    },
    get bytesServed() {
      return bytesServed;
    },
    close: () => (closing ??= close()),
  };
}
