import { afterAll, expect, test } from 'vitest';

import type { PointId } from '@lifeboat/foundation/ids';

import { buryPoint } from '../collect/tombstones.ts';
import { DAMAGE, PACKS, RELOCATIONS, SUPERBLOCK } from '../format/names.ts';
import type { Repository } from '../repository.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { TenantStore } from '../store/tenant-store.ts';
import { noisyDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { initTiny, MACHINE, pointId, Scratch } from '../testing/tiny.ts';
import { enrolled, openAgentTiny } from '../testing/agents.ts';
import { agentPolicy, type BucketPolicy } from './agent-policy.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());

const place = { bucket: 'backups', prefix: 'site/', region: 'r', pathStyle: true };
const policy = agentPolicy({ place, principal: 'agent', locksInPut: true });

function mayPut(name: string): boolean {
  return allows(policy, name);
}

function allows({ Statement }: BucketPolicy, name: string, action = 's3:PutObject'): boolean {
  const allowed = Statement.filter(({ Effect, Action }) => Effect === 'Allow' && Action.includes(action));
  const patterns = allowed.flatMap(({ Resource }) => Resource.map((pattern) => pattern.replaceAll('*', '.*')));
  return patterns.some((pattern) => new RegExp(`^${pattern}$`).test(`arn:aws:s3:::backups/site/${name}`));
}

/** Remembers what was read. */
class WatchedStore extends MemoryStore {
  readonly read = new Set<string>();

  override get(...[name, ...rest]: Parameters<MemoryStore['get']>): Promise<Uint8Array> {
    this.read.add(name);
    return super.get(name, ...rest);
  }

  override getRange(...[name, ...rest]: Parameters<MemoryStore['getRange']>): Promise<Uint8Array> {
    this.read.add(name);
    return super.getRange(name, ...rest);
  }

  override head(name: string): ReturnType<MemoryStore['head']> {
    this.read.add(name);
    return super.head(name);
  }
}

/** The names that are put while `action` runs. */
async function putBy(store: MemoryStore, action: () => Promise<unknown>): Promise<string[]> {
  const before = new Set(store.objects.keys());
  await action();
  return [...store.objects.keys()].filter((name) => !before.has(name));
}

async function backUp(repository: Repository, end: PointId | 'abandon'): Promise<void> {
  const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  const disk = noisyDisk(20);
  const source = fileSource(scratch.file(disk));
  const request = { name: 'vda', sizeBytes: disk.length, source, changed: 'all' as const };
  const { root } = await session.writeDisk(request, { signal: new AbortController().signal });
  if (end === 'abandon') await session.abandon();
  else await session.commit({ pointId: end, machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
}

test('lets an agent put what backups put, and nothing that collecting, pruning and administrating put', async () => {
  const store = new MemoryStore();
  const made: { repository?: Repository } = {};
  const ofInit = await putBy(store, async () => (made.repository = await initTiny(store)));
  const { repository } = made;
  if (!repository) throw new Error('no repository');
  const ofBackups = [
    ...(await putBy(store, () => backUp(repository, pointId(1)))),
    ...(await putBy(store, () => backUp(repository, 'abandon'))),
  ];
  const [pack = ''] = [...store.objects.keys()].filter((name) => name.startsWith(PACKS));
  store.objects.delete(pack);
  const ofChecks = await putBy(store, async () => {
    const context = { signal: new AbortController().signal, progress: () => {} };
    const check = await repository.checkPoint(await repository.readPoint(MACHINE, pointId(1)), 'present', context);
    await repository.reportDamage(check.damage);
  });
  const ofHealing = await putBy(store, () => backUp(repository, pointId(2)));
  expect([...ofChecks, ...ofHealing].filter((name) => name.startsWith(DAMAGE))).toHaveLength(2);
  expect(ofHealing.some((name) => name.startsWith(RELOCATIONS))).toBe(true);
  const point = { machineId: MACHINE, pointId: pointId(1), by: 'a test', reason: 'to see it go' };
  const ofOthers = await putBy(store, async () => {
    await buryPoint(repository.core, point);
    await repository.condemn();
    await repository.sweep({ graceMs: 0 });
  });
  expect(ofBackups.length).toBeGreaterThan(8);
  expect(ofOthers.length).toBeGreaterThan(3);
  expect([...ofBackups, ...ofChecks, ...ofHealing].filter((name) => !mayPut(name))).toEqual([]);
  expect([...ofInit, ...ofOthers].filter(mayPut)).toEqual([]);
});

test('lets one who has the file of an agent put less, and read what backups read and no more', async () => {
  const store = new WatchedStore();
  const tenant = await initTiny(store);
  const { path } = await enrolled(tenant, scratch);
  await backUp(tenant, pointId(1));
  await tenant.linkPoints(MACHINE);
  await tenant.retention.perform({ act: { kind: 'hold', machineId: MACHINE }, reason: 'kept' });
  const [pack = ''] = [...store.objects.keys()].filter((name) => name.startsWith(PACKS));
  store.objects.delete(pack);
  const context = { signal: new AbortController().signal, progress: () => {} };
  const check = await tenant.checkPoint(await tenant.readPoint(MACHINE, pointId(1)), 'present', context);
  await tenant.reportDamage(check.damage);
  await tenant.condemn();
  store.read.clear();

  const agent = await openAgentTiny(store, path);
  const narrow = agentPolicy({ place, principal: 'agent', locksInPut: true, keys: 'agent' });
  const put = [
    ...(await putBy(store, () => backUp(agent, pointId(2)))),
    ...(await putBy(store, () => backUp(agent, 'abandon'))),
  ];
  await agent.points();
  expect(put.length).toBeGreaterThan(8);
  expect(put.some((name) => name.startsWith(RELOCATIONS))).toBe(true);
  expect(put.filter((name) => !allows(narrow, name))).toEqual([]);
  expect(store.read.size).toBeGreaterThan(8);
  expect([...store.read].filter((name) => !allows(narrow, name, 's3:GetObject'))).toEqual([]);
  const denied = [
    'control/outcomes/s1',
    'control/fences/s1',
    'control/damage/r/open',
    'data/agents/a/revoked-1',
    'data/chains/m/1',
    'keys/a',
    SUPERBLOCK,
  ];
  expect(denied.filter((name) => allows(narrow, name))).toEqual([]);
  const unread = ['data/chains/m/1', 'data/evidence/m/1', 'data/objects/machine/m/1', 'data/retention/1', 'other'];
  expect(unread.filter((name) => allows(narrow, name, 's3:GetObject'))).toEqual([]);
  expect(unread.filter((name) => !allows(policy, name, 's3:GetObject'))).toEqual([]);
});

test('is the same for every tenant', async () => {
  const store = new MemoryStore();
  const tenant = new TenantStore(store, 'f'.repeat(32));
  for (const name of [
    'data/packs/00/x',
    'control/sessions/s1/open',
    'control/condemned/lists/1',
    'control/tombstones/m/p',
  ])
    await tenant.putIfAbsent(name, []);
  expect([...store.objects.keys()].map(mayPut)).toEqual([true, true, false, false]);
});

test('is of one tenant, where one is said', () => {
  const [first, other] = ['a'.repeat(32), 'f'.repeat(32)];
  const names = ['data/packs/00/x', `data/tenants/${other}/packs/00/x`, `data/tenants/${first}/packs/00/x`];
  const read = [`keys/${first}/000001-a`, `keys/${other}/000001-a`, SUPERBLOCK];
  const of = (id: string): unknown => {
    const tenant = { id, isFirst: id === first };
    const own = agentPolicy({ place, principal: 'agent', locksInPut: true, keys: 'agent', tenant });
    return [
      names.map((name) => allows(own, name)),
      [...names, ...read].map((name) => allows(own, name, 's3:GetObject')),
    ];
  };
  expect(of(first)).toEqual([
    [true, false, false],
    [true, false, false, true, false, true],
  ]);
  expect(of(other)).toEqual([
    [false, true, false],
    [false, true, false, false, true, true],
  ]);
});
