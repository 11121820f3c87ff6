import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { silentLog } from '@lifeboat/foundation/log';
import { systemRandom } from '@lifeboat/foundation/random';
import { afterAll, describe, expect, test } from 'vitest';

import type { BlobRef } from '../format/blob-ref.ts';
import { chunkIdOf, INDEX, PACKS, packNameOf } from '../format/names.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { noisyDisk, readDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch, TINY_LIMITS } from '../testing/tiny.ts';
import { IndexCache } from './index-cache.ts';
import { encodeRecord } from './index-run.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const key = Buffer.alloc(32, 7);
const hash = (text: string): Buffer => createHash('sha256').update(text).digest();

function ref(n: number): BlobRef {
  const pack = packNameOf(hash(`pack ${Math.floor(n / 20)}`));
  return { id: chunkIdOf(hash(`chunk ${n}`)), pack, slot: n % 20, offsetBytes: 100 + n, lengthBytes: 17 + n };
}

const refs = (from: number, count: number): BlobRef[] => Array.from({ length: count }, (_, i) => ref(from + i));
const openCache = (directory: string): Promise<IndexCache> =>
  IndexCache.open({ directory, key, random: systemRandom, log: silentLog });

/** Segments of a store, and which of them were read. */
function segments(count: number, entries: number) {
  const read: string[] = [];
  return {
    read,
    sync: (cache: IndexCache, isThere = (): boolean => true) =>
      cache.sync(
        (async function* () {
          for (let i = 0; i < count; i++) yield `control/index/${i}`;
        })(),
        async (name) => {
          read.push(name);
          return refs(Number(name.split('/')[2]) * entries, entries);
        },
        isThere,
      ),
  };
}

const all = (): boolean => true;

describe('the local index', () => {
  test('knows what its segments hold and nothing else, over many runs and merges', async () => {
    const directory = scratch.directory();
    for (let count = 1; count <= 20; count++) {
      const cache = await openCache(directory);
      await segments(count, 300).sync(cache);
      expect(cache.count).toBe(count * 300);
      await cache.close();
    }
    const cache = await openCache(directory);
    for (let n = 0; n < 6000; n += 7) expect(await cache.find(ref(n).id, all)).toEqual(ref(n));
    for (let n = 6000; n < 6300; n++) expect(await cache.find(ref(n).id, all)).toBeUndefined();
    expect(await cache.find(ref(5).id, ({ slot }) => slot !== 5)).toBeUndefined();
    expect(readdirSync(directory).length).toBeLessThan(12);
    await cache.close();
  });

  test('reads a segment once', async () => {
    const directory = scratch.directory();
    const first = await openCache(directory);
    await segments(3, 50).sync(first);
    await first.close();
    const again = await openCache(directory);
    const five = segments(5, 50);
    await five.sync(again);
    expect(five.read).toEqual(['control/index/3', 'control/index/4']);
    await again.close();
  });

  test('drops entries of packs that are gone when it merges', async () => {
    const directory = scratch.directory();
    for (let count = 1; count <= 9; count++) {
      const cache = await openCache(directory);
      await segments(count, 40).sync(cache, () => false);
      await cache.close();
    }
    const cache = await openCache(directory);
    expect(cache.count).toBe(0);
    await cache.close();
  });

  test('of a session that stores much has few runs, and look-ups go on while they are merged', async () => {
    const directory = scratch.directory();
    const cache = await openCache(directory);
    // One chunk in so many packs that a look-up reads page after page, and is still on its way when the runs are merged.
    const places = (i: number): BlobRef[] =>
      refs(i * 8000, 8000)
        .filter(({ slot }) => slot === 0)
        .map(({ pack }) => ({ ...ref(0), pack }));
    for (let i = 0; i < 20; i++) {
      const lookUp = cache.find(ref(0).id, () => false);
      await cache.add(places(i).map(encodeRecord), [`control/index/${i}`]);
      expect(await lookUp).toBeUndefined();
      expect(readdirSync(directory).filter((name) => name.startsWith('run-')).length).toBeLessThanOrEqual(8);
    }
    for (const { pack } of places(7).slice(0, 20))
      expect(await cache.find(ref(0).id, (found) => found.pack === pack)).toMatchObject({ pack });
    expect(cache.count).toBe(8000);
    await cache.close();
  });

  test('keeps every place of a chunk that two runs have, since either may be gone next time', async () => {
    const cache = await openCache(scratch.directory());
    const places = [ref(1), { ...ref(1), pack: ref(100).pack }];
    for (let i = 0; i < 9; i++)
      await cache.add(places.slice(i % 2, (i % 2) + 1).map(encodeRecord), [`control/index/${i}`]);
    for (const { pack } of places)
      expect(await cache.find(ref(1).id, (found) => found.pack === pack)).toMatchObject({ pack });
    await cache.close();
  });

  test('leaves out a run that turns out to be damaged when it is merged', async () => {
    const directory = scratch.directory();
    const cache = await openCache(directory);
    const add = (i: number): Promise<void> => cache.add(refs(i * 20, 20).map(encodeRecord), [`control/index/${i}`]);
    await add(0);
    const [run = ''] = readdirSync(directory).filter((name) => name.startsWith('run-'));
    writeFileSync(join(directory, run), readFileSync(join(directory, run)).fill(0xff, 100, 101));
    for (let i = 1; i < 10; i++) await add(i);
    for (let n = 0; n < 200; n++) expect(await cache.find(ref(n).id, all)).toEqual(n < 20 ? undefined : ref(n));
    await cache.close();
  });

  test.each(['flipped', 'cut', 'gone', 'of another file', 'no manifest', 'another manifest'])(
    'is built again when a part of it is %s',
    async (harm) => {
      const directory = scratch.directory();
      for (const count of [1, 2]) {
        const cache = await openCache(directory);
        await segments(count, 200).sync(cache);
        await cache.close();
      }
      const [run = '', other = ''] = readdirSync(directory)
        .filter((name) => name.startsWith('run-'))
        .map((name) => join(directory, name));
      const bytes = readFileSync(run);
      if (harm === 'flipped') writeFileSync(run, bytes.fill(bytes[4096 + 300]! ^ 1, 4096 + 300, 4096 + 301));
      if (harm === 'cut') writeFileSync(run, bytes.subarray(0, 5000));
      if (harm === 'gone') rmSync(run);
      if (harm === 'of another file') writeFileSync(run, readFileSync(other));
      if (harm === 'no manifest') rmSync(join(directory, 'manifest.json'));
      if (harm === 'another manifest') writeFileSync(join(directory, 'manifest.json'), '{"runs":[{"file":"../x"}]}');
      // Never a wrong answer, also before it is noticed.
      const harmed = await openCache(directory);
      for (let n = 0; n < 400; n++) {
        const found = await harmed.find(ref(n).id, all);
        expect(found ?? ref(n)).toEqual(ref(n));
      }
      await segments(2, 200).sync(harmed);
      await harmed.close();
      const cache = await openCache(directory);
      await segments(2, 200).sync(cache);
      for (let n = 0; n < 400; n++) expect(await cache.find(ref(n).id, all)).toEqual(ref(n));
      await cache.close();
    },
  );
});

describe('a session with a local index', () => {
  const disk = scratch.file(noisyDisk(90));
  const write = async (store: MemoryStore, input: { indexDirectory: string; first?: boolean; point: number }) => {
    const deps = { indexDirectory: input.indexDirectory, writerLimits: { ...TINY_LIMITS, segmentEntries: 16 } };
    const repository = input.first ? await initTiny(store, deps) : await openTiny(store, deps);
    const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
    const { root, stats } = await session.writeDisk(
      { name: 'vda', sizeBytes: 90 * 64, source: fileSource(disk), changed: 'all' },
      { signal: new AbortController().signal },
    );
    await session.commit({ pointId: pointId(input.point), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
    return stats;
  };
  const segmentsIn = (store: MemoryStore): string[] =>
    [...store.objects.keys()].filter((name) => name.startsWith(INDEX));

  test('finds what other sessions stored, and stores it again only when index and segments are lost', async () => {
    const store = new MemoryStore();
    const indexDirectory = scratch.directory();
    expect(await write(store, { indexDirectory, first: true, point: 1 })).toMatchObject({ newChunks: 90 });
    // In parts, while the disk was being written.
    expect(segmentsIn(store)).toHaveLength(6);
    expect(await write(store, { indexDirectory, point: 2 })).toMatchObject({ newChunks: 0, knownChunks: 90 });
    // Lost: built from the segments.
    rmSync(indexDirectory, { recursive: true });
    expect(await write(store, { indexDirectory, point: 3 })).toMatchObject({ newChunks: 0, knownChunks: 90 });
    for (const name of segmentsIn(store)) await store.delete(name);
    // The local index still knows.
    expect(await write(store, { indexDirectory, point: 4 })).toMatchObject({ newChunks: 0 });
    rmSync(indexDirectory, { recursive: true });
    expect(await write(store, { indexDirectory, point: 5 })).toMatchObject({ newChunks: 90 });
  });

  test('goes on with a journal of more than it holds in memory: that lies in the index before the disk is written', async () => {
    const store = new MemoryStore();
    const indexDirectory = scratch.directory();
    const deps = { indexDirectory, writerLimits: { ...TINY_LIMITS, segmentEntries: 16 } };
    const begun = { machineId: MACHINE, directory: scratch.directory() };
    const killed = await (await initTiny(store, deps)).beginSession(begun);
    const request = { name: 'vda', sizeBytes: 90 * 64, source: fileSource(disk), changed: 'all' as const };
    const context = { signal: new AbortController().signal };
    await killed.writeDisk(request, context);
    await killed.detach();
    // Neither the index nor the segments of the first attempt are needed.
    rmSync(indexDirectory, { recursive: true });
    for (const name of segmentsIn(store)) await store.delete(name);
    const session = await (await openTiny(store, deps)).beginSession(begun);
    expect(segmentsIn(store)).toHaveLength(5);
    expect(readdirSync(indexDirectory)).toHaveLength(1);
    const { root, stats } = await session.writeDisk(request, context);
    expect(stats).toMatchObject({ newChunks: 0, knownChunks: 90, storedBytes: 0 });
    const input = { pointId: pointId(1), machine: {}, capture: {}, disks: [{ name: 'vda', root }] };
    await session.commit(input);
    expect(await readDisk(await openTiny(store), MACHINE, pointId(1))).toEqual(readFileSync(disk));
  });

  test('refers to no pack that the store does not list', async () => {
    const store = new MemoryStore();
    const indexDirectory = scratch.directory();
    await write(store, { indexDirectory, first: true, point: 1 });
    for await (const { name } of store.list(PACKS)) await store.delete(name);
    expect(await write(store, { indexDirectory, point: 2 })).toMatchObject({ newChunks: 90, knownChunks: 0 });
  });
});
