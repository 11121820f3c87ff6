import { afterAll, expect, test } from 'vitest';

import { PACKS } from '../format/names.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { noisyDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { initTiny, MACHINE, pointId, Scratch, TINY_CHUNK } from '../testing/tiny.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());

test('bytes that are taken are those that are read, are the own of who took them, and are never damaged ones', async () => {
  const store = new MemoryStore();
  const repository = await initTiny(store);
  const disk = Buffer.concat([noisyDisk(6), Buffer.alloc(2 * TINY_CHUNK), noisyDisk(1, 5).subarray(0, 20)]);
  const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  const { root } = await session.writeDisk(
    { name: 'vda', sizeBytes: disk.length, source: fileSource(scratch.file(disk)), changed: 'all' },
    { signal: new AbortController().signal },
  );
  const point = await session.commit({
    pointId: pointId(1),
    machine: {},
    capture: {},
    disks: [{ name: 'vda', root }],
  });
  const device = repository.openDisk(point, 'vda');
  const take = (offset: number, length: number): Promise<Uint8Array> => {
    if (!device.take) throw new Error('a disk of a point hands out its memory');
    return device.take(offset, length);
  };
  for (let offset = 0; offset < disk.length; offset += 16) {
    for (const length of [0, 1, TINY_CHUNK, 3 * TINY_CHUNK].map((wanted) => Math.min(wanted, disk.length - offset))) {
      const taken = await take(offset, length);
      expect(Buffer.compare(taken, disk.subarray(offset, offset + length))).toBe(0);
      taken.fill(0xee);
    }
  }
  await expect(take(disk.length - 1, 2)).rejects.toThrow('outside');
  for await (const { name } of store.list(PACKS)) await store.delete(name);
  await expect(take(TINY_CHUNK, TINY_CHUNK)).rejects.toMatchObject({ code: 'repository.chunk-damaged' });
});
