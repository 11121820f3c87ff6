/** What somebody can do to backups and collections who may put objects into the store, without a key; and with a key, but another's session. */
import { afterAll, afterEach, describe, expect, test } from 'vitest';

import {
  condemnListObject,
  condemnSweptObject,
  CONDEMN_LISTS,
  CONDEMN_PARTS,
  DAMAGE,
  fenceObject,
  outcomeObject,
  PACKS,
  POINTS,
  pointObject,
  relocationObject,
  sessionClosedObject,
  tombstoneObject,
  type PackName,
} from '../format/names.ts';
import { buryPoint } from './tombstones.ts';
import { machinesWithEvidence } from '../evidence/chain.ts';
import type { DiskRoot } from '../format/point.ts';
import { encodeSessionRecord } from '../format/session-record.ts';
import type { Repository } from '../repository.ts';
import { controlName, openRecord, sealRecord } from '../seal/control-records.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { noisyDisk, readDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { enrolled, openAgentTiny } from '../testing/agents.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch } from '../testing/tiny.ts';
import type { WriterSession } from '../write/session.ts';
import { readSessions } from './session-records.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const signal = new AbortController().signal;
const garbage = Buffer.from('x');

const sessions: WriterSession[] = [];
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.detach();
});

async function write(repository: Repository, content: Uint8Array, parent?: DiskRoot) {
  const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  sessions.push(session);
  const { root, stats } = await session.writeDisk(
    {
      name: 'vda',
      sizeBytes: content.length,
      source: fileSource(scratch.file(content)),
      changed: 'all',
      ...(parent ? { parent } : {}),
    },
    { signal },
  );
  return { session, root, stats };
}

const commit = (session: WriterSession, n: number, root: DiskRoot) =>
  session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });

async function backUp(repository: Repository, n: number, content: Uint8Array, parent?: DiskRoot) {
  const written = await write(repository, content, parent);
  await commit(written.session, n, written.root);
  return written;
}

const bury = (repository: Repository, n: number): Promise<void> =>
  buryPoint(repository.core, { machineId: MACHINE, pointId: pointId(n), by: 'a test', reason: 'to see it go' });

const one = (store: MemoryStore, prefix: string): string =>
  [...store.objects.keys()].find((name) => name.startsWith(prefix)) ?? '';

describe('who may put objects and has no key', () => {
  test('stops no backup and no collection with condemn lists, marks and parts of his own', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const planted = [
      condemnListObject(1),
      condemnListObject(99_999_999),
      `${condemnListObject(1)}.${'0'.repeat(32)}`,
      condemnSweptObject(1),
      `${CONDEMN_LISTS}anything`,
      `${CONDEMN_PARTS}anything`,
      `${DAMAGE}anything/open`,
    ];
    for (const name of planted) store.objects.set(name, garbage);
    await backUp(repository, 1, noisyDisk(20));
    await bury(repository, 1);
    const condemned = await repository.condemn();
    expect(condemned).toMatchObject({ state: 'published', listNumber: 1 });
    expect(condemned.foreign.toSorted()).toEqual(planted.toSorted());
    expect((await repository.sweep()).state).toBe('swept');
    expect(one(store, PACKS)).toBe('');
    for (const name of planted) expect(store.objects.has(name)).toBe(true);
  });

  test('ends no session of another: what it was about to commit is spared', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const content = noisyDisk(40);
    await backUp(repository, 1, content);
    await bury(repository, 1);
    const { session, root } = await write(repository, content);
    const { sessionId } = session;
    for (const plain of [sessionClosedObject(sessionId), fenceObject(sessionId), outcomeObject(sessionId)])
      for (const tag of ['', `.${'0'.repeat(32)}`]) store.objects.set(plain + tag, garbage);
    expect((await repository.condemn()).foreign).toHaveLength(6);
    expect(await repository.sweep()).toMatchObject({ state: 'waiting', waitingFor: [sessionId] });
    await commit(session, 2, root);
    expect((await repository.sweep()).state).toBe('swept');
    expect(await readDisk(await openTiny(store), MACHINE, pointId(2))).toEqual(content);
  });

  test('keeps nobody waiting for sessions that never were', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    await backUp(repository, 1, noisyDisk(20));
    await bury(repository, 1);
    for (const name of ['UPPER/open', 's1/open', 's2/closed', 's3', 's4/open/more'])
      store.objects.set(`control/sessions/${name}`, garbage);
    expect((await repository.condemn()).foreign).toHaveLength(5);
    expect((await repository.sweep()).state).toBe('swept');
  });

  test('does not keep a point from being pruned by taking the name of its tombstone', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    await backUp(repository, 1, noisyDisk(20));
    store.objects.set(tombstoneObject(MACHINE, pointId(1)), garbage);
    expect(await repository.points()).toHaveLength(1);
    await bury(repository, 1);
    expect(await repository.points()).toEqual([]);
  });

  test('stops neither commits nor collections with what he puts among the points', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const planted = [`${POINTS}${MACHINE}/zzz`, `${POINTS}zzz`, `${POINTS}${MACHINE}/${pointId(1)}/more`];
    for (const name of planted) store.objects.set(name, Buffer.alloc(17 * 1024 * 1024));
    store.objects.set(pointObject(MACHINE, pointId(9)), Buffer.alloc(17 * 1024 * 1024));
    const first = await backUp(repository, 1, noisyDisk(20));
    await backUp(repository, 2, noisyDisk(20), first.root);
    expect((await repository.readPoint(MACHINE, pointId(2))).previous?.pointId).toBe(pointId(1));
    // That one is named like a point, so it might have been one: it is for a person to prune.
    await expect(repository.condemn()).rejects.toMatchObject({ code: 'repository.collection-refused' });
    await bury(repository, 9);
    expect((await repository.condemn()).foreign).toEqual(planted);
  });
});

test('who has an agent’s keys stops nobody with tags on names that no writer gives', async () => {
  const store = new MemoryStore();
  const tenant = await initTiny(store);
  await backUp(tenant, 1, noisyDisk(20));
  await tenant.linkPoints(MACHINE);
  const agent = await openAgentTiny(store, (await enrolled(tenant, scratch)).path);
  const planted = [
    'control/sessions/Not an id/open',
    'control/sessions/s1/other',
    'control/outcomes/Not an id',
    'control/tombstones/m/p1',
    'control/condemned/lists/next',
    'control/condemned/swept/1e9',
    'control/damage/report',
    'control/verified/x/y',
    'data/chains/Not an id/00000001',
    `data/chains/${MACHINE}/1e15`,
    `data/chains/${MACHINE}/123456789012`,
    `data/evidence/Not an id/00000001`,
    'data/objects/machine',
    'data/retention/one',
  ].map((plain) => controlName(agent.core, plain));
  for (const name of planted) store.objects.set(name, garbage);
  await bury(tenant, 1);
  const { state, foreign } = await tenant.condemn();
  expect(state).toBe('published');
  expect(planted.slice(0, 7).filter((name) => !foreign.includes(name))).toEqual([]);
  expect((await tenant.sweep()).state).toBe('swept');
  await backUp(tenant, 2, noisyDisk(20, 3));
  expect(await tenant.linkEveryPoint()).toEqual([{ machineId: MACHINE, pointId: pointId(2) }]);
  const checked = await tenant.readChains();
  const findings = await tenant.judgeChains({ checked, points: await tenant.points() });
  expect(findings.map(({ kind, object }) => [kind, object])).toEqual(
    planted.filter((name) => name.startsWith('data/chains/')).map((name) => ['foreign', name]),
  );
  expect(await machinesWithEvidence(tenant.core)).toEqual([]);
  expect((await tenant.checkObjects()).map(({ kind }) => kind)).toEqual(['foreign']);
  expect(await tenant.retention.state()).toMatchObject({ lost: [] });
});

test('who may put objects and has no key stops no collection by what he puts among relocations', async () => {
  const store = new MemoryStore();
  const repository = await initTiny(store);
  const content = noisyDisk(20);
  await backUp(repository, 1, content);
  const packs = [...store.objects.keys()].filter((name) => name.startsWith(PACKS)).map((name) => name.slice(-64));
  const planted = packs.map((pack) => `${relocationObject(pack as PackName, 'mine')}.${'0'.repeat(32)}`);
  planted.push('data/relocations/zz', `data/relocations/zz/${'x'.repeat(64)}/mine`);
  const likeOld = packs.map((pack) => relocationObject(pack as PackName, 'mine'));
  for (const name of [...planted, ...likeOld]) store.objects.set(name, garbage);
  await bury(repository, 1);
  await backUp(repository, 2, content);
  const condemned = await repository.condemn({ compact: {} });
  expect(condemned.state).toBe('published');
  expect(condemned.foreign.toSorted()).toEqual(planted.toSorted());
  expect((await repository.sweep()).state).toBe('swept');
  expect(await readDisk(await openTiny(store), MACHINE, pointId(2))).toEqual(content);
  for (const name of planted) expect(store.objects.has(name)).toBe(true);
});

describe('who has the keys, but is not the session', () => {
  test('cannot end it', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const { session } = await write(repository, noisyDisk(4));
    const { sessionId } = session;
    const name = controlName(repository.core, sessionClosedObject(sessionId));
    const record = { sessionId, machineId: MACHINE, instantMs: 0, event: 'committed' as const, pointId: pointId(1) };
    const body = encodeSessionRecord({ ...record, knownLists: new Uint8Array(0), closing: Buffer.alloc(32, 7) });
    store.objects.set(name, sealRecord(repository.core, { type: 'SESS', name, body }));
    const { open } = await readSessions(repository.core);
    expect(open.map((found) => found.sessionId)).toEqual([sessionId]);
  });
});

test('a record counts only under the name and the keys it was made for', async () => {
  const { core } = await initTiny(new MemoryStore());
  const { core: other } = await initTiny(new MemoryStore());
  const object = sealRecord(core, { type: 'CSWP', name: 'control/a', body: garbage });
  expect(Buffer.from(openRecord(core, { type: 'CSWP', name: 'control/a', object }))).toEqual(garbage);
  const damaged = expect.objectContaining({ code: 'repository.object-damaged' });
  expect(() => openRecord(core, { type: 'CSWP', name: 'control/b', object })).toThrow(damaged);
  expect(() => openRecord(core, { type: 'CLST', name: 'control/a', object })).toThrow(damaged);
  expect(() => openRecord(other, { type: 'CSWP', name: 'control/a', object })).toThrow(damaged);
});

describe.each(['head', 'part'] as const)('a condemn list of ours whose %s cannot be read', (what) => {
  test('costs backups their deduplication and nothing else, and stops collections until a person acts', async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    const content = noisyDisk(40);
    await backUp(repository, 1, content);
    await bury(repository, 1);
    await repository.condemn();
    const name = one(store, what === 'head' ? CONDEMN_LISTS : CONDEMN_PARTS);
    const object = store.objects.get(name) ?? garbage;
    object[60] = (object[60] ?? 0) ^ 1;
    const packs = [...store.objects.keys()].filter((pack) => pack.startsWith(PACKS));
    const { root } = await backUp(repository, 2, content);
    await backUp(repository, 3, content, root);
    // Whatever a collector that read the list before it was damaged deletes:
    for (const pack of packs) store.objects.delete(pack);
    for (const n of [2, 3]) expect(await readDisk(await openTiny(store), MACHINE, pointId(n))).toEqual(content);
    const refused = what === 'head' ? repository.condemn() : repository.sweep();
    await expect(refused).rejects.toMatchObject({ code: 'repository.collection-refused', context: { object: name } });
    store.objects.delete(one(store, CONDEMN_LISTS));
    expect((await repository.condemn()).state).toBe('published');
    expect((await repository.sweep()).state).toBe('swept');
    expect(await readDisk(await openTiny(store), MACHINE, pointId(3))).toEqual(content);
  });
});
