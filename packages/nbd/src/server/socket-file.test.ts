import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstat, readdir, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Peers } from '../testing/peers.ts';
import { listenAt } from './socket-file.ts';

let peers: Peers;
let servers: net.Server[];
beforeEach(async () => {
  peers = await Peers.create();
  servers = [];
});
afterEach(async () => {
  for (const server of servers) server.close();
  await peers.stop();
});

async function listen(socketPath: string): ReturnType<typeof listenAt> {
  const server = net.createServer((socket) => {
    // A probe hangs up before it is greeted.
    socket.on('error', () => socket.destroy());
    socket.end('hello');
  });
  servers.push(server);
  return await listenAt(server, socketPath, 0o600);
}

async function greeting(socketPath: string): Promise<string> {
  const socket = net.connect(socketPath);
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return bytes.toString();
}

/** The socket of a process that was killed: it is still there and nobody listens. */
async function stale(socketPath: string): Promise<void> {
  const script = `require('net').createServer().listen(process.argv[1], () => console.log('up'))`;
  const child = spawn(process.execPath, ['-e', script, socketPath], { stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    await once(child.stdout, 'data');
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
}

describe('listenAt', () => {
  it('appears under its name with its mode, leaves nothing else, and goes', async () => {
    const path = peers.path('s');
    const file = await listen(path);
    expect(await greeting(path)).toBe('hello');
    expect((await lstat(path)).mode & 0o777).toBe(0o600);
    expect(await readdir(peers.directory)).toEqual(['s']);
    await file.remove();
    expect(await readdir(peers.directory)).toEqual([]);
    await file.remove();
  });

  it('replaces the socket of a server that was killed', async () => {
    const path = peers.path('s');
    await stale(path);
    expect((await lstat(path)).isSocket()).toBe(true);
    await listen(path);
    expect(await greeting(path)).toBe('hello');
    expect(await readdir(peers.directory)).toEqual(['s']);
  });

  it('leaves a live server alone', async () => {
    const path = peers.path('s');
    await listen(path);
    await expect(listen(path)).rejects.toMatchObject({ code: 'nbd.socket-in-use' });
    expect(await greeting(path)).toBe('hello');
    expect(await readdir(peers.directory)).toEqual(['s']);
  });

  it('lets one of many win that start at once over a dead socket', async () => {
    const path = peers.path('s');
    await stale(path);
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => listen(path)));
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(1);
    for (const outcome of outcomes.filter((each) => each.status === 'rejected')) {
      expect(outcome.reason).toMatchObject({ code: 'nbd.socket-in-use' });
    }
    expect(await greeting(path)).toBe('hello');
    expect(await readdir(peers.directory)).toEqual(['s']);
  });

  it('does not touch a file of another kind, nor a socket that has taken its name since', async () => {
    const path = peers.path('f');
    await writeFile(path, 'precious');
    await expect(listen(path)).rejects.toMatchObject({ code: 'nbd.listen-failed' });
    expect((await lstat(path)).size).toBe(8);
    const first = await listen(peers.path('s'));
    await first.remove();
    await listen(peers.path('s'));
    await first.remove();
    expect(await greeting(peers.path('s'))).toBe('hello');
  });

  it('says what is wrong with the path', async () => {
    await expect(listen(peers.path('no/such/s'))).rejects.toMatchObject({
      code: 'nbd.listen-failed',
      message: expect.stringContaining('ENOENT'),
    });
    await expect(listen(peers.path('x'.repeat(108)))).rejects.toMatchObject({ code: 'input.invalid' });
  });
});
