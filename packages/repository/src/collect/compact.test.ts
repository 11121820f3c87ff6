/** Packs that are dead in part: what is needed of them moves, and the rest goes. */
import { afterAll, afterEach, describe, expect, test } from 'vitest';

import { hasCode } from '@lifeboat/foundation/errors';

import type { BlobRef, Place } from '../format/blob-ref.ts';
import { PACKS, RELOCATIONS, packObject, type PackName } from '../format/names.ts';
import { decodePackHeader, PACK_KINDS } from '../format/pack.ts';
import type { DiskRoot } from '../format/point.ts';
import { MapReader } from '../read/map-reader.ts';
import type { Repository } from '../repository.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { enrolled, openAgentTiny } from '../testing/agents.ts';
import { fileSource } from '../testing/file-source.ts';
import { noise, noisyDisk, readDisk } from '../testing/disks.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch, TINY_CHUNK, TINY_LIMITS } from '../testing/tiny.ts';
import type { CheckLevel } from '../format/verification.ts';
import { writeRelocation } from '../write/relocation-writer.ts';
import type { WriterSession } from '../write/session.ts';
import { DEFAULT_COMPACTION } from './compaction-plan.ts';
import { condemn } from './condemn.ts';
import { SAFETY_RULES, type SafetyRules } from './rules.ts';
import { sweep } from './sweep.ts';
import { buryPoint } from './tombstones.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const signal = new AbortController().signal;
const compact = { minDeadShare: 0.2 };

const sessions: WriterSession[] = [];
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.detach();
});

const namesUnder = (store: MemoryStore, prefix: string): string[] =>
  [...store.objects.keys()].filter((name) => name.startsWith(prefix));
const bytesUnder = (store: MemoryStore, prefix: string): number =>
  namesUnder(store, prefix).reduce((sum, name) => sum + (store.objects.get(name)?.length ?? 0), 0);

const kindAt = (store: MemoryStore, name: string): number =>
  decodePackHeader(store.objects.get(name) ?? Buffer.alloc(0), name).header.kind;
const dataBytes = (store: MemoryStore): number =>
  namesUnder(store, PACKS)
    .map((name) => store.objects.get(name) ?? Buffer.alloc(0))
    .filter((pack) => decodePackHeader(pack, 'a pack').header.kind === PACK_KINDS.data)
    .reduce((sum, pack) => sum + pack.length, 0);

/** `chunks`: what is read; the rest is taken over from the parent. */
async function write(repository: Repository, content: Uint8Array, parent?: DiskRoot, chunks?: readonly number[]) {
  const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  sessions.push(session);
  const source = fileSource(scratch.file(content));
  const read =
    chunks?.map((chunk) => ({ offsetBytes: chunk * TINY_CHUNK, lengthBytes: TINY_CHUNK })) ?? ('all' as const);
  const request = { name: 'vda', sizeBytes: content.length, source, changed: read, parent };
  return { session, root: (await session.writeDisk(request, { signal })).root };
}

async function backUp(
  repository: Repository,
  n: number,
  content: Uint8Array,
  parent?: DiskRoot,
  chunks?: readonly number[],
): Promise<DiskRoot> {
  const { session, root } = await write(repository, content, parent, chunks);
  await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
  return root;
}

async function latest(repository: Repository, n: number): Promise<{ root: DiskRoot }> {
  const [disk] = (await repository.readPoint(MACHINE, pointId(n))).disks;
  if (!disk) throw new Error('a point without a disk');
  return disk;
}

const bury = (repository: Repository, n: number): Promise<void> =>
  buryPoint(repository.core, { machineId: MACHINE, pointId: pointId(n), by: 'a test', reason: 'to see it go' });

async function collect(repository: Repository) {
  const condemned = await repository.condemn({ compact });
  return { condemned, swept: await repository.sweep({ graceMs: 0 }) };
}

/** Chunks of one disk, some of which are replaced. */
function changed(content: Buffer, chunks: readonly number[], seed: number): Buffer {
  const copy = Buffer.from(content);
  for (const chunk of chunks) copy.set(noise(seed * 7919 + chunk), chunk * TINY_CHUNK);
  return copy;
}

const everyOther = Array.from({ length: 20 }, (_, i) => i * 2);

describe('a pack that is dead in part', () => {
  test('goes: what is needed of it lies elsewhere, and is read from there, also by who had the point open', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const before = noisyDisk(40, 1);
    const after = changed(before, everyOther, 2);
    const root = await backUp(repository, 1, before);
    await backUp(repository, 2, after, root);
    const reader = await openTiny(store);
    const device = reader.openDisk(await reader.readPoint(MACHINE, pointId(2)), 'vda');
    await device.read(0, Buffer.alloc(TINY_CHUNK));
    await bury(repository, 1);
    const bytes = bytesUnder(store, PACKS);
    const { condemned, swept } = await collect(repository);
    const { compaction } = condemned;
    expect(compaction).toMatchObject({ leftPacks: 0, unreadablePacks: 0 });
    expect(compaction?.packs).toBeGreaterThan(2);
    expect(compaction?.freedBytes).toBeGreaterThan(0);
    expect(swept).toMatchObject({ state: 'swept', sparedPacks: 0, deletedPacks: condemned.deadPacks });
    expect(bytesUnder(store, PACKS)).toBeLessThan(bytes - 15 * TINY_CHUNK);
    expect(await readDisk(repository, MACHINE, pointId(2))).toEqual(after);
    const target = Buffer.alloc(after.length);
    await device.read(0, target);
    expect(target).toEqual(after);
    const check = await repository.checkPoint(await repository.readPoint(MACHINE, pointId(2)), 'content', {
      signal,
      progress: () => {},
    });
    expect(check.sound).toBe(true);
  });

  test('is compacted once: a second run finds nothing', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const before = noisyDisk(40, 1);
    const root = await backUp(repository, 1, before);
    await backUp(repository, 2, changed(before, everyOther, 2), root);
    await bury(repository, 1);
    await collect(repository);
    const names = [...store.objects.keys()];
    expect((await collect(repository)).condemned).toMatchObject({ state: 'nothing', compaction: { packs: 0 } });
    expect([...store.objects.keys()]).toEqual(names);
  });

  test('leaves nothing behind, relocations included, when the last point goes', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const before = noisyDisk(40, 1);
    const root = await backUp(repository, 1, before);
    await backUp(repository, 2, changed(before, everyOther, 2), root);
    await bury(repository, 1);
    await collect(repository);
    expect(namesUnder(store, RELOCATIONS).length).toBeGreaterThan(0);
    await bury(repository, 2);
    await collect(repository);
    for (const prefix of [PACKS, RELOCATIONS]) expect(namesUnder(store, prefix)).toEqual([]);
  });

  test('that was moved into is compacted in its turn, and blobs are found in one step', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    let content = noisyDisk(40, 1);
    let root = await backUp(repository, 1, content);
    for (let n = 2; n <= 6; n++) {
      const chunks = Array.from({ length: 6 }, (_, i) => (n - 2) * 7 + i);
      content = changed(content, chunks, n);
      root = await backUp(repository, n, content, root, chunks);
      await bury(repository, n - 1);
      await collect(repository);
      await collect(repository);
      expect(await readDisk(repository, MACHINE, pointId(n))).toEqual(content);
      const { core } = repository;
      const there = new Set(namesUnder(store, PACKS));
      for (const name of namesUnder(store, RELOCATIONS)) {
        const found = await core.relocations.from(name.split('/')[3] as PackName);
        for (const place of found.flatMap((moved) => [...moved.values()]))
          expect(there).toContain(packObject(place.pack));
      }
    }
    // A chunk has 81 bytes sealed, and 72 in the tables; a pack of ten beside them 250.
    expect(dataBytes(store)).toBeLessThan((40 * (81 + 72) + 8 * 250) / 0.8);
    expect((await repository.condemn({ dryRun: true, compact })).compaction).toMatchObject({ packs: 0, leftPacks: 0 });
  });
});

describe('a pack that was moved', () => {
  /** A point of which every other chunk of its packs is needed, and a collection that has moved those and published, but not swept. */
  async function condemned() {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const before = noisyDisk(12, 1);
    const after = changed(before, [0, 2, 4, 6, 8, 10], 2);
    const root = await backUp(repository, 1, before);
    await backUp(repository, 2, after, root);
    await bury(repository, 1);
    return { store, repository, before, after };
  }

  test('stays when a session that did not know the list refers to what was left behind', async () => {
    const { repository, before, after } = await condemned();
    const { session, root } = await write(repository, before);
    await repository.condemn({ compact });
    await session.commit({ pointId: pointId(3), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
    const swept = await repository.sweep({ graceMs: 0 });
    expect(swept).toMatchObject({ state: 'swept' });
    expect(swept.sparedPacks).toBeGreaterThan(0);
    expect(await readDisk(repository, MACHINE, pointId(3))).toEqual(before);
    expect(await readDisk(repository, MACHINE, pointId(2))).toEqual(after);
    // All of it is needed again: what was copied is not.
    await collect(repository);
    await collect(repository);
    expect(await readDisk(repository, MACHINE, pointId(3))).toEqual(before);
  });

  test('goes when a session that did not know the list refers only to what was moved', async () => {
    const { repository, after } = await condemned();
    const { session, root } = await write(repository, after);
    await repository.condemn({ compact });
    await session.commit({ pointId: pointId(3), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
    expect(await repository.sweep({ graceMs: 0 })).toMatchObject({ state: 'swept', sparedPacks: 0 });
    expect(await readDisk(repository, MACHINE, pointId(3))).toEqual(after);
  });

  test.each([
    ['and nobody else', false],
    ['and of which others need a part, which is moved on', true],
  ])(
    'stays where it is now when a session takes it over from a point that is pruned meanwhile, %s',
    async (_, shared) => {
      const { repository, after } = await condemned();
      await collect(repository);
      const { root: parent } = await latest(repository, 2);
      const taken = changed(after, [0], 3);
      const { session, root } = await write(repository, taken, parent, [0]);
      const newer = changed(after, [1, 3, 5, 7], 4);
      const kept = new Map([[3, taken]]);
      if (shared) {
        kept.set(4, newer);
        await backUp(repository, 4, newer, parent, [1, 3, 5, 7]);
      }
      await bury(repository, 2);
      expect(await repository.condemn({ compact })).toMatchObject({ state: 'published' });
      await session.commit({ pointId: pointId(3), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
      expect(await repository.sweep({ graceMs: 0 })).toMatchObject({ state: 'swept' });
      for (let i = 0; i < 3; i++) {
        for (const [n, content] of kept) expect(await readDisk(repository, MACHINE, pointId(n))).toEqual(content);
        await collect(repository);
      }
    },
  );

  test('may be the parent of a backup that takes it over, also of a disk of another size', async () => {
    const { repository, after } = await condemned();
    const { root } = await latest(repository, 2);
    await collect(repository);
    const grown = Buffer.concat([after, noise(99)]);
    await backUp(repository, 3, grown, root, []);
    await bury(repository, 2);
    await collect(repository);
    expect(await readDisk(repository, MACHINE, pointId(3))).toEqual(grown);
  });

  test('is found by later backups where it is now: nothing is stored twice', async () => {
    const { store, repository, after } = await condemned();
    await collect(repository);
    const bytes = dataBytes(store);
    await backUp(repository, 3, after);
    expect(dataBytes(store)).toBe(bytes);
  });

  test('is compacted by two collectors at once: one publishes, and nothing is left of the other', async () => {
    const { store, repository, after } = await condemned();
    const outcomes = await Promise.allSettled([repository.condemn({ compact }), repository.condemn({ compact })]);
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    for (let i = 0; i < 3; i++) await collect(repository);
    expect(dataBytes(store)).toBeLessThan((12 * (81 + 72) + 4 * 250) / 0.8);
    expect(await readDisk(repository, MACHINE, pointId(2))).toEqual(after);
  });

  test('is verified where it is now, within a budget', async () => {
    const { store, repository } = await condemned();
    const there = new Set(store.objects.keys());
    await collect(repository);
    const [copy = ''] = [...store.objects.keys()].filter(
      (name) => !there.has(name) && name.startsWith(PACKS) && kindAt(store, name) === PACK_KINDS.data,
    );
    const pass = async () => {
      const found: { object: string }[] = [];
      const report = await (
        await openTiny(store)
      ).checkWithin(
        {
          level: 'ciphertext',
          budget: { bytes: 2 ** 30 },
          damaged: ({ report: { damage } }) => {
            found.push(...damage.chunks.map(({ pack }) => ({ object: packObject(pack) })));
            return Promise.resolve();
          },
        },
        { signal, progress: () => {} },
      );
      return { never: report.coverage.never.packs, damaged: report.damagedPoints, found };
    };
    expect(await pass()).toEqual({ never: 0, damaged: 0, found: [] });
    store.objects.get(copy)?.fill(0xee, 200, 1000);
    const damaged = await pass();
    expect(damaged).toMatchObject({ damaged: 1 });
    expect(damaged.found).toContainEqual({ object: copy });
  });

  test('is healed where its copies are damaged, and what healed it is kept', async () => {
    const { store, repository, after } = await condemned();
    const there = new Set(store.objects.keys());
    await collect(repository);
    const [copy = ''] = [...store.objects.keys()].filter(
      (name) => !there.has(name) && name.startsWith(PACKS) && kindAt(store, name) === PACK_KINDS.data,
    );
    store.objects.get(copy)?.fill(0xee, 200, 1000);
    const check = async (level: CheckLevel) =>
      (await openTiny(store)).checkPoint(await repository.readPoint(MACHINE, pointId(2)), level, {
        signal,
        progress: () => {},
      });
    expect((await check('present')).sound).toBe(true);
    const found = await check('ciphertext');
    expect(found.disks.length).toBeGreaterThan(0);
    expect(found.damage.chunks.map(({ pack }) => packObject(pack))).toContain(copy);
    await repository.reportDamage(found.damage);
    const { root } = await latest(repository, 2);
    await backUp(repository, 3, after, root, []);
    for (let i = 0; i < 2; i++) {
      expect((await check('content')).sound).toBe(true);
      await collect(await openTiny(store));
    }
    await bury(repository, 3);
    await collect(repository);
    expect((await check('content')).sound).toBe(true);
  });

  test('stays as it is when a blob that is needed cannot be read, and the rest is compacted', async () => {
    const { store, repository } = await condemned();
    const needed = namesUnder(store, PACKS).find((name) => {
      const pack = store.objects.get(name) ?? Buffer.alloc(0);
      return decodePackHeader(pack, name).header.kind === PACK_KINDS.data && pack.length > 1200;
    });
    store.objects.get(needed ?? '')?.fill(0xee, 200, 1000);
    const report = await repository.condemn({ compact });
    expect(report.compaction).toMatchObject({ unreadablePacks: 1 });
    await repository.sweep({ graceMs: 0 });
    expect(store.objects.has(needed ?? '')).toBe(true);
  });
});

test('an agent cannot say that packs were moved', async () => {
  const store = new MemoryStore();
  const repository = await initTiny(store);
  const agent = await openAgentTiny(store, (await enrolled(repository, scratch)).path);
  const content = noisyDisk(40, 1);
  const root = await backUp(repository, 1, content);
  const { pages, superblock } = repository.core;
  const map = new MapReader({ root, pages, geometry: superblock, what: 'a disk' });
  const byPack = new Map<PackName, BlobRef[]>();
  for await (const { places } of map.runs(0, map.chunkCount))
    for (const place of Array.isArray(places) ? (places as Place[]) : [])
      if (typeof place === 'object') byPack.set(place.pack, [...(byPack.get(place.pack) ?? []), place]);
  const [[pack, refs], [other]] = [...byPack] as [[PackName, BlobRef[]], [PackName]];
  const said = await writeRelocation(agent.core, {
    relocationId: 'compacted-99999999-0000000000000000',
    pack,
    reason: 'compacted',
    moved: refs.map((ref) => ({ ...ref, pack: other })),
    slots: new Map(refs.map(({ id, slot }) => [id, slot])),
    sizes: new Map([[other, store.objects.get(packObject(other))?.length ?? 0]]),
  });
  expect(said).toContain(pack);
  await collect(repository);
  await collect(repository);
  expect(store.objects.has(packObject(pack))).toBe(true);
  expect(await readDisk(await openTiny(store), MACHINE, pointId(1))).toEqual(content);
});

/** Rules whose absence random schedules meet too rarely: the story is told here, with the rule and without. */
describe.each([true, false])('with the rule (%s)', (holds) => {
  const collectUnder = async (repository: Repository, rules: Partial<SafetyRules>): Promise<void> => {
    const core = { ...repository.core, rules: { ...SAFETY_RULES, ...rules } };
    await condemn(core, { compact: { ...DEFAULT_COMPACTION, ...compact, packs: TINY_LIMITS } });
    await sweep(core, { graceMs: 0 });
  };
  const isRead = async (store: MemoryStore, n: number, content: Buffer): Promise<boolean> => {
    try {
      return (await readDisk(await openTiny(store), MACHINE, pointId(n))).equals(content);
    } catch (error) {
      if (!hasCode(error, 'repository.chunk-damaged', 'repository.map-damaged')) throw error;
      return false;
    }
  };

  test('that sources are led on, a blob is found that was moved twice', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    let content = noisyDisk(12, 1);
    let root = await backUp(repository, 1, content);
    for (const [n, chunks] of [
      [2, [0, 2, 4, 6, 8, 10]],
      [3, [1, 3, 5, 7]],
    ] as const) {
      content = changed(content, chunks, n);
      root = await backUp(repository, n, content, root, chunks);
      await bury(repository, n - 1);
      await collectUnder(repository, { leadSourcesOn: holds });
    }
    expect(await isRead(store, 3, content)).toBe(holds);
  });

  test('that nothing relies on what a list names, what comes back after it may go again', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const before = noisyDisk(12, 1);
    const after = changed(before, [0, 2, 4, 6, 8, 10], 2);
    const root = await backUp(repository, 1, before);
    await backUp(repository, 2, after, root);
    await bury(repository, 1);
    // A collector is killed between its relocations and its list; a session needs the rest of the packs, so the copies go.
    const there = new Set(store.objects.keys());
    await repository.condemn({ compact });
    const copies = [...store.objects].filter(([name]) => !there.has(name) && name.startsWith('data/'));
    for (const name of store.objects.keys()) if (name.startsWith('control/condemned/')) store.objects.delete(name);
    await backUp(repository, 3, before);
    await collectUnder(repository, {});
    for (const [name] of copies) expect(store.objects.has(name)).toBe(false);
    // Late repetitions of their writes bring them back.
    for (const [name, object] of copies) store.objects.set(name, object);
    await bury(repository, 3);
    await collectUnder(repository, { avoidCondemnedTargets: holds });
    // A collector that was frozen over the first list goes on.
    for (const [name] of copies) if (name.startsWith(PACKS)) store.objects.delete(name);
    expect(await isRead(store, 2, after)).toBe(holds);
  });
});
