/** Our server and clients that break the rules, ask for too much, or do not listen. */
import net from 'node:net';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { jsonLog } from '@lifeboat/foundation/log';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NbdClient } from './client.ts';
import { FrameReader } from './frame-reader.ts';
import { encodeClientFlags } from './handshake-codec.ts';
import { encodeGo, encodeMetaContextRequest, encodeOption } from './option-codec.ts';
import { COMMAND, COMMAND_FLAG, OPTION } from './protocol.ts';
import { encodeRequest, type NbdRequest } from './request-codec.ts';
import { serveNbd, type NbdServer, type NbdServerLimits } from './server.ts';
import { negotiate } from './server/negotiation.ts';
import { MemoryDevice, patternBytes } from './testing/memory-device.ts';
import { Peers } from './testing/peers.ts';
import { flipBit, thrownBy } from './testing/damage.ts';
import { LifeboatError } from '@lifeboat/foundation/errors';

const MiB = 1024 * 1024;
const CONTENT = patternBytes(64 * MiB);
const EMPTY = new Uint8Array(0);
const FLAGS = encodeClientFlags(3);
const STRUCTURED = encodeOption(OPTION.structuredReply, EMPTY);
const CONTEXT = encodeOption(
  OPTION.setMetaContext,
  encodeMetaContextRequest({ exportName: 'disk', queries: ['base:allocation'] }),
);
const GO = encodeOption(OPTION.go, encodeGo({ exportName: 'disk', infos: [] }));
// Greeting, the replies to the three options above (info export and block size in GO's).
const HANDSHAKE_REPLY_BYTES = 18 + 20 + (20 + 4 + 15) + 20 + (20 + 12) + (20 + 14) + 20;

let peers: Peers;
let server: NbdServer;
let device: MemoryDevice;
let sockets: net.Socket[];
let logged: string;
beforeEach(async () => {
  peers = await Peers.create();
  device = new MemoryDevice(CONTENT);
  sockets = [];
  logged = '';
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await server.close();
  await peers.stop();
});

async function serve(limits: Partial<NbdServerLimits> = {}): Promise<void> {
  const log = jsonLog((line) => (logged += line));
  server = await serveNbd({ socketPath: peers.path('s'), exports: new Map([['disk', device]]), log, limits });
}

async function connect(): Promise<net.Socket> {
  const socket = net.connect(server.socketPath);
  socket.on('error', (error) => (logged += `client: ${error.message}\n`));
  sockets.push(socket);
  await once(socket, 'connect');
  return socket;
}

/** A connection behind a handshake with structured replies and block status. */
async function negotiated(): Promise<{ socket: net.Socket; received: () => Buffer }> {
  const socket = await connect();
  let all = Buffer.alloc(0);
  socket.on('data', (bytes: Buffer) => (all = Buffer.concat([all, bytes])));
  socket.write(Buffer.concat([FLAGS, STRUCTURED, CONTEXT, GO]));
  await expect.poll(() => all.length).toBe(HANDSHAKE_REPLY_BYTES);
  return { socket, received: () => all.subarray(HANDSHAKE_REPLY_BYTES) };
}

function request(fields: Partial<NbdRequest>): Buffer {
  return encodeRequest({ flags: 0, command: COMMAND.read, cookie: 9n, offsetBytes: 0n, lengthBytes: 512, ...fields });
}

/** Waits for the server to hang up; what it logged about that. */
async function hangUp(socket: net.Socket): Promise<string> {
  socket.resume();
  if (!socket.closed) await once(socket, 'close');
  await expect.poll(() => server.connections).toBe(0);
  return logged;
}

describe('serveNbd and hostile clients', () => {
  const handshakes: [string, Buffer, RegExp][] = [
    ['garbage', Buffer.from('GET / HTTP/1.1\r\nHost: disk\r\n\r\n'), /client flags/],
    ['unknown client flags', encodeClientFlags(0x10), /client flags/],
    ['an option of another magic', Buffer.concat([FLAGS, Buffer.alloc(16, 1)]), /option magic/],
    ['an option of 4 GiB', Buffer.concat([FLAGS, encodeOption(OPTION.go, EMPTY).fill(0xff, 12)]), /65536 are accepted/],
    [
      'options without end',
      Buffer.concat([FLAGS, ...Array.from({ length: 300 }, () => STRUCTURED)]),
      /more than 256 options/,
    ],
    [
      'EXPORT_NAME of an export that is not',
      Buffer.concat([FLAGS, encodeOption(OPTION.exportName, Buffer.from('x'))]),
      /no export 'x'/,
    ],
  ];
  it.each(handshakes)('disconnects in the handshake: %s', async (_, bytes, why) => {
    await serve();
    const socket = await connect();
    socket.write(bytes);
    expect(await hangUp(socket)).toMatch(why);
  });

  it('disconnects a client that says nothing', async () => {
    await serve({ handshakeTimeoutMs: 50 });
    expect(await hangUp(await connect())).toMatch(/no handshake within 50 ms/);
  });

  it('disconnects on garbage in place of a request', async () => {
    await serve();
    const { socket } = await negotiated();
    socket.write(Buffer.alloc(28, 7));
    expect(await hangUp(socket)).toMatch(/in place of its magic/);
  });

  it('survives a client that vanishes in the middle of anything', async () => {
    await serve();
    const whole = Buffer.concat([FLAGS, STRUCTURED, CONTEXT, GO, request({ lengthBytes: 8 * MiB }), request({})]);
    for (let end = 0; end < whole.length; end += 7) {
      const socket = await connect();
      socket.write(whole.subarray(0, end));
      await delay(1);
      socket.destroy();
    }
    await expect.poll(() => server.connections).toBe(0);
    const client = await NbdClient.connect({ socketPath: server.socketPath, exportName: 'disk' });
    await client.read(0, new Uint8Array(512));
    await client.close();
  });

  it('answers broken options and goes on with the handshake', async () => {
    await serve();
    const socket = await connect();
    let all = Buffer.alloc(0);
    socket.on('data', (bytes: Buffer) => (all = Buffer.concat([all, bytes])));
    const options: [number, Uint8Array, number][] = [
      [OPTION.structuredReply, Buffer.from('x'), 0x8000_0003],
      [OPTION.list, Buffer.from('x'), 0x8000_0003],
      [OPTION.go, Buffer.alloc(3), 0x8000_0003],
      [OPTION.go, encodeGo({ exportName: 'nope', infos: [] }), 0x8000_0006],
      [OPTION.setMetaContext, encodeMetaContextRequest({ exportName: 'disk', queries: [] }), 0x8000_0003],
      [5, EMPTY, 0x8000_0001],
      [OPTION.abort, EMPTY, 1],
    ];
    socket.write(Buffer.concat([FLAGS, ...options.map(([option, data]) => encodeOption(option, data))]));
    await once(socket, 'close');
    let at = 18;
    for (const [option, , type] of options) {
      expect([all.readUInt32BE(at + 8), all.readUInt32BE(at + 12)]).toEqual([option, type]);
      at += 20 + all.readUInt32BE(at + 16);
    }
    expect(at).toBe(all.length);
  });

  const refused: [string, Partial<NbdRequest>, number][] = [
    ['WRITE_ZEROES', { command: COMMAND.writeZeroes }, 1],
    ['TRIM', { command: COMMAND.trim }, 1],
    ['FLUSH', { command: COMMAND.flush, lengthBytes: 0 }, 22],
    ['an unknown command', { command: 99 }, 22],
    ['unknown flags', { flags: 0x80 }, 22],
    ['REQ_ONE on a read', { flags: COMMAND_FLAG.reqOne }, 22],
    ['a length of zero', { lengthBytes: 0 }, 22],
    ['the byte behind the end', { offsetBytes: BigInt(64 * MiB), lengthBytes: 1 }, 22],
    ['an offset of 2^64 - 1', { offsetBytes: 2n ** 64n - 1n, lengthBytes: 1 }, 22],
    ['status beyond the end', { command: COMMAND.blockStatus, offsetBytes: BigInt(64 * MiB - 1), lengthBytes: 2 }, 22],
    ['a read above the limit', { lengthBytes: 33 * MiB }, 75],
  ];
  it.each(refused)('refuses %s with an errno and stays in step', async (_, fields, errno) => {
    await serve();
    const { socket, received } = await negotiated();
    socket.write(Buffer.concat([request({ cookie: 5n, ...fields }), request({ cookie: 6n, lengthBytes: 10 })]));
    await expect.poll(() => received().length).toBeGreaterThan(20 + 8 + 10);
    const first = received();
    expect(first.readUInt16BE(6)).toBe(0x8001);
    expect(first.readBigUInt64BE(8)).toBe(5n);
    expect(first.readUInt32BE(20)).toBe(errno);
    const second = first.subarray(20 + first.readUInt32BE(16));
    expect(second.readBigUInt64BE(8)).toBe(6n);
    expect(device.bytesRead).toBe(10);
  });

  it('refuses a write with EPERM and does not take its payload for requests', async () => {
    await serve();
    const { socket, received } = await negotiated();
    const payload = Buffer.concat(Array.from({ length: 10_000 }, () => request({ cookie: 66n })));
    socket.write(
      Buffer.concat([request({ command: COMMAND.write, cookie: 5n, lengthBytes: payload.length }), payload]),
    );
    socket.write(request({ cookie: 6n, lengthBytes: 10 }));
    await expect.poll(() => device.reads).toBe(1);
    await expect.poll(() => received().length).toBeGreaterThan(60);
    expect(received().readUInt32BE(20)).toBe(1);
    expect(device.bytesRead).toBe(10);
  });

  it('one run where one was asked for; simple replies without structured ones', async () => {
    await serve();
    const { socket, received } = await negotiated();
    socket.write(request({ command: COMMAND.blockStatus, flags: COMMAND_FLAG.reqOne, lengthBytes: 4096 }));
    await expect.poll(() => received().length).toBe(20 + 4 + 8);
    expect(received().readUInt32BE(24)).toBe(4096);

    const plain = await connect();
    let all = Buffer.alloc(0);
    plain.on('data', (bytes: Buffer) => (all = Buffer.concat([all, bytes])));
    // Without NO_ZEROES the reply to EXPORT_NAME is padded.
    plain.write(Buffer.concat([encodeClientFlags(1), encodeOption(OPTION.exportName, Buffer.from('disk'))]));
    const ready = 18 + 8 + 2 + 124;
    await expect.poll(() => all.length).toBe(ready);
    plain.write(request({ lengthBytes: 100 }));
    await expect.poll(() => all.length).toBe(ready + 16 + 100);
    expect(all.subarray(ready + 16)).toEqual(Buffer.from(device.content.subarray(0, 100)));
    plain.write(request({ command: COMMAND.blockStatus }));
    await expect.poll(() => all.length).toBe(ready + 116 + 16);
    expect(all.readUInt32BE(ready + 116 + 4)).toBe(22);
  });

  it('holds no more than its limit for a client that asks and does not read, and serves others meanwhile', async () => {
    await serve({ maxInFlightBytes: 4 * MiB });
    const socket = await connect();
    socket.write(Buffer.concat([FLAGS, STRUCTURED, GO]));
    const many = Array.from({ length: 2000 }, (_, index) => request({ cookie: BigInt(index), lengthBytes: MiB }));
    socket.write(Buffer.concat(many));
    await expect.poll(() => device.reads).toBeGreaterThan(0);
    await delay(100);
    // Four are held; what the kernel's buffer took is gone from the account.
    expect(device.reads).toBeLessThan(10);
    const client = await NbdClient.connect({ socketPath: server.socketPath, exportName: 'disk' });
    const target = new Uint8Array(4 * MiB);
    await client.read(MiB, target);
    expect(Buffer.compare(target, device.content.subarray(MiB, 5 * MiB))).toBe(0);
    await client.close();
    const before = device.reads;
    socket.resume();
    await expect.poll(() => device.reads, { timeout: 5000 }).toBeGreaterThan(before + 100);
  });

  it('works on as many requests at once as allowed, and no more', async () => {
    await serve({ maxInFlightRequests: 3 });
    device.beforeRead = () => delay(5);
    const client = await NbdClient.connect({ socketPath: server.socketPath, exportName: 'disk' });
    await Promise.all(Array.from({ length: 30 }, (_, index) => client.read(index * 512, new Uint8Array(512))));
    expect(device.peakActive).toBe(3);
    await client.close();
  });

  it('stops reading the device when the client is gone', async () => {
    await serve();
    let aborted = false;
    device.beforeRead = async (_offset, _length, signal) => {
      await new Promise<void>((resolve) => signal?.addEventListener('abort', () => resolve()));
      aborted = true;
    };
    const { socket } = await negotiated();
    socket.write(request({}));
    await expect.poll(() => device.active).toBe(1);
    socket.destroy();
    await expect.poll(() => aborted).toBe(true);
    await expect.poll(() => server.connections).toBe(0);
  });
});

describe('handshake of the server, as a parser', () => {
  const bytes = Buffer.concat([FLAGS, STRUCTURED, CONTEXT, GO]);
  const outcome = (parts: readonly Uint8Array[]): { sent: string; done: unknown } => {
    const sent: Uint8Array[] = [];
    let done: unknown;
    const exports = new Map([['disk', new MemoryDevice(new Uint8Array(512))]]);
    const reader = new FrameReader(
      (function* () {
        done = yield* negotiate({ send: (part) => void sent.push(part), exports, maxRequestBytes: MiB });
      })(),
    );
    for (const part of parts) reader.push(part);
    return { sent: Buffer.concat(sent).toString('hex'), done };
  };

  it('says the same however it is spoken to, and fails only as a LifeboatError', async () => {
    await serve();
    const whole = outcome([bytes]);
    expect(whole.done).toMatchObject({ exportName: 'disk', structured: true, allocation: true });
    for (let cut = 0; cut < bytes.length; cut++) {
      expect(outcome([bytes.subarray(0, cut), bytes.subarray(cut)]).sent).toBe(whole.sent);
      expect(outcome([bytes.subarray(0, cut)]).done).toBeUndefined();
    }
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const error = thrownBy(() => outcome([flipBit(bytes, bit)]));
      expect(error === undefined || error instanceof LifeboatError, `bit ${bit}: ${String(error)}`).toBe(true);
    }
    const noise = fc.uint8Array({ maxLength: 300 });
    fc.assert(
      fc.property(noise, (random) => {
        const error = thrownBy(() => outcome([FLAGS, random]));
        expect(error === undefined || error instanceof LifeboatError).toBe(true);
      }),
    );
  });
});
