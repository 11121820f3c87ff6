import { afterAll, expect, test } from 'vitest';

import { LifeboatError } from '@lifeboat/foundation/errors';

import { TOMBSTONES } from '../format/names.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { initTiny, MACHINE, pointId, Scratch } from '../testing/tiny.ts';
import { buryPoint } from './tombstones.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());

const request = { machineId: MACHINE, pointId: pointId(1), by: 'a test', reason: 'to see it go' };

async function withBadTombstone(store: MemoryStore) {
  const repository = await initTiny(store);
  const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  await session.commit({ pointId: pointId(1), machine: {}, capture: {}, disks: [] });
  await buryPoint(repository.core, request);
  expect(await repository.points()).toEqual([]);
  const name = [...store.objects.keys()].find((object) => object.startsWith(TOMBSTONES)) ?? '';
  const object = store.objects.get(name) ?? new Uint8Array();
  object[40] = (object[40] ?? 0) ^ 1;
  // It hides nothing: a forger must not hide points.
  expect(await repository.points()).toHaveLength(1);
  return repository;
}

test('a tombstone that cannot be read gives way to one that can', async () => {
  const repository = await withBadTombstone(new MemoryStore());
  await buryPoint(repository.core, request);
  expect(await repository.points()).toEqual([]);
  await buryPoint(repository.core, request);
  expect(await repository.points()).toEqual([]);
});

test('a point is not said to be pruned whose tombstone cannot be read and stays', async () => {
  class Keeping extends MemoryStore {
    override delete(name: string): Promise<void> {
      return Promise.reject(new LifeboatError('repository.store-denied', `no: ${name}`));
    }
  }
  const repository = await withBadTombstone(new Keeping());
  await expect(buryPoint(repository.core, request)).rejects.toMatchObject({ code: 'repository.store-denied' });
  expect(await repository.points()).toHaveLength(1);
});
