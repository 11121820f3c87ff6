import { rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import { FrameReader, type Parser } from '../frame-reader.ts';
import { decodeRequest, REQUEST_BYTES, type NbdRequest } from '../request-codec.ts';
import { COMMAND } from '../protocol.ts';
import { negotiate } from '../server/negotiation.ts';
import { MemoryDevice } from './memory-device.ts';

type Send = (bytes: Uint8Array) => void;

/** A server with an honest handshake and whatever a test wants to happen afterwards. */
export class ScriptedServer {
  readonly socketPath = path.join(tmpdir(), `lb-scripted-${randomUUID().slice(0, 8)}.sock`);
  readonly requests: NbdRequest[] = [];
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();

  private constructor(parser: (send: Send, server: ScriptedServer) => Parser<void>) {
    this.#server = net.createServer((socket) => {
      this.#sockets.add(socket);
      const reader = new FrameReader(parser((bytes) => void socket.write(bytes), this));
      socket.on('data', (bytes: Buffer) => reader.push(bytes));
      // The client under test hangs up on what it is told here.
      socket.on('error', () => this.#sockets.delete(socket));
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  /** Serves an export 'disk' of `sizeBytes`; `onRequest` answers. */
  static async start(sizeBytes: number, onRequest: (request: NbdRequest, send: Send) => void): Promise<ScriptedServer> {
    return await ScriptedServer.startRaw(function* (send, server) {
      const exports = new Map([['disk', new MemoryDevice(new Uint8Array(sizeBytes))]]);
      if (!(yield* negotiate({ send, exports, maxRequestBytes: 32 << 20 }))) return;
      for (;;) {
        const request = decodeRequest(yield { take: REQUEST_BYTES });
        if (request.command === COMMAND.disconnect) return;
        server.requests.push(request);
        onRequest(request, send);
      }
    });
  }

  static async startRaw(parser: (send: Send, server: ScriptedServer) => Parser<void>): Promise<ScriptedServer> {
    const scripted = new ScriptedServer(parser);
    await new Promise<void>((resolve) => scripted.#server.listen(scripted.socketPath, resolve));
    return scripted;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await rm(this.socketPath, { force: true });
  }
}
