/** Our client on nbdkit: its filters make errors, delays, odd block sizes and missing features. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NbdClient } from './client.ts';
import { listExports } from './export-list.ts';
import { Peers, run, nbdUri } from './testing/peers.ts';

const MiB = 1024 * 1024;

let peers: Peers;
beforeAll(async () => {
  peers = await Peers.create();
});
afterAll(async () => {
  await peers.stop();
});

async function connect(
  args: readonly string[],
  options: Parameters<typeof NbdClient.connect>[1] = {},
): Promise<NbdClient> {
  const { socketPath } = await peers.nbdkit(args);
  return await NbdClient.connect({ socketPath, exportName: '' }, options);
}

/** What nbdkit's pattern plugin holds: each 8 bytes are their own position. */
function pattern(offsetBytes: number, lengthBytes: number): Buffer {
  const start = Math.floor(offsetBytes / 8) * 8;
  const words = Buffer.alloc(Math.ceil((offsetBytes + lengthBytes - start) / 8) * 8);
  for (let at = 0; at < words.length; at += 8) words.writeBigUInt64BE(BigInt(start + at), at);
  return words.subarray(offsetBytes - start, offsetBytes - start + lengthBytes);
}

describe('NbdClient on nbdkit', () => {
  it('puts every byte in its place when many reads are under way, on a disk of 2^40 bytes', async () => {
    const client = await connect(['pattern', '1T']);
    const reads = Array.from({ length: 60 }, (_, index) => ({
      offset: index * 17_179_869_183 + index,
      length: 1 + ((index * 77_777) % 3_000_000),
    }));
    const parts = await Promise.all(
      reads.map(async ({ offset, length }) => {
        const target = Buffer.alloc(length);
        await client.read(offset, target);
        return target;
      }),
    );
    for (const [index, part] of parts.entries()) {
      const { offset, length } = reads[index] ?? { offset: 0, length: 0 };
      expect(Buffer.compare(part, pattern(offset, length)), `${length} at ${offset}`).toBe(0);
    }
    await client.close();
  });

  it.each([['--no-sr'], ['--mask-handshake=1', '--no-sr'], ['--mask-handshake=1']])(
    'reads from a server with less of the protocol (%s)',
    async (...args) => {
      const { socketPath } = await peers.nbdkit([...args, 'pattern', '5M']);
      const client = await NbdClient.connect({ socketPath, exportName: '' });
      const target = Buffer.alloc(5 * MiB - 3);
      await client.read(3, target);
      expect(Buffer.compare(target, pattern(3, target.length))).toBe(0);
      expect(client.metaContexts).toEqual(args.includes('--no-sr') ? [] : ['base:allocation']);
      expect(await client.extents({ offsetBytes: 1, lengthBytes: 9 })).toEqual([
        { offsetBytes: 1, lengthBytes: 9, kind: 'data' },
      ]);
      await client.close();
    },
  );

  it('refuses a server of the old handshake and one that insists on TLS', async () => {
    const old = await peers.nbdkit(['-o', 'memory', '1M']);
    await expect(NbdClient.connect({ socketPath: old.socketPath, exportName: '' })).rejects.toMatchObject({
      code: 'nbd.unsupported',
    });
    await run('sh', ['-c', `printf 'alice:%s\n' 00112233445566778899aabbccddeeff > ${peers.path('psk')}`]);
    const tls = await peers.nbdkit(['--tls=require', `--tls-psk=${peers.path('psk')}`, 'memory', '1M']);
    await expect(NbdClient.connect({ socketPath: tls.socketPath, exportName: '' })).rejects.toMatchObject({
      code: 'nbd.unsupported',
      message: expect.stringContaining('TLS'),
    });
    await expect(listExports(tls.socketPath)).rejects.toMatchObject({ code: 'nbd.unsupported' });
  });

  it('gives the errno of a failed read and goes on with the next', async () => {
    const trigger = peers.path('fail');
    const client = await connect([
      '--filter=error',
      'pattern',
      '16M',
      'error=EIO',
      'error-pread-rate=100%',
      `error-file=${trigger}`,
    ]);
    const target = Buffer.alloc(10 * MiB);
    await client.read(0, target);
    await run('touch', [trigger]);
    await expect(client.read(0, target)).rejects.toMatchObject({
      code: 'device.read-failed',
      context: { errno: 'EIO' },
    });
    await run('rm', [trigger]);
    await client.read(MiB, target);
    expect(Buffer.compare(target, pattern(MiB, target.length))).toBe(0);
    await client.close();
  });

  it('names errors of status, write and a full disk', async () => {
    const status = await connect(['--filter=error', 'memory', '1M', 'error=EPERM', 'error-extents-rate=100%']);
    await expect(status.extents({ offsetBytes: 0, lengthBytes: MiB })).rejects.toMatchObject({
      code: 'nbd.status-failed',
    });
    await status.close();
    const write = await connect(['--filter=error', 'memory', '1M', 'error=EIO', 'error-pwrite-rate=100%']);
    await expect(write.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'device.write-failed' });
    await write.close();
    const full = await connect(['full', '1M']);
    await expect(full.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'disk.full' });
    await full.close();
  });

  it.each([512, 4096])('keeps to blocks of %i bytes, and reads and writes any position all the same', async (block) => {
    const client = await connect([
      '--filter=blocksize-policy',
      'memory',
      '8M',
      `blocksize-minimum=${block}`,
      'blocksize-preferred=65536',
      'blocksize-maximum=262144',
      'blocksize-error-policy=error',
    ]);
    const expected = Buffer.alloc(8 * MiB);
    // Neighbours that share blocks, at once: none may lose the other's part.
    const pieces = Array.from({ length: 20 }, (_, index) => ({ at: 100 + index * 777, bytes: randomBytes(777) }));
    const large = randomBytes(3 * MiB + 5);
    for (const { at, bytes } of pieces) bytes.copy(expected, at);
    large.copy(expected, 2 * MiB + 1);
    await Promise.all([...pieces.map(({ at, bytes }) => client.write(at, bytes)), client.write(2 * MiB + 1, large)]);
    await client.writeZeros(3 * MiB + 1, 10_000);
    expected.fill(0, 3 * MiB + 1, 3 * MiB + 10_001);
    await client.flush();
    const target = Buffer.alloc(8 * MiB - 2);
    await client.read(1, target);
    expect(Buffer.compare(target, expected.subarray(1, -1))).toBe(0);
    const extents = await client.extents({ offsetBytes: 10, lengthBytes: 7 * MiB });
    expect(extents[0]?.offsetBytes).toBe(10);
    expect(extents.reduce((sum, extent) => sum + extent.lengthBytes, 0)).toBe(7 * MiB);
    await client.close();
  });

  it('writes zeros by hand where the server has no command for it', async () => {
    const { socketPath } = await peers.nbdkit(['--filter=nozero', 'memory', '5M']);
    const client = await NbdClient.connect({ socketPath, exportName: '' });
    await client.write(0, Buffer.alloc(5 * MiB, 1));
    await client.writeZeros(MiB + 1, 3 * MiB);
    const target = Buffer.alloc(5 * MiB);
    await client.read(0, target);
    const expected = Buffer.alloc(5 * MiB, 1).fill(0, MiB + 1, 4 * MiB + 1);
    expect(Buffer.compare(target, expected)).toBe(0);
    await client.close();
    const { stdout } = await run('nbdinfo', ['--size', nbdUri(socketPath, '')]);
    expect(stdout.trim()).toBe(String(5 * MiB));
  });

  it('keeps requests in flight: sixteen slow reads take the time of one', async () => {
    const client = await connect(['--filter=delay', 'memory', '64M', 'rdelay=200ms']);
    const started = performance.now();
    await Promise.all(Array.from({ length: 16 }, (_, index) => client.read(index * 4096, new Uint8Array(4096))));
    const elapsedMs = performance.now() - started;
    expect(elapsedMs).toBeGreaterThan(190);
    // One after the other they would take 3.2 s.
    expect(elapsedMs).toBeLessThan(2500);
    await client.close();
  });

  it('gives up on a server that does not answer in time, with everything on that connection', async () => {
    const client = await connect(['--filter=delay', 'memory', '64M', 'rdelay=5'], { timeoutMs: 1500 });
    const reads = [client.read(0, new Uint8Array(512)), client.read(MiB, new Uint8Array(12 * MiB))];
    for (const outcome of await Promise.allSettled(reads)) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'nbd.timeout', retry: 'transient' } });
    }
    await expect(client.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'nbd.timeout' });
  });

  it('lets an aborted read go at once, and the connection lives on', async () => {
    const client = await connect(['--filter=delay', 'pattern', '64M', 'delay-read=400ms']);
    const abort = new AbortController();
    const target = new Uint8Array(16 * MiB).fill(0xee);
    const aborted = client.read(0, target, { signal: abort.signal });
    const other = Buffer.alloc(4096);
    const kept = client.read(8 * MiB, other);
    let answered = false;
    const keptAnswer = kept.then(() => (answered = true));
    setTimeout(() => abort.abort(new Error('not wanted any more')), 30);
    await expect(aborted).rejects.toThrow('not wanted any more');
    // Both were asked for together, and the server takes 400 ms.
    expect(answered).toBe(false);
    const after = Buffer.from(target);
    await keptAnswer;
    expect(Buffer.compare(other, pattern(8 * MiB, 4096))).toBe(0);
    // The replies to what was abandoned have passed by then, and none of them touched the buffer.
    await client.read(0, other);
    expect(Buffer.compare(target, after)).toBe(0);
    await expect(client.read(0, other, { signal: abort.signal })).rejects.toThrow('not wanted any more');
    await client.close();
  });

  it('rejects all that is open when the server is killed', async () => {
    const peer = await peers.nbdkit(['--filter=delay', 'memory', '64M', 'rdelay=10']);
    const client = await NbdClient.connect({ socketPath: peer.socketPath, exportName: '' });
    const open = [client.read(0, new Uint8Array(512)), client.read(0, new Uint8Array(20 * MiB)), client.flush()];
    const outcomes = Promise.allSettled(open.slice(0, 2));
    await open[2];
    await peer.kill();
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'nbd.connection-lost' } });
    }
    await client.close();
  });

  it('ends what is open when it is closed itself', async () => {
    const client = await connect(['--filter=delay', 'memory', '64M', 'rdelay=10']);
    const open = client.read(0, new Uint8Array(512));
    const closed = client.close();
    await expect(open).rejects.toMatchObject({ code: 'nbd.connection-lost' });
    await closed;
  });
});
