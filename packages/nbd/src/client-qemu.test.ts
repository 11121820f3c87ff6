/** Our client on QEMU's server. Oracles: qemu-img made the images and the bitmap, qemu-io wrote into them. */
import { randomBytes } from 'node:crypto';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NbdClient } from './client.ts';
import { listExports } from './export-list.ts';
import { patternBytes } from './testing/memory-device.ts';
import { nbdUri, Peers, run } from './testing/peers.ts';

const MiB = 1024 * 1024;
const BITMAP = 'qemu:dirty-bitmap:since';

let peers: Peers;
beforeAll(async () => {
  peers = await Peers.create();
});
afterAll(async () => {
  await peers.stop();
});

/** A raw file of 16 MiB: pattern at 3 MiB (1 MiB long) and at 9 MiB (100 000 bytes), holes elsewhere. */
async function sparseRaw(name: string): Promise<{ path: string; content: Uint8Array }> {
  const content = new Uint8Array(16 * MiB);
  content.set(patternBytes(MiB, 3), 3 * MiB);
  content.set(patternBytes(100_000, 4), 9 * MiB);
  const dense = peers.path(`${name}.dense`);
  const path = peers.path(name);
  await writeFile(dense, content);
  await run('cp', ['--sparse=always', dense, path]);
  return { path, content };
}

describe('NbdClient on qemu-nbd', () => {
  it('reads a raw disk at any position, and knows its holes as nbdinfo does', async () => {
    const { path, content } = await sparseRaw('a.raw');
    const { socketPath } = await peers.qemuNbd(['-r', '-f', 'raw', path]);
    const client = await NbdClient.connect({ socketPath, exportName: 'disk' });
    expect(client.sizeBytes).toBe(16 * MiB);
    expect(client.readOnly).toBe(true);
    for (const [offset, length] of [
      [0, 16 * MiB],
      [3 * MiB - 7, 13],
      [9 * MiB + 99_999, 1],
      [16 * MiB - 1, 1],
      [5, 0],
    ] as const) {
      const target = new Uint8Array(length).fill(0xee);
      await client.read(offset, target);
      expect(Buffer.compare(target, content.subarray(offset, offset + length)), `${length} at ${offset}`).toBe(0);
    }
    expect(client.bytesRead).toBe(16 * MiB + 13 + 1 + 1);
    const extents = await client.extents({ offsetBytes: 0, lengthBytes: client.sizeBytes });
    const { stdout } = await run('nbdinfo', ['--map', '--json', nbdUri(socketPath, 'disk')]);
    const oracle = JSON.parse(stdout) as { offset: number; length: number; type: number }[];
    expect(extents.map((extent) => [extent.offsetBytes, extent.lengthBytes, extent.kind])).toEqual(
      oracle.map(({ offset, length, type }) => [offset, length, type === 0 ? 'data' : 'hole']),
    );
    expect(extents.length).toBeGreaterThan(3);
    expect(await client.extents({ offsetBytes: 3 * MiB - 100, lengthBytes: 200 })).toEqual([
      { offsetBytes: 3 * MiB - 100, lengthBytes: 100, kind: 'hole' },
      { offsetBytes: 3 * MiB, lengthBytes: 100, kind: 'data' },
    ]);
    await client.close();
    await client.close();
  });

  it('fills memory that threads share', async () => {
    const { path, content } = await sparseRaw('shared.raw');
    const { socketPath } = await peers.qemuNbd(['-r', '-f', 'raw', path]);
    const client = await NbdClient.connect({ socketPath, exportName: 'disk' });
    const shared = new Uint8Array(new SharedArrayBuffer(4 * MiB), MiB, 2 * MiB);
    await client.read(2.5 * MiB, shared);
    expect(Buffer.compare(shared, content.subarray(2.5 * MiB, 4.5 * MiB))).toBe(0);
    await client.close();
  });

  it('reads what changed from a dirty bitmap, and only that', async () => {
    const { path } = await sparseRaw('base.raw');
    const qcow2 = peers.path('b.qcow2');
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', path, qcow2]);
    await run('qemu-img', ['bitmap', '--add', '-g', '65536', qcow2, 'since']);
    await run('qemu-io', [
      '-f',
      'qcow2',
      '-c',
      'write -P 0x5a 1M 10k',
      '-c',
      'write -P 0x5b 4M 192k',
      '-c',
      'write -P 0x5c 15M 1M',
      qcow2,
    ]);
    const { socketPath } = await peers.qemuNbd(['-r', '-f', 'qcow2', '-B', 'since', '-A', qcow2]);
    const metaContexts = [BITMAP, 'qemu:allocation-depth'];
    const client = await NbdClient.connect({ socketPath, exportName: 'disk' }, { metaContexts });
    expect(client.metaContexts.toSorted()).toEqual(['base:allocation', 'qemu:allocation-depth', BITMAP]);
    const whole = { offsetBytes: 0, lengthBytes: client.sizeBytes };
    const runs = await client.blockStatus(BITMAP, whole);
    expect(runs).toEqual([
      { offsetBytes: 0, lengthBytes: MiB, flags: 0 },
      { offsetBytes: MiB, lengthBytes: 65_536, flags: 1 },
      { offsetBytes: MiB + 65_536, lengthBytes: 3 * MiB - 65_536, flags: 0 },
      { offsetBytes: 4 * MiB, lengthBytes: 192 * 1024, flags: 1 },
      { offsetBytes: 4 * MiB + 192 * 1024, lengthBytes: 11 * MiB - 192 * 1024, flags: 0 },
      { offsetBytes: 15 * MiB, lengthBytes: MiB, flags: 1 },
    ]);
    const depths = await client.blockStatus('qemu:allocation-depth', whole);
    expect(depths.some((depth) => depth.flags === 1)).toBe(true);
    expect(depths.reduce((sum, depth) => sum + depth.lengthBytes, 0)).toBe(client.sizeBytes);
    const changed = runs.filter((status) => (status.flags & 1) === 1);
    for (const { offsetBytes, lengthBytes } of changed) await client.read(offsetBytes, new Uint8Array(lengthBytes));
    expect(client.bytesRead).toBe(65_536 + 192 * 1024 + MiB);
    await client.close();
  });

  it('covers a badly fragmented map, which takes many replies, without a gap', async () => {
    const path = peers.path('fragments.qcow2');
    await run('qemu-img', ['create', '-f', 'qcow2', '-o', 'cluster_size=4096', path, '3G']);
    const writes = Array.from({ length: 400 }, (_, index) => ['-c', `write -q ${index * 8}M 4k`]);
    await run('qemu-io', ['-f', 'qcow2', ...writes.slice(0, 380).flat(), path]);
    const { socketPath } = await peers.qemuNbd(['-r', '-f', 'qcow2', path]);
    const client = await NbdClient.connect({ socketPath, exportName: 'disk' });
    const extents = await client.extents({ offsetBytes: 0, lengthBytes: client.sizeBytes });
    let at = 0;
    for (const { offsetBytes, lengthBytes } of extents) {
      expect(offsetBytes).toBe(at);
      at += lengthBytes;
    }
    expect(at).toBe(client.sizeBytes);
    expect(extents.filter((extent) => extent.kind === 'data')).toHaveLength(380);
    await client.close();
  });

  it('writes, zeroes and flushes; qemu-img sees the same bytes', async () => {
    const path = peers.path('w.raw');
    await writeFile(path, randomBytes(8 * MiB));
    const expected = await readFile(path);
    const { socketPath } = await peers.qemuNbd(['-f', 'raw', path]);
    const client = await NbdClient.connect({ socketPath, exportName: 'disk' });
    expect(client.readOnly).toBe(false);
    const large = randomBytes(5 * MiB);
    await Promise.all([
      client.write(MiB + 3, large),
      client.write(17, Buffer.from('hello')),
      client.writeZeros(7 * MiB + 1, 500_000),
    ]);
    await client.flush();
    large.copy(expected, MiB + 3);
    expected.write('hello', 17);
    expected.fill(0, 7 * MiB + 1, 7 * MiB + 1 + 500_000);
    const oracle = peers.path('w.expected');
    await writeFile(oracle, expected);
    const { stdout } = await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', nbdUri(socketPath, 'disk'), oracle]);
    expect(stdout).toContain('identical');
    await client.close();
  });

  it('makes zeros sparse where the target can', async () => {
    const path = peers.path('z.raw');
    await writeFile(path, randomBytes(4 * MiB));
    const { socketPath } = await peers.qemuNbd(['-f', 'raw', '--discard=unmap', '--detect-zeroes=unmap', path]);
    const client = await NbdClient.connect({ socketPath, exportName: 'disk' });
    await client.writeZeros(MiB, 2 * MiB);
    expect(await client.extents({ offsetBytes: 0, lengthBytes: 4 * MiB })).toEqual([
      { offsetBytes: 0, lengthBytes: MiB, kind: 'data' },
      { offsetBytes: MiB, lengthBytes: 2 * MiB, kind: 'hole' },
      { offsetBytes: 3 * MiB, lengthBytes: MiB, kind: 'data' },
    ]);
    await client.close();
  });

  it('says what is wrong with the export: name, bitmap, permission, socket', async () => {
    const path = peers.path('e.raw');
    await writeFile(path, '');
    await truncate(path, MiB);
    const { socketPath } = await peers.qemuNbd(['-r', '-f', 'raw', path]);
    await expect(NbdClient.connect({ socketPath, exportName: 'vdb' })).rejects.toMatchObject({
      code: 'nbd.export-unknown',
      message: expect.stringContaining("'vdb'"),
    });
    const missing = NbdClient.connect({ socketPath, exportName: 'disk' }, { metaContexts: [BITMAP] });
    await expect(missing).rejects.toMatchObject({
      code: 'nbd.context-missing',
      message: expect.stringMatching(/offers no qemu:dirty-bitmap:since; it offers base:allocation/),
    });
    const client = await NbdClient.connect({ socketPath, exportName: 'disk' });
    await expect(client.write(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'nbd.read-only' });
    await expect(client.writeZeros(0, 1)).rejects.toMatchObject({ code: 'nbd.read-only' });
    await expect(client.blockStatus(BITMAP, { offsetBytes: 0, lengthBytes: 1 })).rejects.toMatchObject({
      code: 'nbd.context-missing',
    });
    await expect(client.read(MiB - 1, new Uint8Array(2))).rejects.toThrow(RangeError);
    await client.close();
    await expect(client.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'nbd.connection-lost' });
    await expect(NbdClient.connect({ socketPath: peers.path('none'), exportName: '' })).rejects.toMatchObject({
      code: 'nbd.connect-failed',
      message: expect.stringContaining('ENOENT'),
    });
  });

  it('lists exports', async () => {
    const path = peers.path('l.raw');
    await writeFile(path, '');
    await truncate(path, MiB);
    const { socketPath } = await peers.qemuNbd(['-r', '-f', 'raw', '-D', 'the data disk', path], 'vda');
    expect(await listExports(socketPath)).toEqual([{ name: 'vda', description: 'the data disk' }]);
    await expect(listExports(peers.path('none'))).rejects.toMatchObject({ code: 'nbd.connect-failed' });
  });
});
