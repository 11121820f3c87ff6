/** Our client on servers that break the protocol: always an error, never a byte that was not sent for it. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { NbdClient } from './client.ts';
import { listExports } from './export-list.ts';
import { encodeGreeting } from './handshake-codec.ts';
import { encodeOptionReply } from './option-codec.ts';
import { OPTION, OPTION_REPLY, STRUCTURED_REPLY_MAGIC } from './protocol.ts';
import * as reply from './reply-codec.ts';
import type { NbdRequest } from './request-codec.ts';
import { ScriptedServer } from './testing/scripted-server.ts';

const SIZE = 1 << 20;
const READ = { offsetBytes: 4096, lengthBytes: 1000 };

let server: ScriptedServer | undefined;
afterEach(async () => {
  await server?.stop();
  server = undefined;
});

type Answer = (request: NbdRequest) => readonly Uint8Array[];

async function clientOf(answer: Answer, timeoutMs = 3000): Promise<NbdClient> {
  server = await ScriptedServer.start(SIZE, (request, send) => {
    for (const part of answer(request)) send(part);
  });
  return await NbdClient.connect({ socketPath: server.socketPath, exportName: 'disk' }, { timeoutMs });
}

/** A chunk with any fields, also such as the codec would not make. */
function rawChunk(
  cookie: bigint,
  fields: { flags?: number; type: number; lengthBytes: number },
  payload = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(20);
  head.writeUInt32BE(STRUCTURED_REPLY_MAGIC, 0);
  head.writeUInt16BE(fields.flags ?? 1, 4);
  head.writeUInt16BE(fields.type, 6);
  head.writeBigUInt64BE(cookie, 8);
  head.writeUInt32BE(fields.lengthBytes, 16);
  return Buffer.concat([head, payload]);
}

function data(cookie: bigint, done: boolean, run: { offsetBytes: number; lengthBytes: number }): Buffer {
  return Buffer.concat([reply.encodeDataChunkStart({ cookie, done }, run), Buffer.alloc(run.lengthBytes, 0xaa)]);
}

const start = READ.offsetBytes;
const hostileReads: Record<string, Answer> = {
  'another cookie': ({ cookie }) => [data(cookie + 100n, true, READ)],
  'data before the request': ({ cookie }) => [data(cookie, true, { offsetBytes: start - 1, lengthBytes: 1000 })],
  'data behind the request': ({ cookie }) => [data(cookie, true, { offsetBytes: start + 1, lengthBytes: 1000 })],
  'more data than asked': ({ cookie }) => [data(cookie, true, { offsetBytes: start, lengthBytes: 1001 })],
  'a length of 4 GiB': ({ cookie }) => [rawChunk(cookie, { type: 1, lengthBytes: 0xffff_ffff })],
  'an offset of 2^64 - 1': ({ cookie }) => [rawChunk(cookie, { type: 1, lengthBytes: 9 }, Buffer.alloc(9, 0xff))],
  'an empty data chunk': ({ cookie }) => [rawChunk(cookie, { type: 1, lengthBytes: 8 }, Buffer.alloc(8))],
  'a chunk shorter than its offset': ({ cookie }) => [rawChunk(cookie, { type: 1, lengthBytes: 3 }, Buffer.alloc(3))],
  'overlapping chunks': ({ cookie }) => [
    data(cookie, false, { offsetBytes: start, lengthBytes: 600 }),
    data(cookie, true, { offsetBytes: start + 500, lengthBytes: 500 }),
  ],
  'a gap in the middle': ({ cookie }) => [
    data(cookie, false, { offsetBytes: start, lengthBytes: 400 }),
    data(cookie, true, { offsetBytes: start + 500, lengthBytes: 500 }),
  ],
  'a gap at the end': ({ cookie }) => [data(cookie, true, { offsetBytes: start, lengthBytes: 999 })],
  'nothing at all': ({ cookie }) => [reply.encodeNoneChunk(cookie)],
  'a hole beyond the request': ({ cookie }) => [
    reply.encodeHoleChunk({ cookie, done: true }, { offsetBytes: start, lengthBytes: 1001 }),
  ],
  'a hole of the wrong length': ({ cookie }) => [rawChunk(cookie, { type: 2, lengthBytes: 11 }, Buffer.alloc(11))],
  'block status for a read': ({ cookie }) => [
    reply.encodeStatusChunk({ cookie, done: true }, 1, [{ lengthBytes: 1000, flags: 0 }]),
  ],
  'a simple reply, although structured ones were agreed': ({ cookie }) => [
    reply.encodeSimpleReply({ errno: 0, cookie }),
  ],
  'an unknown chunk type': ({ cookie }) => [rawChunk(cookie, { type: 77, lengthBytes: 0 })],
  'an empty chunk with content': ({ cookie }) => [rawChunk(cookie, { type: 0, lengthBytes: 4 }, Buffer.alloc(4))],
  'an empty chunk that is not the last': ({ cookie }) => [rawChunk(cookie, { flags: 0, type: 0, lengthBytes: 0 })],
  'an error of 1 MiB': ({ cookie }) => [rawChunk(cookie, { type: 0x8001, lengthBytes: 1 << 20 })],
  'an error with errno 0': ({ cookie }) => [rawChunk(cookie, { type: 0x8001, lengthBytes: 6 }, Buffer.alloc(6))],
  garbage: () => [Buffer.alloc(64, 0x5c)],
};

describe('NbdClient on a hostile server', () => {
  it.each(Object.entries(hostileReads))('read: %s', async (_, answer) => {
    // The other request is never answered: it fails with the connection, not by itself.
    const client = await clientOf((request) => (request.offsetBytes === 0n ? [] : answer(request)));
    const second = client.read(0, new Uint8Array(10)).catch((error: unknown) => error);
    const outcome = await client.read(start, new Uint8Array(READ.lengthBytes)).catch((error: unknown) => error);
    expect(outcome).toMatchObject({ code: 'nbd.protocol-error', context: { socketPath: server?.socketPath } });
    // The connection is of no more use to anybody.
    expect(await second).toMatchObject({ code: 'nbd.protocol-error' });
    await expect(client.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'nbd.protocol-error' });
  });

  it('a second answer to one request ends the connection; the first one stands', async () => {
    const twice: Answer = ({ cookie }) => [data(cookie, true, READ), data(cookie, true, READ)];
    const client = await clientOf((request) => (request.offsetBytes === 0n ? [] : twice(request)));
    const other = client.read(0, new Uint8Array(10)).catch((error: unknown) => error);
    const target = new Uint8Array(READ.lengthBytes);
    await client.read(start, target);
    expect(target.every((byte) => byte === 0xaa)).toBe(true);
    expect(await other).toMatchObject({ code: 'nbd.protocol-error' });
  });

  const hostileStatus: Record<string, Answer> = {
    'an empty run': ({ cookie }) => [
      reply.encodeStatusChunk({ cookie, done: true }, 1, [{ lengthBytes: 0, flags: 0 }]),
    ],
    'runs behind the end': ({ cookie }) => [
      reply.encodeStatusChunk({ cookie, done: true }, 1, [
        { lengthBytes: SIZE, flags: 0 },
        { lengthBytes: 1, flags: 0 },
      ]),
    ],
    'a context nobody selected': ({ cookie }) => [
      reply.encodeStatusChunk({ cookie, done: true }, 2, [{ lengthBytes: SIZE, flags: 0 }]),
    ],
    'one context twice': ({ cookie }) => [
      reply.encodeStatusChunk({ cookie, done: false }, 1, [{ lengthBytes: 512, flags: 0 }]),
      reply.encodeStatusChunk({ cookie, done: true }, 1, [{ lengthBytes: 512, flags: 0 }]),
    ],
    'no runs': ({ cookie }) => [reply.encodeStatusChunk({ cookie, done: true }, 1, [])],
    'no chunk': ({ cookie }) => [reply.encodeNoneChunk(cookie)],
    'success without an answer': ({ cookie }) => [reply.encodeSimpleReply({ errno: 0, cookie })],
    'half an entry': ({ cookie }) => [rawChunk(cookie, { type: 5, lengthBytes: 11 }, Buffer.alloc(11))],
    'half a billion entries': ({ cookie }) => [
      rawChunk(cookie, { type: 5, lengthBytes: 0xffff_fffc }, Buffer.alloc(11)),
    ],
    data: ({ cookie }) => [data(cookie, true, { offsetBytes: 0, lengthBytes: 10 })],
  };
  it.each(Object.entries(hostileStatus))('block status: %s', async (_, answer) => {
    const client = await clientOf(answer);
    const asked = client.extents({ offsetBytes: 0, lengthBytes: SIZE });
    await expect(asked).rejects.toMatchObject({ code: 'nbd.protocol-error' });
  });

  it('takes chunks in any order, and a run of status that reaches beyond the question', async () => {
    const client = await clientOf(({ cookie, command }) =>
      command === 7
        ? [reply.encodeStatusChunk({ cookie, done: true }, 1, [{ lengthBytes: SIZE, flags: 3 }])]
        : [
            data(cookie, false, { offsetBytes: start + 700, lengthBytes: 300 }),
            reply.encodeHoleChunk({ cookie, done: false }, { offsetBytes: start, lengthBytes: 500 }),
            data(cookie, false, { offsetBytes: start + 500, lengthBytes: 200 }),
            reply.encodeNoneChunk(cookie),
          ],
    );
    const target = new Uint8Array(1000).fill(0xee);
    await client.read(start, target);
    expect(Buffer.compare(target, Buffer.concat([Buffer.alloc(500), Buffer.alloc(500, 0xaa)]))).toBe(0);
    expect(await client.extents({ offsetBytes: 10, lengthBytes: 20 })).toEqual([
      { offsetBytes: 10, lengthBytes: 20, kind: 'hole' },
    ]);
    await client.close();
  });

  it('asks again until the range is covered when a server says little at a time', async () => {
    const client = await clientOf(({ cookie, offsetBytes }) => [
      reply.encodeStatusChunk({ cookie, done: true }, 1, [
        { lengthBytes: 65_536, flags: offsetBytes < 131_072n ? 0 : 3 },
      ]),
    ]);
    expect(await client.extents({ offsetBytes: 0, lengthBytes: SIZE })).toEqual([
      { offsetBytes: 0, lengthBytes: 131_072, kind: 'data' },
      { offsetBytes: 131_072, lengthBytes: SIZE - 131_072, kind: 'hole' },
    ]);
    expect(server?.requests).toHaveLength(16);
    await client.close();
  });

  it('fails a read whose reply has an error among its chunks, and keeps the connection', async () => {
    let count = 0;
    const client = await clientOf(({ cookie }) =>
      count++ === 0
        ? [
            data(cookie, false, { offsetBytes: start, lengthBytes: 500 }),
            rawChunk(
              cookie,
              { flags: 0, type: 0x8002, lengthBytes: 17 },
              Buffer.concat([Buffer.from('00000005000362616400000000000011f4', 'hex')]),
            ),
            reply.encodeNoneChunk(cookie),
          ]
        : [data(cookie, true, READ)],
    );
    await expect(client.read(start, new Uint8Array(1000))).rejects.toMatchObject({
      code: 'device.read-failed',
      context: { errno: 'EIO', offsetBytes: 0x11f4 },
      message: expect.stringContaining('bad'),
    });
    await client.read(start, new Uint8Array(1000));
    await client.close();
  });

  it('does not let go of a buffer that a chunk is arriving in', async () => {
    let sendRest = (): void => {};
    server = await ScriptedServer.start(SIZE, ({ cookie }, send) => {
      send(reply.encodeDataChunkStart({ cookie, done: true }, READ));
      send(Buffer.alloc(300, 0xaa));
      sendRest = () => send(Buffer.alloc(700, 0xbb));
    });
    const client = await NbdClient.connect({ socketPath: server.socketPath, exportName: 'disk' });
    const abort = new AbortController();
    const target = new Uint8Array(1000);
    let settled = false;
    const read = client
      .read(start, target, { signal: abort.signal })
      .catch((error: unknown) => error)
      .finally(() => (settled = true));
    while (target[299] === 0) await delay(5);
    abort.abort(new Error('stop'));
    await delay(30);
    expect(settled).toBe(false);
    sendRest();
    expect(await read).toMatchObject({ message: 'stop' });
    await client.close();
  });

  it('times out in the middle of a chunk and never writes into the buffer again', async () => {
    let sendRest = (): void => {};
    server = await ScriptedServer.start(SIZE, ({ cookie }, send) => {
      send(reply.encodeDataChunkStart({ cookie, done: true }, READ));
      send(Buffer.alloc(300, 0xaa));
      sendRest = () => send(Buffer.alloc(700, 0xbb));
    });
    const client = await NbdClient.connect({ socketPath: server.socketPath, exportName: 'disk' }, { timeoutMs: 1000 });
    const target = new Uint8Array(1000);
    await expect(client.read(start, target)).rejects.toMatchObject({ code: 'nbd.timeout' });
    sendRest();
    await delay(50);
    expect(target[300]).toBe(0);
  });

  it('handshake: silence, garbage, endless and oversized replies', async () => {
    const target = (): { socketPath: string; exportName: string } => ({
      socketPath: server?.socketPath ?? '',
      exportName: 'disk',
    });
    const cases: [RegExp | string, Uint8Array[]][] = [
      ['nbd.timeout', []],
      ['nbd.protocol-error', [Buffer.from('SSH-2.0-OpenSSH_9.2p1 Debian\r\n')]],
      ['nbd.unsupported', [encodeGreeting(0)]],
      ['nbd.protocol-error', [encodeGreeting(3), encodeOptionReply(OPTION.go, OPTION_REPLY.ack, Buffer.alloc(0))]],
      ['nbd.protocol-error', [encodeGreeting(3), encodeOptionReply(OPTION.structuredReply, 3, Buffer.alloc(70_000))]],
      [
        'nbd.protocol-error',
        [encodeGreeting(3), ...Array.from({ length: 20_000 }, () => encodeOptionReply(8, 3, Buffer.alloc(0)))],
      ],
    ];
    for (const [code, bytes] of cases) {
      server = await ScriptedServer.startRaw(function* (send) {
        for (const part of bytes) send(part);
        yield { skip: Infinity };
      });
      await expect(
        NbdClient.connect(target(), { timeoutMs: code === 'nbd.timeout' ? 400 : 20_000 }),
      ).rejects.toMatchObject({ code });
      await server.stop();
    }
  });

  it('handshake and list: abort and timeout', async () => {
    server = await ScriptedServer.startRaw(function* () {
      yield { skip: Infinity };
    });
    const { socketPath } = server;
    const abort = new AbortController();
    setTimeout(() => abort.abort(new Error('changed my mind')), 30);
    await expect(NbdClient.connect({ socketPath, exportName: '' }, { signal: abort.signal })).rejects.toThrow(
      'changed my mind',
    );
    await expect(listExports(socketPath, { timeoutMs: 50 })).rejects.toMatchObject({ code: 'nbd.timeout' });
    await expect(listExports(socketPath, { signal: abort.signal })).rejects.toThrow('changed my mind');
  });
});
