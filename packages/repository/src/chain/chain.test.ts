/** What chains miss, and what they do not take for missing. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { parseMachineId, parseSessionId, type MachineId } from '@lifeboat/foundation/ids';
import type { LifeboatError } from '@lifeboat/foundation/errors';
import * as fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';

import { buryPoint } from '../collect/tombstones.ts';
import { encodeChainLink, type ChainLink } from '../format/chain-link.ts';
import { CHAINS, chainLinkObject, pointObject, tombstoneObject } from '../format/names.ts';
import { addTenant, type Repository } from '../repository.ts';
import { controlName, sealRecord } from '../seal/control-records.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { enrolled, openAgentTiny } from '../testing/agents.ts';
import { CHEAP_SCRYPT, initTiny, MACHINE, openTiny, pointId, Scratch } from '../testing/tiny.ts';
import { encodePoint, putPoint } from '../write/point-writer.ts';
import type { ChainFinding } from './chain-check.ts';
import { readLink } from './links.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const OTHER = parseMachineId('machine-2');

let store: MemoryStore;
let repository: Repository;
beforeEach(async () => {
  store = new MemoryStore();
  repository = await initTiny(store, { chainDirectory: scratch.directory() });
});

/** A point without disks, as a session commits it: a chain does not look into it. */
async function commit(n: number, machineId: MachineId = MACHINE, on = repository): Promise<void> {
  const sessionId = parseSessionId(`s${n.toString(16).padStart(32, '0')}`);
  const key = { machineId, pointId: pointId(n) };
  const object = await encodePoint(on.core, { ...key, sessionId, machine: {}, capture: {}, disks: [], files: [] });
  await putPoint(on.core, { ...key, object });
}

async function backUp(n: number, machineId: MachineId = MACHINE): Promise<void> {
  await commit(n, machineId);
  await repository.linkPoints(machineId);
}

const bury = (n: number, on = repository): Promise<void> =>
  buryPoint(on.core, { machineId: MACHINE, pointId: pointId(n), by: 'a test', reason: 'to see it go' });

const linkName = (number: number, machineId: MachineId = MACHINE, on = repository): string =>
  controlName(on.core, chainLinkObject(machineId, number));

const objectOf = (name: string): Uint8Array => Uint8Array.from(store.objects.get(name) ?? []);

async function check(on = repository): Promise<ChainFinding[]> {
  const checked = await on.readChains();
  return on.judgeChains({ checked, points: await on.points() });
}

const named = (findings: readonly ChainFinding[]): string[] =>
  findings.map(({ kind, pointId: point, object }) => `${kind} ${point ?? object ?? ''}`);

/** As `repo prune` collects. */
async function collect(on = repository): Promise<string> {
  const { state } = await on.condemn();
  return state === 'nothing' ? state : (await on.sweep()).state;
}

const linkIn = (on: Repository, link: ChainLink): void => {
  const name = linkName(link.number);
  store.objects.set(name, sealRecord(on.core, { type: 'LINK', name, body: encodeChainLink(link) }));
};

const REFUSED = expect.objectContaining({ code: 'repository.collection-refused' });

describe('a chain', () => {
  test('names every point by its hash, across blocks, and nothing is wrong with it', async () => {
    for (let n = 1; n <= 61; n++) await commit(n);
    for (let n = 62; n <= 67; n++) await backUp(n);
    expect(await check()).toEqual([]);
    const { points, first, previous } = await readLink(repository.core, { machineId: MACHINE, number: 6 });
    expect({ first, points: points.map((point) => point.pointId), previous: previous?.number }).toEqual({
      first: 4,
      points: [65, 66, 67].map(pointId),
      previous: 5,
    });
    const checked = await repository.readChains();
    const hashes = (await repository.points()).map((point) => [point.pointId, 'hash' in point && point.hash]);
    expect([...(checked.chains[0]?.points ?? [])]).toEqual(hashes);
  });

  test('takes in what a kill left without a link, oldest first, and says so until then', async () => {
    await backUp(1);
    for (const n of [3, 2]) await commit(n);
    expect(named(await check()).toSorted()).toEqual([`point-unlinked ${pointId(2)}`, `point-unlinked ${pointId(3)}`]);
    expect((await check()).some(({ isLoss }) => isLoss)).toBe(false);
    await commit(4);
    expect(await repository.linkPoints(MACHINE)).toEqual({ linked: [2, 3, 4].map(pointId) });
    expect(await check()).toEqual([]);
    expect(await repository.linkPoints(MACHINE)).toEqual({ linked: [] });
  });

  test('begins with the points of a repository that had none, as many in a link as fit', async () => {
    for (let n = 1; n <= 130; n++) await commit(n);
    expect((await repository.linkPoints(MACHINE)).linked).toHaveLength(130);
    expect([...store.objects.keys()].filter((name) => name.startsWith(CHAINS))).toHaveLength(3);
    expect(await check()).toEqual([]);
  });

  test('is one when several link at once, and every point is in it once', async () => {
    const others = await Promise.all([openTiny(store), openTiny(store), openTiny(store)]);
    for (let round = 0; round < 5; round++) {
      const all = [repository, ...others];
      for (const i of all.keys()) await commit(round * 4 + i + 1);
      const reports = await Promise.all(all.map((one) => one.linkPoints(MACHINE)));
      expect(reports.flatMap(({ linked }) => linked).toSorted()).toEqual(
        [1, 2, 3, 4].map((n) => pointId(round * 4 + n)),
      );
    }
    expect(await check()).toEqual([]);
  });

  test('leaves out what is pruned, and what cannot be read', async () => {
    await commit(1);
    await bury(1);
    await commit(2);
    store.objects.set(pointObject(MACHINE, pointId(2)), Buffer.from('x'));
    expect(await repository.linkPoints(MACHINE)).toEqual({ linked: [] });
  });
});

describe('before a collection', () => {
  const linkedNow = async (on: Repository = repository): Promise<string[]> =>
    (await on.linkEveryPoint()).map(({ machineId, pointId: point }) => `${machineId} ${point}`);
  let agent: Repository;
  let agentId: string;
  beforeEach(async () => {
    const made = await enrolled(repository, scratch, { machines: [MACHINE, OTHER] });
    agent = await openAgentTiny(store, made.path);
    ({ agentId } = made);
  });

  test('what agents committed is taken in, of every machine; from then on it is missed', async () => {
    await backUp(1);
    await commit(2, MACHINE, agent);
    await commit(3, OTHER, agent);
    expect(await agent.linkPoints(MACHINE)).toEqual({ linked: [] });
    await expect(agent.linkEveryPoint()).rejects.toMatchObject({ code: 'repository.not-permitted' });
    expect(await linkedNow()).toEqual([`${MACHINE} ${pointId(2)}`, `${OTHER} ${pointId(3)}`]);
    expect(await linkedNow()).toEqual([]);
    expect(await check()).toEqual([]);
    store.objects.delete(pointObject(OTHER, pointId(3)));
    expect(named(await check())).toEqual([`point-vanished ${pointId(3)}`]);
    await expect(repository.condemn()).rejects.toEqual(REFUSED);
  });

  test('a simulation says the same, and writes nothing', async () => {
    await commit(1, MACHINE, agent);
    const before = [...store.objects.keys()];
    const simulated = await repository.simulation().linkEveryPoint();
    expect(simulated).toEqual([{ machineId: MACHINE, pointId: pointId(1) }]);
    expect([...store.objects.keys()]).toEqual(before);
    expect(await repository.linkEveryPoint()).toEqual(simulated);
  });

  test('it is done once, however many do it at once', async () => {
    const all = await Promise.all([0, 1, 2].map(() => openTiny(store)));
    for (let n = 1; n <= 70; n++) await commit(n, n % 2 === 0 ? MACHINE : OTHER, agent);
    const done = await Promise.all(all.map((one) => linkedNow(one)));
    const points = done.flat();
    expect(points).toHaveLength(70);
    expect(new Set(points).size).toBe(70);
    expect(await check()).toEqual([]);
  });

  test('what was pruned, what does not count and what is no point stays out, and stops nobody', async () => {
    await commit(1, MACHINE, agent);
    await commit(2, MACHINE, agent);
    await bury(2);
    await repository.agents.revoke({ agent: agentId, reason: 'stolen' });
    const stolen = encodePoint(agent.core, {
      machineId: MACHINE,
      pointId: pointId(3),
      sessionId: parseSessionId(`s${'3'.repeat(32)}`),
      machine: {},
      capture: {},
      disks: [],
      files: [],
    });
    store.objects.set(pointObject(MACHINE, pointId(3)), await stolen);
    store.objects.set(pointObject(OTHER, pointId(4)), Buffer.from('not a point'));
    store.objects.set('data/points/stranger', Buffer.from('x'));
    expect(await linkedNow()).toEqual([`${MACHINE} ${pointId(1)}`]);
    expect(await linkedNow()).toEqual([]);
  });
});

describe('a point that is pruned', () => {
  test('is missed neither before nor after its object goes', async () => {
    for (const n of [1, 2, 3]) await backUp(n);
    await bury(2);
    expect(await check()).toEqual([]);
    expect(await collect()).toBe('swept');
    expect(store.objects.has(pointObject(MACHINE, pointId(2)))).toBe(false);
    expect(await check()).toEqual([]);
    expect(await collect()).toBe('nothing');
  });

  test('is missed when a forged tombstone says that it was', async () => {
    for (const n of [1, 2]) await backUp(n);
    store.objects.delete(pointObject(MACHINE, pointId(2)));
    store.objects.set(tombstoneObject(MACHINE, pointId(2)), Buffer.from('x'));
    store.objects.set(controlName(repository.core, tombstoneObject(MACHINE, pointId(2))), Buffer.from('x'));
    expect(named(await check())).toEqual([`point-vanished ${pointId(2)}`]);
  });
});

describe('a point that vanished', () => {
  test('is named, also the newest one and before any collection; nothing is collected until it is back', async () => {
    for (const n of [1, 2, 3]) await backUp(n);
    const name = pointObject(MACHINE, pointId(3));
    const object = objectOf(name);
    store.objects.delete(name);
    const [finding, ...more] = await check();
    expect(more).toEqual([]);
    expect(finding).toMatchObject({ kind: 'point-vanished', isLoss: true, machineId: MACHINE, pointId: pointId(3) });
    expect(finding?.next).toContain(`repo prune-point ${MACHINE} ${pointId(3)}`);
    await expect(repository.condemn()).rejects.toEqual(REFUSED);
    store.objects.set(name, object);
    expect(await check()).toEqual([]);
    expect(await collect()).toBe('swept');
  });

  test('between the two marks of a collection stops the second', async () => {
    for (const n of [1, 2, 3]) await backUp(n);
    await bury(1);
    await repository.condemn();
    await backUp(4);
    store.objects.delete(pointObject(MACHINE, pointId(4)));
    await expect(repository.sweep()).rejects.toEqual(REFUSED);
  });

  test('can be let go of, and comes back as nothing', async () => {
    for (const n of [1, 2]) await backUp(n);
    const object = objectOf(pointObject(MACHINE, pointId(2)));
    store.objects.delete(pointObject(MACHINE, pointId(2)));
    const act = { kind: 'prune', machineId: MACHINE, pointId: pointId(2) } as const;
    expect(await repository.retention.perform({ act, reason: 'its disk burnt' })).toMatchObject({ outcome: 'done' });
    expect(await check()).toEqual([]);
    expect(await collect()).toBe('swept');
    store.objects.set(pointObject(MACHINE, pointId(2)), object);
    expect((await repository.points()).map((point) => point.pointId)).toEqual([pointId(1)]);
    const never = { ...act, pointId: pointId(9) };
    await expect(repository.retention.perform({ act: never, reason: '' })).rejects.toMatchObject({
      code: 'repository.point-missing',
    });
  });

  test('hits its own machine only', async () => {
    for (const n of [1, 2]) await backUp(n);
    await backUp(3, OTHER);
    store.objects.delete(pointObject(OTHER, pointId(3)));
    expect((await check()).map(({ machineId }) => machineId)).toEqual([OTHER]);
    const checked = await repository.readChains(MACHINE);
    expect(await repository.judgeChains({ checked, points: await repository.points(MACHINE) })).toEqual([]);
  });
});

test('a point that another one was put in the place of is named', async () => {
  for (const n of [1, 2]) await backUp(n);
  store.objects.delete(pointObject(MACHINE, pointId(2)));
  await commit(2);
  expect(named(await check())).toEqual([`point-replaced ${pointId(2)}`]);
});

describe('links', () => {
  beforeEach(async () => {
    for (const n of [1, 2, 3, 4]) await backUp(n);
  });

  test('every flipped byte, and every end that is cut off, is found in the link that has it', async () => {
    const name = linkName(3);
    const object = objectOf(name);
    const spoilt = (bytes: Uint8Array) => async (): Promise<void> => {
      store.objects.set(name, bytes);
      expect(named(await check())).toEqual([`link-damaged ${name}`]);
    };
    await fc.assert(
      fc.asyncProperty(fc.nat(object.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const bytes = Uint8Array.from(object);
        bytes[at] = (bytes[at] ?? 0) ^ flip;
        await spoilt(bytes)();
      }),
      { numRuns: 24 },
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(object.length - 1), (length) => spoilt(object.subarray(0, length))()),
      { numRuns: 8 },
    );
    // What it said is said by the next one as well: points are missed as before.
    expect(await collect()).toBe('swept');
  });

  test.each([
    ['in the middle', 2],
    ['the first', 1],
  ])('one that is gone is named: %s', async (_, number) => {
    store.objects.delete(linkName(number));
    expect(named(await check())).toEqual([`link-missing ${linkName(number)}`]);
    expect(await collect()).toBe('swept');
  });

  test('the newest one that is gone: whoever saw it knows; its point is in no link until the next backup', async () => {
    store.objects.delete(linkName(4));
    expect(named(await check())).toEqual([`rolled-back ${linkName(4)}`, `point-unlinked ${pointId(4)}`]);
    expect(named(await check(await openTiny(store)))).toEqual([`point-unlinked ${pointId(4)}`]);
    await backUp(5);
    // Another link has its number now. What is remembered stays until a person says that it may go.
    expect(named(await check())).toEqual([`rolled-back ${linkName(4)}`]);
  });

  test('the newest that cannot be read: the chain goes on behind it, and nothing is collected until it is back', async () => {
    const object = objectOf(linkName(4));
    store.objects.set(linkName(4), Buffer.from('x'));
    await commit(5);
    expect(await repository.linkPoints(MACHINE)).toEqual({ linked: [pointId(4), pointId(5)] });
    expect(named(await check())).toEqual([`link-damaged ${linkName(4)}`]);
    await expect(repository.condemn()).rejects.toMatchObject({
      code: 'repository.collection-refused',
      context: { object: linkName(4) },
    });
    store.objects.set(linkName(4), object);
    expect(named(await check())).toEqual([`link-broken ${linkName(5)}`]);
    expect(await collect()).toBe('swept');
  });

  test('one that no copy has can be written off, and nothing that is there', async () => {
    const writeOff = (link: number) =>
      repository.retention.perform({ act: { kind: 'write-off-link', machineId: MACHINE, link }, reason: 'burnt' });
    for (const link of [4, 5]) {
      await expect(writeOff(link)).rejects.toMatchObject({ code: 'repository.retention-refused' });
    }
    store.objects.set(linkName(4), Buffer.from('x'));
    await backUp(5);
    await expect(repository.condemn()).rejects.toEqual(REFUSED);
    const [finding] = await check();
    expect(finding).toMatchObject({ kind: 'link-damaged', isLoss: true });
    expect(finding?.next).toContain(`write-off 4 --machine ${MACHINE}`);
    await writeOff(4);
    expect(await check()).toMatchObject([{ kind: 'link-damaged', isLoss: false }]);
    expect(await collect()).toBe('swept');
    // Of this one alone: what is lost later is lost again.
    store.objects.delete(pointObject(MACHINE, pointId(5)));
    await expect(repository.condemn()).rejects.toEqual(REFUSED);
    store.objects.set(linkName(5), Buffer.from('x'));
    await expect(repository.condemn()).rejects.toEqual(REFUSED);
  });

  test('two in each other’s place', async () => {
    const [two, three] = [objectOf(linkName(2)), objectOf(linkName(3))];
    store.objects.set(linkName(2), three);
    store.objects.set(linkName(3), two);
    expect(named(await check())).toEqual([`link-damaged ${linkName(2)}`, `link-damaged ${linkName(3)}`]);
  });

  test('one of another machine, or of another tenant, in its place', async () => {
    await backUp(9, OTHER);
    store.objects.set(linkName(3), objectOf(linkName(1, OTHER)));
    const secret = { passphrase: 'another' };
    const tenant = await addTenant({ store, secret, tenantName: 'other', scryptCost: CHEAP_SCRYPT });
    await commit(3, MACHINE, tenant);
    await tenant.linkPoints(MACHINE);
    const theirs = [...store.objects].find(([name]) => name.startsWith('data/tenants/') && name.includes('/chains/'));
    store.objects.set(linkName(2), theirs?.[1] ?? Buffer.from('none'));
    expect(named(await check())).toEqual([`link-damaged ${linkName(2)}`, `link-damaged ${linkName(3)}`]);
    expect(await check(tenant)).toEqual([]);
  });

  test('one with the keys that follows another link than the one that is there', async () => {
    const { hash: _, ...link } = await readLink(repository.core, { machineId: MACHINE, number: 3 });
    linkIn(repository, { ...link, previous: { number: 2, hash: Buffer.alloc(32, 9) } });
    expect(named(await check())).toEqual([
      `link-broken ${linkName(3)}`,
      // Nor is the next one made for what is there now.
      `link-broken ${linkName(4)}`,
    ]);
  });

  test.each([
    ['another number', { number: 2, first: 2, previous: { number: 1, hash: Buffer.alloc(32) } }],
    ['another machine', { machineId: OTHER }],
  ])('one with the keys that says %s than its name', async (_, says) => {
    const { hash: __, ...link } = await readLink(repository.core, { machineId: MACHINE, number: 3 });
    const body = encodeChainLink({ ...link, ...says });
    store.objects.set(linkName(3), sealRecord(repository.core, { type: 'LINK', name: linkName(3), body }));
    expect(named(await check())).toEqual([`link-damaged ${linkName(3)}`]);
  });

  test('one with the keys that leaves a point out, or names it by another hash', async () => {
    const { hash: _, ...link } = await readLink(repository.core, { machineId: MACHINE, number: 4 });
    linkIn(repository, { ...link, points: link.points.slice(1) });
    const without = await check(await openTiny(store));
    expect(named(without)).toEqual([`link-broken ${linkName(4)}`]);
    linkIn(repository, { ...link, points: link.points.map((point) => ({ ...point, hash: Buffer.alloc(32, 1) })) });
    const changed = await check(await openTiny(store));
    expect(named(changed)).toContain(`link-broken ${linkName(4)}`);
    expect(named(changed)).toContain(`point-replaced ${pointId(4)}`);
  });

  test('a number that somebody made up who holds an agent’s keys is told with what to delete, and keeps nobody busy', async () => {
    const made = linkName(99_999_999);
    store.objects.set(made, Buffer.from('x'));
    const [damaged, gap] = await check();
    expect([damaged?.kind, gap?.kind, gap?.what]).toEqual([
      'link-damaged',
      'link-missing',
      `links 5 to 99999998 of the chain of machine ${MACHINE} are not there any more`,
    ]);
    expect(gap?.next).toContain(`delete ${made}`);
    await expect(repository.condemn()).rejects.toEqual(REFUSED);
    store.objects.delete(made);
    expect(await check()).toEqual([]);
    await backUp(5);
    expect(await check()).toEqual([]);
  });

  test('what others put among them means nothing, and keeps no number from being used', async () => {
    const planted = [chainLinkObject(MACHINE, 5), `${chainLinkObject(MACHINE, 5)}.${'0'.repeat(32)}`, `${CHAINS}x`];
    for (const name of planted) store.objects.set(name, Buffer.from('x'));
    await backUp(5);
    const findings = await check();
    expect(findings.map(({ object = '' }) => object).toSorted()).toEqual(planted.toSorted());
    expect(findings.every(({ kind, isLoss }) => kind === 'foreign' && !isLoss)).toBe(true);
    await expect(collect()).resolves.toMatch(/nothing|swept/);
  });
});

describe('what a host remembers', () => {
  test('shows a store that was set back, whole as it is by itself, until a person says that it was meant', async () => {
    const directory = scratch.directory();
    repository = await openTiny(store, { chainDirectory: directory });
    for (const n of [1, 2]) await backUp(n);
    const before = new Map(store.objects);
    for (const n of [3, 4]) await backUp(n);
    store.objects.clear();
    for (const [name, object] of before) store.objects.set(name, object);
    expect(named(await check(await openTiny(store)))).toEqual([]);
    const [finding] = await check();
    expect(finding).toMatchObject({ kind: 'rolled-back', isLoss: true, machineId: MACHINE });
    for (const n of [5, 6, 7]) await backUp(n);
    expect(named(await check())).toEqual([`rolled-back ${linkName(4)}`]);
    const [path] = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) => name.includes('/'));
    expect(finding?.next).toContain(path);
    writeFileSync(join(directory, path ?? ''), 'x');
    expect(named(await check())).toEqual(['memory-unusable ']);
    // A memory that is broken keeps no point from its link.
    await commit(8);
    expect(await repository.linkPoints(MACHINE)).toEqual({ linked: [pointId(8)] });
  });

  test('follows a chain that several processes write', async () => {
    const directory = scratch.directory();
    const here = await openTiny(store, { chainDirectory: directory });
    await commit(1);
    await here.linkPoints(MACHINE);
    for (const n of [2, 3]) await backUp(n);
    await commit(4);
    await here.linkPoints(MACHINE);
    const [path] = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) => name.includes('/'));
    expect(readFileSync(join(directory, path ?? ''), 'utf8')).toMatch(/^4 [0-9a-f]{64}\n$/);
    expect(await check(here)).toEqual([]);
  });
});

/** Whatever happens in whichever order: what went behind our back is named, and nothing else is. */
test('any history: missed is exactly what was deleted and not pruned', async () => {
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('commit' as const), isLinked: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('prune' as const), which: fc.nat(30) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('delete' as const), which: fc.nat(30) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('collect' as const) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      store = new MemoryStore();
      repository = await initTiny(store);
      let count = 0;
      let linked = 0;
      const refusals: { was: boolean; shouldBe: boolean }[] = [];
      const pruned = new Set<number>();
      const deleted = new Set<number>();
      for (const what of steps) {
        const n = 'which' in what && count > 0 ? (what.which % count) + 1 : 0;
        if (what.kind === 'commit') {
          await commit(++count);
          if (!what.isLinked) continue;
          await repository.linkPoints(MACHINE);
          linked = count;
        } else if (what.kind === 'collect') {
          const outcome = await collect().catch((error: LifeboatError) => error.code);
          refusals.push({ was: outcome === 'repository.collection-refused', shouldBe: deleted.size > 0 });
        } else if (n > 0 && !pruned.has(n) && !deleted.has(n)) {
          if (what.kind === 'prune') {
            await bury(n);
            pruned.add(n);
          } else if (n <= linked) {
            store.objects.delete(pointObject(MACHINE, pointId(n)));
            deleted.add(n);
          }
        }
      }
      expect(refusals.filter(({ was, shouldBe }) => was !== shouldBe)).toEqual([]);
      const findings = await check();
      const vanished = findings.filter(({ kind }) => kind === 'point-vanished').map((found) => found.pointId ?? '');
      expect(vanished.toSorted()).toEqual([...deleted].toSorted((a, b) => a - b).map(pointId));
      expect(findings.filter(({ kind }) => kind !== 'point-vanished' && kind !== 'point-unlinked')).toEqual([]);
    }),
    { numRuns: 25 },
  );
});
