import * as fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';

import type { DiskRoot } from './format/point.ts';
import type { Repository } from './repository.ts';
import { MemoryStore } from './store/memory-store.ts';
import { fileSource } from './testing/file-source.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch, TINY_CHUNK } from './testing/tiny.ts';
import { threadSealer } from './write/thread-sealer.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const signal = new AbortController().signal;
const context = { signal, progress: () => {} };

/** Disks as runs of chunks: zeros, one of few contents (so that they repeat), or noise; and a ragged end. */
const diskContent = fc
  .tuple(
    fc.array(
      fc.tuple(
        fc.constantFrom('zero', 'few', 'noise'),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 0, max: 2 ** 31 - 1 }),
      ),
      { maxLength: 14 },
    ),
    fc.integer({ min: 0, max: TINY_CHUNK - 1 }),
  )
  .map(([runs, ragged]) => {
    const chunks = runs.flatMap(([kind, count, seed]) =>
      Array.from({ length: count }, (_, i) => {
        if (kind === 'zero') return Buffer.alloc(TINY_CHUNK);
        return noise(kind === 'few' ? seed % 5 : seed + i * 7919);
      }),
    );
    return Buffer.concat([...chunks, noise(ragged).subarray(0, ragged)]);
  });

function noise(seed: number): Buffer {
  const bytes = Buffer.alloc(TINY_CHUNK);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

async function readAll(repository: Repository, n: number, disk = 'vda'): Promise<Buffer> {
  const point = await repository.readPoint(MACHINE, pointId(n));
  const device = repository.openDisk(point, disk);
  const target = Buffer.alloc(device.sizeBytes, 0xee);
  await device.read(0, target);
  return target;
}

async function backUp(
  repository: Repository,
  n: number,
  disk: { content: Uint8Array; parent?: DiskRoot; changed?: 'all' | { offsetBytes: number; lengthBytes: number }[] },
): Promise<{
  root: DiskRoot;
  stats: Awaited<ReturnType<Awaited<ReturnType<Repository['beginSession']>>['writeDisk']>>['stats'];
}> {
  const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  const written = await session.writeDisk(
    {
      name: 'vda',
      sizeBytes: disk.content.length,
      source: fileSource(scratch.file(disk.content)),
      parent: disk.parent,
      changed: disk.changed ?? 'all',
    },
    { signal },
  );
  await session.commit({
    pointId: pointId(n),
    machine: { name: 'm' },
    capture: {},
    disks: [{ name: 'vda', root: written.root }],
  });
  return written;
}

describe('a disk that is written and read back', () => {
  test('is the same, whatever is on it, with a repository opened anew', async () => {
    await fc.assert(
      fc.asyncProperty(diskContent, async (content) => {
        const store = new MemoryStore();
        await backUp(await initTiny(store), 1, { content });
        const repository = await openTiny(store);
        expect(Buffer.compare(await readAll(repository, 1), content)).toBe(0);
        const report = await repository.checkPoint(await repository.readPoint(MACHINE, pointId(1)), 'content', context);
        expect(report).toMatchObject({ sound: true, objects: [], disks: [] });
      }),
      { numRuns: 60 },
    );
  });

  test('is the same through threads', async () => {
    const content = Buffer.concat([
      noise(1),
      Buffer.alloc(TINY_CHUNK * 9),
      ...Array.from({ length: 200 }, (_, i) => noise(i % 60)),
      Buffer.from('end'),
    ]);
    const store = new MemoryStore();
    const repository = await initTiny(store, { sealer: threadSealer({ threads: 3 }) });
    const { stats } = await backUp(repository, 1, { content });
    expect(await readAll(repository, 1)).toEqual(content);
    expect(stats).toMatchObject({ readBytes: content.length, newChunks: 61 });
  });
});
