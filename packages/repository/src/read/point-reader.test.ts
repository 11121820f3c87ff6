import { expect, test } from 'vitest';

import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseSessionId } from '@lifeboat/foundation/ids';

import { buryPoint } from '../collect/tombstones.ts';
import { POINTS } from '../format/names.ts';
import { MemoryStore } from '../store/memory-store.ts';
import type { ObjectInfo, StoreOptions } from '../store/object-store.ts';
import { MACHINE, initTiny, pointId, Scratch, TINY_CHUNK } from '../testing/tiny.ts';
import { encodePoint } from '../write/point-writer.ts';
import { listPoints, newestReadable } from './point-reader.ts';

class WatchedStore extends MemoryStore {
  readonly pointsRead: string[] = [];
  listingFails = false;

  override get(name: string, options: StoreOptions & { readonly maxBytes: number }): Promise<Uint8Array> {
    if (name.startsWith(POINTS)) this.pointsRead.push(name.slice(`${POINTS}${MACHINE}/`.length));
    return super.get(name, options);
  }

  override async *list(prefix: string): AsyncIterable<ObjectInfo> {
    yield* super.list(prefix);
    if (this.listingFails) throw new LifeboatError('repository.store-failed', 'the listing ended early');
  }
}

test('the newest point is found without reading the others; damaged, pruned and foreign ones are passed over', async () => {
  const scratch = new Scratch();
  const store = new WatchedStore();
  const repository = await initTiny(store);
  try {
    expect(await repository.newestPoint(MACHINE)).toBeUndefined();
    for (const n of [1, 2, 3, 4, 5]) {
      const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
      await session.commit({ pointId: pointId(n), machine: {}, capture: { n }, disks: [] });
    }
    store.pointsRead.length = 0;
    expect(await repository.newestPoint(MACHINE)).toMatchObject({ pointId: pointId(5), capture: { n: 5 } });
    expect(store.pointsRead).toEqual([pointId(5)]);

    const damaged = store.objects.get(`${POINTS}${MACHINE}/${pointId(5)}`);
    if (damaged) damaged[40] = (damaged[40] ?? 0) ^ 1;
    await buryPoint(repository.core, {
      machineId: MACHINE,
      pointId: pointId(4),
      by: 'a test',
      reason: 'to be passed over',
    });
    store.objects.set(`${POINTS}${MACHINE}/zzz`, Buffer.from('no point'));
    store.pointsRead.length = 0;
    expect(await repository.newestPoint(MACHINE)).toMatchObject({ pointId: pointId(3), capture: { n: 3 } });
    expect(store.pointsRead).toEqual([pointId(5), pointId(3)]);

    store.listingFails = true;
    await expect(repository.newestPoint(MACHINE)).rejects.toMatchObject({ code: 'repository.store-failed' });
  } finally {
    await repository.close();
    await scratch.remove();
  }
});

test('a point whose chunks have another size, as no writer of ours makes it, is damaged and nobody’s parent', async () => {
  const store = new MemoryStore();
  const { core } = await initTiny(store);
  const key = { machineId: MACHINE, sessionId: parseSessionId('s1'), machine: {}, capture: {}, files: [] };
  for (const [n, chunkSizeBytes] of [TINY_CHUNK, 0, 1, TINY_CHUNK * 2].entries()) {
    const root = { sizeBytes: 640, chunkSizeBytes, map: 'hole', packs: null } as const;
    const disks = [{ name: 'vda', root, info: null }];
    const object = await encodePoint(core, { ...key, pointId: pointId(n + 1), disks });
    store.objects.set(`${POINTS}${MACHINE}/${pointId(n + 1)}`, object);
  }
  expect((await newestReadable(core, MACHINE))?.pointId).toBe(pointId(1));
  expect((await listPoints(core)).map(({ state }) => state)).toEqual(['readable', 'damaged', 'damaged', 'damaged']);
});
