import { parseMachineId } from '@lifeboat/foundation/ids';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { systemRandom, type Random } from '@lifeboat/foundation/random';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';

import { buryPoint } from '../collect/tombstones.ts';
import { packObject, packOfObject, PACKS, VERIFIED, type PackName } from '../format/names.ts';
import { decodePackHeader, encodePackTail, hashSealed, kindOf, parsePack } from '../format/pack.ts';
import type { CheckLevel } from '../format/verification.ts';
import type { Repository } from '../repository.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { enrolled, openAgentTiny } from '../testing/agents.ts';
import { noisyDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { movePack } from '../testing/move-pack.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch } from '../testing/tiny.ts';
import { checkPack } from './pack-check.ts';
import type { Budget, DamagedPoint, PassReport } from './verification-pass.ts';

const DAY_MS = 86_400_000;
const ALL = { bytes: 1_000_000_000 };
const ONE = { bytes: 1 };
const OTHER = parseMachineId('machine-2');
const scratch = new Scratch();
afterAll(() => scratch.remove());
const context = { signal: new AbortController().signal, progress: () => {} };

class SteppingClock {
  ms = Date.UTC(2026, 5, 1);
  nowMs = (): number => this.ms;
  monotonicMs = (): number => this.ms;
  sleep = (): Promise<void> => Promise.resolve();
}

/** Counts the packs that are read, and may say no to a put. */
class WatchedStore extends MemoryStore {
  readonly read: PackName[] = [];
  denied = '';
  onRead: (pack: PackName) => void | Promise<void> = () => {};
  override async get(...[name, options]: Parameters<MemoryStore['get']>) {
    const pack = packOfObject(name);
    if (pack) {
      this.read.push(pack);
      await this.onRead(pack);
    }
    return super.get(name, options);
  }
  override putIfAbsent(...[name, ...rest]: Parameters<MemoryStore['putIfAbsent']>) {
    if (this.denied !== '' && name.startsWith(this.denied))
      return Promise.reject(new LifeboatError('repository.store-denied', `may not put ${name}`));
    return super.putIfAbsent(name, ...rest);
  }
  override delete(...[name]: Parameters<MemoryStore['delete']>) {
    if (this.denied !== '' && name.startsWith(this.denied))
      return Promise.reject(new LifeboatError('repository.store-denied', `may not delete ${name}`));
    return super.delete(name);
  }
}

/** Draws what orders the packs of one age as it is told to. */
const salted = (byte: number): Random => ({
  bytes: (length) => (length === 4 ? Buffer.alloc(4, byte) : systemRandom.bytes(length)),
});

let clock: SteppingClock;
let store: WatchedStore;
let repository: Repository;
let found: DamagedPoint[];
beforeEach(async () => {
  clock = new SteppingClock();
  store = new WatchedStore();
  repository = await initTiny(store, { clock });
  found = [];
  await backUp(1, 1);
});

async function backUp(n: number, seed: number, machineId = MACHINE): Promise<void> {
  const session = await repository.beginSession({ machineId, directory: scratch.directory() });
  const content = noisyDisk(120, seed);
  const source = fileSource(scratch.file(content));
  const { root } = await session.writeDisk({ name: 'vda', sizeBytes: content.length, source, changed: 'all' }, context);
  await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
}

const packs = (): PackName[] => [...store.objects.keys()].flatMap((name) => packOfObject(name) ?? []);
const records = (): string[] => [...store.objects.keys()].filter((name) => name.startsWith(VERIFIED));
const dataPack = (): PackName => {
  const [name = ''] = [...store.objects].flatMap(([object, bytes]) =>
    object.startsWith(PACKS) && kindOf(decodePackHeader(bytes, object).header) === 'data' ? [object] : [],
  );
  return packOfObject(name) as PackName;
};
const sizeOf = (pack: PackName): number => store.objects.get(packObject(pack))?.length ?? 0;

async function pass(
  budget: Budget,
  more: { level?: CheckLevel; by?: Repository; machineId?: typeof MACHINE; dryRun?: boolean } = {},
): Promise<PassReport> {
  const { level = 'ciphertext', by = repository, ...input } = more;
  store.read.length = 0;
  found = [];
  clock.ms += 1000;
  return by.checkWithin({ level, budget, ...input, damaged: async (point) => void found.push(point) }, context);
}

function flipBit(pack: PackName): void {
  const object = Buffer.from(store.objects.get(packObject(pack)) ?? '');
  const { blobs } = parsePack(object, pack);
  const [first] = blobs;
  if (!first) throw new TypeError('a pack without blobs');
  object[first.offsetBytes + first.lengthBytes - 1] = (object[first.offsetBytes + first.lengthBytes - 1] ?? 0) ^ 1;
  store.objects.set(packObject(pack), object);
}

describe('a check within a budget', () => {
  test('looks at everything once before it looks at anything twice', async () => {
    const wanted = packs().length;
    const seen: PackName[] = [];
    for (let i = 0; i < wanted; i++) {
      const { looked, coverage } = await pass(ONE);
      expect(looked.packs).toBe(1);
      expect(coverage.never.packs).toBe(wanted - i - 1);
      seen.push(...store.read);
    }
    expect(new Set(seen)).toEqual(new Set(packs()));
    await pass(ONE);
    expect(store.read).toEqual(seen.slice(0, 1));
  });

  test('stops at its bytes, and at its time', async () => {
    const total = packs().reduce((sum, pack) => sum + sizeOf(pack), 0);
    const bytes = Math.floor(total / 2);
    const { looked } = await pass({ bytes });
    expect(looked.packs).toBeLessThan(packs().length);
    expect(looked.bytes).toBeLessThanOrEqual(bytes);
    store.onRead = () => void (clock.ms += 600);
    expect((await pass({ durationMs: 1000 })).looked.packs).toBeLessThan(packs().length);
  });

  test('says how old the oldest look is, how much was looked at within days, and what comes next', async () => {
    const half = { bytes: 12_000 };
    const first = await pass(half);
    const firstMs = clock.ms;
    clock.ms += 10 * DAY_MS;
    const second = await pass(half);
    expect(second.coverage.oldestMs).toBe(firstMs);
    const days = new Map(second.coverage.within.map(({ days: count, packs: looked }) => [count, looked]));
    expect(days.get(1)).toBe(second.looked.packs);
    expect(days.get(30)).toBe(first.looked.packs + second.looked.packs);
    expect(second.coverage.packs).toBe(packs().length);
    expect(second.coverage.never.packs).toBe(packs().length - first.looked.packs - second.looked.packs);
    const next = await pass(half, { dryRun: true });
    expect(store.read).toEqual([]);
    expect(next.looked.packs).toBe(0);
    expect(next.next).toEqual(second.next);
    // All of it: which of those that wait equally long come first is drawn by lot.
    const rest = await pass(ALL);
    expect(rest.next).toMatchObject({ packs: packs().length, bytes: rest.coverage.bytes, oldestMs: clock.ms });
  });

  test('counts a level for those below it, and not for those above', async () => {
    await pass(ALL, { level: 'content' });
    expect((await pass(ONE, { level: 'ciphertext', dryRun: true })).coverage.never.packs).toBe(0);
    expect((await pass(ONE, { level: 'present', dryRun: true })).coverage.never.packs).toBe(0);
    for (const name of records()) store.objects.delete(name);
    await pass(ALL, { level: 'present' });
    expect((await pass(ONE, { level: 'ciphertext', dryRun: true })).coverage.never.packs).toBe(packs().length);
  });

  test('is shared by two who begin at once, and never half remembered', async () => {
    // Salts that put the packs in opposite orders.
    const [one, two] = await Promise.all([0, 255].map((byte) => openTiny(store, { clock, random: salted(byte) })));
    const halves = await Promise.all([pass({ bytes: 9000 }, { by: one }), pass({ bytes: 9000 }, { by: two })]);
    const { coverage } = await pass(ONE, { dryRun: true });
    expect(packs().length - coverage.never.packs).toBeGreaterThan(
      Math.max(...halves.map(({ looked }) => looked.packs)),
    );
  });

  test('leaves alone what another looked at meanwhile', async () => {
    const elsewhere = new MemoryStore();
    const checkElsewhere = async (): Promise<void> => {
      for (const [name, object] of store.objects) elsewhere.objects.set(name, object);
      const other = await openTiny(elsewhere, { clock });
      await other.checkWithin({ level: 'ciphertext', budget: ALL, damaged: async () => {} }, context);
      for (const [name, object] of elsewhere.objects) store.objects.set(name, object);
      // Time to publish, and to read what others published.
      clock.ms += 11 * 60_000;
    };
    let reads = 0;
    let meanwhile: Promise<void> | undefined;
    store.onRead = async () => {
      if (++reads >= 2) await (meanwhile ??= checkElsewhere());
    };
    const { looked, coverage } = await pass(ALL);
    expect(looked.packs).toBeLessThan(8);
    expect(coverage.never.packs).toBe(0);
  });

  test('forgets packs that are gone, and keeps no record that says nothing', async () => {
    await pass(ALL);
    expect(records()).toHaveLength(1);
    await backUp(2, 2, OTHER);
    for (let i = 0; i < 3; i++) await pass(ALL);
    // The last one's, and the one before, which the next pass finds to say nothing.
    expect(records()).toHaveLength(2);
    await buryPoint(repository.core, { machineId: MACHINE, pointId: pointId(1), by: 'a test', reason: 'to see it go' });
    await repository.condemn();
    await repository.sweep();
    const { coverage } = await pass(ONE, { dryRun: true });
    expect(coverage).toMatchObject({ packs: packs().length, never: { packs: 0 } });
  });

  test('of one machine leaves alone what is known of the others', async () => {
    await backUp(2, 2, OTHER);
    await pass(ALL);
    await pass(ALL, { machineId: OTHER });
    await pass(ALL, { machineId: OTHER });
    expect((await pass(ONE, { dryRun: true })).coverage.never.packs).toBe(0);
  });

  test('remembers what it looked at when it is broken off', async () => {
    const abort = new AbortController();
    let reads = 0;
    store.onRead = () => {
      if (++reads === 4) abort.abort(new Error('enough'));
    };
    const input = { level: 'ciphertext', budget: ALL, damaged: async () => {} } as const;
    await expect(repository.checkWithin(input, { ...context, signal: abort.signal })).rejects.toThrow('enough');
    store.onRead = () => {};
    const { coverage } = await pass(ONE, { dryRun: true });
    expect(coverage.never.packs).toBeLessThan(packs().length);
    expect(coverage.never.packs).toBeGreaterThan(0);
  });

  test('works where it may write nothing, and says the same again', async () => {
    store.denied = VERIFIED;
    expect((await pass(ALL)).looked.packs).toBe(packs().length);
    expect((await pass(ONE, { dryRun: true })).coverage.never.packs).toBe(packs().length);
    store.denied = '';
    await pass(ALL);
    store.denied = VERIFIED;
    await expect(pass(ALL)).resolves.toMatchObject({ damagedPoints: 0 });
  });
});

describe('what a check within a budget remembers', () => {
  test.each<[string, () => void]>([
    ['forged by who has no key', () => void store.objects.set(`${VERIFIED}00000000000001-00`, Buffer.from('x'))],
    [
      'changed',
      () => {
        const [name = ''] = records();
        store.objects.set(
          name,
          (store.objects.get(name) ?? Buffer.alloc(0)).map((byte, i) => (i === 40 ? byte ^ 1 : byte)),
        );
      },
    ],
    [
      'put under another name',
      () => {
        const [name = ''] = records();
        const object = store.objects.get(name) ?? Buffer.alloc(0);
        store.objects.delete(name);
        store.objects.set(name.replace(/[0-9a-f]{16}\./, `${'0'.repeat(16)}.`), object);
      },
    ],
    ['lost', () => void records().map((name) => store.objects.delete(name))],
  ])('makes nothing look verified that was not when it is %s', async (what, harm) => {
    if (what !== 'forged by who has no key') await pass(ALL);
    harm();
    expect((await pass(ONE, { dryRun: true })).coverage.never.packs).toBe(packs().length);
    expect((await pass(ALL)).looked.packs).toBe(packs().length);
    expect((await pass(ONE, { dryRun: true })).coverage.never.packs).toBe(0);
  });

  test('does not keep packs from being looked at when it was written by a clock that is ahead', async () => {
    clock.ms += 365 * DAY_MS;
    await pass(ALL);
    clock.ms -= 365 * DAY_MS;
    expect((await pass(ONE, { dryRun: true })).coverage.never.packs).toBe(packs().length);
  });
});

describe('damage in a check within a budget', () => {
  test.each<[string, CheckLevel, () => void]>([
    ['a pack that is missing', 'present', () => void store.objects.delete(packObject(dataPack()))],
    ['a flipped bit', 'ciphertext', () => flipBit(dataPack())],
    ['a flipped bit', 'content', () => flipBit(dataPack())],
  ])('%s is found at level %s, named by point and disk, and never counts as looked at', async (_, level, harm) => {
    const wanted = packs().length;
    harm();
    const report = await pass(ALL, { level });
    expect(report.damagedPoints).toBe(1);
    expect(found).toMatchObject([{ listing: { pointId: pointId(1) }, report: { sound: false, level } }]);
    expect(found[0]?.report.disks.length).toBeGreaterThan(0);
    expect(found[0]?.report.damage.chunks.length).toBeGreaterThan(0);
    expect(report.coverage.never.packs).toBe(1);
    expect(report.coverage.packs).toBe(wanted);
    // It comes first, until it is healed.
    const again = await pass(ONE, { level });
    expect(again.damagedPoints).toBe(1);
  });

  test('is left out where a relocation leads to a whole place', async () => {
    const pack = dataPack();
    await movePack(repository, pack, { relocationId: 'r1' });
    store.objects.delete(packObject(pack));
    // The pack it was moved to is looked at in its place.
    const report = await pass(ALL);
    expect(report).toMatchObject({ damagedPoints: 0, coverage: { never: { packs: 0 } } });
    expect(report.coverage.packs).toBe(packs().length + 1);
    expect((await pass(ONE, { dryRun: true })).coverage.never.packs).toBe(0);
  });

  test('of a pack that others were moved to is said of the points that name those', async () => {
    const pack = dataPack();
    const moved = await movePack(repository, pack, { relocationId: 'r1' });
    store.objects.delete(packObject(pack));
    await pass(ALL);
    flipBit(moved);
    repository = await openTiny(store, { clock });
    expect(await pass(ALL)).toMatchObject({ damagedPoints: 1, coverage: { never: { packs: 0 } } });
    expect(found[0]?.report.disks.length).toBeGreaterThan(0);
    // It was whole once, and is not again: it is taken first from now on.
    expect((await pass(ONE)).damagedPoints).toBe(1);
  });

  test('of a page of a pack set is said of every point that needs it', async () => {
    await backUp(2, 1);
    const point = await repository.readPoint(MACHINE, pointId(2));
    const pack = point.disks[0]?.root.packs?.pack;
    if (!pack) throw new TypeError('the disk holds something');
    store.objects.delete(packObject(pack));
    repository = await openTiny(store, { clock });
    const report = await pass(ALL);
    expect(report.damagedPoints).toBe(2);
    expect(found.every(({ report: { objects } }) => objects.length > 0)).toBe(true);
    // Also where no pack was looked at: what lies below the page nobody knows.
    expect((await pass(ONE, { dryRun: true })).damagedPoints).toBe(2);
  });

  test('of a point’s own object is said', async () => {
    const [name = ''] = [...store.objects.keys()].filter((object) => object.startsWith('data/points/'));
    store.objects.set(name, Buffer.from('x'));
    expect(await pass(ALL)).toMatchObject({ points: 1, unreadable: [{ object: name }] });
  });
});

test('an agent, which signs no such record, checks what it may read and leaves none', async () => {
  const agent = await openAgentTiny(store, (await enrolled(repository, scratch)).path, { clock });
  expect((await pass(ALL, { by: agent })).looked.packs).toBe(packs().length);
  expect(records()).toEqual([]);
});

test('the content of a pack is opened, although every byte has its hash', async () => {
  const pack = dataPack();
  const object = Buffer.from(store.objects.get(packObject(pack)) ?? '');
  const { blobs, sealedToc } = parsePack(object, pack);
  const [first] = blobs;
  if (!first) throw new TypeError('a pack without blobs');
  object[first.offsetBytes + 3] = (object[first.offsetBytes + 3] ?? 0) ^ 1;
  const sealed = blobs.map(({ offsetBytes, lengthBytes }) => object.subarray(offsetBytes, offsetBytes + lengthBytes));
  const lengths = sealed.map(({ length }) => length);
  const tail = encodePackTail(sealedToc, { lengths, hashes: Buffer.concat(sealed.map(hashSealed)) });
  const forged = Buffer.concat([object.subarray(0, first.offsetBytes), ...sealed, tail]);
  const { name } = parsePack(forged, 'it');
  store.objects.set(packObject(name), forged);
  const check = (level: CheckLevel) =>
    checkPack(repository.core, { name, sizeBytes: forged.length }, level, context.signal);
  expect(await check('present')).toBeUndefined();
  expect(await check('ciphertext')).toBeUndefined();
  expect([...((await check('content'))?.slots.keys() ?? [])]).toEqual([0]);
});

test('a check without a budget is remembered by those with one', async () => {
  const log = repository.verificationLog('ciphertext');
  const point = await repository.readPoint(MACHINE, pointId(1));
  await repository.checkPoint(point, 'ciphertext', context, { log });
  await log.publish();
  expect((await pass(ONE, { dryRun: true })).coverage.never.packs).toBe(0);
});
