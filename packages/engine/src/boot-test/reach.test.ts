import { appendFile, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Clock } from '@lifeboat/foundation/clock';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import type { RunningMachine } from '@lifeboat/hypervisor/port';
import { reachPorts, REACH_WAIT_MS } from './reach.ts';
import { capture, dhcp, GUEST, tcp } from './testing/packets.ts';

const context = { signal: new AbortController().signal, progress: () => {} };
const accepted = (port: number): Buffer => capture(dhcp(5, GUEST), tcp([GUEST, port], ['10.0.2.2', 1], 0x12));

function fastClock(): Clock {
  let nowMs = 0;
  // A tenth of the wait each time: every attempt here is a real one.
  const sleep = async (): Promise<void> => void (nowMs += REACH_WAIT_MS / 10);
  return { nowMs: () => nowMs, monotonicMs: () => nowMs, sleep };
}

async function listening(server: Server | ReturnType<typeof createTcpServer>): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

async function setUp(port: number, written: Buffer | '') {
  const capturePath = join(await scratchDirectory(), 'network.pcap');
  await writeFile(capturePath, written);
  const guest = { state: async () => 'running', forward: async () => port } as unknown as RunningMachine;
  return { clock: fastClock(), guest, capturePath };
}

test('a port counts as reached when the guest accepted, not when QEMU did', async () => {
  const port = await listening(createTcpServer((socket) => socket.end('SSH-2.0-test\r\n')));
  const reached = await reachPorts(await setUp(port, accepted(22)), [{ kind: 'tcp', port: 22 }], context);
  expect(reached).toMatchObject({ failure: '', results: [{ command: 'tcp 22', exitCode: 0, output: 'SSH-2.0-test' }] });

  const only = await reachPorts(await setUp(port, capture(dhcp(5, GUEST))), [{ kind: 'tcp', port: 22 }], context);
  expect(only.results).toMatchObject([{ exitCode: 1, output: 'nothing listens at 10.0.2.15' }]);
  expect(only.failure).toContain('tcp 22 was not reached within 120 s');
  const none = await reachPorts(await setUp(port, ''), [{ kind: 'tcp', port: 22 }], context);
  expect(none.failure).toContain('it took no address');
});

test('a service that starts late is waited for, and a page must be good', async () => {
  let status = 503;
  const port = await listening(createServer((_, response) => response.writeHead(status).end('so it is')));
  const deps = await setUp(port, accepted(80));
  const page = { kind: 'http', port: 80, path: '/health' } as const;
  const slow = { ...deps, clock: { ...deps.clock, sleep: async () => void (status = 200) } };
  expect((await reachPorts(slow, [page], context)).results).toMatchObject([
    { command: 'http 80/health', exitCode: 0, output: 'HTTP 200 so it is' },
  ]);
  status = 500;
  const bad = await reachPorts(deps, [page, { kind: 'tcp', port: 80 }], context);
  expect(bad.results).toMatchObject([{ exitCode: 1, output: 'HTTP 500 so it is' }]);
});

test('a guest that was answered from outside ends the test', async () => {
  const port = await listening(createTcpServer((socket) => socket.end()));
  const deps = await setUp(port, accepted(22));
  await appendFile(deps.capturePath, capture(tcp(['1.2.3.4', 443], [GUEST, 9], 0x12)).subarray(24));
  await expect(reachPorts(deps, [{ kind: 'tcp', port: 22 }], context)).rejects.toMatchObject({
    code: 'engine.not-isolated',
  });
});
