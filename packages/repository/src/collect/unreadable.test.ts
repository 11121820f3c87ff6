/** Bad sectors below one record: nothing is deleted because of them, and what can be read goes on being read. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';

import {
  CONDEMN_LISTS,
  CONDEMN_PARTS,
  INDEX,
  outcomeObject,
  PACKS,
  packOfObject,
  pointObject,
  RELOCATIONS,
  sessionClosedObject,
  sessionOpenObject,
  tombstoneObject,
  type PackName,
} from '../format/names.ts';
import { decodePackHeader, kindOf } from '../format/pack.ts';
import type { DiskRoot } from '../format/point.ts';
import type { Repository } from '../repository.ts';
import { controlName } from '../seal/control-records.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { noisyDisk, readDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { movePack } from '../testing/move-pack.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch } from '../testing/tiny.ts';
import type { WriterSession } from '../write/session.ts';
import { settleSession } from './session-end.ts';
import { buryPoint } from './tombstones.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const signal = new AbortController().signal;
const content = noisyDisk(40);

/** What begins with a name of `sick` lies on bad sectors. */
class SickStore extends MemoryStore {
  readonly sick: string[] = [];
  override async get(...given: Parameters<MemoryStore['get']>): Promise<Uint8Array> {
    const [name] = given;
    if (!this.sick.some((prefix) => name.startsWith(prefix))) return super.get(...given);
    throw new LifeboatError('repository.object-unreadable', `${name}: EIO`, { context: { object: name } });
  }
}

let store: SickStore;
let repository: Repository;
const sessions: WriterSession[] = [];
beforeEach(async () => {
  store = new SickStore();
  repository = await initTiny(store);
});
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.detach();
});

async function write(disk = content, parent?: DiskRoot) {
  const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  sessions.push(session);
  const source = fileSource(scratch.file(disk));
  const request = { name: 'vda', sizeBytes: disk.length, source, changed: 'all', parent } as const;
  return { session, root: (await session.writeDisk(request, { signal })).root };
}

async function backUp(
  n: number,
  disk = content,
  parent?: DiskRoot,
): Promise<{ root: DiskRoot; session: WriterSession }> {
  const { session, root } = await write(disk, parent);
  await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
  return { session, root };
}

const bury = (n: number): Promise<void> =>
  buryPoint(repository.core, { machineId: MACHINE, pointId: pointId(n), by: 'a test', reason: 'to see it go' });
const read = async (n: number): Promise<Buffer> => readDisk(await openTiny(store), MACHINE, pointId(n));
const namesUnder = (prefix: string): string[] => [...store.objects.keys()].filter((name) => name.startsWith(prefix));
const recordName = (plain: string): string => controlName(repository.core, plain);
const refused = { code: 'repository.collection-refused' };

describe.each([
  ['the head', CONDEMN_LISTS],
  ['a part', CONDEMN_PARTS],
])('%s of a condemn list', (_, prefix) => {
  test('stops collections, and no backup', async () => {
    await backUp(1);
    await bury(1);
    await repository.condemn();
    store.sick.push(prefix);
    const { root } = await backUp(2);
    await backUp(3, content, root);
    await expect(repository.sweep()).rejects.toMatchObject(refused);
    store.sick.pop();
    expect((await repository.sweep()).state).toBe('swept');
    for (const n of [2, 3]) expect(await read(n)).toEqual(content);
  });
});

test('an outcome: the points of its session are read, and kept', async () => {
  const { session } = await backUp(1);
  await settleSession(repository.core, session);
  store.sick.push(recordName(outcomeObject(session.sessionId)));
  expect(await repository.points()).toMatchObject([{ state: 'readable' }]);
  expect(await repository.condemn({ dryRun: true })).toMatchObject({ points: 1, deadPacks: 0 });
});

test('a tombstone: the point is read again, and kept', async () => {
  await backUp(1);
  await bury(1);
  store.sick.push(recordName(tombstoneObject(MACHINE, pointId(1))));
  expect(await read(1)).toEqual(content);
  expect(await repository.condemn({ dryRun: true })).toMatchObject({ points: 1, deadPacks: 0 });
});

test('a point: nothing is collected until it is pruned by hand', async () => {
  await backUp(1);
  await backUp(2, noisyDisk(20, 2));
  store.sick.push(pointObject(MACHINE, pointId(1)));
  expect(await repository.points()).toMatchObject([{ state: 'damaged' }, { state: 'readable' }]);
  await expect(repository.condemn()).rejects.toMatchObject(refused);
  await bury(1);
  expect(await repository.condemn()).toMatchObject({ state: 'published', points: 1 });
});

test('records of sessions: they are waited for', async () => {
  await backUp(1);
  await bury(1);
  const { session, root } = await write();
  await repository.condemn();
  store.sick.push(recordName(sessionOpenObject(session.sessionId)));
  expect(await repository.sweep()).toMatchObject({ state: 'waiting', waitingFor: [session.sessionId] });
  store.sick[0] = recordName(sessionClosedObject(session.sessionId));
  await session.commit({ pointId: pointId(2), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
  expect(await repository.sweep()).toMatchObject({ state: 'waiting', waitingFor: [session.sessionId] });
  store.sick.pop();
  expect((await repository.sweep()).state).toBe('swept');
  expect(await read(2)).toEqual(content);
});

test('a point that may be that of a session held to be dead: it is not ended without it', async () => {
  const { session } = await backUp(1);
  store.objects.delete(recordName(sessionClosedObject(session.sessionId)));
  await backUp(2, noisyDisk(20, 2));
  await bury(2);
  await repository.condemn();
  store.sick.push(pointObject(MACHINE, pointId(1)));
  await expect(repository.sweep({ graceMs: 0 })).rejects.toMatchObject({ code: 'repository.object-unreadable' });
  expect(store.objects.has(recordName(outcomeObject(session.sessionId)))).toBe(false);
  store.sick.pop();
  expect((await repository.sweep({ graceMs: 0 })).state).toBe('swept');
  expect(await read(1)).toEqual(content);
});

test('a relocation of a pack that is needed: nothing is collected', async () => {
  await backUp(1);
  const isData = (name: string): boolean =>
    kindOf(decodePackHeader(store.objects.get(name) ?? content, name).header) === 'data';
  const [name = ''] = namesUnder(PACKS).filter(isData);
  const pack = packOfObject(name) ?? ('' as PackName);
  await movePack(repository, pack);
  store.sick.push(RELOCATIONS);
  await expect(repository.condemn()).rejects.toMatchObject(refused);
});

test('an index segment: it stays; one of other bytes goes', async () => {
  await backUp(1);
  const [sick = ''] = namesUnder(INDEX);
  await backUp(2, noisyDisk(20, 2));
  const [rotten = ''] = namesUnder(INDEX).filter((name) => name !== sick);
  await bury(2);
  store.sick.push(sick);
  store.objects.set(rotten, Buffer.from('rotten'));
  await repository.condemn();
  expect((await repository.sweep()).state).toBe('swept');
  expect(namesUnder(INDEX)).toEqual([sick]);
});
