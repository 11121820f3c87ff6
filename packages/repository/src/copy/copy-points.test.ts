import { afterAll, describe, expect, test } from 'vitest';

import { PACKS } from '../format/names.ts';
import { decodePackHeader, kindOf } from '../format/pack.ts';
import type { Repository } from '../repository.ts';
import { MemoryStore } from '../store/memory-store.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { noise, noisyDisk, readDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch, TINY_CHUNK } from '../testing/tiny.ts';
import { copyPoints } from './copy-points.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const context = { signal: new AbortController().signal, progress: () => {} };

async function backUp(repository: Repository, n: number, disk: Buffer): Promise<void> {
  const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  const source = fileSource(scratch.file(disk));
  const { root } = await session.writeDisk({ name: 'vda', sizeBytes: disk.length, source, changed: 'all' }, context);
  const files = [{ name: 'domain.xml', content: Buffer.from('<domain/>') }];
  await session.commit({ pointId: pointId(n), machine: { n }, capture: {}, disks: [{ name: 'vda', root }], files });
}

function changed(disk: Buffer, chunk: number, seed: number): Buffer {
  const copy = Buffer.from(disk);
  noise(seed).copy(copy, chunk * TINY_CHUNK);
  return copy;
}

describe('a copy', () => {
  test('has every point, under keys of its own, and reads only what changed', async () => {
    const source = await initTiny(new MemoryStore());
    const targetStore = new MemoryStore();
    const target = await initTiny(targetStore);
    const first = Buffer.concat([noisyDisk(40), Buffer.alloc(10 * TINY_CHUNK)]);
    const second = changed(first, 7, 4711);
    await backUp(source, 1, first);
    await backUp(source, 2, second);
    const directory = scratch.directory();
    const outcomes = await copyPoints({ source, target, directory }, context);
    expect(outcomes.map(({ outcome, readBytes }) => [outcome, readBytes])).toEqual([
      ['copied', 40 * TINY_CHUNK],
      ['copied', TINY_CHUNK],
    ]);
    const reopened = await openTiny(targetStore);
    expect(await readDisk(reopened, MACHINE, pointId(1))).toEqual(first);
    expect(await readDisk(reopened, MACHINE, pointId(2))).toEqual(second);
    const point = await reopened.readPoint(MACHINE, pointId(2));
    expect([point.machine, point.files[0]?.name]).toEqual([{ n: 2 }, 'domain.xml']);
    const third = changed(second, 3, 4712);
    await backUp(source, 3, third);
    const again = await copyPoints({ source, target, directory }, context);
    expect(again.map(({ outcome, readBytes }) => [outcome, readBytes])).toEqual([
      ['there', 0],
      ['there', 0],
      ['copied', TINY_CHUNK],
    ]);
    expect(await readDisk(reopened, MACHINE, pointId(3))).toEqual(third);
  });

  test('that was killed at any write goes on, and is right in the end', async () => {
    const source = await initTiny(new MemoryStore());
    const disk = noisyDisk(60);
    await backUp(source, 1, disk);
    for (let killAfter = 0; killAfter < 12; killAfter += 2) {
      const store = new (class extends MemoryStore {
        left = Number.POSITIVE_INFINITY;
        override putIfAbsent(...given: Parameters<ObjectStore['putIfAbsent']>): Promise<'created' | 'exists'> {
          if (this.left-- <= 0) return Promise.reject(new Error('killed'));
          return super.putIfAbsent(...given);
        }
      })();
      const target = await initTiny(store);
      const directory = scratch.directory();
      store.left = killAfter;
      await copyPoints({ source, target, directory }, context).catch(() => 'killed');
      store.left = Number.POSITIVE_INFINITY;
      await copyPoints({ source, target, directory }, context);
      expect(await readDisk(target, MACHINE, pointId(1))).toEqual(disk);
    }
  });

  test('never takes over damage: the point is named, the others are copied', async () => {
    const store = new MemoryStore();
    const source = await initTiny(store);
    await backUp(source, 1, noisyDisk(30, 1));
    const before = new Set(store.objects.keys());
    await backUp(source, 2, noisyDisk(30, 2));
    for (const [name, object] of store.objects) {
      // Bytes of the second point's packs, headers left alone.
      if (name.startsWith(PACKS) && !before.has(name)) object[300] = (object[300] ?? 0) ^ 1;
    }
    const target = await initTiny(new MemoryStore());
    const outcomes = await copyPoints(
      { source: await openTiny(store), target, directory: scratch.directory() },
      context,
    );
    expect(outcomes.map(({ outcome }) => outcome)).toEqual(['copied', 'damaged']);
    expect(await target.points()).toHaveLength(1);
  });

  test.each(['target', 'source'] as const)(
    'reads all of a disk where the map of the point before is damaged in the %s',
    async (where) => {
      const stores = { source: new MemoryStore(), target: new MemoryStore() };
      const source = await initTiny(stores.source);
      await initTiny(stores.target);
      const first = noisyDisk(40);
      const second = changed(first, 7, 4711);
      await backUp(source, 1, first);
      const directory = scratch.directory();
      await copyPoints({ source, target: await openTiny(stores.target), directory }, context);
      for (const [name, object] of stores[where].objects)
        if (name.startsWith(PACKS) && kindOf(decodePackHeader(object, name).header) === 'map') object.fill(0, 300);
      await backUp(await openTiny(stores.source), 2, second);
      const between = { source: await openTiny(stores.source), target: await openTiny(stores.target) };
      const outcomes = await copyPoints({ ...between, directory }, context);
      expect(outcomes.map(({ outcome }) => outcome)).toEqual(['there', 'copied']);
      expect(outcomes[1]?.readBytes).toBe(second.length);
      expect(await readDisk(await openTiny(stores.target), MACHINE, pointId(2))).toEqual(second);
    },
  );

  test('into itself is refused', async () => {
    const store = new MemoryStore();
    const source = await initTiny(store);
    const directory = scratch.directory();
    const itself = copyPoints({ source, target: await openTiny(store), directory }, context);
    await expect(itself).rejects.toMatchObject({ code: 'input.invalid' });
  });
});
