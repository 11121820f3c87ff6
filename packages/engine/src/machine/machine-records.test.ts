import { silentLog } from '@lifeboat/foundation/log';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId } from '@lifeboat/foundation/ids';
import type { Repository } from '@lifeboat/repository/repository';
import { MemoryStore } from '@lifeboat/repository/store/memory-store';
import { initTiny, MACHINE, openTiny, pointId, Scratch } from '@lifeboat/repository/testing/tiny';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { listMachines, recordMachine } from './machine-records.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const { signal } = new AbortController();
const OTHER = parseMachineId('machine-2');

describe('machines of a repository', () => {
  let store: MemoryStore;
  let repository: Repository;
  beforeEach(async () => {
    store = new MemoryStore();
    repository = await initTiny(store);
  });

  const hypervisor = { describeHost: async () => ({ uri: 'qemu:///system' }) } as never;
  const record = (machine: Parameters<typeof recordMachine>[1]) =>
    recordMachine({ hypervisor, repository, log: silentLog }, machine);

  async function commit(n: number, machineName: string): Promise<void> {
    const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
    const capture = { version: 1, machineName, instantMs: 1, consistency: 'crash', disks: [] };
    await session.commit({ pointId: pointId(n), machine: {}, capture, disks: [] });
  }

  const names = () => [...store.objects.keys()].filter((name) => name.startsWith('data/objects/'));

  it('are listed from the store and its key alone, with points and without', async () => {
    await commit(1, 'web');
    await record({ id: OTHER, name: 'db', firmware: 'bios' });
    await record({ id: MACHINE, name: 'web', firmware: 'uefi' });
    const there = await openTiny(store);
    const known = { connection: 'qemu:///system', recordedMs: expect.any(Number) as number };
    expect(await listMachines(there, { signal })).toEqual([
      { ...known, machineId: OTHER, name: 'db', domainUuid: OTHER, firmware: 'bios', points: 0, damagedPoints: 0 },
      {
        ...known,
        machineId: MACHINE,
        name: 'web',
        domainUuid: MACHINE,
        firmware: 'uefi',
        points: 1,
        damagedPoints: 0,
        newestMs: expect.any(Number) as number,
      },
    ]);
  });

  it('are listed by their points where nothing else was written', async () => {
    await commit(1, 'old');
    await commit(2, 'new');
    expect(await listMachines(repository, { signal })).toMatchObject([{ machineId: MACHINE, name: 'new', points: 2 }]);
  });

  it('are written down once, and anew when something changed', async () => {
    for (const name of ['web', 'web', 'web', 'www', 'www']) await record({ id: MACHINE, name, firmware: 'uefi' });
    expect(names()).toHaveLength(2);
    expect(await listMachines(repository, { signal })).toMatchObject([{ name: 'www' }]);
  });

  it('are gone when they were deleted and have no points', async () => {
    await record({ id: MACHINE, name: 'web', firmware: 'uefi' });
    await repository.writeObject({ kind: 'machine', id: MACHINE }, () => 'delete');
    expect(await listMachines(repository, { signal })).toEqual([]);
  });

  it.each([
    ['is of another release', 'machine/2', '{}', 'another release (machine/2'],
    ['says something else', 'machine/1', '{"name":1}', 'does not say'],
    ['is no JSON', 'machine/1', '{', 'does not say'],
    ['is null', 'machine/1', 'null', 'does not say'],
  ])('keep their points, and say why, where a record %s', async (_, schema, payload, why) => {
    await commit(1, 'web');
    await repository.writeObject({ kind: 'machine', id: MACHINE }, () => ({ schema, payload: Buffer.from(payload) }));
    const [machine] = await listMachines(repository, { signal });
    expect(machine).toMatchObject({ name: 'web', points: 1 });
    expect(machine?.problem).toContain(why);
  });

  it('are what the version before says where the newest is damaged, until the next backup', async () => {
    await record({ id: MACHINE, name: 'web', firmware: 'uefi' });
    await record({ id: MACHINE, name: 'www', firmware: 'uefi' });
    store.objects.set(names().toSorted()[1] ?? '', Buffer.from('x'));
    const [machine] = await listMachines(repository, { signal });
    expect(machine).toMatchObject({ name: 'web' });
    expect(machine?.problem).toContain('version 2');
    await record({ id: MACHINE, name: 'web', firmware: 'uefi' });
    expect((await listMachines(repository, { signal }))[0]?.problem).toBeUndefined();
  });

  it('keep no backup from its end when they cannot be written', async () => {
    store.putIfAbsent = () => Promise.reject(new LifeboatError('repository.store-denied', 'read-only'));
    await expect(record({ id: MACHINE, name: 'web', firmware: 'uefi' })).resolves.toBeUndefined();
    expect(names()).toEqual([]);
  });
});
