/** What a machine with many points costs. */
import { afterAll, expect, test } from 'vitest';

import { POINTS } from './format/names.ts';
import type { Repository } from './repository.ts';
import { DirectoryStore } from './store/directory-store.ts';
import { nodeFiles } from './store/files.ts';
import { MemoryStore } from './store/memory-store.ts';
import type { StoreOptions } from './store/object-store.ts';
import { noisyDisk } from './testing/disks.ts';
import { fileSource } from './testing/file-source.ts';
import { initTiny, MACHINE, pointId, Scratch } from './testing/tiny.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());

const MANY = 12;

async function makePoints(repository: Repository, count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
    await session.commit({ pointId: pointId(n), machine: {}, capture: { n }, disks: [] });
  }
}

test('a backup lists the points of its machine twice, and asks for the size of none', async () => {
  const asked = { points: [] as string[], listings: 0 };
  const store = new DirectoryStore(scratch.directory(), {
    files: {
      ...nodeFiles,
      stat: (path) => {
        if (path.includes(POINTS)) asked.points.push(path);
        return nodeFiles.stat(path);
      },
      readdir: (path) => {
        if (path.includes(POINTS)) asked.listings++;
        return nodeFiles.readdir(path);
      },
    },
  });
  const repository = await initTiny(store);
  await makePoints(repository, MANY);
  const content = noisyDisk(8);
  const source = fileSource(scratch.file(content));
  const context = { signal: new AbortController().signal };
  const disk = { name: 'vda', sizeBytes: content.length, source };
  const first = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  const { root } = await first.writeDisk({ ...disk, changed: 'all' }, context);
  await first.commit({ pointId: pointId(MANY), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });

  Object.assign(asked, { points: [], listings: 0 });
  const parent = await repository.newestPoint(MACHINE);
  const session = await repository.beginSession({
    machineId: MACHINE,
    directory: scratch.directory(),
    parent: parent?.pointId,
  });
  const next = await session.writeDisk({ ...disk, parent: parent?.disks[0]?.root, changed: [] }, context);
  await session.commit({
    pointId: pointId(MANY + 1),
    machine: {},
    capture: {},
    disks: [{ name: 'vda', root: next.root }],
  });
  expect(asked.listings).toBe(2);
  // Whether the name of the new one is free.
  expect(asked.points.every((path) => path.endsWith(pointId(MANY + 1)))).toBe(true);
  await repository.close();
});

test('points are read side by side, and not all at once', async () => {
  class BusyStore extends MemoryStore {
    mostAtOnce = 0;
    #reading = 0;

    override async get(name: string, options: StoreOptions & { readonly maxBytes: number }): Promise<Uint8Array> {
      if (!name.startsWith(POINTS)) return super.get(name, options);
      this.mostAtOnce = Math.max(this.mostAtOnce, ++this.#reading);
      // All that would begin now have begun by the next turn of the event loop.
      await new Promise(setImmediate);
      this.#reading--;
      return super.get(name, options);
    }
  }
  const store = new BusyStore();
  const repository = await initTiny(store);
  await makePoints(repository, MANY);
  store.mostAtOnce = 0;
  const listed = await repository.points();
  expect(listed.map((point) => point.pointId)).toEqual(Array.from({ length: MANY }, (_, n) => pointId(n)));
  expect(listed.map((point) => point.state === 'readable' && point.previous)).toEqual([
    'none',
    ...Array.from({ length: MANY - 1 }, () => 'linked'),
  ]);
  expect(store.mostAtOnce).toBeGreaterThan(1);
  expect(store.mostAtOnce).toBeLessThan(MANY);
  await repository.close();
});
