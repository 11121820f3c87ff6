import { systemClock, type Clock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { newPointId, parseMachineId, type MachineId, type PointId } from '@lifeboat/foundation/ids';
import { systemRandom } from '@lifeboat/foundation/random';
import { afterAll, describe, expect, test, vi } from 'vitest';

import { encodeLedgerBody, encodeLedgerEntry, type Act, type Step } from '../format/ledger-entry.ts';
import { ledgerObject, pointObject, TOMBSTONES } from '../format/names.ts';
import { LockingStore } from '../lock/locking-store.ts';
import { openRepository, type Repository } from '../repository.ts';
import { inlineOpener } from '../read/blob-opener.ts';
import { lengthPrefixed } from '../seal/derive.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { noisyDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { CHEAP_SCRYPT, initTiny, MACHINE, openTiny, Scratch, TINY_LIMITS } from '../testing/tiny.ts';
import { inlineSealer } from '../write/inline-sealer.ts';
import { appendToLedger, ledgerName, readLedger, readLedgerOf } from './ledger.ts';
import { retentionPolicy } from './policy.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const signal = new AbortController().signal;
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const OTHER = parseMachineId('machine-2');

class SetClock implements Clock {
  ms = Date.parse('2026-11-28T12:00:00Z');
  nowMs(): number {
    return this.ms;
  }
  monotonicMs(): number {
    return this.ms;
  }
  sleep(ms: number, aborted?: AbortSignal): Promise<void> {
    return systemClock.sleep(ms, aborted);
  }
}

interface Site {
  readonly clock: SetClock;
  readonly store: MemoryStore;
  readonly repository: Repository;
}

async function site(): Promise<Site> {
  const clock = new SetClock();
  const store = new MemoryStore({ clock });
  const repository = await initTiny(store, { clock });
  clock.ms += 1000; // what is asked for later is later
  return { clock, store, repository };
}

/** A second person, who comes in by another slot. */
async function second(
  { repository, store, clock }: Site,
  options: { label?: string; clock?: Clock } = {},
): Promise<Repository> {
  const { label = 'operations' } = options;
  await repository.keys.add({ secret: { passphrase: label }, label, scryptCost: CHEAP_SCRYPT });
  clock.ms += 1000;
  const deps = { sealer: inlineSealer({ laneCount: 1 }), opener: inlineOpener(), writerLimits: TINY_LIMITS };
  return openRepository({
    store,
    secret: { passphrase: label },
    deps: { ...deps, clock: options.clock ?? clock },
  });
}

/** A point that shows the machine so many days before noon of 28 November 2026, whenever it is written. */
async function backUp(repository: Repository, daysAgo: number, machineId: MachineId = MACHINE): Promise<PointId> {
  const pointId = newPointId(Date.parse('2026-11-28T12:00:00Z') - daysAgo * DAY, systemRandom);
  const session = await repository.beginSession({ machineId, directory: scratch.directory() });
  const disk = noisyDisk(2, daysAgo);
  const source = fileSource(scratch.file(disk));
  const { root } = await session.writeDisk({ name: 'vda', sizeBytes: disk.length, source, changed: 'all' }, { signal });
  await session.commit({ pointId, machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
  return pointId;
}

const pointsOf = async (repository: Repository, machineId: MachineId = MACHINE): Promise<string[]> =>
  (await repository.points(machineId)).map(({ pointId }) => pointId ?? '');
const days = async (repository: Repository, all: readonly number[], machineId?: MachineId): Promise<PointId[]> => {
  const made: PointId[] = [];
  for (const daysAgo of all) made.push(await backUp(repository, daysAgo, machineId));
  return made;
};
const setPolicy = (rules: Parameters<typeof retentionPolicy>[0], machineId?: string): Act => ({
  kind: 'policy',
  policy: retentionPolicy(rules),
  ...(machineId === undefined ? {} : { machineId }),
});
const act = (repository: Repository, what: Act, reason = 'a test') =>
  repository.retention.perform({ act: what, reason });
const refusedWith = (code: string): object => ({ code });

/** Four eyes and a day's delay, with two people. */
async function guarded(options: Parameters<typeof second>[1] = {}): Promise<Site & { other: Repository }> {
  const made = await site();
  const other = await second(made, options);
  await act(made.repository, { kind: 'guard', guard: { fourEyes: true, delayMs: DAY } });
  return { ...made, other };
}

describe('policies', () => {
  test('without one nothing is ever pruned', async () => {
    const { repository } = await site();
    const made = await days(repository, [3, 2, 1]);
    const plan = await repository.retention.prune();
    expect(plan.machines).toMatchObject([{ machineId: MACHINE, source: 'none' }]);
    expect(await pointsOf(repository)).toEqual(made);
  });

  test('the default is for machines without their own, and a second run lets go of nothing more', async () => {
    const { repository, store } = await site();
    const [, second2] = await days(repository, [4, 3, 2, 1]).then((all) => [all[0], all.slice(-2)] as const);
    const others = await days(repository, [4, 3, 2], OTHER);
    await act(repository, setPolicy({ last: 2 }));
    await act(repository, setPolicy({ last: 3 }, OTHER));
    const plan = await repository.retention.plan();
    expect(
      plan.machines.map(({ source, points }) => [source, points.filter((p) => p.keep.length === 0).length]),
    ).toEqual([
      ['default', 2],
      ['machine', 0],
    ]);
    expect(await pointsOf(repository)).toHaveLength(4); // the simulator changes nothing
    await repository.retention.prune();
    expect(await pointsOf(repository)).toEqual(second2);
    expect(await pointsOf(repository, OTHER)).toEqual(others);
    const tombstones = [...store.objects.keys()].filter((name) => name.startsWith(TOMBSTONES)).length;
    const again = await repository.retention.prune();
    expect(again.machines.flatMap(({ points }) => points).every(({ keep }) => keep.length > 0)).toBe(true);
    expect([...store.objects.keys()].filter((name) => name.startsWith(TOMBSTONES))).toHaveLength(tombstones);
    // Its own no more: the default again.
    await act(repository, { kind: 'policy', machineId: OTHER });
    await repository.retention.prune();
    expect(await pointsOf(repository, OTHER)).toEqual(others.slice(-2));
  });

  test('what was pruned is collected, and what is left can be read', async () => {
    const { repository } = await site();
    const [, kept] = await days(repository, [2, 1]);
    await act(repository, setPolicy({ last: 1 }));
    await repository.retention.prune();
    expect(await repository.condemn()).toMatchObject({ points: 1, prunedPoints: 1 });
    expect(await repository.sweep({ graceMs: 0 })).toMatchObject({ deletedPoints: 1 });
    const point = await repository.readPoint(MACHINE, kept as PointId);
    expect(await repository.checkPoint(point, 'content', { signal, progress: () => {} })).toMatchObject({
      sound: true,
    });
  });

  test('a simulation says what would go, to the pack, and writes nothing', async () => {
    const { repository, store } = await site();
    await days(repository, [3, 2, 1]);
    await act(repository, setPolicy({ last: 1 }));
    const before = new Map(store.objects);
    const simulation = repository.simulation();
    const simulated = { plan: await simulation.retention.prune(), condemned: await simulation.condemn() };
    expect(new Map(store.objects)).toEqual(before);
    const plan = await repository.retention.prune();
    const { deadPacks, deadBytes, prunedPoints } = await repository.condemn();
    expect(simulated).toMatchObject({ plan, condemned: { state: 'dry-run', deadPacks, deadBytes, prunedPoints } });
    expect([deadPacks > 0, prunedPoints]).toEqual([true, 2]);
  });

  test('all of many changes at once are kept, one after the other', async () => {
    const made = await site();
    const { store, repository } = made;
    const people = await Promise.all(Array.from({ length: 6 }, () => openTiny(store, { clock: made.clock })));
    await Promise.all(people.map((person, i) => act(person, { kind: 'hold', machineId: `machine-${i}` })));
    const { holds, void: nothing, lost } = await repository.retention.state();
    expect([...holds.values()].map(({ machineId }) => machineId).toSorted()).toEqual(
      people.map((_, i) => `machine-${i}`),
    );
    expect([...nothing, ...lost]).toEqual([]);
  });

  test('a damaged point stays, and one from the future stops everything', async () => {
    const { repository, store, clock } = await site();
    const [first, middle] = await days(repository, [3, 2, 1]);
    await act(repository, setPolicy({ last: 1 }));
    const object = store.objects.get(pointObject(MACHINE, first as PointId)) as Uint8Array;
    store.objects.set(
      pointObject(MACHINE, first as PointId),
      object.map((byte, i) => (i === 200 ? byte ^ 1 : byte)),
    );
    const plan = await repository.retention.plan();
    const reasons = plan.machines[0]?.points.map(({ keep }) => keep.map(({ kind }) => kind));
    expect(reasons).toEqual([['newest', 'rule'], [], ['damaged']]);
    clock.ms -= 30 * DAY;
    await expect(repository.retention.prune()).rejects.toMatchObject(refusedWith('repository.clocks-disagree'));
    expect(await pointsOf(repository)).toContain(middle);
  });

  test('what somebody outside knows keeps a point', async () => {
    const { repository } = await site();
    const [booted, inUse, newest] = await days(repository, [3, 2, 1]);
    await act(repository, setPolicy({ last: 1 }));
    await repository.retention.prune({
      booted: ({ pointId }) => pointId === booted,
      protect: ({ pointId }) => (pointId === inUse ? [{ kind: 'in-use', by: 'restore op-1' }] : []),
    });
    expect(await pointsOf(repository)).toEqual([booted, inUse, newest]);
  });
});

describe('holds', () => {
  test('keep a point and a whole machine from everybody, until they are lifted', async () => {
    const { repository } = await site();
    const [held, free] = await days(repository, [3, 2, 1]);
    const [machine] = await days(repository, [2, 1], OTHER);
    await act(repository, setPolicy({ last: 1 }));
    await act(repository, { kind: 'hold', machineId: MACHINE, pointId: held as string }, 'case 17');
    await act(repository, { kind: 'hold', machineId: OTHER });
    for (const point of [
      { machineId: MACHINE, pointId: held as string },
      { machineId: OTHER, pointId: machine as string },
    ]) {
      const byHand = act(repository, { kind: 'prune', ...point });
      await expect(byHand).rejects.toMatchObject(refusedWith('repository.point-held'));
    }
    await repository.retention.prune();
    expect(await pointsOf(repository)).not.toContain(free);
    expect(await pointsOf(repository)).toContain(held);
    expect(await pointsOf(repository, OTHER)).toHaveLength(2);
    await expect(act(repository, { kind: 'lift', hold: 99 })).rejects.toMatchObject(
      refusedWith('repository.retention-refused'),
    );
    const hold = [...(await repository.retention.state()).holds.values()].find(({ reason }) => reason === 'case 17');
    await act(repository, { kind: 'lift', hold: hold?.entry ?? 0 });
    await repository.retention.prune();
    expect(await pointsOf(repository)).not.toContain(held);
    expect(await pointsOf(repository, OTHER)).toHaveLength(2);
  });

  test('one that is set in the middle of a prune is heeded', async () => {
    const { repository, store } = await site();
    const [first, second2] = await days(repository, [3, 2, 1]);
    await act(repository, setPolicy({ last: 1 }));
    const put = store.putIfAbsent.bind(store);
    vi.spyOn(store, 'putIfAbsent').mockImplementation(async (...args) => {
      const done = await put(...args);
      if (args[0].startsWith(TOMBSTONES)) await act(repository, { kind: 'hold', machineId: MACHINE });
      return done;
    });
    const plan = await repository.retention.prune();
    expect(await pointsOf(repository)).toContain(first);
    expect(await pointsOf(repository)).not.toContain(second2);
    expect(plan.machines[0]?.points.filter(({ keep }) => keep.length === 0)).toMatchObject([{ pointId: second2 }]);
  });
});

describe('four eyes and a delay', () => {
  test('need two ways in', async () => {
    const { repository } = await site();
    const alone = act(repository, { kind: 'guard', guard: { fourEyes: true, delayMs: 0 } });
    await expect(alone).rejects.toMatchObject(refusedWith('repository.retention-refused'));
  });

  test('who asks does not approve, who approves does not hurry, and then it is done', async () => {
    const { repository, other, clock } = await guarded();
    const [first] = await days(repository, [2, 1]);
    const prune: Act = { kind: 'prune', machineId: MACHINE, pointId: first as string };
    const asked = await act(repository, prune);
    expect(asked).toMatchObject({ outcome: 'requested' });
    expect(await act(repository, prune)).toEqual(asked); // not twice
    const request = asked.entry as number;
    await expect(repository.retention.approve({ request, reason: '' })).rejects.toThrow(/another key slot/);
    clock.ms += 2 * DAY;
    expect(await repository.retention.carryOutDue()).toEqual([]);
    await other.retention.approve({ request, reason: '' });
    expect(await repository.retention.carryOutDue()).toEqual([]);
    clock.ms += DAY - 1000;
    expect(await other.retention.carryOutDue()).toEqual([]);
    expect(await pointsOf(repository)).toHaveLength(2);
    clock.ms += 2000;
    expect(await other.retention.carryOutDue()).toEqual([request]);
    expect(await pointsOf(repository)).not.toContain(first);
    expect(await other.retention.carryOutDue()).toEqual([]);
  });

  test('guard shorter policies, lifted holds, the guard itself and the tenant, and nothing else', async () => {
    const { repository } = await guarded();
    expect(await act(repository, setPolicy({}))).toMatchObject({ outcome: 'done' });
    expect(await act(repository, setPolicy({ daily: 7 }))).toMatchObject({ outcome: 'requested' });
    expect(await act(repository, { kind: 'delete-tenant' })).toMatchObject({ outcome: 'requested' });
    const hold = await act(repository, { kind: 'hold', machineId: MACHINE });
    expect(hold).toMatchObject({ outcome: 'done' });
    expect(await act(repository, { kind: 'lift', hold: hold.entry as number })).toMatchObject({ outcome: 'requested' });
    for (const guard of [
      { fourEyes: false, delayMs: DAY },
      { fourEyes: true, delayMs: DAY - 1 },
    ]) {
      expect(await act(repository, { kind: 'guard', guard })).toMatchObject({ outcome: 'requested' });
    }
    expect(await act(repository, { kind: 'guard', guard: { fourEyes: true, delayMs: 2 * DAY } })).toMatchObject({
      outcome: 'done',
    });
    const { guard, holds, defaultPolicy } = await repository.retention.state();
    expect([guard, holds.size, defaultPolicy?.policy]).toEqual([
      { fourEyes: true, delayMs: 2 * DAY },
      1,
      retentionPolicy({}),
    ]);
  });

  test('a tenant is deleted only by who asks again when it is due', async () => {
    const { repository, other, clock } = await guarded();
    const { entry } = await act(repository, { kind: 'delete-tenant' });
    await other.retention.approve({ request: entry as number, reason: '' });
    clock.ms += DAY + 1;
    expect(await repository.retention.carryOutDue()).toEqual([]);
    const hold = await act(repository, { kind: 'hold', machineId: MACHINE });
    await expect(act(repository, { kind: 'delete-tenant' })).rejects.toMatchObject(
      refusedWith('repository.point-held'),
    );
    const lift = await act(repository, { kind: 'lift', hold: hold.entry as number });
    await other.retention.approve({ request: lift.entry as number, reason: '' });
    clock.ms += DAY + 1;
    await other.retention.carryOutDue();
    // Twice: the key service may not answer the first time.
    expect(await act(repository, { kind: 'delete-tenant' })).toEqual({ outcome: 'done', entry: expect.any(Number) });
    expect(await act(repository, { kind: 'delete-tenant' })).toEqual({ outcome: 'done', entry });
  });

  test('a slot that was added after the request does not approve it', async () => {
    const made = await guarded();
    const { entry } = await act(made.repository, setPolicy({ last: 1 }));
    made.clock.ms += 1000;
    const late = await second(made, { label: 'late' });
    await expect(late.retention.approve({ request: entry as number, reason: '' })).rejects.toThrow(/added after/);
  });

  test('a request can be taken back, by anybody, and expires', async () => {
    const { repository, other, clock } = await guarded();
    const { entry } = await act(repository, setPolicy({ last: 1 }));
    await other.retention.withdraw({ request: entry as number, reason: 'no' });
    await expect(other.retention.approve({ request: entry as number, reason: '' })).rejects.toThrow(/withdrawn/);
    const again = await act(repository, setPolicy({ last: 1 }));
    expect(again.entry).not.toBe(entry);
    clock.ms += 31 * DAY;
    await expect(other.retention.approve({ request: again.entry as number, reason: '' })).rejects.toThrow(/expired/);
  });

  test('a clock that was days behind when somebody asked and approved shortens nothing', async () => {
    const { repository, other, clock, store } = await guarded();
    const behind = Object.assign(new SetClock(), { ms: clock.ms });
    const late = await openTiny(store, { clock: behind });
    const { entry } = await act(late, setPolicy({ last: 1 }));
    // The approver's clock, too: what was signed says that all of it was days ago.
    clock.ms += 10 * DAY;
    behind.ms += 1000;
    const lateOther = await openRepository({
      store,
      secret: { passphrase: 'operations' },
      deps: { clock: behind, opener: inlineOpener(), sealer: inlineSealer({ laneCount: 1 }) },
    });
    await lateOther.retention.approve({ request: entry as number, reason: '' });
    expect(await other.retention.carryOutDue()).toEqual([]);
    clock.ms += DAY + 1;
    expect(await repository.retention.carryOutDue()).toEqual([entry]);
  });

  test('a hold goes before a request that is due, and killed in the middle it is finished', async () => {
    const made = await guarded();
    const { repository, other, clock, store } = made;
    const [first] = await days(repository, [2, 1]);
    const { entry } = await act(repository, { kind: 'prune', machineId: MACHINE, pointId: first as string });
    await other.retention.approve({ request: entry as number, reason: '' });
    const hold = await act(repository, { kind: 'hold', machineId: MACHINE });
    clock.ms += DAY + 1;
    expect(await other.retention.carryOutDue()).toEqual([]);
    const lift = await act(repository, { kind: 'lift', hold: hold.entry as number });
    await other.retention.approve({ request: lift.entry as number, reason: '' });
    clock.ms += DAY + 1;
    const put = store.putIfAbsent.bind(store);
    const dies = vi.spyOn(store, 'putIfAbsent').mockImplementation((...args) => {
      return args[0].startsWith(TOMBSTONES) ? Promise.reject(new Error('killed')) : put(...args);
    });
    // The lift is carried out after the prune was looked at; the next run finds it.
    expect(await repository.retention.carryOutDue()).toEqual([lift.entry]);
    await expect(repository.retention.carryOutDue()).rejects.toThrow('killed');
    dies.mockRestore();
    expect(await pointsOf(repository)).toContain(first);
    await repository.retention.carryOutDue();
    expect(await pointsOf(repository)).not.toContain(first);
  });

  test('an entry that was written past the rules changes nothing', async () => {
    const { repository, clock, store } = await guarded();
    const { entry } = await act(repository, setPolicy({ last: 1 }));
    const forge = async (step: Step, slotId: string): Promise<void> => {
      const { keyring } = repository.core;
      const { next } = await readLedger(repository.core);
      const body = encodeLedgerBody({
        tenantId: keyring.tenantId,
        number: next,
        signedMs: clock.ms,
        slotId: Buffer.from(slotId, 'hex'),
        slotLabel: 'x',
        reason: '',
        step,
        signer: keyring.signer,
      });
      const signature = keyring.sign(lengthPrefixed('lifeboat retention', body));
      await store.putIfAbsent(ledgerName(repository.core, next), [encodeLedgerEntry({ body, signature })]);
    };
    const [asker] = (await repository.keys.info()).slots;
    await forge({ kind: 'act', act: setPolicy({ last: 1 }) }, 'aaaaaaaaaaaaaaaa');
    await forge({ kind: 'approval', request: entry as number }, asker?.slotId ?? '');
    await forge({ kind: 'done', request: entry as number }, 'aaaaaaaaaaaaaaaa');
    const state = await repository.retention.state();
    expect(state.defaultPolicy).toBeUndefined();
    expect(state.void.map(({ why }) => why)).toEqual([
      'it needs a request',
      expect.stringContaining('another key slot'),
      expect.stringContaining('not approved'),
    ]);
    const written = appendToLedger(repository.core, { slotId: 'aaaaaaaaaaaaaaaa', label: 'x' }, async () => ({
      step: { kind: 'done', request: entry as number },
      reason: '',
    }));
    await expect(written).rejects.toMatchObject(refusedWith('repository.retention-refused'));
  });
});

describe('a ledger that was harmed', () => {
  type Harm = (store: MemoryStore, name: (number: number) => string) => void;
  const harm: Record<string, Harm> = {
    'an entry is gone': (store, name) => void store.objects.delete(name(1)),
    'an entry is damaged': (store, name) => void store.objects.set(name(1), Buffer.from('garbage')),
    'an entry lies under the name of another': (store, name) =>
      void store.objects.set(name(3), store.objects.get(name(1)) as Uint8Array),
  };
  test.each(Object.entries(harm))(
    '%s: nothing is pruned, holds go on, and it can be written off',
    async (_, doHarm) => {
      const { repository, store } = await site();
      const [first] = await days(repository, [2, 1]);
      await act(repository, { kind: 'hold', machineId: OTHER });
      await act(repository, setPolicy({ last: 1 }));
      doHarm(store, (number) => ledgerName(repository.core, number));
      const unreadable = refusedWith('repository.retention-unreadable');
      await expect(repository.retention.plan()).rejects.toMatchObject(unreadable);
      await expect(repository.retention.prune()).rejects.toMatchObject(unreadable);
      const byHand = act(repository, { kind: 'prune', machineId: MACHINE, pointId: first as string });
      await expect(byHand).rejects.toMatchObject(unreadable);
      await act(repository, { kind: 'hold', machineId: parseMachineId('machine-3') });
      const { lost } = await repository.retention.state();
      expect(lost).toHaveLength(1);
      await act(repository, { kind: 'write-off', entry: lost[0]?.entry ?? 0 });
      await repository.retention.prune();
      expect(await pointsOf(repository)).not.toContain(first);
    },
  );

  test('an entry on bad sectors: nothing is pruned while it cannot be read, and holds go on', async () => {
    const { repository, store } = await site();
    await days(repository, [2, 1]);
    await act(repository, setPolicy({ last: 1 }));
    const get = store.get.bind(store);
    const reading = vi.spyOn(store, 'get').mockImplementation(async (name, options) => {
      if (name.includes('retention/00000001')) throw new LifeboatError('repository.object-unreadable', 'EIO');
      return get(name, options);
    });
    await expect(repository.retention.prune()).rejects.toMatchObject(refusedWith('repository.retention-unreadable'));
    await act(repository, { kind: 'hold', machineId: OTHER });
    reading.mockRestore();
    expect(await repository.retention.state()).toMatchObject({ lost: [], holds: { size: 1 } });
    expect(
      (await repository.retention.prune()).machines[0]?.points.filter(({ keep }) => keep.length === 0),
    ).toHaveLength(1);
  });

  test('where four eyes are wanted, they also see what is written off', async () => {
    const { repository, other, clock, store } = await guarded();
    await act(repository, { kind: 'hold', machineId: OTHER });
    await act(repository, { kind: 'hold', machineId: MACHINE });
    store.objects.delete(ledgerName(repository.core, 2));
    const { entry } = await act(repository, { kind: 'write-off', entry: 2 });
    await other.retention.approve({ request: entry as number, reason: '' });
    expect((await repository.retention.state()).lost).toHaveLength(1);
    clock.ms += DAY + 1;
    await repository.retention.carryOutDue();
    expect((await repository.retention.state()).lost).toEqual([]);
  });

  test('what somebody without a key puts there stops nobody, takes no number, and is named', async () => {
    const { repository, store, clock } = await site();
    const [first] = await days(repository, [2, 1]);
    const planted = [1, 2, 3, 99_999_999].flatMap((number) =>
      ['', '.', `.${'0'.repeat(32)}`].map((tag) => ledgerObject(number) + tag),
    );
    for (const name of planted) store.objects.set(name, Buffer.from('garbage'));
    // Nor does what is named like a point of the next century say anything of a clock.
    const ahead = [pointObject(MACHINE, newPointId(clock.ms + 36_500 * DAY, systemRandom))];
    ahead.push(pointObject(OTHER, newPointId(clock.ms + 36_500 * DAY, systemRandom)));
    for (const name of ahead) store.objects.set(name, Buffer.from('garbage'));
    await act(repository, { kind: 'hold', machineId: OTHER });
    await act(repository, setPolicy({ last: 1 }));
    const state = await repository.retention.state();
    expect([state.lost, state.holds.size]).toEqual([[], 1]);
    await repository.retention.prune();
    expect(await pointsOf(repository)).not.toContain(first);
    for (const name of ahead) store.objects.delete(name);
    const { foreign } = await repository.condemn({ dryRun: true });
    expect(foreign.toSorted()).toEqual(planted.toSorted());
  });

  test('who has no key sees what there is, unproven', async () => {
    const { repository, store } = await site();
    await act(repository, { kind: 'hold', machineId: OTHER });
    store.objects.set(`${ledgerObject(1)}.${'0'.repeat(32)}`, Buffer.from('garbage'));
    expect((await readLedgerOf(store)).state).toMatchObject({ lost: [], holds: { size: 1 } });
  });
});

test('Object Lock: entries are locked by their put, and the plan says until when a point stays', async () => {
  const clock = new SetClock();
  const memory = new MemoryStore({ clock });
  const policy = { retentionMs: 30 * DAY, generationMs: 7 * DAY };
  const repository = await initTiny(new LockingStore(memory, { policy, clock }), { clock });
  const [first] = await days(repository, [2, 1]);
  await act(repository, setPolicy({ last: 1 }));
  await expect(memory.delete(ledgerName(repository.core, 1))).rejects.toMatchObject(
    refusedWith('repository.object-locked'),
  );
  const plan = await repository.retention.prune();
  const gone = plan.machines[0]?.points.find(({ pointId }) => pointId === first);
  expect(gone?.keep).toEqual([]);
  expect(gone?.lockedUntilMs).toBeGreaterThan(clock.ms + 30 * DAY);
  expect(await pointsOf(repository)).not.toContain(first);
  await repository.condemn();
  await repository.sweep({ graceMs: 0 });
  expect(await memory.head(pointObject(MACHINE, first as PointId))).toBeDefined();
});
