import { afterAll, expect, test } from 'vitest';

import { systemRandom } from '@lifeboat/foundation/random';

import { CAPABILITIES } from '../format/superblock.ts';
import { initTiny, openTiny, Scratch } from '../testing/tiny.ts';
import { probeStore } from './capabilities.ts';
import { DirectoryStore } from './directory-store.ts';
import { nodeFiles } from './files.ts';
import { MemoryStore } from './memory-store.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());

/** A service that ignores If-None-Match, on a bucket without versions: whoever comes last has it. */
class Careless extends MemoryStore {
  override readonly locks = undefined as never;
  readonly #careless: (name: string) => boolean;

  constructor(careless: (name: string) => boolean) {
    super();
    this.#careless = careless;
  }

  override putIfAbsent(name: string, parts: readonly Uint8Array[]): Promise<'created' | 'exists'> {
    if (!this.#careless(name)) return super.putIfAbsent(name, parts);
    this.objects.set(name, Buffer.concat(parts));
    return Promise.resolve('created');
  }
}

test.each(['control/', 'data/'])('no repository is made where two can create one object under %s', async (prefix) => {
  const store = new Careless((name) => name.startsWith(prefix));
  await expect(initTiny(store)).rejects.toMatchObject({ code: 'repository.store-unsupported' });
  expect([...store.objects.keys()]).toEqual([]);
});

test('a store that answers several with "created", and keeps the first, is refused as well', async () => {
  const store = new MemoryStore();
  const put = store.putIfAbsent.bind(store);
  store.putIfAbsent = async (name, parts) => {
    await put(name, parts);
    return 'created';
  };
  await expect(initTiny(store)).rejects.toMatchObject({ code: 'repository.store-unsupported' });
});

test('the superblock says what the store could do', async () => {
  const { createOnly, hardLinks, locks } = CAPABILITIES;
  const directory = scratch.directory();
  await initTiny(new DirectoryStore(directory));
  expect((await openTiny(new DirectoryStore(directory))).core.superblock.capabilities).toBe(createOnly + hardLinks);
  const link = (): Promise<void> => Promise.reject(Object.assign(new Error('no links'), { code: 'EPERM' }));
  const fat = await initTiny(new DirectoryStore(scratch.directory(), { files: { ...nodeFiles, link } }));
  expect(fat.core.superblock.capabilities).toBe(createOnly);
  expect((await initTiny(new MemoryStore())).core.superblock.capabilities).toBe(createOnly + locks);
});

test('probing leaves nothing, and what a probe left that was killed is in nobody’s way', async () => {
  const store = new MemoryStore();
  await probeStore(store, systemRandom);
  expect([...store.objects.keys()]).toEqual([]);
  store.objects.set('control/probes/of-one-that-was-killed', Buffer.from('x'));
  await initTiny(store);
});
