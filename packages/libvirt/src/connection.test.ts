/** The connection against a scripted daemon whose bytes were recorded from libvirt 9.0 with `test:///default`. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { hasCode } from '@lifeboat/foundation/errors';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LibvirtConnection } from './connection.ts';
import { domainByName, domainInfo, domainState, listDomains, allDomainStats, suspendDomain } from './domain-calls.ts';
import { isLibvirtError } from './errors.ts';
import { openConsole, screenshot } from './guest-calls.ts';
import { hostname, libvirtVersion, nodeInfo } from './host-calls.ts';
import { decodeMessage, encodeMessage, FrameSplitter, MESSAGE_STATUS, MESSAGE_TYPE, type Message } from './message.ts';
import { PROGRAM, procedureNumber } from './procedures.ts';
import { STREAM_BACKLOG_BYTES } from './stream.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');

const TEST_DOMAIN = '00000004 74657374 6695eb01f6a4830479aa97f2502e193f 00000001';
const DOMAIN = { name: 'test', uuid: '6695eb01-f6a4-8304-79aa-97f2502e193f', id: 1 };

/** [request, replies] as recorded; serials are those of a connection that has just been opened (two calls). */
const RECORDED = {
  authList: {
    request: '0000001c2000808600000001000000420000000000000001 00000000',
    reply: '00000024200080860000000100000042000000010000000100000000 0000000100000000',
  },
  open: {
    request:
      '00000038200080860000000100000001000000000000000200000000 00000001 0000000f746573743a2f2f2f64656661756c7400 00000000',
    reply: '0000001c200080860000000100000001000000010000000200000000',
  },
  version: {
    request: '0000001c20008086000000010000009d000000000000000300000000',
    reply: '0000002420008086000000010000009d000000010000000300000000 0000000000895440',
  },
  list: {
    request: '00000024200080860000000100000111000000000000000300000000 0000000100000000',
    reply: `00000040200080860000000100000111000000010000000300000000 00000001 ${TEST_DOMAIN} 00000001`,
  },
  state: {
    request: `0000003c2000808600000001000000d4000000000000000300000000 ${TEST_DOMAIN} 00000000`,
    reply: '000000242000808600000001000000d4000000010000000300000000 0000000100000000',
  },
  info: {
    request: `00000038200080860000000100000010000000000000000300000000 ${TEST_DOMAIN}`,
    reply:
      '0000003c200080860000000100000010000000010000000300000000 00000001 0000000000800000 0000000000200000 00000002 18ead3f1fdea4db0',
  },
  missing: {
    request: '00000028200080860000000100000017000000000000000300000000 00000006616273656e740000',
    reply:
      '00000070200080860000000100000017000000010000000300000001 0000002a 0000000c 0000000100000010446f6d61696e206e6f7420666f756e64' +
      '00000002 00000000 0000000100000010446f6d61696e206e6f7420666f756e64 00000000 00000000 ffffffff ffffffff 00000000',
  },
  stats: {
    request: '00000028200080860000000100000158000000000000000300000000 000000000000000000000000',
    reply:
      `00000070200080860000000100000158000000010000000300000000 00000001 ${TEST_DOMAIN} 00000002` +
      '0000000b73746174652e737461746500 00000001 00000003 0000000c73746174652e726561736f6e 00000001 00000001',
  },
  nodeInfo: {
    request: '0000001c200080860000000100000006000000000000000300000000',
    reply:
      `000000bc200080860000000100000006000000010000000300000000 00000069000000360000003800000036 ${'00000000'.repeat(28)}` +
      '0000000000300000 00000010 00000578 00000002 00000002 00000002 00000002',
  },
  subscribe: {
    request: '0000002420008086000000010000013c000000000000000300000000 0000000000000000',
    reply: '0000002020008086000000010000013c000000010000000300000000 00000000',
  },
  suspended: `0000004420008086000000010000013e000000020000000100000000 00000000 ${TEST_DOMAIN} 00000003 00000000`,
} as const;

/** Answers each request by `respond`; `requests` holds what came after the opening. */
class Daemon {
  readonly opening: Buffer[] = [];
  readonly requests: Buffer[] = [];
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  respond: (request: Message, socket: net.Socket) => void = () => {};
  socket: net.Socket | undefined;

  constructor(socketPath: string) {
    this.#server = net.createServer((socket) => {
      this.#sockets.add(socket);
      this.socket = socket;
      const splitter = new FrameSplitter();
      let opening = 2;
      socket.on('error', () => socket.destroy());
      socket.on('data', (chunk) => {
        for (const frame of splitter.push(chunk)) {
          if (opening > 0) {
            socket.write(hex(opening === 2 ? RECORDED.authList.reply : RECORDED.open.reply));
            this.opening.push(frame);
            opening -= 1;
            continue;
          }
          this.requests.push(frame);
          this.respond(decodeMessage(frame), socket);
        }
      });
    });
    this.#server.listen(socketPath);
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

function packet(serial: number, status: number, body: Buffer): Buffer {
  const header = { ...procedureNumber('domainOpenConsole'), version: 1, type: MESSAGE_TYPE.stream, serial, status };
  return encodeMessage({ header, body });
}

function replyTo({ header }: Message, body: Buffer = Buffer.alloc(0)): Buffer {
  return encodeMessage({ header: { ...header, type: MESSAGE_TYPE.reply, status: MESSAGE_STATUS.ok }, body });
}

let directory: string;
let socketPath: string;
let daemon: Daemon;
let connection: LibvirtConnection;

beforeEach(async () => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'lifeboat-libvirt-'));
  socketPath = path.join(directory, 'sock');
  daemon = new Daemon(socketPath);
  connection = await LibvirtConnection.open({ socketPath, uri: 'test:///default', timeoutMs: 5000 });
});

afterEach(async () => {
  daemon.respond = (request, socket) => socket.write(replyTo(request));
  await connection.close();
  daemon.close();
  rmSync(directory, { recursive: true, force: true });
});

describe('recorded calls', () => {
  const cases = {
    version: () => libvirtVersion(connection),
    state: () => domainState(connection, DOMAIN),
    info: () => domainInfo(connection, DOMAIN),
    stats: () => allDomainStats(connection),
    nodeInfo: () => nodeInfo(connection),
  };
  const expected = {
    version: '9.0.0',
    state: { state: 'running', reason: 0 },
    info: {
      state: 'running',
      maxMemoryKiB: 8_388_608n,
      memoryKiB: 2_097_152n,
      vcpus: 2,
      cpuTimeNs: 1_795_480_437_761_134_000n,
    },
    stats: [{ domain: DOMAIN, parameters: new Map(Object.entries({ 'state.state': 3, 'state.reason': 1 })) }],
    nodeInfo: { model: 'i686', memoryKiB: 3_145_728n, cpus: 16, mhz: 1400 },
  };

  test.each(['version', 'state', 'info', 'stats', 'nodeInfo'] as const)(
    '%s: same request, same answer',
    async (name) => {
      daemon.respond = (_request, socket) => socket.write(hex(RECORDED[name].reply));
      expect(await cases[name]()).toEqual(expected[name]);
      expect(daemon.requests[0]?.toString('hex')).toBe(hex(RECORDED[name].request).toString('hex'));
    },
  );

  test('list', async () => {
    daemon.respond = (_request, socket) => socket.write(hex(RECORDED.list.reply));
    expect(await listDomains(connection)).toEqual([DOMAIN]);
    expect(daemon.requests[0]?.toString('hex')).toBe(hex(RECORDED.list.request).toString('hex'));
  });

  test("an error keeps libvirt's code and domain, and names the object", async () => {
    daemon.respond = (_request, socket) => socket.write(hex(RECORDED.missing.reply));
    const error: unknown = await domainByName(connection, 'absent').catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'libvirt.no-such-domain',
      message: 'domainLookupByName of absent: Domain not found',
      context: { libvirtCode: 42, libvirtDomain: 12, procedure: 'domainLookupByName' },
    });
    expect(isLibvirtError(error, 'noDomain')).toBe(true);
    expect(isLibvirtError(error, 'noNetwork')).toBe(false);
  });

  test('a recorded reply cut at any byte leaves the call waiting, and its end is an error', async () => {
    const reply = hex(RECORDED.missing.reply);
    daemon.respond = (_request, socket) => socket.end(reply.subarray(0, reply.length - 1));
    await expect(libvirtVersion(connection)).rejects.toMatchObject({ code: 'libvirt.connection-lost' });
    expect(await connection.closed).toMatchObject({ code: 'libvirt.connection-lost' });
  });

  test('any bit of a recorded reply flipped: a value or an error of ours, never a hang or a crash', async () => {
    const reply = hex(RECORDED.info.reply);
    // One connection per flip; a step that is coprime to 8 visits all bit positions over the bytes.
    for (let bit = 0; bit < reply.length * 8; bit += 5) {
      const flipped = Buffer.from(reply);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      daemon.respond = (_request, socket) => socket.write(flipped);
      const fresh = await LibvirtConnection.open({ socketPath, uri: 'test:///default', timeoutMs: 60 });
      const outcome: unknown = await domainInfo(fresh, DOMAIN).catch((error: unknown) => error);
      const isValue = typeof outcome === 'object' && outcome !== null && 'cpuTimeNs' in outcome;
      const isOurs = hasCode(
        outcome,
        'libvirt.protocol-error',
        'libvirt.connection-lost',
        'libvirt.timeout',
        'libvirt.call-failed',
      );
      expect([isValue, isOurs]).toContain(true);
      daemon.respond = (request, socket) => socket.write(replyTo(request));
      await fresh.close();
    }
  });
});

describe('calls', () => {
  test('answers in another order reach their callers', async () => {
    const held: Message[] = [];
    daemon.respond = (request, socket) => {
      held.push(request);
      if (held.length < 2) return;
      const text = (value: string): Buffer => Buffer.concat([hex('00000004'), Buffer.from(value)]);
      socket.write(replyTo(held[1] as Message, text('2222')));
      socket.write(replyTo(held[0] as Message, text('1111')));
    };
    expect(await Promise.all([hostname(connection), hostname(connection)])).toEqual(['1111', '2222']);
  });

  test('no answer in time is an error; the late answer disturbs nobody', async () => {
    let late: Message | undefined;
    daemon.respond = (request) => {
      late = request;
    };
    await expect(libvirtVersion(connection, { timeoutMs: 20 })).rejects.toMatchObject({
      code: 'libvirt.timeout',
      message: 'connectGetLibVersion: no answer in 20 ms',
    });
    daemon.respond = (request, socket) => {
      socket.write(replyTo(late as Message));
      socket.write(replyTo(request, hex('0000000000895440')));
    };
    expect(await libvirtVersion(connection)).toBe('9.0.0');
  });

  test('an abort rejects with the reason of its signal', async () => {
    const controller = new AbortController();
    const call = libvirtVersion(connection, { signal: controller.signal });
    controller.abort(new Error('not wanted any more'));
    await expect(call).rejects.toThrow('not wanted any more');
    await expect(libvirtVersion(connection, { signal: controller.signal })).rejects.toThrow('not wanted any more');
    expect(daemon.requests.length).toBeLessThanOrEqual(1);
  });

  test('the daemon dies: every waiting call and every later one is told', async () => {
    daemon.respond = (_request, socket) => socket.destroy();
    const calls = await Promise.allSettled([libvirtVersion(connection), hostname(connection)]);
    for (const call of calls) expect(call).toMatchObject({ reason: { code: 'libvirt.connection-lost' } });
    await expect(hostname(connection)).rejects.toMatchObject({ code: 'libvirt.connection-lost' });
  });

  test('what is no libvirt message ends the connection', async () => {
    daemon.respond = (_request, socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n');
    await expect(hostname(connection)).rejects.toMatchObject({ code: 'libvirt.connection-lost' });
    expect(await connection.closed).toMatchObject({ cause: { code: 'libvirt.protocol-error' } });
  });

  test('a reply with a serial that was never used ends the connection', async () => {
    daemon.respond = ({ header, body }, socket) => socket.write(replyTo({ header: { ...header, serial: 1000 }, body }));
    await expect(hostname(connection)).rejects.toThrow(/unknown serial 1000/);
  });

  test('more calls than the limit are refused, the others go on', async () => {
    const calls = Array.from({ length: 257 }, () => libvirtVersion(connection));
    const refused = calls.pop();
    await expect(refused).rejects.toMatchObject({ code: 'libvirt.too-many-calls' });
    daemon.respond = (request, socket) => socket.write(replyTo(request, hex('0000000000895440')));
    expect(new Set(await Promise.all(calls))).toEqual(new Set(['9.0.0']));
  });

  test('a ping is answered', async () => {
    const header = { program: PROGRAM.keepalive, version: 1, procedure: 1, type: 2, serial: 0, status: 0 };
    const pong = new Promise<Message>((resolve) => {
      daemon.respond = resolve;
    });
    daemon.socket?.write(encodeMessage({ header, body: Buffer.alloc(0) }));
    expect((await pong).header).toEqual({ ...header, procedure: 2 });
    expect(connection.pingsAnswered).toBe(1);
  });
});

describe('opening', () => {
  test('asks for the authentication, then opens the URI, byte for byte as recorded', () => {
    expect(daemon.opening).toEqual([hex(RECORDED.authList.request), hex(RECORDED.open.request)]);
  });

  test('no socket, and a socket whose daemon is dead', async () => {
    const nowhere = path.join(directory, 'nowhere');
    await expect(LibvirtConnection.open({ socketPath: nowhere })).rejects.toMatchObject({
      code: 'libvirt.not-running',
      context: { reason: 'ENOENT' },
    });
    const stale = path.join(directory, 'stale');
    // A socket file whose server was killed, so that it could not unlink it.
    const script = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
    spawnSync(process.execPath, ['-e', script, stale], { timeout: 10_000 });
    expect(existsSync(stale)).toBe(true);
    await expect(LibvirtConnection.open({ socketPath: stale })).rejects.toMatchObject({ code: 'libvirt.not-running' });
  });
});

describe('events', () => {
  test('reach their subscription, also when they overtake the reply that registers it', async () => {
    daemon.respond = (_request, socket) =>
      socket.write(Buffer.concat([hex(RECORDED.suspended), hex(RECORDED.subscribe.reply), hex(RECORDED.suspended)]));
    const events: unknown[] = [];
    const subscription = await connection.subscribe('lifecycle', (event) => events.push(event));
    daemon.respond = (request, socket) => socket.write(Buffer.concat([replyTo(request), hex(RECORDED.suspended)]));
    await suspendDomain(connection, DOMAIN);
    await subscription.cancel();
    await suspendDomain(connection, DOMAIN);
    expect(events).toEqual(Array.from({ length: 3 }, () => ({ domain: DOMAIN, kind: 'suspended', detail: 0 })));
  });

  test('a handler that throws ends the connection instead of losing events', async () => {
    daemon.respond = (_request, socket) => socket.write(hex(RECORDED.subscribe.reply));
    await connection.subscribe('lifecycle', () => {
      throw new Error('handler broke');
    });
    daemon.socket?.write(hex(RECORDED.suspended));
    expect(await connection.closed).toMatchObject({ message: expect.stringContaining('handler broke') });
  });
});

describe('streams', () => {
  test('a screenshot is read to its end and closed in order', async () => {
    const statuses: number[] = [];
    daemon.respond = (request, socket) => {
      const { header } = request;
      if (header.type === MESSAGE_TYPE.call) {
        socket.write(replyTo(request, Buffer.concat([hex('0000000100000009'), Buffer.from('image/png\0\0\0')])));
        socket.write(packet(header.serial, MESSAGE_STATUS.more, Buffer.from('first ')));
        socket.write(packet(header.serial, MESSAGE_STATUS.more, Buffer.from('second')));
        socket.write(packet(header.serial, MESSAGE_STATUS.more, Buffer.alloc(0)));
      } else {
        statuses.push(header.status);
        socket.write(packet(header.serial, MESSAGE_STATUS.ok, Buffer.alloc(0)));
      }
    };
    const { mime, bytes } = await screenshot(connection, DOMAIN);
    expect([mime, bytes.toString()]).toEqual(['image/png', 'first second']);
    expect(statuses).toEqual([MESSAGE_STATUS.ok]);
  });

  test('what the daemon says when it breaks a stream reaches the reader, after the bytes before it', async () => {
    const error = hex(RECORDED.missing.reply).subarray(28);
    daemon.respond = (request, socket) => {
      socket.write(replyTo(request));
      socket.write(packet(request.header.serial, MESSAGE_STATUS.more, Buffer.from('last words')));
      socket.write(packet(request.header.serial, MESSAGE_STATUS.error, error));
    };
    const stream = await openConsole(connection, DOMAIN);
    expect((await stream.read())?.toString()).toBe('last words');
    await expect(stream.read()).rejects.toMatchObject({ code: 'libvirt.stream-failed', context: { libvirtCode: 42 } });
    await expect(stream.write(Buffer.from('x'))).rejects.toMatchObject({ code: 'libvirt.stream-failed' });
  });

  test('a reader that is behind stops the socket; a call in between still gets its answer', async () => {
    const block = Buffer.alloc(256 * 1024, 7);
    const total = 64;
    let sent = 0;
    daemon.respond = (request, socket) => {
      socket.write(replyTo(request, request.header.procedure === 157 ? hex('0000000000895440') : undefined));
      if (request.header.procedure !== procedureNumber('domainOpenConsole').procedure) return;
      const more = (): void => {
        while (sent < total) {
          sent += 1;
          if (!socket.write(packet(request.header.serial, MESSAGE_STATUS.more, block))) {
            socket.once('drain', more);
            return;
          }
        }
      };
      more();
    };
    const stream = await openConsole(connection, DOMAIN);
    await new Promise((resolve) => {
      setTimeout(resolve, 100);
    });
    // The backlog passes the mark by one socket read at most, and most of the 16 MiB stays with the daemon.
    expect(stream.backlogBytes).toBeGreaterThan(STREAM_BACKLOG_BYTES);
    expect(stream.backlogBytes).toBeLessThan(STREAM_BACKLOG_BYTES + 2 * block.length);
    expect(sent).toBeLessThan(total);
    expect(await libvirtVersion(connection)).toBe('9.0.0');
    let received = 0;
    while (received < total * block.length) received += (await stream.read())?.length ?? 0;
    expect(received).toBe(total * block.length);
  });

  test('a stream whose opening timed out is aborted when it opens after all', async () => {
    let opening: Message | undefined;
    daemon.respond = (request) => {
      opening = request;
    };
    await expect(openConsole(connection, DOMAIN, { timeoutMs: 20 })).rejects.toMatchObject({ code: 'libvirt.timeout' });
    const aborted = new Promise<Message>((resolve) => {
      daemon.respond = resolve;
    });
    daemon.socket?.write(replyTo(opening as Message));
    expect((await aborted).header).toMatchObject({ type: MESSAGE_TYPE.stream, status: MESSAGE_STATUS.error });
  });

  test('the connection ends: the reader is told', async () => {
    daemon.respond = (request, socket) => socket.write(replyTo(request));
    const stream = await openConsole(connection, DOMAIN);
    const reading = stream.read();
    daemon.socket?.destroy();
    await expect(reading).rejects.toMatchObject({ code: 'libvirt.connection-lost' });
  });
});
