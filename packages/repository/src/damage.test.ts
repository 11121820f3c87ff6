/** Every kind of harm to every kind of object: it is noticed, named, and never becomes wrong data. */
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';

import { decodePackHeader, kindOf } from './format/pack.ts';
import { KEYS, PACKS, POINTS, SUPERBLOCK } from './format/names.ts';
import { decodePointObject, encodePointHeader, encodePointObject } from './format/point.ts';
import type { Point } from './read/point-reader.ts';
import type { Repository } from './repository.ts';
import { publicPart, signEd25519 } from './seal/curve-keys.ts';
import { signedBytes } from './seal/point-seal.ts';
import { MemoryStore } from './store/memory-store.ts';
import type { ByteRange, StoreOptions } from './store/object-store.ts';
import { noise, noisyDisk, readDisk } from './testing/disks.ts';
import { fileSource } from './testing/file-source.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch, TINY_CHUNK } from './testing/tiny.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
/** More with RUNS=500. */
const RUNS = Number(process.env['RUNS'] ?? 20);
const signal = new AbortController().signal;
const context = { signal, progress: () => {} };

const contents = new Map([
  [1, noisyDisk(50)],
  [2, Buffer.concat([noisyDisk(25), noise(5555), noisyDisk(50).subarray(26 * TINY_CHUNK)])],
]);
let pristine: ReadonlyMap<string, Uint8Array>;

beforeAll(async () => {
  const store = new MemoryStore();
  const repository = await initTiny(store);
  let parent: Point['disks'][number]['root'] | undefined;
  for (const [n, content] of contents) {
    const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
    const changed = [{ offsetBytes: 25 * TINY_CHUNK, lengthBytes: TINY_CHUNK }];
    const source = fileSource(scratch.file(content));
    const { root } = await session.writeDisk(
      { name: 'vda', sizeBytes: content.length, source, parent, changed },
      { signal },
    );
    await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
    parent = root;
  }
  pristine = store.objects;
});

function harmed(harm: (objects: Map<string, Uint8Array>) => void): MemoryStore {
  const store = new MemoryStore();
  for (const [name, object] of pristine) store.objects.set(name, Uint8Array.from(object));
  harm(store.objects);
  return store;
}

const packsOf = (kind: string): string[] =>
  [...pristine]
    .filter(([name, object]) => name.startsWith(PACKS) && kindOf(decodePackHeader(object, name).header) === kind)
    .map(([name]) => name);

const HARM = ['flip', 'truncate', 'extend', 'empty', 'delete', 'swap'] as const;
const harmArbitrary = fc.record({
  how: fc.constantFrom(...HARM),
  which: fc.nat(),
  at: fc.nat(),
  bit: fc.integer({ min: 0, max: 7 }),
});
type Harm = typeof harmArbitrary extends fc.Arbitrary<infer T> ? T : never;

/** Does the harm to one of `names`; 'swap' replaces it by another of the same kind. Returns the object's name. */
function doHarm(objects: Map<string, Uint8Array>, names: readonly string[], { how, which, at, bit }: Harm): string {
  const name = names[which % names.length] ?? '';
  const object = objects.get(name) ?? new Uint8Array(0);
  const position = at % object.length;
  if (how === 'flip') object[position] = (object[position] ?? 0) ^ (1 << bit);
  else if (how === 'truncate') objects.set(name, object.subarray(0, position));
  else if (how === 'extend') objects.set(name, Buffer.concat([object, Buffer.alloc(1 + (at % 50))]));
  else if (how === 'empty') objects.set(name, new Uint8Array(0));
  else if (how === 'delete') objects.delete(name);
  else objects.set(name, objects.get(names[(which + 1) % names.length] ?? '') ?? object);
  return name;
}

/** Reads chunk by chunk; each is right or throws what it may throw. Returns the chunks that were lost. */
async function lostChunks(repository: Repository, point: Point, content: Buffer): Promise<number[]> {
  const device = repository.openDisk(point, 'vda');
  const lost: number[] = [];
  for (let chunk = 0; chunk < content.length / TINY_CHUNK; chunk++) {
    const target = Buffer.alloc(TINY_CHUNK, 0xee);
    try {
      await device.read(chunk * TINY_CHUNK, target);
      expect(Buffer.compare(target, content.subarray(chunk * TINY_CHUNK, (chunk + 1) * TINY_CHUNK))).toBe(0);
    } catch (error) {
      if (!hasCode(error, 'repository.chunk-damaged', 'repository.map-damaged')) throw error;
      lost.push(chunk);
    }
  }
  return lost;
}

const damagedChunks = (report: Awaited<ReturnType<Repository['checkPoint']>>): number[] =>
  report.disks.flatMap(({ offsetBytes, lengthBytes }) =>
    Array.from({ length: lengthBytes / TINY_CHUNK }, (_, i) => offsetBytes / TINY_CHUNK + i),
  );

describe.each(['data', 'map', 'set'])('a harmed %s pack', (kind) => {
  test('never gives wrong data, and the checks say which bytes are lost', async () => {
    await fc.assert(
      fc.asyncProperty(harmArbitrary, async (harm) => {
        let name = '';
        const store = harmed((objects) => (name = doHarm(objects, packsOf(kind), harm)));
        const same =
          Buffer.compare(store.objects.get(name) ?? Buffer.alloc(0), pristine.get(name) ?? Buffer.alloc(0)) === 0;
        const repository = await openTiny(store);
        for (const [n, content] of contents) {
          const point = await repository.readPoint(MACHINE, pointId(n));
          const lost = await lostChunks(repository, point, content);
          const opened = await repository.checkPoint(point, 'content', context);
          expect(damagedChunks(opened)).toEqual(lost);
          const hashed = await repository.checkPoint(point, 'ciphertext', context);
          // A hash check may condemn more than is lost (a flipped table), never less.
          expect(damagedChunks(hashed)).toEqual(expect.arrayContaining(lost));
          // It finds any change at all in an object the point needs.
          const needed = (await neededBy(n)).has(name);
          expect(hashed.sound).toBe(same || !needed);
        }
      }),
      { numRuns: RUNS },
    );
  });
});

describe('a missing pack', () => {
  test('is found by asking for sizes alone', async () => {
    const [name = ''] = packsOf('data');
    for (const harm of ['delete', 'truncate'] as const) {
      const store = harmed((objects) => doHarm(objects, [name], { how: harm, which: 0, at: 100, bit: 0 }));
      const repository = await openTiny(store);
      const report = await repository.checkPoint(await repository.readPoint(MACHINE, pointId(1)), 'present', context);
      expect(report.sound).toBe(false);
      expect(report.objects.map(({ object }) => object)).toEqual([name]);
      expect(report.disks.length).toBeGreaterThan(0);
    }
  });

  test('is named with disk, place and pack in the error of a read', async () => {
    const [name = ''] = packsOf('data');
    const repository = await openTiny(harmed((objects) => objects.delete(name)));
    const point = await repository.readPoint(MACHINE, pointId(1));
    const device = repository.openDisk(point, 'vda');
    await expect(device.read(0, Buffer.alloc(device.sizeBytes))).rejects.toMatchObject({
      code: 'repository.chunk-damaged',
      context: { point: pointId(1), disk: 'vda', lengthBytes: TINY_CHUNK, pack: name.slice(-64) },
    });
  });
});

describe('a harmed point', () => {
  test('is listed as damaged, never read, and never hides the others', async () => {
    const points = [...pristine.keys()].filter((name) => name.startsWith(POINTS)).toSorted();
    await fc.assert(
      fc.asyncProperty(
        harmArbitrary.filter(({ how }) => how !== 'delete'),
        async (harm) => {
          let name = '';
          const store = harmed((objects) => (name = doHarm(objects, points, harm)));
          const repository = await openTiny(store);
          const summaries = await repository.points(MACHINE);
          expect(summaries.map((summary) => summary.state).toSorted()).toEqual(['damaged', 'readable']);
          const bad = summaries.find((summary) => summary.state === 'damaged');
          expect(bad).toMatchObject({
            object: name,
            error: { code: expect.stringMatching(/point-damaged|newer-version/) },
          });
          const n = points.indexOf(name) + 1;
          await expect(repository.readPoint(MACHINE, pointId(n))).rejects.toSatisfy((error) =>
            hasCode(error, 'repository.point-damaged', 'repository.newer-version'),
          );
        },
      ),
      { numRuns: 60 },
    );
  });

  test('that was changed by somebody who knows the format is refused: he cannot sign', async () => {
    const name = `${POINTS}${MACHINE}/${pointId(2)}`;
    const { header, signature, sealedBody } = decodePointObject(pristine.get(name) ?? new Uint8Array(0), name);
    const later = encodePointHeader({ ...header, createdMs: header.createdMs + 86_400_000 });
    const seed = Buffer.alloc(32, 1);
    const own = encodePointHeader({ ...header, signer: publicPart('ed25519', seed) });
    const forgeries = [
      { header: later, signature, sealedBody },
      { header: later, signature: signEd25519(seed, signedBytes(later)), sealedBody },
      { header: own, signature: signEd25519(seed, signedBytes(own)), sealedBody },
    ];
    for (const forgery of forgeries) {
      const repository = await openTiny(harmed((objects) => objects.set(name, encodePointObject(forgery))));
      await expect(repository.readPoint(MACHINE, pointId(2))).rejects.toMatchObject({
        code: 'repository.point-damaged',
        message: expect.stringContaining('signature') as string,
      });
    }
  });

  test('of another repository is not taken for ours', async () => {
    const other = new MemoryStore();
    const session = await (await initTiny(other)).beginSession({ machineId: MACHINE, directory: scratch.directory() });
    await session.commit({ pointId: pointId(9), machine: {}, capture: {}, disks: [] });
    const name = `${POINTS}${MACHINE}/${pointId(9)}`;
    const repository = await openTiny(
      harmed((objects) => objects.set(name, other.objects.get(name) ?? new Uint8Array(0))),
    );
    expect((await repository.points()).map(({ state }) => state)).toEqual(['readable', 'readable', 'damaged']);
  });

  test('a listing that fails is an error, not an empty list', async () => {
    const store = new (class extends MemoryStore {
      override async *list(prefix: string): AsyncIterable<{ name: string; sizeBytes: number }> {
        for await (const object of super.list(prefix)) {
          if (object.name.startsWith(POINTS)) throw new LifeboatError('repository.store-failed', 'page 1 of 2 failed');
          yield object;
        }
      }
    })();
    for (const [name, object] of pristine) store.objects.set(name, object);
    const repository = await openTiny(store);
    await expect(repository.points()).rejects.toMatchObject({ code: 'repository.store-failed' });
  });

  test('a file that is no point is reported among them', async () => {
    const repository = await openTiny(
      harmed((objects) => objects.set(`${POINTS}${MACHINE}/notes.txt`, Buffer.from('hello'))),
    );
    expect(await repository.points()).toContainEqual(
      expect.objectContaining({ state: 'damaged', object: `${POINTS}${MACHINE}/notes.txt` }),
    );
  });
});

describe('a harmed superblock or key', () => {
  test('keeps the repository closed, with an error that says why', async () => {
    const keys = [...pristine.keys()].filter((name) => name.startsWith(KEYS));
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(
          [[SUPERBLOCK]],
          keys.map((name) => [name]),
        ),
        harmArbitrary.filter(({ how }) => how !== 'swap'),
        async (each, harm) => {
          // Both copies of the keys: with one of them whole, it opens.
          const opening = openTiny(
            harmed((objects) => {
              for (const names of each) doHarm(objects, names, harm);
            }),
          );
          await expect(opening).rejects.toSatisfy((error) =>
            hasCode(
              error,
              'repository.object-damaged',
              'repository.newer-version',
              'repository.not-a-repository',
              'repository.object-missing',
            ),
          );
        },
      ),
      { numRuns: 80 },
    );
  });
});

describe('a read that fails once', () => {
  class Flaky extends MemoryStore {
    failures = 0;
    override async getRange(name: string, range: ByteRange & { atMost?: boolean }): Promise<Uint8Array> {
      const bytes = await super.getRange(name, range);
      if (this.failures > 0 && !range.atMost) {
        this.failures--;
        bytes[0] = (bytes[0] ?? 0) ^ 1;
      }
      return bytes;
    }
  }

  test('is repeated before it counts as damage', async () => {
    const store = new Flaky();
    for (const [name, object] of pristine) store.objects.set(name, object);
    const repository = await openTiny(store);
    const point = await repository.readPoint(MACHINE, pointId(1));
    const device = repository.openDisk(point, 'vda');
    // Pages of the map are read first, so that it is chunks that fail.
    for (const chunk of [11, 21]) await device.read(chunk * TINY_CHUNK, Buffer.alloc(1));
    store.failures = 1;
    const target = Buffer.alloc(TINY_CHUNK);
    await device.read(10 * TINY_CHUNK, target);
    expect(target).toEqual(noise(10));
    store.failures = 2;
    await expect(device.read(20 * TINY_CHUNK, target)).rejects.toMatchObject({ code: 'repository.chunk-damaged' });
    // Damage is not remembered: when the storage heals, the read does.
    await device.read(20 * TINY_CHUNK, target);
    expect(target).toEqual(noise(20));
    expect(await readDisk(repository, MACHINE, pointId(1))).toEqual(contents.get(1));
  });
});

describe('a store that fails for now', () => {
  /** Everything but the keys and the superblock, from when it is down on. */
  class Failing extends MemoryStore {
    code: 'repository.store-failed' | 'repository.object-unreadable' | undefined;
    only = '';
    attempts: (boolean | undefined)[] = [];
    #fail(name: string, options?: StoreOptions): void {
      if (!this.code || !name.startsWith('data/') || !name.includes(this.only)) return;
      this.attempts.push(options?.fresh);
      throw new LifeboatError(this.code, `could not read ${name}`);
    }
    override async get(name: string, options: StoreOptions & { maxBytes: number }): Promise<Uint8Array> {
      this.#fail(name, options);
      return super.get(name, options);
    }
    override async getRange(name: string, range: ByteRange & { atMost?: boolean }, options?: StoreOptions) {
      this.#fail(name, options);
      return super.getRange(name, range, options);
    }
    override async head(name: string, options?: StoreOptions) {
      this.#fail(name, options);
      return super.head(name);
    }
  }
  const open = async (): Promise<{ store: Failing; repository: Repository; point: Point }> => {
    const store = new Failing();
    for (const [name, object] of pristine) store.objects.set(name, object);
    const repository = await openTiny(store);
    const point = await repository.readPoint(MACHINE, pointId(1));
    return { store, repository, point };
  };

  test('ends a check and a read with its own error, and is never a finding', async () => {
    const busy = { code: 'repository.store-failed', retry: 'transient' };
    for (const level of ['present', 'ciphertext', 'content'] as const) {
      const { store, repository, point } = await open();
      expect((await repository.checkPoint(point, level, context)).sound).toBe(true);
      store.code = 'repository.store-failed';
      store.only = 'packs/';
      await expect(repository.checkPoint(point, level, context)).rejects.toMatchObject(busy);
    }
    const { store, repository, point } = await open();
    store.code = 'repository.store-failed';
    await expect(repository.openDisk(point, 'vda').read(0, Buffer.alloc(TINY_CHUNK))).rejects.toMatchObject(busy);
    await expect(repository.readPoint(MACHINE, pointId(1))).rejects.toMatchObject(busy);
    await expect(repository.points()).rejects.toMatchObject(busy);
  });

  test('is told from an object whose medium is bad, which is read again over a connection of its own', async () => {
    const [pack = ''] = packsOf('data');
    for (const level of ['present', 'ciphertext', 'content'] as const) {
      const { store, repository, point } = await open();
      store.code = 'repository.object-unreadable';
      store.only = pack;
      const report = await repository.checkPoint(point, level, context);
      expect(report).toMatchObject({ sound: false, objects: [{ object: pack }] });
      expect(store.attempts.slice(0, 2)).toEqual([undefined, true]);
    }
    const { store, repository } = await open();
    store.code = 'repository.object-unreadable';
    store.only = `${POINTS}${MACHINE}/${pointId(1)}`;
    expect((await repository.points()).map(({ state }) => state).toSorted()).toEqual(['damaged', 'readable']);
    await expect(repository.readPoint(MACHINE, pointId(1))).rejects.toMatchObject({ code: 'repository.point-damaged' });
  });
});

test('a check looks at pages as they are stored now, also when the same process read them before', async () => {
  const store = harmed(() => {});
  const repository = await openTiny(store);
  expect(await readDisk(repository, MACHINE, pointId(1))).toEqual(contents.get(1));
  for (const name of packsOf('map')) store.objects.set(name, Buffer.alloc(store.objects.get(name)?.length ?? 0));
  const point = await repository.readPoint(MACHINE, pointId(1));
  const { sound, damage } = await repository.checkPoint(point, 'present', context);
  expect([sound, damage.pages.length > 0]).toEqual([false, true]);
});

/** Objects a point cannot do without, found by taking each away. */
const needs = new Map<number, Set<string>>();
async function neededBy(n: number): Promise<Set<string>> {
  const known = needs.get(n);
  if (known) return known;
  const needed = new Set<string>();
  for (const name of [...packsOf('data'), ...packsOf('map'), ...packsOf('set')]) {
    const repository = await openTiny(harmed((objects) => objects.delete(name)));
    const report = await repository.checkPoint(await repository.readPoint(MACHINE, pointId(n)), 'present', context);
    if (!report.sound) needed.add(name);
  }
  needs.set(n, needed);
  return needed;
}
