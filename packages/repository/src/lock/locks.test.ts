/** Extension and proof of locks, over a store in memory whose clock the test owns. */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';

import { systemClock, type Clock } from '@lifeboat/foundation/clock';
import { afterAll, describe, expect, test } from 'vitest';

import { buryPoint } from '../collect/tombstones.ts';
import {
  AGENTS,
  CHAINS,
  DATA,
  EVIDENCE,
  LEDGER,
  packObject,
  packOfObject,
  PACKS,
  POINTS,
  relocationObject,
  RELOCATIONS,
  type PackName,
} from '../format/names.ts';
import { decodePackHeader, kindOf } from '../format/pack.ts';
import { inlineOpener } from '../read/blob-opener.ts';
import { addTenant, type Repository } from '../repository.ts';
import { controlName } from '../seal/control-records.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { enrolled } from '../testing/agents.ts';
import { noise, noisyDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { movePack } from '../testing/move-pack.ts';
import { CHEAP_SCRYPT, initTiny, MACHINE, pointId, Scratch, TINY_CHUNK, TINY_LIMITS } from '../testing/tiny.ts';
import { inlineSealer } from '../write/inline-sealer.ts';
import { checkLocks } from './lock-check.ts';
import { extendLocks } from './lock-extension.ts';
import { LockingStore } from './locking-store.ts';

const DAY_MS = 86_400_000;
const policy = { retentionMs: 30 * DAY_MS, generationMs: 7 * DAY_MS };
const context = { signal: new AbortController().signal, progress: () => {} };
const scratch = new Scratch();
afterAll(() => scratch.remove());

class SetClock implements Clock {
  ms = 1_800_000_000_000;
  nowMs(): number {
    return this.ms;
  }
  monotonicMs(): number {
    return this.ms;
  }
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return systemClock.sleep(ms, signal);
  }
}

async function backedUp(): Promise<{ clock: SetClock; memory: MemoryStore; repository: Repository }> {
  const clock = new SetClock();
  const memory = new MemoryStore({ clock });
  const repository = await initTiny(new LockingStore(memory, { policy, clock }), { clock });
  await backUp(repository, 1);
  return { clock, memory, repository };
}

async function backUp(repository: Repository, n: number, content = noisyDisk(40, n)): Promise<void> {
  const directory = mkdtempSync(join(scratch.path, 'session-'));
  const session = await repository.beginSession({ machineId: MACHINE, directory });
  const source = fileSource(scratch.file(content));
  const request = { name: 'vda', sizeBytes: 40 * TINY_CHUNK, source, changed: 'all' as const };
  const { root } = await session.writeDisk(request, context);
  await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
}

const EVIDENCE_OF_NOTHING = {
  operation: 'check',
  operationId: '',
  hostId: 'host',
  beganMs: 0,
  endedMs: 0,
  readBytes: 0,
  claims: [],
  artefacts: [],
  hardware: '',
  summary: '',
};
const all = (): boolean => true;
const none = (): boolean => false;

describe('locks of a repository', () => {
  test('hold every point from its commit on, and are extended once a generation', async () => {
    const { clock, memory, repository } = await backedUp();
    const { core } = repository;
    const first = await checkLocks(core, { policy, inPolicy: all }, context);
    expect(first).toMatchObject({ sound: true, points: 1, problems: [] });
    expect(first.objects).toBe([...memory.objects.keys()].filter((name) => !name.startsWith('control/')).length);

    expect(await extendLocks(core, policy, context)).toMatchObject({ extended: 0 });
    clock.ms += policy.generationMs;
    expect((await checkLocks(core, { policy, inPolicy: all }, context)).sound).toBe(true);
    const run = await extendLocks(core, policy, context);
    expect([run.extended, run.held]).toEqual([first.objects, first.objects]);
    expect((await extendLocks(core, policy, context)).extended).toBe(0);
    await repository.close();
  });

  test('that nobody extended are reported with their objects and points, before they end', async () => {
    const { clock, repository } = await backedUp();
    clock.ms += 3 * policy.generationMs;
    const late = await checkLocks(repository.core, { policy, inPolicy: all }, context);
    expect(late.sound).toBe(false);
    expect(late.problemCount).toBe(late.objects);
    expect(late.problems).toContainEqual({
      object: expect.stringContaining(PACKS) as string,
      problem: 'ends too early',
      untilMs: expect.any(Number) as number,
      point: pointId(1),
    });
    clock.ms += policy.retentionMs;
    const gone = await checkLocks(repository.core, { policy, inPolicy: all }, context);
    expect(new Set(gone.problems.map(({ problem }) => problem))).toEqual(new Set(['not locked']));
    expect(await checkLocks(repository.core, { policy, inPolicy: none }, context)).toMatchObject({ points: 0 });
    await repository.close();
  });

  test('of what was given up end, so that it can be collected; what is missing is named', async () => {
    const { clock, memory, repository } = await backedUp();
    await backUp(repository, 2);
    const [, second = ''] = [...memory.objects.keys()].filter((name) => name.startsWith(POINTS)).toSorted();
    clock.ms += 2 * policy.generationMs;
    await repository.retention.perform({
      act: { kind: 'prune', machineId: MACHINE, pointId: pointId(2) },
      reason: 'by hand',
    });
    const run = await extendLocks(repository.core, policy, context);
    expect(run.givenUp).toBeGreaterThan(1);
    expect((await checkLocks(repository.core, { policy, inPolicy: all }, context)).sound).toBe(true);
    await expect(memory.delete(second)).rejects.toMatchObject({ code: 'repository.object-locked' });
    clock.ms += policy.retentionMs;
    await memory.delete(second);

    const [pack = ''] = [...memory.objects.keys()].filter((name) => name.startsWith(PACKS));
    await expect(memory.delete(pack)).rejects.toMatchObject({ code: 'repository.object-locked' });
    memory.objects.delete(pack);
    const report = await checkLocks(repository.core, { policy, inPolicy: all }, context);
    expect(report.sound).toBe(false);
    await repository.close();
  });

  test('hold what relocations lead to, and are missed there', async () => {
    const { clock, memory, repository } = await backedUp();
    const { core } = repository;
    const isData = (name: string): boolean =>
      kindOf(decodePackHeader(memory.objects.get(name) ?? new Uint8Array(), name).header) === 'data';
    const [old = ''] = [...memory.objects.keys()].filter((name) => name.startsWith(PACKS) && isData(name));
    const pack = packOfObject(old) ?? ('' as PackName);
    const moved = await movePack(repository, pack);
    const again = await movePack(repository, moved, { relocationId: 'r2' });
    const named = (from: PackName, id: string): string => controlName(core, relocationObject(from, id));
    for (const gone of [pack, moved]) memory.objects.delete(packObject(gone));
    expect(await checkLocks(core, { policy, inPolicy: all }, context)).toMatchObject({ sound: true });
    clock.ms += 3 * policy.generationMs;
    for (const name of memory.objects.keys())
      if (name !== packObject(again) && !name.startsWith(RELOCATIONS))
        await memory.locks.extend(name, clock.ms + 99 * DAY_MS, {});
    const late = await checkLocks(core, { policy, inPolicy: all }, context);
    const needed = [named(pack, 'r1'), named(moved, 'r2'), packObject(again)];
    expect(late.problems.map(({ object }) => object).toSorted()).toEqual(needed.toSorted());
    expect((await extendLocks(core, policy, context)).extended).toBe(3);
    expect((await checkLocks(core, { policy, inPolicy: all }, context)).sound).toBe(true);

    const object = memory.objects.get(named(pack, 'r1')) ?? new Uint8Array();
    object[60] = (object[60] ?? 0) ^ 1;
    const lost = await checkLocks(core, { policy, inPolicy: all }, context);
    expect(lost.problems).toMatchObject([{ object: named(pack, 'r1'), problem: 'unreadable' }]);
    await repository.close();
  });

  test.each(['data', 'map', 'set'] as const)(
    'of a pack that is gone, and all of which was healed, are missed no more: %s',
    async (kind) => {
      const { memory, repository } = await backedUp();
      const isKind = (name: string): boolean =>
        kindOf(decodePackHeader(memory.objects.get(name) ?? new Uint8Array(), name).header) === kind;
      const gone = [...memory.objects.keys()].filter((name) => name.startsWith(PACKS) && isKind(name));
      for (const name of gone) memory.objects.delete(name);
      expect((await checkLocks(repository.core, { policy, inPolicy: all }, context)).sound).toBe(false);
      const fresh = await repository.readPoint(MACHINE, pointId(1));
      await repository.reportDamage((await repository.checkPoint(fresh, 'present', context)).damage);
      await backUp(repository, 2, noisyDisk(40, 1));
      expect((await repository.checkPoint(fresh, 'content', context)).sound).toBe(true);
      expect(await checkLocks(repository.core, { policy, inPolicy: all }, context)).toMatchObject({
        sound: true,
        problems: [],
      });
      await repository.close();
    },
  );

  test('of a pack that is gone are missed where only what nobody needs was healed', async () => {
    const { memory, repository } = await backedUp();
    const content = noisyDisk(40, 1);
    const every = (second: Buffer, odd: number): Buffer =>
      Buffer.concat(
        Array.from({ length: 40 }, (_, i) => {
          const from = i % 2 === odd ? content : second;
          return from.subarray(i * TINY_CHUNK, (i + 1) * TINY_CHUNK);
        }),
      );
    await backUp(repository, 2, every(noisyDisk(40, 2), 1));
    const isData = (name: string): boolean =>
      kindOf(decodePackHeader(memory.objects.get(name) ?? new Uint8Array(), name).header) === 'data';
    const first = await repository.readPoint(MACHINE, pointId(1));
    const ofFirst = [...memory.objects.keys()].filter((name) => name.startsWith(PACKS) && isData(name));
    for (const name of ofFirst) memory.objects.delete(name);
    await repository.reportDamage((await repository.checkPoint(first, 'present', context)).damage);
    // Stores the even chunks of the first point again, which the second does not need.
    await backUp(repository, 3, every(noisyDisk(40, 3), 0));
    await buryPoint(repository.core, { machineId: MACHINE, pointId: pointId(1), by: 'a test', reason: 'to see' });
    const isSecond = (point: { pointId?: string }): boolean => point.pointId === pointId(2);
    const second = await repository.checkPoint(await repository.readPoint(MACHINE, pointId(2)), 'present', context);
    const missing = second.damage.packs.map(packObject);
    expect(missing.length).toBeGreaterThan(1);
    const locks = await checkLocks(repository.core, { policy, inPolicy: isSecond }, context);
    const named = locks.problems.filter(({ problem }) => problem === 'missing').map(({ object }) => object);
    expect(named.toSorted()).toEqual(missing.toSorted());
    await repository.close();
  });

  test('of packs that were moved end, while those of their copies are extended, and prove the point', async () => {
    const { clock, memory, repository } = await backedUp();
    const content = noisyDisk(40, 1);
    for (let chunk = 0; chunk < 40; chunk += 2) content.set(noise(chunk), chunk * TINY_CHUNK);
    await backUp(repository, 2, content);
    await repository.retention.perform({
      act: { kind: 'prune', machineId: MACHINE, pointId: pointId(1) },
      reason: 'by hand',
    });
    const careful = await repository.condemn({ compact: { minDeadShare: 0.2 }, dryRun: true });
    expect(careful.compaction).toMatchObject({ packs: 0 });
    expect(careful.compaction?.lockedPacks).toBeGreaterThan(0);
    const { compaction, lockedPacks } = await repository.condemn({
      compact: { minDeadShare: 0.2, includeLocked: true },
    });
    expect(compaction?.packs).toBeGreaterThan(0);
    expect(lockedPacks).toBeGreaterThanOrEqual(compaction?.packs ?? 0);
    await repository.sweep({ graceMs: 0 });
    clock.ms += 2 * policy.generationMs;
    expect((await extendLocks(repository.core, policy, context)).givenUp).toBeGreaterThanOrEqual(lockedPacks);
    expect(await checkLocks(repository.core, { policy, inPolicy: all }, context)).toMatchObject({ sound: true });
    clock.ms += policy.retentionMs;
    await extendLocks(repository.core, policy, context);
    const before = memory.objects.size;
    await repository.condemn();
    expect(await repository.sweep({ graceMs: 0 })).toMatchObject({ state: 'swept', lockedPacks: 0 });
    expect(memory.objects.size).toBeLessThan(before);
    expect(await checkLocks(repository.core, { policy, inPolicy: all }, context)).toMatchObject({ sound: true });
    expect(
      (await repository.checkPoint(await repository.readPoint(MACHINE, pointId(2)), 'content', context)).sound,
    ).toBe(true);
    await repository.close();
  });

  test('of one tenant are extended by that tenant, and by no other', async () => {
    const { clock, memory, repository } = await backedUp();
    const second = await addTenant({
      store: new LockingStore(memory, { policy, clock }),
      tenantName: 'second',
      secret: { passphrase: 'another' },
      scryptCost: CHEAP_SCRYPT,
      deps: { clock, sealer: inlineSealer({ laneCount: 2 }), opener: inlineOpener(), writerLimits: TINY_LIMITS },
    });
    await backUp(second, 1);
    await backUp(second, 2);
    const ofSecond = [...memory.objects.keys()].filter((name) => name.startsWith(`${DATA}tenants/`));
    const before = await checkLocks(second.core, { policy, inPolicy: all }, context);
    expect(before.sound).toBe(true);
    clock.ms += 2 * policy.generationMs;
    await second.retention.perform({
      act: { kind: 'prune', machineId: MACHINE, pointId: pointId(2) },
      reason: 'by hand',
    });
    await extendLocks(repository.core, policy, context);
    const untilMs = await Promise.all(ofSecond.map((name) => memory.locks.lockedUntilMs(name)));
    const own = await extendLocks(second.core, policy, context);
    expect(own.givenUp).toBeGreaterThan(1);
    expect(own.extended).toBe(ofSecond.length - own.givenUp);
    expect((await checkLocks(second.core, { policy, inPolicy: all }, context)).sound).toBe(true);
    const raised = await Promise.all(
      ofSecond.map(async (name, i) => (await memory.locks.lockedUntilMs(name)) !== untilMs[i]),
    );
    expect(raised.filter(Boolean)).toHaveLength(own.extended);
    await repository.close();
    await second.close();
  });

  test('are all extended where garbage among the points hides what is needed', async () => {
    const { clock, memory, repository } = await backedUp();
    const objects = [...memory.objects.keys()].filter((name) => !name.startsWith('control/')).length;
    await memory.putIfAbsent(`${POINTS}${MACHINE}/${pointId(9)}`, [Buffer.from('garbage')]);
    clock.ms += policy.generationMs;
    expect(await extendLocks(repository.core, policy, context)).toMatchObject({ held: objects + 1, givenUp: 0 });
    await repository.close();
  });

  test('hold what says of points that they are there, count, and were proven', async () => {
    const { memory, repository } = await backedUp();
    const { core } = repository;
    await repository.linkPoints(MACHINE);
    const { agentId } = await enrolled(repository, scratch);
    await repository.agents.revoke({ agent: agentId, reason: 'sold' });
    await repository.appendEvidence(MACHINE, EVIDENCE_OF_NOTHING);
    await repository.retention.perform({ act: { kind: 'hold', machineId: MACHINE }, reason: 'kept' });
    const held = await checkLocks(core, { policy, inPolicy: all }, context);
    const ours = [...memory.objects].filter(([name]) => !name.startsWith('control/'));
    expect(held).toMatchObject({ sound: true, objects: ours.length });
    // As somebody puts it there who knows no locks: it can be taken away.
    for (const prefix of [CHAINS, AGENTS, EVIDENCE, LEDGER]) {
      const [name, bytes] = ours.find(([object]) => object.startsWith(prefix)) ?? ['', new Uint8Array()];
      const bare = new MemoryStore({ clock: core.clock });
      for (const [object, content] of memory.objects)
        if (object !== name) await new LockingStore(bare, { policy, clock: core.clock }).putIfAbsent(object, [content]);
      await bare.putIfAbsent(name, [bytes]);
      const { problems } = await checkLocks({ ...core, store: bare }, { policy, inPolicy: all }, context);
      expect(problems).toEqual([{ object: name, problem: 'not locked' }]);
    }
    await repository.close();
  });
});
