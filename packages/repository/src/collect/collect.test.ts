import { afterAll, afterEach, describe, expect, test } from 'vitest';

import { hasCode } from '@lifeboat/foundation/errors';
import { parseMachineId } from '@lifeboat/foundation/ids';

import {
  INDEX,
  PACKS,
  POINTS,
  RELOCATIONS,
  SESSIONS,
  pointObject,
  relocationObject,
  tombstoneObject,
  type PackName,
} from '../format/names.ts';
import type { DiskRoot } from '../format/point.ts';
import type { Repository } from '../repository.ts';
import { controlName } from '../seal/control-records.ts';
import { MemoryStore } from '../store/memory-store.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { fileSource } from '../testing/file-source.ts';
import { noisyDisk, readDisk } from '../testing/disks.ts';
import { movePack } from '../testing/move-pack.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch, TINY_LIMITS } from '../testing/tiny.ts';
import { inlineSealer } from '../write/inline-sealer.ts';
import { WriterSession } from '../write/session.ts';
import { condemn } from './condemn.ts';
import { SAFETY_RULES, type SafetyRules } from './rules.ts';
import { settleSession } from './session-end.ts';
import { readSessions } from './session-records.ts';
import { sweep } from './sweep.ts';
import { buryPoint } from './tombstones.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const signal = new AbortController().signal;

const sessions: WriterSession[] = [];
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.detach();
});

const namesUnder = (store: MemoryStore, prefix: string): string[] =>
  [...store.objects.keys()].filter((name) => name.startsWith(prefix));

async function write(
  repository: Repository,
  content: Uint8Array,
  options: { parent?: DiskRoot; directory?: string; changed?: 'all' | [] } = {},
) {
  const session = await repository.beginSession({
    machineId: MACHINE,
    directory: options.directory ?? scratch.directory(),
  });
  sessions.push(session);
  const source = fileSource(scratch.file(content));
  const { parent, changed = 'all' } = options;
  const { root } = await session.writeDisk(
    { name: 'vda', sizeBytes: content.length, source, changed, parent },
    { signal },
  );
  return { session, root };
}

async function backUp(repository: Repository, n: number, content: Uint8Array, parent?: DiskRoot): Promise<DiskRoot> {
  const { session, root } = await write(repository, content, parent ? { parent } : {});
  await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
  return root;
}

const bury = (repository: Repository, n: number): Promise<void> =>
  buryPoint(repository.core, { machineId: MACHINE, pointId: pointId(n), by: 'a test', reason: 'to see it go' });

async function collect(repository: Repository, graceMs = 0) {
  const condemned = await repository.condemn();
  return { condemned, swept: await repository.sweep({ graceMs }) };
}

describe('a collection', () => {
  test('removes what a pruned point alone needed, and leaves the rest readable', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    await backUp(repository, 1, noisyDisk(40, 1));
    const kept = noisyDisk(40, 2);
    await backUp(repository, 2, kept);
    await bury(repository, 1);
    const before = namesUnder(store, PACKS).length;
    const { condemned, swept } = await collect(repository);
    expect(condemned).toMatchObject({ state: 'published', points: 1, prunedPoints: 1 });
    expect(swept).toMatchObject({ state: 'swept', deletedPacks: condemned.deadPacks, deletedPoints: 1 });
    expect(namesUnder(store, PACKS)).toHaveLength(before - condemned.deadPacks);
    expect(condemned.deadPacks).toBeGreaterThan(0);
    expect(await readDisk(repository, MACHINE, pointId(2))).toEqual(kept);
    expect((await repository.points()).map((point) => point.pointId)).toEqual([pointId(2)]);
  });

  test('leaves no pack, point, index segment or session record of a repository that was emptied', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    for (const n of [1, 2, 3]) await backUp(repository, n, noisyDisk(20, n));
    for (const n of [1, 2, 3]) await bury(repository, n);
    await collect(repository);
    for (const prefix of [PACKS, POINTS, INDEX, SESSIONS]) expect(namesUnder(store, prefix)).toEqual([]);
    expect((await collect(repository)).condemned.state).toBe('nothing');
  });

  test('says in a dry run what it would do, and changes nothing', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    await backUp(repository, 1, noisyDisk(20));
    await bury(repository, 1);
    const before = new Map(store.objects);
    const report = await condemn(repository.core, { dryRun: true });
    expect(report.state).toBe('dry-run');
    expect(report.deadPacks).toBe(namesUnder(store, PACKS).length);
    expect(report.deadBytes).toBeGreaterThan(20 * 64);
    expect(store.objects).toEqual(before);
  });

  test('waits for a session that was open before its list, and spares what it committed', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const content = noisyDisk(40);
    await backUp(repository, 1, content);
    await bury(repository, 1);
    const { session, root } = await write(repository, content);
    await condemn(repository.core);
    expect(await sweep(repository.core)).toMatchObject({ state: 'waiting', waitingFor: [session.sessionId] });
    await session.commit({ pointId: pointId(2), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
    const swept = await sweep(repository.core);
    expect(swept.state).toBe('swept');
    expect(swept.sparedPacks).toBeGreaterThan(0);
    expect(await readDisk(repository, MACHINE, pointId(2))).toEqual(content);
  });

  test('ends a session that is open for longer than the grace; its late commit fails and is no point', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const content = noisyDisk(40);
    await backUp(repository, 1, content);
    await bury(repository, 1);
    const { session, root } = await write(repository, content);
    const { swept } = await collect(repository);
    expect(swept).toMatchObject({ state: 'swept', fencedSessions: [session.sessionId] });
    const commit = session.commit({ pointId: pointId(2), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
    await expect(commit).rejects.toMatchObject({ code: 'repository.session-fenced' });
    expect(store.objects.has(pointObject(MACHINE, pointId(2)))).toBe(true);
    expect(await repository.points()).toEqual([]);
    await expect(repository.readPoint(MACHINE, pointId(2))).rejects.toMatchObject({ code: 'repository.point-missing' });
    await collect(repository);
    await collect(repository);
    expect(namesUnder(store, POINTS)).toEqual([]);
    expect(namesUnder(store, PACKS)).toEqual([]);
  });

  test('that fences a session after its commit finds it committed', async () => {
    const repository = await initTiny(new MemoryStore());
    const { session, root } = await write(repository, noisyDisk(10));
    const input = { pointId: pointId(1), machine: {}, capture: {}, disks: [{ name: 'vda', root }] };
    await session.commit(input);
    expect((await settleSession(repository.core, session)).pointId).toBe(pointId(1));
    expect(await repository.points()).toHaveLength(1);
  });

  test('that fences a session which closed itself meanwhile believes what it said, also where a listing leaves its point out', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const { session, root } = await write(repository, noisyDisk(10));
    const [open] = (await readSessions(repository.core)).open;
    await session.commit({ pointId: pointId(1), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
    const object = store.objects.get(pointObject(MACHINE, pointId(1))) ?? Buffer.alloc(0);
    store.objects.delete(pointObject(MACHINE, pointId(1)));
    if (!open) throw new Error('no session is open');
    expect((await settleSession(repository.core, open)).pointId).toBe(pointId(1));
    store.objects.set(pointObject(MACHINE, pointId(1)), object);
    expect(await repository.points()).toHaveLength(1);
  });

  test('lets a session that knows the list go on, which seals condemned content anew', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const content = noisyDisk(40);
    await backUp(repository, 1, content);
    await bury(repository, 1);
    await condemn(repository.core);
    const condemned = new Set(namesUnder(store, PACKS));
    const { session, root } = await write(repository, content);
    await session.commit({ pointId: pointId(2), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
    expect(await sweep(repository.core)).toMatchObject({
      state: 'swept',
      sparedPacks: 0,
      deletedPacks: condemned.size,
    });
    expect(await readDisk(repository, MACHINE, pointId(2))).toEqual(content);
  });

  test('is not begun twice: the later of two lists of one number is refused, and leaves nothing', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    await backUp(repository, 1, noisyDisk(20));
    await bury(repository, 1);
    const outcomes = await Promise.allSettled([condemn(repository.core), condemn(repository.core)]);
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect(outcomes.find(({ status }) => status === 'rejected')).toMatchObject({
      reason: { code: 'repository.collection-running' },
    });
    expect((await condemn(repository.core)).state).toBe('open');
    expect((await sweep(repository.core)).state).toBe('swept');
    expect((await sweep(repository.core)).state).toBe('idle');
  });

  test('refuses when a point vanished without a tombstone, and deletes nothing', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    await backUp(repository, 1, noisyDisk(20, 1));
    await backUp(repository, 2, noisyDisk(20, 2));
    await collect(repository);
    store.objects.delete(pointObject(MACHINE, pointId(1)));
    const packs = namesUnder(store, PACKS);
    await expect(condemn(repository.core)).rejects.toMatchObject({ code: 'repository.collection-refused' });
    expect(namesUnder(store, PACKS)).toEqual(packs);
  });

  test('refuses while a point is damaged, until it is pruned', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    await backUp(repository, 1, noisyDisk(20));
    const object = store.objects.get(pointObject(MACHINE, pointId(1)));
    if (object) object[60] = (object[60] ?? 0) ^ 1;
    await expect(condemn(repository.core)).rejects.toMatchObject({ code: 'repository.collection-refused' });
    await bury(repository, 1);
    await collect(repository);
    expect(namesUnder(store, PACKS)).toEqual([]);
  });

  test('refuses when a point is from the future', async () => {
    const store = new MemoryStore();
    const ahead = { nowMs: () => Date.now() + 7_200_000, monotonicMs: () => 0, sleep: () => Promise.resolve() };
    const repository = await initTiny(store, { clock: ahead });
    await backUp(repository, 1, noisyDisk(20));
    const core = { ...repository.core, clock: { ...ahead, nowMs: () => Date.now() } };
    await expect(condemn(core)).rejects.toMatchObject({ code: 'repository.clocks-disagree' });
  });
});

describe('relocations', () => {
  test('keep what they lead to, from pack to pack, as long as a point needs the first; and go with it', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const content = noisyDisk(40);
    await backUp(repository, 1, content);
    for (let hop = 0; hop < 2; hop++) {
      for (const name of namesUnder(store, PACKS)) {
        await movePack(repository, name.slice(-64) as PackName);
        store.objects.delete(name);
      }
    }
    expect((await collect(repository)).condemned.deadPacks).toBe(0);
    expect(await readDisk(repository, MACHINE, pointId(1))).toEqual(content);
    await bury(repository, 1);
    await collect(repository);
    for (const prefix of [PACKS, RELOCATIONS]) expect(namesUnder(store, prefix)).toEqual([]);
  });

  test('that cannot be read stop a collection', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    await backUp(repository, 1, noisyDisk(10));
    const [name = ''] = namesUnder(store, PACKS);
    await movePack(repository, name.slice(-64) as PackName);
    const [relocation = ''] = namesUnder(store, RELOCATIONS);
    store.objects.set(relocation, Buffer.from('something else'));
    await expect(condemn(repository.core)).rejects.toMatchObject({ code: 'repository.collection-refused' });
  });

  test('without a tag that cannot be read stop it only where the pack they lead from is gone', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    await backUp(repository, 1, noisyDisk(10));
    const [name = ''] = namesUnder(store, PACKS);
    const pack = name.slice(-64) as PackName;
    const object = store.objects.get(name) ?? new Uint8Array();
    store.objects.set(relocationObject(pack, 'r1'), Buffer.from('something else'));
    expect((await collect(repository)).condemned.deadPacks).toBe(0);
    store.objects.delete(name);
    await expect(condemn(repository.core)).rejects.toMatchObject({ code: 'repository.collection-refused' });
    store.objects.set(name, object);
    await movePack(repository, pack, { relocationId: 'r2' });
    store.objects.delete(name);
    expect((await condemn(repository.core)).deadPacks).toBe(0);
  });
});

describe('a session', () => {
  test('takes nothing over from a point that was pruned before it began', async () => {
    const repository = await initTiny(new MemoryStore());
    const content = noisyDisk(20);
    const parent = await backUp(repository, 1, content);
    await bury(repository, 1);
    await expect(write(repository, content, { parent })).rejects.toMatchObject({ code: 'repository.parent-gone' });
  });

  test('commits one point, whatever another process over its directory asks for', async () => {
    const repository = await initTiny(new MemoryStore());
    const directory = scratch.directory();
    const { session, root } = await write(repository, noisyDisk(20), { directory });
    const twin = await repository.beginSession({ machineId: MACHINE, directory });
    sessions.push(twin);
    const input = { machine: {}, capture: {}, disks: [{ name: 'vda', root }] };
    await session.commit({ ...input, pointId: pointId(1) });
    await expect(twin.commit({ ...input, pointId: pointId(2) })).rejects.toMatchObject({
      code: 'repository.session-unusable',
    });
    expect(await repository.points(parseMachineId('machine-1'))).toHaveLength(1);
  });
});

/** Rules whose absence random schedules meet too rarely: the story is told here, with the rule and without. */
describe('without the rule', () => {
  const commit = (session: WriterSession, n: number, root: DiskRoot) =>
    session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });

  async function begin(repository: Repository, rules: Partial<SafetyRules>): Promise<WriterSession> {
    const core = { ...repository.core, rules: { ...SAFETY_RULES, ...rules } };
    const session = await WriterSession.begin(
      core,
      { machineId: MACHINE, directory: scratch.directory() },
      { sealer: inlineSealer(), limits: TINY_LIMITS },
    );
    sessions.push(session);
    return session;
  }

  test('that a parent is looked for once the session is open, a point is built on what was collected', async () => {
    const repository = await initTiny(new MemoryStore());
    const content = noisyDisk(20);
    const parent = await backUp(repository, 1, content);
    await bury(repository, 1);
    await collect(repository);
    const source = fileSource(scratch.file(content));
    const request = { name: 'vda', sizeBytes: content.length, source, changed: [], parent };
    const careful = await begin(repository, {});
    await expect(careful.writeDisk(request, { signal })).rejects.toMatchObject({ code: 'repository.parent-gone' });
    const careless = await begin(repository, { checkParent: false });
    await commit(careless, 2, (await careless.writeDisk(request, { signal })).root);
    await expect(readDisk(repository, MACHINE, pointId(2))).rejects.toMatchObject({ code: 'repository.map-damaged' });
  });

  test.each([true, false])(
    'that lists are read again once the session is open (%s), it refers to what a collector that missed it deletes',
    async (rule) => {
      // A store in which a collector gets as far as its first deletion just before the record of a session appears.
      let collect: (() => void) | undefined;
      let deleting: () => void = () => {};
      let goOn: () => void = () => {};
      const mayDelete = new Promise<void>((resolve) => (goOn = resolve));
      const isDeleting = new Promise<void>((resolve) => (deleting = resolve));
      const store = new (class extends MemoryStore {
        override async putIfAbsent(...put: Parameters<MemoryStore['putIfAbsent']>): Promise<'created' | 'exists'> {
          if (collect && put[0].includes('/open.')) {
            collect();
            await isDeleting;
          }
          return super.putIfAbsent(...put);
        }
        override async delete(name: string): Promise<void> {
          if (name.startsWith(PACKS)) {
            deleting();
            await mayDelete;
          }
          return super.delete(name);
        }
      })();
      const repository = await initTiny(store);
      const content = noisyDisk(20);
      await backUp(repository, 1, content);
      await bury(repository, 1);
      let swept: Promise<unknown> = Promise.resolve();
      collect = () => {
        collect = undefined;
        swept = repository.condemn().then(() => repository.sweep({ graceMs: 0 }));
      };
      const session = await begin(repository, { readListsAfterOpen: rule });
      const source = fileSource(scratch.file(content));
      const request = { name: 'vda', sizeBytes: content.length, source, changed: 'all' } as const;
      const { root } = await session.writeDisk(request, { signal });
      goOn();
      await swept;
      await commit(session, 2, root);
      const outcome = await readDisk(await openTiny(store), MACHINE, pointId(2)).then(
        (read) => (read.equals(content) ? 'whole' : 'wrong'),
        (error: unknown) => (hasCode(error, 'repository.map-damaged') ? 'lost' : String(error)),
      );
      expect(outcome).toBe(rule ? 'whole' : 'lost');
    },
  );

  test.each([true, false])(
    'that a point must be pruned in both marks (%s), what was built on it is lost',
    async (rule) => {
      const repository = await initTiny(new MemoryStore());
      const content = noisyDisk(20);
      await backUp(repository, 1, content);
      await bury(repository, 1);
      // Refers to packs of the first point, and is open before the list that names them.
      const { session: early, root } = await write(repository, content);
      await repository.condemn();
      await commit(early, 2, root);
      // Knows the list, so nobody waits for it; takes everything over from the second point, which is then pruned.
      const { session: late, root: taken } = await write(repository, content, { parent: root, changed: [] });
      await bury(repository, 2);
      const core = { ...repository.core, rules: { ...SAFETY_RULES, prunedInBothMarks: rule } };
      expect((await sweep(core)).state).toBe('swept');
      await commit(late, 3, taken);
      const outcome = await readDisk(await openTiny(repository.core.store), MACHINE, pointId(3)).then(
        (read) => (read.equals(content) ? 'whole' : 'wrong'),
        (error: unknown) => (hasCode(error, 'repository.map-damaged') ? 'lost' : String(error)),
      );
      expect(outcome).toBe(rule ? 'whole' : 'lost');
    },
  );
});

/**
 * A pack is deleted, and brought back by a repetition of its PUT that was on its way for long. A collector that was frozen before it
 * deleted the same pack wakes up when a new point refers to it.
 */
describe('a pack that a late PUT brings back', () => {
  function over(store: MemoryStore, changed: Partial<ObjectStore>): ObjectStore {
    return new Proxy<ObjectStore>(store, {
      get: (_target, key): unknown => {
        const own: unknown = Reflect.get(changed, key) ?? Reflect.get(store, key);
        return typeof own === 'function' ? (own as () => unknown).bind(store) : own;
      },
    });
  }

  async function haunt(store: MemoryStore, repository: Repository) {
    const content = noisyDisk(20);
    await backUp(repository, 1, content);
    const late = new Map(store.objects);
    await bury(repository, 1);
    await repository.condemn();
    const packs = namesUnder(store, PACKS);
    return {
      content,
      comeBack: () => {
        // Index segments that name other packs as well stay; so do the local ones of a host.
        for (const name of [...packs, ...[...late.keys()].filter((key) => key.startsWith(INDEX))])
          store.objects.set(name, late.get(name) ?? Buffer.alloc(0));
      },
    };
  }

  /** A sweep over a store in which the deletion of a pack lasts until `wake`; `asleep`: it has come so far. */
  function frozen(repository: Repository, rules: Partial<SafetyRules>, when: (name: string) => boolean) {
    let wake = (): void => {};
    const woken = new Promise<void>((resolve) => (wake = resolve));
    let fallAsleep = (): void => {};
    const asleep = new Promise<void>((resolve) => (fallAsleep = resolve));
    const store = repository.core.store as MemoryStore;
    const sleepy = over(store, {
      delete: async (name: string) => {
        if (when(name)) {
          fallAsleep();
          await woken;
        }
        return store.delete(name);
      },
    });
    const core = { ...repository.core, store: sleepy, rules: { ...SAFETY_RULES, ...rules } };
    return { done: sweep(core, { graceMs: 0 }), asleep, wake };
  }

  test.each([true, false])(
    'is not referred to while it is on the newest list (%s), or a point is lost',
    async (rule) => {
      const store = new MemoryStore();
      const repository = await initTiny(store);
      const { content, comeBack } = await haunt(store, repository);
      const collector = frozen(repository, {}, (name) => name.startsWith(PACKS));
      await collector.asleep;
      expect((await sweep(repository.core)).state).toBe('swept');
      comeBack();
      const core = { ...repository.core, rules: { ...SAFETY_RULES, avoidSwept: rule } };
      const session = await WriterSession.begin(
        core,
        { machineId: MACHINE, directory: scratch.directory() },
        { sealer: inlineSealer(), limits: TINY_LIMITS },
      );
      sessions.push(session);
      const source = fileSource(scratch.file(content));
      const request = { name: 'vda', sizeBytes: content.length, source, changed: 'all' as const };
      const { root } = await session.writeDisk(request, { signal });
      await session.commit({ pointId: pointId(2), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
      collector.wake();
      await collector.done;
      const outcome = await readDisk(await openTiny(store), MACHINE, pointId(2)).then(
        (read) => (read.equals(content) ? 'whole' : 'wrong'),
        (error: unknown) =>
          hasCode(error, 'repository.map-damaged', 'repository.chunk-damaged') ? 'lost' : String(error),
      );
      expect(outcome).toBe(rule ? 'whole' : 'lost');
    },
  );

  test('is left alone by a collector that was overtaken before it looked', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const { comeBack } = await haunt(store, repository);
    let wake = (): void => {};
    const woken = new Promise<void>((resolve) => (wake = resolve));
    const marking = over(store, {
      async *list(prefix: string) {
        yield* store.list(prefix);
        if (prefix === RELOCATIONS) await woken;
      },
    });
    const late = sweep({ ...repository.core, store: marking });
    expect((await sweep(repository.core)).state).toBe('swept');
    comeBack();
    const before = namesUnder(store, PACKS);
    wake();
    expect(await late).toMatchObject({ state: 'overtaken', deletedPacks: 0 });
    expect(namesUnder(store, PACKS)).toEqual(before);
  });
});

describe('a tombstone', () => {
  test('that is not signed by the tenant hides nothing', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    await backUp(repository, 1, noisyDisk(20));
    const other = await initTiny(new MemoryStore());
    await backUp(other, 1, noisyDisk(20));
    await bury(other, 1);
    const plain = tombstoneObject(MACHINE, pointId(1));
    const forged = (other.core.store as MemoryStore).objects.get(controlName(other.core, plain));
    // Under the name that it had, and under ours.
    for (const name of [controlName(other.core, plain), controlName(repository.core, plain)])
      store.objects.set(name, forged ?? Buffer.alloc(0));
    expect(await repository.points()).toHaveLength(1);
    expect(await condemn(repository.core, { dryRun: true })).toMatchObject({
      points: 1,
      prunedPoints: 0,
      deadPacks: 0,
    });
  });
});
