/** Whole disks, written and read back, against a model that keeps every disk in memory. */
import * as fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';

import type { Extent } from '@lifeboat/foundation/block-device';

import type { Core } from './core.ts';
import type { BlobRef } from './format/blob-ref.ts';
import type { DiskRoot } from './format/point.ts';
import { packOfObject, PACKS } from './format/names.ts';
import type { Repository } from './repository.ts';
import { MapReader } from './read/map-reader.ts';
import { readPackSet } from './read/pack-set-reader.ts';
import { MemoryStore } from './store/memory-store.ts';
import { noise, noisyDisk, readDisk } from './testing/disks.ts';
import { fileSource } from './testing/file-source.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch, TINY_CHUNK, TINY_GEOMETRY } from './testing/tiny.ts';
import type { WriteDiskStats } from './write/disk-writer.ts';
import { threadSealer } from './write/thread-sealer.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const signal = new AbortController().signal;
const context = { signal, progress: () => {} };

interface Backup {
  readonly content: Uint8Array;
  readonly parent?: DiskRoot | undefined;
  readonly changed?: 'all' | { offsetBytes: number; lengthBytes: number }[];
  readonly allocation?: readonly Extent[];
}

async function backUp(
  repository: Repository,
  n: number,
  disk: Backup,
): Promise<{ root: DiskRoot; stats: WriteDiskStats }> {
  const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  const { content, parent, changed = 'all', allocation } = disk;
  const source = fileSource(scratch.file(content));
  const request = { name: 'vda', sizeBytes: content.length, source, parent, changed, allocation };
  const written = await session.writeDisk(request, { signal });
  await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [{ name: 'vda', root: written.root }] });
  return written;
}

/** Runs of chunks: zeros, few contents (so that they repeat), or noise. */
const pieces = fc.array(
  fc.tuple(fc.constantFrom('zero', 'few', 'noise'), fc.integer({ min: 1, max: 6 }), fc.nat(1_000_000)),
  { maxLength: 14 },
);
const bytesOf = (runs: readonly [string, number, number][]): Buffer =>
  Buffer.concat(
    runs.flatMap(([kind, count, seed]) =>
      Array.from({ length: count }, (_, i) => {
        if (kind === 'zero') return Buffer.alloc(TINY_CHUNK);
        return noise(kind === 'few' ? seed % 5 : seed + i);
      }),
    ),
  );
const diskContent = fc
  .tuple(pieces, fc.nat(TINY_CHUNK - 1))
  .map(([runs, ragged]) =>
    Buffer.concat([bytesOf(runs as [string, number, number][]), noise(ragged).subarray(0, ragged)]),
  );

describe('a disk that is written and read back', () => {
  test('is the same, whatever is on it, with a repository opened anew', async () => {
    await fc.assert(
      fc.asyncProperty(diskContent, async (content) => {
        const store = new MemoryStore();
        await backUp(await initTiny(store), 1, { content });
        const repository = await openTiny(store);
        expect(Buffer.compare(await readDisk(repository, MACHINE, pointId(1)), content)).toBe(0);
        const report = await repository.checkPoint(await repository.readPoint(MACHINE, pointId(1)), 'content', context);
        expect(report).toMatchObject({ sound: true, objects: [], disks: [] });
      }),
      { numRuns: 40 },
    );
  });

  test('is the same through threads', async () => {
    const repeated = Array.from({ length: 200 }, (_, i) => noise(i % 60));
    const content = Buffer.concat([noise(1), Buffer.alloc(TINY_CHUNK * 9), ...repeated, Buffer.from('end')]);
    const repository = await initTiny(new MemoryStore(), { sealer: threadSealer({ threads: 3 }) });
    const { stats } = await backUp(repository, 1, { content });
    expect(await readDisk(repository, MACHINE, pointId(1))).toEqual(content);
    expect(stats).toMatchObject({ readBytes: content.length, newChunks: 61 });
  });

  test('answers any range, many at a time', async () => {
    const repository = await initTiny(new MemoryStore());
    const content = Buffer.concat([noisyDisk(40), Buffer.alloc(TINY_CHUNK * 5), noisyDisk(9, 2).subarray(0, -13)]);
    await backUp(repository, 1, { content });
    const device = repository.openDisk(await repository.readPoint(MACHINE, pointId(1)), 'vda', {
      cacheBytes: TINY_CHUNK * 3,
    });
    const range = fc
      .nat(content.length)
      .chain((offset) => fc.tuple(fc.constant(offset), fc.nat(content.length - offset)));
    await fc.assert(
      fc.asyncProperty(fc.array(range, { minLength: 1, maxLength: 8 }), async (ranges) => {
        await Promise.all(
          ranges.map(async ([offset, length]) => {
            const target = Buffer.alloc(length, 0xee);
            await device.read(offset, target);
            expect(Buffer.compare(target, content.subarray(offset, offset + length))).toBe(0);
          }),
        );
      }),
      { numRuns: 50 },
    );
    await expect(device.read(content.length, Buffer.alloc(1))).rejects.toThrow(/outside a device/);
  });
});

/** Changes to a disk: writes of bytes (mostly new, sometimes zeros), and new sizes. */
const change = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('write' as const), at: fc.nat(4000), runs: pieces }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('resize' as const), at: fc.nat(4000), runs: pieces }) },
);

describe('a chain of incrementals', () => {
  test('reads what changed, and every point stays what it was', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        diskContent,
        fc.array(fc.record({ changes: fc.array(change, { maxLength: 3 }), compareAll: fc.boolean() }), {
          maxLength: 4,
        }),
        async (first, steps) => {
          const store = new MemoryStore();
          const repository = await initTiny(store);
          const model: Buffer[] = [first];
          let { root } = await backUp(repository, 0, { content: first });
          for (const [i, { changes, compareAll }] of steps.entries()) {
            const before = model.at(-1) ?? first;
            const { content, tracked } = apply(before, changes);
            const written = await backUp(repository, i + 1, {
              content,
              parent: root,
              changed: compareAll ? 'all' : tracked,
            });
            // Exactly the chunks that were touched; of a disk of another size also what nobody tracked.
            const readsMore = compareAll || content.length !== before.length;
            const touchedBytes = bytesTouched(tracked, content.length);
            expect(readsMore ? written.stats.readBytes >= touchedBytes : written.stats.readBytes === touchedBytes).toBe(
              true,
            );
            root = written.root;
            model.push(content);
          }
          for (const [i, content] of model.entries()) {
            expect(Buffer.compare(await readDisk(repository, MACHINE, pointId(i)), content)).toBe(0);
            const point = await repository.readPoint(MACHINE, pointId(i));
            await expectExactPackSet(repository, point.disks[0]?.root);
          }
        },
      ),
      { numRuns: Number(process.env['RUNS'] ?? 20), endOnFailure: true },
    );
  });

  test('that changed nothing shares everything, and reads and writes nothing', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const content = noisyDisk(300);
    const full = await backUp(repository, 1, { content });
    const packs = [...store.objects.keys()].filter((name) => name.startsWith(PACKS)).length;
    const incremental = await backUp(repository, 2, { content, parent: full.root, changed: [] });
    expect(incremental.root).toEqual(full.root);
    expect(incremental.stats).toMatchObject({
      readBytes: 0,
      storedBytes: 0,
      metadataBytes: 0,
      takenOverBytes: content.length,
    });
    const compared = await backUp(repository, 3, { content, parent: full.root, changed: 'all' });
    expect(compared.root).toEqual(full.root);
    expect(compared.stats).toMatchObject({
      readBytes: content.length,
      unchangedChunks: 300,
      storedBytes: 0,
      metadataBytes: 0,
    });
    expect([...store.objects.keys()].filter((name) => name.startsWith(PACKS))).toHaveLength(packs);
  });

  test('rewrites one path of the map for one chunk', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const content = noisyDisk(256);
    const full = await backUp(repository, 1, { content });
    const changed = Buffer.from(content);
    noise(999_999).copy(changed, 100 * TINY_CHUNK);
    const { root } = await backUp(repository, 2, {
      content: changed,
      parent: full.root,
      changed: [{ offsetBytes: 6411, lengthBytes: 1 }],
    });
    const before = await pagesOf(repository, full.root);
    const after = await pagesOf(repository, root);
    const fresh = [...after].filter((page) => !before.has(page));
    // 256 chunks in leaves of four and branches of two: seven levels.
    expect(fresh).toHaveLength(7);
  });
});

describe('an allocation', () => {
  test('is not read where it is empty, and comes back as extents', async () => {
    const repository = await initTiny(new MemoryStore());
    const content = noisyDisk(100);
    const allocation: Extent[] = [
      { offsetBytes: 0, lengthBytes: 10 * TINY_CHUNK + 5, kind: 'data' },
      { offsetBytes: 10 * TINY_CHUNK + 5, lengthBytes: 30 * TINY_CHUNK, kind: 'hole' },
      { offsetBytes: 40 * TINY_CHUNK + 5, lengthBytes: 20 * TINY_CHUNK - 5, kind: 'zero' },
      { offsetBytes: 60 * TINY_CHUNK, lengthBytes: 40 * TINY_CHUNK, kind: 'data' },
    ];
    const { stats } = await backUp(repository, 1, { content, allocation });
    const expected = Buffer.from(content).fill(0, 11 * TINY_CHUNK, 60 * TINY_CHUNK);
    expect(stats).toMatchObject({ readBytes: 51 * TINY_CHUNK, skippedBytes: 49 * TINY_CHUNK });
    expect(await readDisk(repository, MACHINE, pointId(1))).toEqual(expected);
    const device = repository.openDisk(await repository.readPoint(MACHINE, pointId(1)), 'vda');
    expect(await device.extents({ offsetBytes: 0, lengthBytes: content.length })).toEqual([
      { offsetBytes: 0, lengthBytes: 11 * TINY_CHUNK, kind: 'data' },
      { offsetBytes: 11 * TINY_CHUNK, lengthBytes: 29 * TINY_CHUNK, kind: 'hole' },
      { offsetBytes: 40 * TINY_CHUNK, lengthBytes: 20 * TINY_CHUNK, kind: 'zero' },
      { offsetBytes: 60 * TINY_CHUNK, lengthBytes: 40 * TINY_CHUNK, kind: 'data' },
    ]);
    expect(await device.extents({ offsetBytes: 39 * TINY_CHUNK + 1, lengthBytes: 100 })).toEqual([
      { offsetBytes: 39 * TINY_CHUNK + 1, lengthBytes: 63, kind: 'hole' },
      { offsetBytes: 40 * TINY_CHUNK, lengthBytes: 37, kind: 'zero' },
    ]);
    // What was discarded since is gone from the next point, although nothing of it is read.
    const next = await backUp(repository, 2, {
      content,
      parent: (await repository.readPoint(MACHINE, pointId(1))).disks[0]?.root,
      changed: [{ offsetBytes: 70 * TINY_CHUNK, lengthBytes: 10 * TINY_CHUNK }],
      allocation: [
        { offsetBytes: 0, lengthBytes: 60 * TINY_CHUNK, kind: 'data' },
        { offsetBytes: 60 * TINY_CHUNK, lengthBytes: 40 * TINY_CHUNK, kind: 'hole' },
      ],
    });
    expect(next.stats).toMatchObject({ readBytes: 0, skippedBytes: 10 * TINY_CHUNK });
    expect(await readDisk(repository, MACHINE, pointId(2))).toEqual(
      Buffer.from(expected).fill(0, 70 * TINY_CHUNK, 80 * TINY_CHUNK),
    );
  });

  test('of a huge empty disk costs nothing', async () => {
    const repository = await initTiny(new MemoryStore());
    const sizeBytes = 2 ** 40;
    const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
    const request = { name: 'vda', sizeBytes, source: fileSource('/nonexistent'), changed: 'all' as const };
    const allocation = [{ offsetBytes: 0, lengthBytes: sizeBytes, kind: 'hole' as const }];
    const { root, stats } = await session.writeDisk({ ...request, allocation }, { signal });
    expect(root).toMatchObject({ map: 'hole', packs: null });
    expect(stats).toMatchObject({ skippedBytes: sizeBytes, metadataBytes: 0 });
    await session.abandon();
  });
});

function apply(
  before: Buffer,
  changes: readonly { kind: 'write' | 'resize'; at: number; runs: unknown }[],
): { content: Buffer; tracked: { offsetBytes: number; lengthBytes: number }[] } {
  let content = Buffer.from(before);
  const ranges: { offsetBytes: number; lengthBytes: number }[] = [];
  for (const { kind, at, runs } of changes) {
    const bytes = bytesOf(runs as [string, number, number][]);
    if (kind === 'resize') {
      const resized = Buffer.alloc(at);
      content.copy(resized);
      // What a disk grew by is whatever it is. A tracker knows of it only as far as the disk had been as long before.
      if (at > content.length) noisyDisk(Math.ceil(at / TINY_CHUNK), at).copy(resized, content.length, content.length);
      ranges.push({ offsetBytes: content.length, lengthBytes: Math.max(0, at - content.length) });
      content = resized;
    } else if (content.length > 0) {
      const offsetBytes = at % content.length;
      const lengthBytes = bytes.copy(content, offsetBytes);
      ranges.push({ offsetBytes, lengthBytes });
    }
  }
  const known = Math.min(before.length, content.length);
  const tracked = ranges
    .map(({ offsetBytes, lengthBytes }) => ({ offsetBytes, lengthBytes: Math.min(lengthBytes, known - offsetBytes) }))
    .filter(({ lengthBytes }) => lengthBytes > 0);
  return { content, tracked };
}

function bytesTouched(ranges: readonly { offsetBytes: number; lengthBytes: number }[], sizeBytes: number): number {
  const chunks = new Set(
    ranges.flatMap(({ offsetBytes, lengthBytes }) =>
      Array.from({ length: lengthBytes }, (_, b) => Math.floor((offsetBytes + b) / TINY_CHUNK)),
    ),
  );
  return [...chunks].reduce((sum, chunk) => sum + Math.min(TINY_CHUNK, sizeBytes - chunk * TINY_CHUNK), 0);
}

/** The set holds exactly the packs the map refers to, as often as it does: counted anew, from the map alone. */
async function expectExactPackSet(repository: Repository, root: DiskRoot | undefined): Promise<void> {
  if (!root) throw new Error('a point without its disk');
  const core = repository.core;
  const expected = new Map<string, number>();
  const count = ({ pack }: BlobRef): void => void expected.set(pack, (expected.get(pack) ?? 0) + 1);
  const map = new MapReader({ root, pages: core.pages, geometry: TINY_GEOMETRY, what: 'it' });
  const visit = async (level: number, index: number): Promise<void> => {
    const place = await map.pagePlace(level, index);
    if (typeof place === 'string') return;
    count(place);
    const page = await map.page(level, index);
    if (typeof page === 'string') return;
    for (const [i, child] of page.places.entries()) {
      if (typeof child === 'string') continue;
      if (level === 0) count(child);
      else await visit(level - 1, index * TINY_GEOMETRY.branchEntries + i);
    }
  };
  await visit(map.rootLevel, 0);
  const found = new Map<string, number>();
  for await (const need of readPackSet(core.pages, root.packs)) {
    if (need instanceof Error) throw need;
    if ('references' in need) found.set(need.pack, need.references as number);
    expect(need.sizeBytes ?? 0).toBe(need.sizeBytes === undefined ? 0 : await sizeOf(core, need.pack));
  }
  expect(found).toEqual(expected);
}

async function sizeOf(core: Core, pack: string): Promise<number | undefined> {
  for await (const { name, sizeBytes } of core.store.list(PACKS)) if (packOfObject(name) === pack) return sizeBytes;
  return undefined;
}

async function pagesOf(repository: Repository, root: DiskRoot): Promise<Set<string>> {
  const map = new MapReader({ root, pages: repository.core.pages, geometry: TINY_GEOMETRY, what: 'it' });
  const pages = new Set<string>();
  for (let level = map.rootLevel; level >= 0; level--) {
    for (let index = 0; index < Math.ceil(map.chunkCount / (4 * 2 ** level)); index++) {
      const place = await map.pagePlace(level, index);
      if (typeof place !== 'string') pages.add(`${place.pack} ${place.slot}`);
    }
  }
  return pages;
}
