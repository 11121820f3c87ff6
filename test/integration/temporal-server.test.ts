/** The embedded Temporal server as a process: what can go wrong when it is started, stopped and started again. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '@lifeboat/foundation/log';
import { askNamespace } from '@lifeboat/runtime/temporal-health';
import { startTemporalServer } from '@lifeboat/runtime/temporal-server';
import type { TemporalServer, TemporalServerOptions } from '@lifeboat/runtime/temporal-server';

let directory: string;
const started: TemporalServer[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lifeboat-server-'));
});

afterEach(async () => {
  for (const server of started.splice(0)) await server.stop();
  rmSync(directory, { recursive: true });
});

async function start(change: Partial<TemporalServerOptions> = {}): Promise<TemporalServer> {
  const server = await startTemporalServer({
    executable: process.env['LIFEBOAT_TEMPORAL'] ?? 'temporal',
    directory: join(directory, 'temporal'),
    namespace: 'boats',
    log: silentLog,
    signal: new AbortController().signal,
    ...change,
  });
  started.push(server);
  return server;
}

/** A program in place of the server. */
function program(script: string): string {
  const path = join(directory, 'temporal-like');
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

const portOf = (address: string): number => Number(address.split(':')[1]);

test('it serves its namespace once it is handed out, keeps its data over kill -9, and is gone after stop', async () => {
  const first = await start();
  await startWorkflow(first.address);
  process.kill(first.pid, 'SIGKILL');
  expect(await first.exited).toMatchObject({ signal: 'SIGKILL' });
  await first.stop();

  const second = await start({ port: portOf(first.address) });
  expect(second.address).toBe(first.address);
  expect(await statusOf(second.address)).toBe('RUNNING');
  await second.stop();
  expect(() => process.kill(second.pid, 0)).toThrow('ESRCH');
  await expect(askNamespace(second.address, 'boats', { timeoutMs: 1_000 })).rejects.toMatchObject({
    code: 'temporal.unreachable',
  });
});

test('a second one on the same directory is refused while the first runs', async () => {
  const first = await start();
  await expect(start()).rejects.toMatchObject({ code: 'stack.in-use' });
  await first.stop();
  await start();
});

test('a namespace that is not there is no serving namespace', async () => {
  const { address } = await start();
  await expect(askNamespace(address, 'ships', { timeoutMs: 5_000 })).rejects.toThrow('grpc-status 5');
});

test('a program that is not there is named', async () => {
  await expect(start({ executable: join(directory, 'none') })).rejects.toMatchObject({ code: 'temporal.missing' });
});

test('one that ends is told with its last words, and the directory is free again', async () => {
  const executable = program('echo "unable to open database file"; exit 3');
  await expect(start({ executable })).rejects.toMatchObject({
    code: 'stack.not-ready',
    message: expect.stringMatching(/ended \(code 3\).*unable to open database file/s),
  });
  await start();
});

test('one that never serves is given up after the limit and ended', async () => {
  const executable = program(`echo $$ > ${join(directory, 'pid')}; exec sleep 600`);
  await expect(start({ executable, readyLimitMs: 1_000 })).rejects.toMatchObject({
    code: 'stack.not-ready',
    message: expect.stringContaining('did not serve within 1000 ms'),
  });
  const pid = Number(readFileSync(join(directory, 'pid'), 'utf8'));
  expect(() => process.kill(pid, 0)).toThrow('ESRCH');
});

test('an abort ends the start', async () => {
  const abort = new AbortController();
  setTimeout(() => abort.abort(new Error('the person changed their mind')), 300);
  await expect(start({ executable: program('exec sleep 600'), signal: abort.signal })).rejects.toThrow(
    'the person changed their mind',
  );
  await start();
});

test('a fixed port that another process has is told, not waited for', async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  try {
    const { port } = other.address() as AddressInfo;
    await expect(start({ port, readyLimitMs: 20_000 })).rejects.toMatchObject({
      code: 'stack.not-ready',
      message: expect.stringContaining('address already in use'),
    });
  } finally {
    other.close();
  }
});

async function startWorkflow(address: string): Promise<void> {
  const connection = await Connection.connect({ address });
  const client = new Client({ connection, namespace: 'boats' });
  await client.workflow.start('Nobody', { workflowId: 'kept', taskQueue: 'nobody' });
  await connection.close();
}

async function statusOf(address: string): Promise<string> {
  const connection = await Connection.connect({ address });
  const client = new Client({ connection, namespace: 'boats' });
  const { status } = await client.workflow.getHandle('kept').describe();
  await connection.close();
  return status.name;
}
