import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openFileDevice } from './file-device.ts';

const MiB = 1024 * 1024;

let directory: string;
let image: string;
let content: Buffer;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'lb-file-device-'));
  image = path.join(directory, 'disk.raw');
  content = randomBytes(3 * MiB + 5);
  await writeFile(image, content);
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe('openFileDevice', () => {
  it('reads any position, many at once', async () => {
    const device = await openFileDevice(image);
    expect(device.sizeBytes).toBe(content.length);
    const runs = Array.from({ length: 40 }, (_, index) => ({ at: index * 70_001, length: 1 + index * 5003 }));
    const parts = await Promise.all(
      runs.map(async ({ at, length }) => {
        const target = new Uint8Array(length);
        await device.read(at, target);
        return target;
      }),
    );
    for (const [index, part] of parts.entries()) {
      const { at, length } = runs[index] ?? { at: 0, length: 0 };
      expect(Buffer.compare(part, content.subarray(at, at + length))).toBe(0);
    }
    await device.read(device.sizeBytes, new Uint8Array(0));
    await device.close();
    await device.close();
  });

  it('says one data run for what it is asked', async () => {
    const device = await openFileDevice(image);
    expect(await device.extents({ offsetBytes: 7, lengthBytes: 100 })).toEqual([
      { offsetBytes: 7, lengthBytes: 100, kind: 'data' },
    ]);
    expect(await device.extents({ offsetBytes: 7, lengthBytes: 0 })).toEqual([]);
    await device.close();
  });

  it('writes and zeroes in place, never beyond its size', async () => {
    const device = await openFileDevice(image, { writable: true });
    await device.write(MiB + 1, Buffer.from('recovered'));
    await device.writeZeros(100, 2 * MiB - 100 - 1);
    await device.write(MiB, Buffer.from('x'));
    await device.flush();
    content.fill(0, 100, 2 * MiB - 1);
    content.write('x', MiB);
    expect(Buffer.compare(await readFile(image), content)).toBe(0);
    await expect(device.write(device.sizeBytes - 1, new Uint8Array(2))).rejects.toThrow(RangeError);
    await expect(device.writeZeros(device.sizeBytes, 1)).rejects.toThrow(RangeError);
    await expect(device.read(-1, new Uint8Array(2))).rejects.toThrow(RangeError);
    expect(await readFile(image)).toHaveLength(content.length);
    await device.close();
  });

  it('writes what many ask for at once, also behind one that is broken off', async () => {
    const device = await openFileDevice(image, { writable: true });
    const stop = new AbortController();
    const pieces = Array.from({ length: 40 }, (_, index) => ({
      at: index * 70_001,
      bytes: randomBytes(1 + index * 1003),
    }));
    const writes = pieces.map(({ at, bytes }, index) =>
      device.write(at, bytes, index % 10 === 3 ? { signal: stop.signal } : {}),
    );
    stop.abort(new Error('enough'));
    const outcomes = await Promise.allSettled(writes);
    expect(outcomes.map(({ status }) => status === 'rejected')).toEqual(pieces.map((_, index) => index % 10 === 3));
    const written = pieces.filter((_, index) => index % 10 !== 3);
    for (const { at, bytes } of written) bytes.copy(content, at);
    expect(Buffer.compare(await readFile(image), content)).toBe(0);
    await device.close();
  });

  it('opens for reading only by default', async () => {
    const device = await openFileDevice(image);
    await expect(device.write(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'device.write-failed' });
    await expect(device.writeZeros(0, 1)).rejects.toMatchObject({ code: 'device.write-failed' });
    await device.flush();
    await device.close();
    expect(Buffer.compare(await readFile(image), content)).toBe(0);
  });

  it('reports a file that shrinks under it, rather than leaving the buffer half filled', async () => {
    const device = await openFileDevice(image);
    await truncate(image, MiB);
    await expect(device.read(MiB - 10, new Uint8Array(20))).rejects.toMatchObject({
      code: 'device.read-failed',
      message: expect.stringContaining(`ends at ${MiB}`),
    });
    await device.close();
  });

  it('stops when the signal says so', async () => {
    const device = await openFileDevice(image, { writable: true });
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(device.read(0, new Uint8Array(1), { signal })).rejects.toThrow('enough');
    await expect(device.write(0, new Uint8Array(1), { signal })).rejects.toThrow('enough');
    await device.close();
  });

  it('says what is wrong with the path', async () => {
    await expect(openFileDevice(path.join(directory, 'none'))).rejects.toMatchObject({
      code: 'device.read-failed',
      message: expect.stringContaining('none'),
    });
    await expect(openFileDevice(path.join(directory, 'none'), { writable: true })).rejects.toMatchObject({
      code: 'device.write-failed',
    });
    await expect(openFileDevice(directory)).rejects.toMatchObject({
      message: expect.stringContaining('neither a file'),
    });
    await expect(openFileDevice('/dev/zero')).rejects.toMatchObject({
      message: expect.stringContaining('neither a file'),
    });
  });
});

describe('openFileDevice on a block device', () => {
  it('knows its size, also behind a link, and reads and writes it', async () => {
    await truncate(image, 4 * MiB);
    const loop = execFileSync('losetup', ['--find', '--show', image], { encoding: 'utf8' }).trim();
    try {
      const link = path.join(directory, 'by-id');
      await symlink(loop, link);
      const device = await openFileDevice(link, { writable: true });
      expect(device.sizeBytes).toBe(4 * MiB);
      const target = new Uint8Array(1000);
      await device.read(MiB + 3, target);
      expect(Buffer.compare(target, content.subarray(MiB + 3, MiB + 1003))).toBe(0);
      await device.write(4 * MiB - 3, Buffer.from('end'));
      await device.flush();
      await device.close();
      expect((await readFile(image)).subarray(-3).toString()).toBe('end');
    } finally {
      execFileSync('losetup', ['--detach', loop]);
    }
  });
});
