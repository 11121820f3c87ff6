import { systemClock } from '@lifeboat/foundation/clock';
import { silentLog } from '@lifeboat/foundation/log';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { DAMAGE, PACKS } from '@lifeboat/repository/format/names';
import { decodePackHeader, kindOf } from '@lifeboat/repository/format/pack';
import { MemoryStore } from '@lifeboat/repository/store/memory-store';
import { enrolled, openAgentTiny } from '@lifeboat/repository/testing/agents';
import { noisyDisk } from '@lifeboat/repository/testing/disks';
import { fileSource } from '@lifeboat/repository/testing/file-source';
import { initTiny, MACHINE, openTiny, pointId, Scratch } from '@lifeboat/repository/testing/tiny';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { checkPoint } from './check-point.ts';
import { checkRepository } from './check-repository.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const context = { signal: new AbortController().signal, progress: () => {} };

/** Credentials that may read everything, and write no record of damage. */
class ReadOnlyStore extends MemoryStore {
  override putIfAbsent(...[name, ...rest]: Parameters<MemoryStore['putIfAbsent']>) {
    if (name.startsWith(DAMAGE)) throw new LifeboatError('repository.store-denied', `may not put ${name}`);
    return super.putIfAbsent(name, ...rest);
  }
}

describe('a check that finds damage', () => {
  let objects: ReadonlyMap<string, Uint8Array>;
  let agentFile: string;
  let lost: { readonly name: string; readonly bytes: Uint8Array };
  beforeEach(async () => {
    const store = new MemoryStore();
    const repository = await initTiny(store);
    ({ path: agentFile } = await enrolled(repository, scratch));
    const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
    const content = noisyDisk(20);
    const source = fileSource(scratch.file(content));
    const request = { name: 'vda', sizeBytes: content.length, source, changed: 'all' } as const;
    const { root } = await session.writeDisk(request, context);
    const capture = { version: 1, machineName: 'web', instantMs: 1, consistency: 'crash', disks: [] };
    await session.commit({ pointId: pointId(1), machine: {}, capture, disks: [{ name: 'vda', root }] });
    const [gone = ''] = [...store.objects].flatMap(([name, object]) =>
      name.startsWith(PACKS) && kindOf(decodePackHeader(object, name).header) === 'data' ? [name] : [],
    );
    lost = { name: gone, bytes: store.objects.get(gone) ?? new Uint8Array() };
    store.objects.delete(gone);
    objects = store.objects;
  });

  it.each([
    ['writes it down for the next backup', new MemoryStore(), 1],
    ['says it also where it may write nothing', new ReadOnlyStore(), 0],
  ])('%s', async (_, store, records) => {
    for (const [name, object] of objects) store.objects.set(name, object);
    const deps = { repository: await openTiny(store), clock: systemClock, log: silentLog };
    const { damage } = await checkPoint(deps, { machine: 'web', level: 'present' }, context);
    expect(damage.length).toBeGreaterThan(0);
    expect([...store.objects.keys()].filter((name) => name.startsWith(DAMAGE))).toHaveLength(records);
  });

  it('says it also to who may look and not read, in the point and in all of the repository', async () => {
    const store = new MemoryStore();
    for (const [name, object] of objects) store.objects.set(name, object);
    // One chunk in the middle; the one with the partition table is whole.
    const bytes = Uint8Array.from(lost.bytes);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    store.objects.set(lost.name, bytes);
    const before = [...store.objects.keys()];
    const deps = { repository: await openAgentTiny(store, agentFile), clock: systemClock, log: silentLog };
    const { damage } = await checkPoint(deps, { machine: 'web', level: 'ciphertext' }, context);
    expect(damage[0]).toMatchObject({ disk: 'vda', partition: 'which partition these keys do not tell' });
    const listener = { begin() {}, progress() {}, end() {} };
    const { losses } = await checkRepository(deps, { level: 'ciphertext', listener }, { signal: context.signal });
    expect(losses).toMatchObject([{ machineId: MACHINE, disk: 'vda', points: [pointId(1)] }]);
    expect([...store.objects.keys()]).toEqual(before);
  });
});
