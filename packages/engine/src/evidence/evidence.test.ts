/** What checks write into the evidence of machines, and what lists show of it. */
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId, type MachineId } from '@lifeboat/foundation/ids';
import type { Log } from '@lifeboat/foundation/log';
import { silentLog } from '@lifeboat/foundation/log';
import { EVIDENCE, PACKS } from '@lifeboat/repository/format/names';
import { decodePackHeader, kindOf } from '@lifeboat/repository/format/pack';
import type { Repository } from '@lifeboat/repository/repository';
import { MemoryStore } from '@lifeboat/repository/store/memory-store';
import { noisyDisk } from '@lifeboat/repository/testing/disks';
import { fileSource } from '@lifeboat/repository/testing/file-source';
import { initTiny, MACHINE, openTiny, pointId, Scratch } from '@lifeboat/repository/testing/tiny';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { checkPoint } from '../check/check-point.ts';
import { checkRepository, checkWithin } from '../check/check-repository.ts';
import { captureRecordOf } from '../points.ts';
import { listEvidence, withProof } from './list-evidence.ts';
import { artefactsOf, failed, proven, recordEvidence } from './record-evidence.ts';

const OTHER = parseMachineId('machine-2');
const scratch = new Scratch();
afterAll(() => scratch.remove());
const { signal } = new AbortController();
const context = { signal, progress: () => {} };
const listener = { begin() {}, progress() {}, end() {} };

class RefusingStore extends MemoryStore {
  refused = false;
  override putIfAbsent(...[name, ...rest]: Parameters<MemoryStore['putIfAbsent']>) {
    if (this.refused && name.startsWith(EVIDENCE))
      return Promise.reject(new LifeboatError('repository.store-denied', `may not put ${name}`));
    return super.putIfAbsent(name, ...rest);
  }
}

let store: RefusingStore;
let repository: Repository;
beforeEach(async () => {
  store = new RefusingStore();
  repository = await initTiny(store);
  await backUp(MACHINE, 1);
});

async function backUp(machineId: MachineId, n: number, seed = n): Promise<void> {
  const session = await repository.beginSession({ machineId, directory: scratch.directory() });
  const content = noisyDisk(20, seed);
  const source = fileSource(scratch.file(content));
  const { root } = await session.writeDisk({ name: 'vda', sizeBytes: content.length, source, changed: 'all' }, context);
  const capture = { version: 1, machineName: `name of ${machineId}`, instantMs: 1, consistency: 'crash', disks: [] };
  await session.commit({ pointId: pointId(n), machine: {}, capture, disks: [{ name: 'vda', root }] });
}

function loseDataPack(): void {
  const [gone = ''] = [...store.objects].flatMap(([name, object]) =>
    name.startsWith(PACKS) && kindOf(decodePackHeader(object, name).header) === 'data' ? [name] : [],
  );
  store.objects.delete(gone);
}

const deps = async (log: Log = silentLog) => ({ repository: await openTiny(store), clock: systemClock, log });
const list = async (machine: string = MACHINE) => listEvidence({ repository: await openTiny(store) }, machine);
const proof = async (n = 1) => {
  const { engine } = { engine: await openTiny(store) };
  const listings = await engine.points();
  const points = listings.flatMap((listing) =>
    listing.state === 'readable'
      ? [{ ...captureRecordOf(listing), pointId: listing.pointId, machineId: listing.machineId, disks: [] }]
      : [],
  );
  return (await withProof(engine, points)).find((point) => point.pointId === pointId(n))?.proof;
};

describe('a check', () => {
  it.each([
    ['present', ['stored']],
    ['ciphertext', ['stored', 'ciphertext']],
    ['content', ['stored', 'content']],
  ] as const)('at level %s proves what it looked at, and nothing else', async (level, levels) => {
    expect(await proof()).toEqual({ proven: [], failed: [] });
    await checkPoint(await deps(), { machine: MACHINE, level }, context);
    expect(await proof()).toEqual({ proven: levels, failed: [] });
    const { records, machineName, sound } = await list();
    expect({ machineName, sound }).toEqual({ machineName: `name of ${MACHINE}`, sound: true });
    expect(records).toMatchObject([{ number: 1, operation: 'check', claims: levels.map((one) => ({ level: one })) }]);
  });

  it('that finds damage leaves evidence of that, by disk', async () => {
    await checkPoint(await deps(), { machine: MACHINE, level: 'content' }, context);
    loseDataPack();
    await checkPoint(await deps(), { machine: MACHINE, level: 'content' }, context);
    const found = await proof();
    expect(found).toMatchObject({ proven: ['stored'], failed: [{ level: 'content' }] });
    expect(found?.failed[0]?.reason).not.toBe('');
    expect((await list()).records.at(-1)?.claims).toMatchObject([{ result: 'failed', disks: ['vda'] }]);
  });

  it('says what it found also where evidence cannot be written, and that it could not', async () => {
    store.refused = true;
    const said: string[] = [];
    const log = { ...silentLog, error: (message: string) => void said.push(message) };
    const found = await checkPoint(await deps(log), { machine: MACHINE, level: 'present' }, context);
    expect(found.damage).toEqual([]);
    expect(said).toHaveLength(1);
    expect(await proof()).toEqual({ proven: [], failed: [] });
  });

  it('that is broken off leaves none', async () => {
    const abort = new AbortController();
    abort.abort(new Error('enough'));
    const what = { machineId: MACHINE, operation: 'check', beganMs: 1, claims: proven(pointId(1), ['stored']) };
    await expect(recordEvidence(await deps(), what, abort.signal)).rejects.toThrow('enough');
    expect(await proof()).toEqual({ proven: [], failed: [] });
  });
});

describe('a check of the repository', () => {
  it('leaves one record for each machine, of all its points', async () => {
    await backUp(MACHINE, 2);
    await backUp(OTHER, 3);
    await checkRepository(await deps(), { level: 'ciphertext', listener }, { signal });
    expect((await list()).records.map(({ claims }) => claims.length)).toEqual([4]);
    expect((await list(`name of ${OTHER}`)).records.map(({ claims }) => claims.length)).toEqual([2]);
    expect(await proof(3)).toMatchObject({ proven: ['stored', 'ciphertext'] });
  });

  it('within a budget proves nothing of a point, remembers what a check without one looked at, and says what is damaged', async () => {
    const budget = { bytes: 1_000_000 };
    await checkRepository(await deps(), { level: 'ciphertext', listener }, { signal });
    const sound = await checkWithin(await deps(), { level: 'ciphertext', budget }, context);
    expect(sound).toMatchObject({ points: [], pointCount: 1, coverage: { never: { packs: 0 } } });
    expect((await list()).records).toHaveLength(1);
    loseDataPack();
    const { points, losses } = await checkWithin(await deps(), { level: 'ciphertext', budget }, context);
    expect(points).toMatchObject([{ point: `${MACHINE} ${pointId(1)}`, sound: false }]);
    expect(losses).toMatchObject([{ disk: 'vda', points: [pointId(1)] }]);
    expect(await proof()).toMatchObject({ proven: ['stored'], failed: [{ level: 'ciphertext' }] });
  });
});

it('a check within a budget misses a point that vanished, whatever it looked at', async () => {
  await repository.linkPoints(MACHINE);
  for (const name of store.objects.keys()) if (name.startsWith('data/points/')) store.objects.delete(name);
  const { chains, points } = await checkWithin(await deps(), { level: 'present', budget: { bytes: 1 } }, context);
  expect(points).toEqual([]);
  expect(chains.filter(({ isLoss }) => isLoss)).toMatchObject([
    { what: expect.stringContaining(pointId(1)) as string },
  ]);
});

describe('the list of evidence', () => {
  it('of a machine whose points are pruned is still there, by its id', async () => {
    await checkPoint(await deps(), { machine: MACHINE, level: 'present' }, context);
    const { retention } = repository;
    await backUp(MACHINE, 2);
    await retention.perform({
      act: { kind: 'prune', machineId: MACHINE, pointId: pointId(1) },
      reason: 'to see it go',
    });
    expect((await list()).records[0]?.claims[0]).toMatchObject({ pointId: pointId(1), pointIsThere: false });
    await backUp(OTHER, 3);
    for (const name of store.objects.keys()) if (name.startsWith(`data/points/${MACHINE}/`)) store.objects.delete(name);
    const { sound, records, machineName } = await list();
    expect({ sound, records: records.length, machineName }).toEqual({
      sound: true,
      records: 1,
      machineName: undefined,
    });
  });

  it('names a record that is gone', async () => {
    for (let i = 0; i < 3; i++) await checkPoint(await deps(), { machine: MACHINE, level: 'present' }, context);
    const [, second = ''] = [...store.objects.keys()].filter((name) => name.startsWith(EVIDENCE));
    store.objects.delete(second);
    expect(await list()).toMatchObject({ sound: false, problems: [{ number: 2 }] });
  });

  it('of nobody is an error', async () => {
    await expect(list('nobody')).rejects.toMatchObject({ code: 'engine.no-such-point' });
  });
});

it('a reason that is too long is cut, and files are named by their content', async () => {
  const path = scratch.file(Buffer.from('abc'));
  const artefacts = await artefactsOf([path, `${path}-gone`]);
  const claims = [failed(pointId(1), 'booted', { reason: '\u{1F4A3}'.repeat(999) })];
  await recordEvidence(
    await deps(),
    { machineId: MACHINE, operation: 'boot-test', beganMs: 1, claims, artefacts },
    signal,
  );
  const [record] = (await list()).records;
  expect(record?.artefacts).toMatchObject([
    { sizeBytes: 3, sha256: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad' },
  ]);
  expect(record?.claims[0]?.reason.length).toBeGreaterThan(99);
});
