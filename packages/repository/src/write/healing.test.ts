/** Damage in the store does not spread into what is written after it, and the next backup mends what its source still has. */
import type { ErrorCode } from '@lifeboat/foundation/catalogue';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import type { CheckReport } from '../check/point-check.ts';
import type { CheckLevel } from '../format/verification.ts';
import { closeReport, KnownDamage } from '../check/damage-reports.ts';
import {
  chunkIdOf,
  DAMAGE,
  damageClosedObject,
  INDEX,
  packNameOf,
  packObject,
  packOfObject,
  PACKS,
  POINTS,
  RELOCATIONS,
  type PackName,
} from '../format/names.ts';
import { buryPoint } from '../collect/tombstones.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { decodePackHeader, kindOf, parsePack, type PackKind } from '../format/pack.ts';
import type { DiskRoot } from '../format/point.ts';
import type { Repository } from '../repository.ts';
import { controlName, openRecord, sealRecord } from '../seal/control-records.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { noise, noisyDisk, readDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch, TINY_CHUNK } from '../testing/tiny.ts';
import type { WriteDiskRequest, WriteDiskStats } from './disk-writer.ts';
import type { HealingOutcome } from './healing.ts';
import type { WriterSession } from './session.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const signal = new AbortController().signal;
const context = { signal, progress: () => {} };
const content = noisyDisk(40, 1);

let store: MemoryStore;
let root: DiskRoot;

/** What every story begins with: a whole point of `content`. */
beforeEach(async () => {
  store = new MemoryStore();
  ({ root } = await backUp(await initTiny(store), 1));
});

async function backUp(
  repository: Repository,
  n: number,
  request: Partial<WriteDiskRequest> & { readonly disk?: Buffer } = {},
  directory = scratch.directory(),
): Promise<{ root: DiskRoot; stats: WriteDiskStats }> {
  const { disk = content, ...rest } = request;
  const session = await repository.beginSession({ machineId: MACHINE, directory });
  try {
    const source = fileSource(scratch.file(disk));
    const whole = { name: 'vda', sizeBytes: disk.length, source, changed: 'all' } as const;
    const written = await session.writeDisk({ ...whole, ...rest }, { signal });
    const disks = [{ name: 'vda', root: written.root }];
    await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks });
    return written;
  } finally {
    await session.detach();
  }
}

function packs(kind: PackKind): PackName[] {
  return [...store.objects].flatMap(([name, object]) => {
    const pack = name.startsWith(PACKS) ? packOfObject(name) : undefined;
    return pack && kindOf(decodePackHeader(object, name).header) === kind ? [pack] : [];
  });
}

/** Flips a bit of one blob. */
function spoilSlot(pack: PackName, slot: number): void {
  const object = store.objects.get(packObject(pack)) ?? new Uint8Array(0);
  const { offsetBytes } = parsePack(object, pack).blobs[slot] ?? { offsetBytes: 0 };
  object[offsetBytes + 20] = (object[offsetBytes + 20] ?? 0) ^ 1;
}

/** Flips bits of every blob, and leaves the header as it is. */
function spoil(pack: PackName): void {
  const object = store.objects.get(packObject(pack)) ?? new Uint8Array(0);
  const from = decodePackHeader(object, pack).lengthBytes;
  for (let at = from; at < object.length; at += 16) object[at] = (object[at] ?? 0) ^ 1;
}

/** What a check of a point finds, written down for the writers. */
async function report(n: number, level: CheckLevel): Promise<CheckReport> {
  const repository = await openTiny(store);
  const found = await repository.checkPoint(await repository.readPoint(MACHINE, pointId(n)), level, context);
  await repository.reportDamage(found.damage);
  return found;
}

const recordsOf = (kind: 'open' | 'closed'): string[] =>
  [...store.objects.keys()].filter((name) => name.startsWith(DAMAGE) && name.includes(`/${kind}.`));

const read = async (n: number): Promise<Buffer> => readDisk(await openTiny(store), MACHINE, pointId(n));
const relocations = (): string[] => [...store.objects.keys()].filter((name) => name.startsWith(RELOCATIONS));

describe('a data pack that is gone', () => {
  test('is not taken over from the parent by a backup that read its chunks', async () => {
    const [gone = '' as PackName] = packs('data');
    store.objects.delete(packObject(gone));
    const { stats } = await backUp(await openTiny(store), 2, { parent: root });
    expect(stats.newChunks).toBeGreaterThan(0);
    expect(stats.newChunks + stats.unchangedChunks).toBe(40);
    expect(await read(2)).toEqual(content);
  });
});

describe('pages whose pack is damaged', () => {
  test.each(['map', 'set'] as const)('are sealed anew by a full backup that makes the same: %s', async (kind) => {
    const before = packs(kind);
    for (const pack of before) spoil(pack);
    const disk = noisyDisk(40, 2);
    await expect(backUp(await openTiny(store), 2, { parent: root, disk })).rejects.toMatchObject({
      code: 'repository.map-damaged',
    });
    await backUp(await openTiny(store), 3);
    expect(await read(3)).toEqual(content);
    expect(await report(3, 'ciphertext')).toMatchObject({ sound: true, objects: [] });
    expect(packs(kind).length).toBeGreaterThan(before.length);
    // The pages of the point before are found where they were sealed anew.
    expect(relocations().length).toBeGreaterThan(0);
    expect(await read(1)).toEqual(content);
  });

  test('are stored once when they are whole', async () => {
    const before = [...packs('map'), ...packs('set')];
    await backUp(await openTiny(store), 2);
    expect([...packs('map'), ...packs('set')]).toEqual(before);
    expect(relocations()).toEqual([]);
  });
});

describe('damage that a check reported', () => {
  const LEVELS = ['present', 'ciphertext', 'content'] as const;
  const harms: Record<string, { levels: readonly CheckLevel[]; harm: (pack: PackName) => void }> = {
    'a pack that is gone': { levels: LEVELS, harm: (pack) => store.objects.delete(packObject(pack)) },
    'one blob': { levels: ['ciphertext', 'content'], harm: (pack) => spoilSlot(pack, 1) },
    'every blob of a pack': { levels: ['ciphertext', 'content'], harm: spoil },
  };
  const cases = Object.entries(harms).flatMap(([what, { levels }]) => levels.map((level) => ({ what, level })));

  test.each(cases)('$what, by $level: nothing refers to it any more', async ({ what, level }) => {
    const [pack = '' as PackName] = packs('data');
    harms[what]?.harm(pack);
    expect((await report(1, level)).sound).toBe(false);
    await backUp(await openTiny(store), 2);
    expect(await read(2)).toEqual(content);
  });

  test.each(cases)(
    '$what, by $level: the next backup reads just that again, and heals the points before',
    async (how) => {
      const other = Buffer.concat([content.subarray(0, 39 * TINY_CHUNK), noise(99)]);
      const changed = [{ offsetBytes: 39 * TINY_CHUNK, lengthBytes: TINY_CHUNK }];
      const { root: parent } = await backUp(await openTiny(store), 2, { disk: other, parent: root, changed });
      const [pack = '' as PackName] = packs('data');
      harms[how.what]?.harm(pack);
      const found = await report(2, how.level);
      const damagedBytes = found.disks.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
      expect(damagedBytes).toBeGreaterThan(0);
      await expect(read(1)).rejects.toMatchObject({ code: 'repository.chunk-damaged' });

      // Change tracking says that nothing was written.
      const { root: healed, stats } = await backUp(await openTiny(store), 3, { disk: other, parent, changed: [] });
      expect(stats).toMatchObject({ readBytes: damagedBytes, readAgainBytes: damagedBytes });
      expect(stats.newBytes).toBe(damagedBytes);
      expect(await read(3)).toEqual(other);
      expect(await read(2)).toEqual(other);
      expect(await read(1)).toEqual(content);
      for (const n of [1, 2, 3])
        for (const level of LEVELS)
          expect(await report(n, level)).toMatchObject({ sound: true, objects: [], disks: [] });
      expect(recordsOf('open')).toHaveLength(1);
      expect(recordsOf('closed')).toHaveLength(1);

      // It is over: the one after reads nothing.
      const after = await backUp(await openTiny(store), 4, { disk: other, parent: healed, changed: [] });
      expect(after.stats).toMatchObject({ readBytes: 0, readAgainBytes: 0 });
      expect(after.root).toEqual(healed);
    },
  );

  test('costs later backups no listing once it is healed', async () => {
    const [pack = '' as PackName] = packs('data');
    spoilSlot(pack, 1);
    await report(1, 'content');
    const { root: parent } = await backUp(await openTiny(store), 2, { parent: root, changed: [] });
    expect(recordsOf('closed')).toHaveLength(1);
    const lists = vi.spyOn(store, 'list');
    await backUp(await openTiny(store), 3, { parent, changed: [] });
    expect(lists.mock.calls.filter(([prefix]) => [PACKS, INDEX].includes(prefix))).toEqual([]);
  });

  test('of more than memory is for is avoided by whole packs, and healed as far as it is known', () => {
    const ref = (n: number): BlobRef => ({
      id: chunkIdOf(Buffer.alloc(32, n)),
      pack: packNameOf(Buffer.alloc(32, n)),
      slot: n,
      offsetBytes: 0,
      lengthBytes: 1,
    });
    const known = new KnownDamage(2);
    const one = (n: number) => ({ reportId: String(n), packs: [], chunks: [ref(n)], pages: [] });
    expect([1, 2, 3].map((n) => known.add(one(n), n === 2))).toEqual([true, true, false]);
    expect([1, 2, 3, 4].map((n) => known.has(ref(n)))).toEqual([true, true, true, false]);
    expect([1, 2, 3].map((n) => known.has({ ...ref(n), slot: 99 }))).toEqual([false, false, true]);
    expect([1, 2, 3].map((n) => known.waits(ref(n)))).toEqual([true, false, false]);
    expect(known.open.map(({ reportId }) => reportId)).toEqual(['1']);
  });
});

describe('healing', () => {
  /** A backup as far as its disks and relocations go, and no further: its process was killed. */
  async function backUpHalfWay(directory: string): Promise<void> {
    const session = await (await openTiny(store)).beginSession({ machineId: MACHINE, directory });
    const source = fileSource(scratch.file(content));
    const request = { name: 'vda', sizeBytes: content.length, source, parent: root, changed: [] };
    await session.writeDisk(request, { signal });
    expect(await session.heal()).toEqual({ chunks: 1 });
    await session.detach();
  }
  /** Returns where on the disk it is. */
  const damageOne = async (): Promise<number> => {
    const [pack = '' as PackName] = packs('data');
    spoilSlot(pack, 1);
    const [found] = (await report(1, 'content')).disks;
    return found?.offsetBytes ?? 0;
  };

  test('that was killed before its commit holds already, and is finished by the next session', async () => {
    await damageOne();
    const directory = scratch.directory();
    await backUpHalfWay(directory);
    expect(await read(1)).toEqual(content);
    expect(recordsOf('closed')).toEqual([]);
    const { stats } = await backUp(await openTiny(store), 2, { parent: root, changed: [] }, directory);
    expect(stats.readBytes).toBe(0);
    expect(await read(2)).toEqual(content);
    expect(recordsOf('closed')).toHaveLength(1);
    expect(relocations()).toHaveLength(1);
  });

  test('that was killed before its commit is kept by a collection that ends its session', async () => {
    await damageOne();
    await backUpHalfWay(scratch.directory());
    await backUp(await openTiny(store), 2, { disk: noisyDisk(8, 7) });
    const repository = await openTiny(store);
    await buryPoint(repository.core, {
      machineId: MACHINE,
      pointId: pointId(2),
      by: 'a test',
      reason: 'so that something goes',
    });
    await repository.condemn();
    const swept = await repository.sweep({ graceMs: 0 });
    expect(swept).toMatchObject({ state: 'swept', fencedSessions: [expect.anything()] });
    expect(swept.deletedPacks).toBeGreaterThan(0);
    expect(await read(1)).toEqual(content);
    await backUp(await openTiny(store), 3, { parent: root, changed: [] });
    expect(await read(3)).toEqual(content);
    expect(recordsOf('closed')).toHaveLength(1);
  });

  test('leaves a report open while the source has something else there', async () => {
    const at = await damageOne();
    const disk = Buffer.from(content).fill(7);
    const { stats } = await backUp(await openTiny(store), 2, { disk, parent: root, changed: [] });
    expect(stats.readAgainBytes).toBe(TINY_CHUNK);
    const now = await read(2);
    expect(now.subarray(at, at + TINY_CHUNK)).toEqual(disk.subarray(0, TINY_CHUNK));
    expect(relocations()).toEqual([]);
    expect(recordsOf('closed')).toEqual([]);
    // Later it is the old content again, at another place: found by its id.
    const moved = Buffer.concat([disk, content.subarray(at, at + TINY_CHUNK)]);
    await backUp(await openTiny(store), 3, { disk: moved });
    expect(await read(1)).toEqual(content);
    expect(recordsOf('closed')).toHaveLength(1);
  });

  test('finds what was stored elsewhere before the damage was known', async () => {
    const [pack = '' as PackName] = packs('data');
    store.objects.delete(packObject(pack));
    const { root: parent } = await backUp(await openTiny(store), 2, { parent: root });
    expect((await report(1, 'present')).sound).toBe(false);
    const { stats } = await backUp(await openTiny(store), 3, { parent, changed: [] });
    expect(stats.readBytes).toBe(0);
    expect(await read(1)).toEqual(content);
    expect(recordsOf('closed')).toHaveLength(1);
  });

  test('makes nothing of a copy that does not open either', async () => {
    const [pack = '' as PackName] = packs('data');
    store.objects.delete(packObject(pack));
    const before = new Set(packs('data'));
    const { root: parent } = await backUp(await openTiny(store), 2, { parent: root });
    for (const copy of packs('data')) if (!before.has(copy)) spoil(copy);
    await report(1, 'present');
    await backUp(await openTiny(store), 3, { parent, changed: [] });
    expect(relocations()).toEqual([]);
    expect(recordsOf('closed')).toEqual([]);
  });

  test('works with an index on disk as well', async () => {
    const deps = { indexDirectory: scratch.directory() };
    await backUp(await openTiny(store, deps), 2);
    await damageOne();
    const { stats } = await backUp(await openTiny(store, deps), 3, { parent: root, changed: [] });
    expect(stats).toMatchObject({ readBytes: TINY_CHUNK, newChunks: 1 });
    expect(await read(1)).toEqual(content);
    await backUp(await openTiny(store, deps), 4);
    expect(await read(4)).toEqual(content);
    expect(recordsOf('closed')).toHaveLength(1);
  });

  test('does not let an incremental share a page that was reported, and heals pages by a full backup', async () => {
    const disk = Buffer.concat([noise(5), content.subarray(TINY_CHUNK)]);
    const changed = [{ offsetBytes: 0, lengthBytes: TINY_CHUNK }];
    const open = await openTiny(store);
    // It has read the pages while they were whole.
    await readDisk(open, MACHINE, pointId(1));
    for (const pack of packs('map')) spoil(pack);
    expect((await report(1, 'content')).sound).toBe(false);
    await expect(backUp(open, 2, { disk, parent: root, changed })).rejects.toMatchObject({
      code: 'repository.map-damaged',
    });
    await backUp(open, 3);
    expect(await read(3)).toEqual(content);
    expect(await read(1)).toEqual(content);
    expect(recordsOf('closed')).toHaveLength(1);
    expect(await report(1, 'ciphertext')).toMatchObject({ sound: true, objects: [] });
  });
});

describe('healing is best effort', () => {
  const sessions: WriterSession[] = [];
  afterEach(async () => {
    for (const session of sessions.splice(0)) await session.detach();
  });
  /** Backs up what is damaged, as far as healing, in a repository whose other parts the test may spoil. */
  async function healing(): Promise<{ outcome: HealingOutcome; commit: () => Promise<unknown> }> {
    const session = await (await openTiny(store)).beginSession({ machineId: MACHINE, directory: scratch.directory() });
    sessions.push(session);
    const source = fileSource(scratch.file(content));
    const request = { name: 'vda', sizeBytes: content.length, source, parent: root, changed: [] };
    const { root: written } = await session.writeDisk(request, { signal });
    const commit = async (): Promise<void> => {
      await session.commit({ pointId: pointId(2), machine: {}, capture: {}, disks: [{ name: 'vda', root: written }] });
    };
    return { outcome: await session.heal(), commit };
  }
  const damageOne = async (): Promise<void> => {
    const [pack = '' as PackName] = packs('data');
    spoilSlot(pack, 1);
    await report(1, 'content');
  };

  test.each(['rotten', 'unreadable'] as const)('what is %s under its name is passed by', async (how) => {
    // A store in which each relocation that is made goes bad at once, so many times.
    const bad = new Set<string>();
    let times = 2;
    const good = store;
    store = new (class extends MemoryStore {
      override readonly objects = good.objects;
      override async putIfAbsent(...given: Parameters<MemoryStore['putIfAbsent']>): Promise<'created' | 'exists'> {
        const [name] = given;
        if (!name.startsWith(RELOCATIONS) || times-- <= 0) return super.putIfAbsent(...given);
        this.objects.set(name, Buffer.from('rotten'));
        bad.add(name);
        return 'exists';
      }
      override async get(...given: Parameters<MemoryStore['get']>): Promise<Uint8Array> {
        if (how === 'unreadable' && bad.has(given[0])) throw new LifeboatError('repository.object-unreadable', 'EIO');
        return super.get(...given);
      }
    })();
    await damageOne();
    const { outcome, commit } = await healing();
    expect(outcome).toEqual({ chunks: 1 });
    expect(relocations()).toHaveLength(3);
    await commit();
    expect(await read(1)).toEqual(content);
    expect(recordsOf('closed')).toHaveLength(1);
  });

  const refuseRelocations = (code: ErrorCode): void => {
    const put = store.putIfAbsent.bind(store);
    vi.spyOn(store, 'putIfAbsent').mockImplementation(async (name, parts, options) => {
      if (name.startsWith(RELOCATIONS)) throw new LifeboatError(code, `no: ${name}`);
      return put(name, parts, options);
    });
  };

  test.each(['repository.object-unreadable', 'repository.store-denied'] as const)(
    'a backup goes on that cannot write its relocations: %s',
    async (code) => {
      await damageOne();
      refuseRelocations(code);
      const { outcome, commit } = await healing();
      expect(outcome).toEqual({ chunks: 0, failure: expect.stringContaining('no: ') as string });
      await commit();
      expect(await read(2)).toEqual(content);
      expect(recordsOf('closed')).toEqual([]);
    },
  );

  test('a store that fails fails the backup, too', async () => {
    await damageOne();
    refuseRelocations('repository.store-failed');
    await expect(healing()).rejects.toMatchObject({ code: 'repository.store-failed' });
  });

  test('nor does a page that cannot be led fail the backup that seals it anew', async () => {
    for (const pack of packs('map')) spoil(pack);
    refuseRelocations('repository.store-denied');
    await backUp(await openTiny(store), 2);
    expect(await read(2)).toEqual(content);
  });
});

describe('pages that a check reported', () => {
  /** So that a list is published, and what is sealed after it has other names. */
  const nextGeneration = async (): Promise<void> => void (await (await openTiny(store)).condemn());

  test('bring no relocation with every session while nobody stores them again', async () => {
    for (const pack of packs('map')) spoil(pack);
    await report(1, 'present');
    for (const n of [2, 3, 4]) await backUp(await openTiny(store), n, { disk: noisyDisk(40, n) });
    expect(relocations()).toEqual([]);
    expect(recordsOf('closed')).toEqual([]);
  });

  test('are led to where they are stored again, with what they hid, once', async () => {
    for (const pack of packs('map')) spoil(pack);
    await report(1, 'present');
    await nextGeneration();
    await backUp(await openTiny(store), 2);
    expect(await read(1)).toEqual(content);
    const after = relocations();
    expect(after.length).toBeGreaterThan(0);
    await nextGeneration();
    for (const n of [3, 4]) await backUp(await openTiny(store), n);
    expect(relocations()).toEqual(after);
    expect(recordsOf('closed')).toHaveLength(1);
  });
});

describe('a damage report', () => {
  const spoiltReport = async (): Promise<string> => {
    const [pack = '' as PackName] = packs('data');
    spoilSlot(pack, 1);
    await report(1, 'content');
    const [name = ''] = recordsOf('open');
    return name;
  };

  test('is written once, however often the damage is found', async () => {
    await spoiltReport();
    await report(1, 'content');
    expect(recordsOf('open')).toHaveLength(1);
  });

  test('that is not ours makes nobody read, and its closing ends nothing', async () => {
    const name = await spoiltReport();
    const reportId = name.slice(DAMAGE.length).split('/')[0] ?? '';
    const { core } = await openTiny(store);
    const theirs = new MemoryStore();
    const other = (await initTiny(theirs)).core;
    await closeReport(other, reportId);
    const plain = damageClosedObject(reportId);
    const foreign = theirs.objects.get(controlName(other, plain)) ?? new Uint8Array();
    // Under a name anybody may give, under theirs, and under ours.
    for (const closed of [plain, controlName(other, plain), controlName(core, plain)]) {
      store.objects.set(closed, foreign);
      const disk = Buffer.alloc(content.length, 1);
      const { stats } = await backUp(await openTiny(store), 2, { parent: root, changed: [], disk });
      expect(stats.readAgainBytes).toBe(TINY_CHUNK);
      store.objects.delete(`${POINTS}${MACHINE}/${pointId(2)}`);
      store.objects.delete(closed);
    }

    const object = store.objects.get(name) ?? new Uint8Array();
    const body = openRecord(core, { type: 'DMGR', name, object });
    const forged = sealRecord(other, { type: 'DMGR', name, body });
    for (const harmed of [object.subarray(1), new Uint8Array(), Buffer.from(object).fill(0, 60, 70), forged]) {
      store.objects.set(name, harmed);
      const { stats } = await backUp(await openTiny(store), 3, { parent: root, changed: [] });
      expect(stats.readBytes).toBe(0);
      store.objects.delete(`${POINTS}${MACHINE}/${pointId(3)}`);
    }
  });
});

test('a report about a pack that is gone stays as long as a point needs the pack', async () => {
  const [pack = '' as PackName] = packs('data');
  store.objects.delete(packObject(pack));
  await report(1, 'present');
  await backUp(await openTiny(store), 2, { disk: noisyDisk(8, 7) });
  const repository = await openTiny(store);
  await buryPoint(repository.core, { machineId: MACHINE, pointId: pointId(2), by: 'a test', reason: 'to see it go' });
  await repository.condemn();
  const heads = vi.spyOn(store, 'head');
  expect((await repository.sweep()).state).toBe('swept');
  expect(heads.mock.calls.filter(([name]) => name === packObject(pack))).toEqual([]);
  expect(recordsOf('open')).toHaveLength(1);
  await backUp(await openTiny(store), 3, { parent: root, changed: [] });
  expect(await read(1)).toEqual(content);
});

test('a report goes with the last point that needs what it names', async () => {
  const [pack = '' as PackName] = packs('data');
  spoilSlot(pack, 1);
  await report(1, 'content');
  await backUp(await openTiny(store), 2, { parent: root, changed: [] });
  await backUp(await openTiny(store), 3, { disk: noisyDisk(8, 7) });
  const repository = await openTiny(store);
  for (const [n, left] of [
    [3, 2],
    [1, 2],
    [2, 0],
  ] as const) {
    await buryPoint(repository.core, { machineId: MACHINE, pointId: pointId(n), by: 'a test', reason: 'to see it go' });
    await repository.condemn();
    expect((await repository.sweep()).state).toBe('swept');
    expect([...recordsOf('open'), ...recordsOf('closed')]).toHaveLength(left);
  }
});
