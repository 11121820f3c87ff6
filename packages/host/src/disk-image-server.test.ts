import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { MiB } from '@lifeboat/foundation/units';
import { runTool } from './children.ts';
import { serveDiskImage, type DiskImageServer } from './disk-image-server.ts';
import { scratchDirectory } from './testing/scratch.ts';
import { eventually, isGone, moduleUrl, startVictim } from './testing/victim.ts';

const context = { signal: new AbortController().signal };
const timeoutMs = 20_000;

const run = async (command: string, ...args: string[]): Promise<string> =>
  (await runTool(command, args, { timeoutMs })).stdout;
const uri = (server: DiskImageServer): string => `nbd+unix:///${server.nbdExportName}?socket=${server.nbdSocketPath}`;
const info = async (path: string): Promise<Record<string, unknown>> =>
  JSON.parse(await run('qemu-img', 'info', '--output=json', path)) as Record<string, unknown>;

/** 8 MiB of raw disk: 0x11 in the first MiB, zeros after it. */
async function rawImage(directory: string): Promise<string> {
  const path = join(directory, 'base.raw');
  await run('qemu-img', 'create', '-q', '-f', 'raw', path, '8M');
  await run('qemu-io', '-f', 'raw', '-c', 'write -q -P 0x11 0 1M', path);
  return path;
}

describe('serveDiskImage over NBD', () => {
  test('serves an image read-only, with its size and content', async () => {
    const directory = await scratchDirectory();
    const path = await rawImage(directory);
    const server = await serveDiskImage(
      { image: { kind: 'image', path, format: 'raw', readOnly: true }, nbd: { writable: false }, directory, name: 'd' },
      context,
    );
    onTestFinished(() => server.stop());
    const exported = JSON.parse(await run('nbdinfo', '--json', uri(server))) as { exports: Record<string, unknown>[] };
    expect(exported.exports[0]).toMatchObject({ 'export-size': 8 * MiB, is_read_only: true });
    await run('qemu-io', '-r', '-f', 'raw', '-c', 'read -q -P 0x11 0 1M', '-c', 'read -q -P 0 1M 7M', uri(server));
    await server.stop();
    expect((await readdir(directory)).sort()).toEqual(['base.raw', 'd.log']);
  });

  test('an overlay takes the writes, flushed by stop, and tells its own allocation; the backing image stays', async () => {
    const directory = await scratchDirectory();
    const path = await rawImage(directory);
    const before = await readFile(path);
    const overlay = join(directory, 'overlay.qcow2');
    const server = await serveDiskImage(
      {
        image: { kind: 'overlay', path: overlay, clusterSizeBytes: 4096, backing: { path, format: 'raw' } },
        nbd: { writable: true, allocationDepth: true },
        directory,
        name: 'd',
      },
      context,
    );
    onTestFinished(() => server.stop());
    await run('qemu-io', '-f', 'raw', '-c', 'write -q -P 0x22 64k 4k', uri(server));
    const map = JSON.parse(await run('nbdinfo', '--json', '--map=qemu:allocation-depth', uri(server))) as unknown[];
    expect(map).toContainEqual(expect.objectContaining({ offset: 64 * 1024, length: 4096, type: 1 }));
    await server.stop();
    expect(await info(overlay)).toMatchObject({ format: 'qcow2', 'cluster-size': 4096, 'backing-filename': path });
    await run('qemu-img', 'check', '-q', overlay);
    await run('qemu-io', '-f', 'qcow2', '-c', 'read -q -P 0x11 0 64k', '-c', 'read -q -P 0x22 64k 4k', overlay);
    expect(Buffer.compare(before, await readFile(path))).toBe(0);
  });

  test('an overlay stands over another NBD server, and can be opened again later', async () => {
    const directory = await scratchDirectory();
    const path = await rawImage(directory);
    const below = await serveDiskImage(
      {
        image: { kind: 'image', path, format: 'raw', readOnly: true },
        nbd: { writable: false },
        directory,
        name: 'low',
      },
      context,
    );
    onTestFinished(() => below.stop());
    const overlay = join(directory, 'o.qcow2');
    const backing = { nbdSocketPath: below.nbdSocketPath as string, nbdExportName: below.nbdExportName };
    const first = await serveDiskImage(
      {
        image: { kind: 'overlay', path: overlay, clusterSizeBytes: 65536, backing },
        nbd: { writable: true },
        directory,
        name: 'up',
      },
      context,
    );
    onTestFinished(() => first.stop());
    await run('qemu-io', '-f', 'raw', '-c', 'read -q -P 0x11 0 1M', '-c', 'write -q -P 0x33 2M 64k', uri(first));
    await first.stop();
    const again = await serveDiskImage(
      {
        image: { kind: 'image', path: overlay, format: 'qcow2', readOnly: true, followHeader: true },
        nbd: { writable: false },
        directory,
        name: 'up',
      },
      context,
    );
    onTestFinished(() => again.stop());
    const reads = ['-c', 'read -q -P 0x11 0 1M', '-c', 'read -q -P 0x33 2M 64k'];
    expect(await run('qemu-io', '-r', '-f', 'raw', ...reads, uri(again))).toBe('');
  });

  test("a socket meant for QEMU belongs to QEMU's account, another one to us", async () => {
    const directory = await scratchDirectory();
    const path = await rawImage(directory);
    const image = { kind: 'image', path, format: 'raw', readOnly: true } as const;
    const { stdout } = await runTool('getent', ['passwd', 'libvirt-qemu'], { timeoutMs, okCodes: [0, 2] });
    const qemuUid = process.getuid?.() === 0 && stdout !== '' ? Number(stdout.split(':')[2]) : process.getuid?.();
    for (const forQemu of [true, false]) {
      const server = await serveDiskImage({ image, nbd: { writable: false, forQemu }, directory, name: 'd' }, context);
      onTestFinished(() => server.stop());
      expect((await stat(server.nbdSocketPath as string)).uid).toBe(forQemu ? qemuUid : process.getuid?.());
      await server.stop();
    }
  });

  test('a dead attempt leaves a socket; the next one starts all the same', async () => {
    const directory = await scratchDirectory();
    const path = await rawImage(directory);
    await writeFile(join(directory, 'd.sock'), 'stale');
    const server = await serveDiskImage(
      { image: { kind: 'image', path, format: 'raw', readOnly: true }, nbd: { writable: false }, directory, name: 'd' },
      context,
    );
    onTestFinished(() => server.stop());
    expect(await run('nbdinfo', '--size', uri(server))).toBe(`${8 * MiB}\n`);
  });

  test('a server that was killed makes stop say that writes may be missing', async () => {
    const directory = await scratchDirectory();
    const path = await rawImage(directory);
    const server = await serveDiskImage(
      { image: { kind: 'image', path, format: 'raw', readOnly: false }, nbd: { writable: true }, directory, name: 'd' },
      context,
    );
    const { pid } = JSON.parse(await readFile(join(directory, 'd.pid'), 'utf8')) as { pid: number };
    process.kill(pid, 'SIGKILL');
    expect(await server.exited).toEqual({ code: null, signal: 'SIGKILL' });
    await expect(server.stop()).rejects.toMatchObject({ code: 'host.image-server-unclean' });
    expect(await readdir(directory)).not.toContain('d.sock');
  });

  test('dies with its parent', async () => {
    const directory = await scratchDirectory();
    const path = await rawImage(directory);
    const image = { kind: 'image', path, format: 'raw', readOnly: true };
    const victim = startVictim(`
      import { serveDiskImage } from ${moduleUrl('disk-image-server.ts')};
      await serveDiskImage(${JSON.stringify({ image, nbd: { writable: false }, directory, name: 'd' })},
        { signal: new AbortController().signal });
      console.log('up');`);
    expect(await victim.nextLine()).toBe('up');
    const { pid } = JSON.parse(await readFile(join(directory, 'd.pid'), 'utf8')) as { pid: number };
    expect(await isGone(pid)).toBe(false);
    await victim.kill();
    await eventually('the server is gone', () => isGone(pid));
  });
});

describe('serveDiskImage refuses', () => {
  test('what cannot be served, saying why', async () => {
    const directory = await scratchDirectory();
    const path = await rawImage(directory);
    const image = { kind: 'image', path, format: 'raw', readOnly: true } as const;
    const serve = (options: object): Promise<DiskImageServer> =>
      serveDiskImage({ image, directory, name: 'd', ...options }, context);
    await expect(serve({})).rejects.toThrow(/neither/);
    await expect(serve({ nbd: { writable: true } })).rejects.toThrow(/read-only/);
    await expect(serve({ nbd: { writable: false }, fuse: { writable: true } })).rejects.toThrow(/cannot be combined/);
    await expect(serve({ nbd: { writable: false }, name: '../d' })).rejects.toMatchObject({ code: 'input.invalid' });
    const long = join(directory, 'x'.repeat(100));
    await expect(serve({ nbd: { writable: false }, directory: long })).rejects.toMatchObject({
      code: 'host.path-too-long',
    });
  });

  test('an image QEMU cannot open, with its words, leaving nothing', async () => {
    const directory = await scratchDirectory();
    const path = join(directory, 'broken.qcow2');
    await writeFile(path, 'QFI\xfb and no more');
    for (const image of [
      { kind: 'image', path, format: 'qcow2', readOnly: true },
      { kind: 'image', path: join(directory, 'none'), format: 'raw', readOnly: true },
    ] as const) {
      const failing = serveDiskImage({ image, nbd: { writable: false }, directory, name: 'd' }, context);
      await expect(failing).rejects.toMatchObject({ code: 'host.image-server-failed' });
      await expect(failing).rejects.toThrow(/qcow2|No such file/);
    }
    expect((await readdir(directory)).sort()).toEqual(['broken.qcow2', 'd.log']);
  });

  test('an image whose header names another file, unless its chain is trusted', async () => {
    const directory = await scratchDirectory();
    const backed = join(directory, 'backed.qcow2');
    await run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', await rawImage(directory), '-F', 'raw', backed);
    const external = join(directory, 'external.qcow2');
    const data = `data_file=${join(directory, 'data')}`;
    await run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', data, external, '1M');
    for (const path of [backed, external]) {
      const image = { kind: 'image', path, format: 'qcow2', readOnly: true } as const;
      const options = { image, nbd: { writable: false }, directory, name: 'd' };
      await expect(serveDiskImage(options, context)).rejects.toMatchObject({ code: 'host.image-external-reference' });
      const overlay = {
        kind: 'overlay',
        path: `${path}.o`,
        clusterSizeBytes: 65536,
        backing: { path, format: 'qcow2' },
      } as const;
      await expect(serveDiskImage({ ...options, image: overlay }, context)).rejects.toMatchObject({
        code: 'host.image-external-reference',
      });
      const trusted = await serveDiskImage({ ...options, image: { ...image, followHeader: true } }, context);
      await trusted.stop();
    }
  });

  test('an overlay over a file that is there already', async () => {
    const directory = await scratchDirectory();
    const path = await rawImage(directory);
    const image = { kind: 'overlay', path, clusterSizeBytes: 65536, backing: { path, format: 'raw' } } as const;
    const before = await stat(path);
    await expect(
      serveDiskImage({ image, nbd: { writable: true }, directory, name: 'd' }, context),
    ).rejects.toMatchObject({
      code: 'host.image-exists',
    });
    expect((await stat(path)).mtimeMs).toBe(before.mtimeMs);
  });

  test('to wait once it is aborted, and ends what it started', async () => {
    const directory = await scratchDirectory();
    const abort = new AbortController();
    // A backing server that accepts and says nothing holds QEMU in its start.
    const socketPath = join(directory, 'mute.sock');
    const mute = createServer(() => abort.abort(new Error('enough'))).listen(socketPath);
    onTestFinished(() => {
      mute.close();
    });
    const path = join(directory, 'o.qcow2');
    const backing = { nbdSocketPath: socketPath, nbdExportName: 'disk' };
    const image = { kind: 'overlay', path, clusterSizeBytes: 65536, backing } as const;
    const serving = serveDiskImage({ image, nbd: { writable: true }, directory, name: 'd' }, { signal: abort.signal });
    await expect(serving).rejects.toThrow('enough');
    expect(await readdir(directory)).not.toContain('d.pid');
  });
});
