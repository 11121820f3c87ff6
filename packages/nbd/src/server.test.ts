/** Our server. Oracles: nbdinfo, nbdcopy, qemu-img, and our client only where those cannot ask. */
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import type { Extent } from '@lifeboat/foundation/block-device';
import { jsonLog, silentLog } from '@lifeboat/foundation/log';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NbdClient } from './client.ts';
import { listExports } from './export-list.ts';
import { serveNbd, type NbdServer, type NbdServerOptions } from './server.ts';
import { MemoryDevice, patternBytes } from './testing/memory-device.ts';
import { nbdUri, Peers, run } from './testing/peers.ts';

const MiB = 1024 * 1024;
const SIZE = 24 * MiB;

let peers: Peers;
let servers: NbdServer[];
beforeEach(async () => {
  peers = await Peers.create();
  servers = [];
});
afterEach(async () => {
  await Promise.all(servers.map((server) => server.close()));
  await peers.stop();
});

async function serve(
  exports: NbdServerOptions['exports'],
  options: Partial<NbdServerOptions> = {},
): Promise<NbdServer> {
  const server = await serveNbd({ socketPath: peers.path('s.sock'), exports, log: silentLog, ...options });
  servers.push(server);
  return server;
}

/** Data, zeros, a hole, data: and the bytes below the hole are not zero on purpose, so that a read of them would show. */
function patchy(): { device: MemoryDevice; content: Uint8Array } {
  const extents: Extent[] = [
    { offsetBytes: 0, lengthBytes: 5 * MiB + 512, kind: 'data' },
    { offsetBytes: 5 * MiB + 512, lengthBytes: 3 * MiB, kind: 'zero' },
    { offsetBytes: 8 * MiB + 512, lengthBytes: 10 * MiB, kind: 'hole' },
    { offsetBytes: 18 * MiB + 512, lengthBytes: 6 * MiB - 512, kind: 'data' },
  ];
  const content = patternBytes(SIZE, 7).fill(0, 5 * MiB + 512, 18 * MiB + 512);
  return { device: new MemoryDevice(content, extents), content };
}

describe('serveNbd', () => {
  it('is understood by nbdinfo', async () => {
    const { device } = patchy();
    const { socketPath } = await serve(
      new Map([
        ['disk', device],
        ['empty', new MemoryDevice(new Uint8Array(0))],
      ]),
    );
    const info = JSON.parse((await run('nbdinfo', ['--json', nbdUri(socketPath, 'disk')])).stdout) as object;
    expect(info).toMatchObject({
      protocol: 'newstyle-fixed',
      structured: true,
      exports: [
        {
          'export-name': 'disk',
          'export-size': SIZE,
          contexts: ['base:allocation'],
          is_read_only: true,
          can_multi_conn: true,
          can_df: true,
          can_flush: false,
          can_trim: false,
          can_zero: false,
          block_size_minimum: 1,
          block_size_maximum: 32 * MiB,
        },
      ],
    });
    const listed = JSON.parse((await run('nbdinfo', ['--list', '--json', nbdUri(socketPath, '')])).stdout) as {
      exports: object[];
    };
    expect(listed.exports).toMatchObject([{ 'export-name': 'disk' }, { 'export-name': 'empty', 'export-size': 0 }]);
    expect(await listExports(socketPath)).toEqual([
      { name: 'disk', description: '' },
      { name: 'empty', description: '' },
    ]);
    const map = JSON.parse((await run('nbdinfo', ['--map', '--json', nbdUri(socketPath, 'disk')])).stdout) as object[];
    expect(map).toEqual([
      { offset: 0, length: 5 * MiB + 512, type: 0, description: 'data' },
      { offset: 5 * MiB + 512, length: 3 * MiB, type: 2, description: 'zero' },
      { offset: 8 * MiB + 512, length: 10 * MiB, type: 3, description: 'hole,zero' },
      { offset: 18 * MiB + 512, length: 6 * MiB - 512, type: 0, description: 'data' },
    ]);
  });

  it('is copied by nbdcopy over several connections, byte for byte, without reading holes', async () => {
    const { device, content } = patchy();
    const { socketPath } = await serve(new Map([['disk', device]]));
    const copy = peers.path('copy.raw');
    await run('nbdcopy', ['--connections=4', '--requests=16', nbdUri(socketPath, 'disk'), copy]);
    expect(Buffer.compare(await readFile(copy), content)).toBe(0);
    // Its requests cut the runs, and a rest of a hole below a page is read.
    expect(device.bytesRead).toBeLessThan(11 * MiB + 4096);
  });

  it('is read by nbdcopy without extents, with holes in the replies', async () => {
    const { device, content } = patchy();
    const server = await serve(new Map([['disk', device]]));
    const copy = peers.path('copy.raw');
    await run('nbdcopy', ['--no-extents', nbdUri(server.socketPath, 'disk'), copy]);
    expect(Buffer.compare(await readFile(copy), content)).toBe(0);
    expect(device.bytesRead).toBeLessThan(12 * MiB);
    expect(server.bytesServed).toBeLessThan(12 * MiB);
  });

  it('is mapped, compared and converted by qemu-img', async () => {
    const { device, content } = patchy();
    const { socketPath } = await serve(new Map([['disk', device]]));
    const uri = nbdUri(socketPath, 'disk');
    const raw = peers.path('expected.raw');
    await writeFile(raw, content);
    expect((await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', uri, raw])).stdout).toContain('identical');
    const map = JSON.parse((await run('qemu-img', ['map', '--output=json', '-f', 'raw', uri])).stdout) as {
      start: number;
      length: number;
      zero: boolean;
      data: boolean;
    }[];
    expect(map.map(({ start, length, zero, data }) => [start, length, zero, data])).toEqual([
      [0, 5 * MiB + 512, false, true],
      [5 * MiB + 512, 3 * MiB, true, true],
      [8 * MiB + 512, 10 * MiB, true, false],
      [18 * MiB + 512, 6 * MiB - 512, false, true],
    ]);
    const qcow2 = peers.path('out.qcow2');
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', uri, qcow2]);
    expect((await run('qemu-img', ['compare', qcow2, raw])).stdout).toContain('identical');
    const overlay = peers.path('overlay.qcow2');
    await run('qemu-img', ['create', '-f', 'qcow2', '-b', uri, '-F', 'raw', overlay]);
    await run('qemu-io', ['-c', 'write -P 7 1M 64k', '-c', 'read -P 7 1M 64k', overlay]);
    expect((await run('qemu-img', ['check', overlay])).stdout).toContain('No errors');
  });

  it('serves a size that is no multiple of a sector to its last byte', async () => {
    const content = patternBytes(MiB + 4).slice(0, MiB + 1);
    const { socketPath } = await serve(new Map([['odd', new MemoryDevice(content)]]));
    const copy = peers.path('odd.raw');
    await run('nbdcopy', [nbdUri(socketPath, 'odd'), copy]);
    expect(Buffer.compare(await readFile(copy), content)).toBe(0);
  });

  it('answers EIO with the words of the device, in both kinds of reply, and goes on', async () => {
    const { device } = patchy();
    const lines: string[] = [];
    device.beforeRead = (offsetBytes) => {
      if (offsetBytes >= 20 * MiB) throw new Error('pack p-17 is damaged');
    };
    const { socketPath } = await serve(new Map([['disk', device]]), { log: jsonLog((line) => lines.push(line)) });
    const client = await NbdClient.connect({ socketPath, exportName: 'disk' });
    for (const length of [4096, 4 * MiB]) {
      await expect(client.read(20 * MiB, new Uint8Array(length))).rejects.toMatchObject({
        code: 'device.read-failed',
        context: { errno: 'EIO' },
        message: expect.stringContaining('pack p-17 is damaged'),
      });
    }
    await client.read(0, new Uint8Array(MiB));
    await client.close();
    expect(lines.join('')).toContain('pack p-17 is damaged');
    const copy = run('nbdcopy', [nbdUri(socketPath, 'disk'), 'null:']);
    await expect(copy).rejects.toThrow(/Input\/output error/);
  });

  it('answers EIO when a device lies about its extents, rather than serving zeros', async () => {
    const device = new MemoryDevice(new Uint8Array(MiB), [
      { offsetBytes: 0, lengthBytes: 4096, kind: 'data' },
      { offsetBytes: 8192, lengthBytes: MiB - 8192, kind: 'hole' },
    ]);
    const { socketPath } = await serve(new Map([['disk', device]]));
    const client = await NbdClient.connect({ socketPath, exportName: 'disk' });
    await expect(client.read(0, new Uint8Array(MiB))).rejects.toMatchObject({ code: 'device.read-failed' });
    await expect(client.extents({ offsetBytes: 0, lengthBytes: MiB })).rejects.toMatchObject({
      code: 'nbd.status-failed',
    });
    await client.close();
  });

  it('refuses an export it does not have', async () => {
    const { socketPath } = await serve(new Map([['disk', patchy().device]]));
    await expect(run('nbdinfo', [nbdUri(socketPath, 'vda')])).rejects.toThrow(
      /No such file or directory for export: vda/,
    );
    await expect(NbdClient.connect({ socketPath, exportName: 'vda' })).rejects.toMatchObject({
      code: 'nbd.export-unknown',
    });
  });

  it('counts connections, turns away too many, and serves on', async () => {
    const { device } = patchy();
    const server = await serve(new Map([['disk', device]]), { limits: { maxConnections: 2 } });
    const target = { socketPath: server.socketPath, exportName: 'disk' };
    const [first, second] = [await NbdClient.connect(target), await NbdClient.connect(target)];
    expect(server.connections).toBe(2);
    await expect(NbdClient.connect(target)).rejects.toMatchObject({ code: 'nbd.connection-lost' });
    await first.close();
    await expect.poll(() => server.connections).toBe(1);
    const third = await NbdClient.connect(target);
    await third.read(0, new Uint8Array(1));
    await second.close();
    await third.close();
    await expect.poll(() => server.connections).toBe(0);
  });

  it('finishes what is under way when it is closed, takes nothing new, and removes its socket', async () => {
    const { device, content } = patchy();
    let release = (): void => {};
    device.beforeRead = () => new Promise((resolve) => (release = resolve));
    const server = await serve(new Map([['disk', device]]));
    const client = await NbdClient.connect({ socketPath: server.socketPath, exportName: 'disk' });
    const target = new Uint8Array(4096);
    const read = client.read(4096, target);
    await expect.poll(() => device.active).toBe(1);
    const closed = server.close();
    await expect(NbdClient.connect({ socketPath: server.socketPath, exportName: 'disk' })).rejects.toMatchObject({
      code: 'nbd.connect-failed',
    });
    release();
    await read;
    expect(Buffer.compare(target, content.subarray(4096, 8192))).toBe(0);
    await closed;
    await expect(stat(server.socketPath)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(client.read(0, target)).rejects.toMatchObject({ code: 'nbd.connection-lost' });
  });

  it('closes in time over a device that hangs, and tells the device to stop', async () => {
    const { device } = patchy();
    let seen: AbortSignal | undefined;
    device.beforeRead = (_offset, _length, signal) => {
      seen = signal;
      return new Promise<void>(() => {});
    };
    const server = await serve(new Map([['disk', device]]), { limits: { closeTimeoutMs: 100 } });
    const client = await NbdClient.connect({ socketPath: server.socketPath, exportName: 'disk' });
    const read = client.read(0, new Uint8Array(512)).catch((error: unknown) => error);
    await expect.poll(() => device.active).toBe(1);
    await server.close();
    expect(await read).toMatchObject({ code: 'nbd.connection-lost' });
    await expect.poll(() => seen?.aborted).toBe(true);
  });

  it('lets only its own user connect, unless it is told otherwise', async () => {
    const exports = new Map([['disk', patchy().device]]);
    const strict = await serve(exports);
    expect((await stat(strict.socketPath)).mode & 0o777).toBe(0o600);
    const open = await serve(exports, { socketPath: peers.path('open.sock'), socketMode: 0o666 });
    expect((await stat(open.socketPath)).mode & 0o777).toBe(0o666);
    // As root the mode stops nobody: ask as another user.
    await chmod(peers.directory, 0o755);
    const asNobody = (socketPath: string): Promise<unknown> =>
      run('setpriv', [
        '--reuid=65534',
        '--regid=65534',
        '--clear-groups',
        'nbdinfo',
        '--size',
        nbdUri(socketPath, 'disk'),
      ]);
    await expect(asNobody(strict.socketPath)).rejects.toThrow(/Permission denied/);
    expect(await asNobody(open.socketPath)).toMatchObject({ stdout: `${SIZE}\n` });
  });
});
