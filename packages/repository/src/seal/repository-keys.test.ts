import { chmodSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, describe, expect, test, vi } from 'vitest';

import { readSessions } from '../collect/session-records.ts';
import { decodeKeySet, encodeKeySet } from '../format/key-set.ts';
import { KEYS, PACKS } from '../format/names.ts';
import { decodePackHeader, encodePackHeader, kindOf, type PackHeader } from '../format/pack.ts';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { systemRandom } from '@lifeboat/foundation/random';

import { addTenant, initRepository, openRepository, readSuperblock, type Repository } from '../repository.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { fileSource } from '../testing/file-source.ts';
import { noisyDisk, readDisk } from '../testing/disks.ts';
import {
  CHEAP_SCRYPT,
  initTiny,
  MACHINE,
  openTiny,
  PASSPHRASE,
  pointId,
  Scratch,
  TINY_CHUNK,
  TINY_GEOMETRY,
  TINY_LIMITS,
} from '../testing/tiny.ts';
import { enrolled, openAgentTiny } from '../testing/agents.ts';
import { inlineOpener } from '../read/blob-opener.ts';
import { inlineSealer } from '../write/inline-sealer.ts';
import { sealKeySet } from './key-set.ts';
import { newKeyBundle } from './keyring.ts';
import { DirectoryKms } from './kms-directory.ts';
import { describeTenants } from './repository-keys.ts';
import type { Secret } from './secret.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());

const deps = { sealer: inlineSealer({ laneCount: 2 }), opener: inlineOpener(), writerLimits: TINY_LIMITS };
const opened = (store: ObjectStore, secret: Secret, tenant?: string): Promise<Repository> =>
  openRepository({ store, secret, deps, ...(tenant === undefined ? {} : { tenant }) });
const second: Secret = { passphrase: 'battery staple' };
const wrong = { code: 'repository.wrong-passphrase' };
const signal = new AbortController().signal;

async function backUp(repository: Repository, n: number, disk: Buffer): Promise<void> {
  const session = await repository.beginSession({ machineId: MACHINE, directory: scratch.directory() });
  const source = fileSource(scratch.file(disk));
  const { root } = await session.writeDisk({ name: 'vda', sizeBytes: disk.length, source, changed: 'all' }, { signal });
  await session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
}

function dataPacks(store: MemoryStore): { name: string; header: PackHeader }[] {
  const packs = [...store.objects].filter(([name]) => name.startsWith(PACKS));
  return packs
    .map(([name, object]) => ({ name, header: decodePackHeader(object, name).header }))
    .filter(({ header }) => kindOf(header) === 'data');
}

describe('ways into a repository', () => {
  test('each opens it: passphrase, key file, key service', async () => {
    const store = new MemoryStore();
    const made = await initTiny(store);
    const keyFile = join(scratch.directory(), 'key');
    const kms = new DirectoryKms(scratch.directory());
    await kms.createKey('tenant-1');
    await made.keys.add({ secret: second, label: 'operations', scryptCost: CHEAP_SCRYPT });
    await made.keys.add({ secret: { keyFile }, label: 'this host' });
    const { info } = await made.keys.add({ secret: { kms, keyRef: 'tenant-1' }, label: 'vault' });
    expect(info.slots.map(({ label, kind }) => [label, kind])).toEqual([
      ['first', 'passphrase'],
      ['operations', 'passphrase'],
      ['this host', 'key file'],
      ['vault', 'key service'],
    ]);
    expect(info).toMatchObject({ generation: 4, epoch: 1, leftGenerations: [] });
    for (const secret of [{ passphrase: PASSPHRASE }, second, { keyFile }, { kms }]) {
      expect((await opened(store, secret)).tenantId).toBe(made.tenantId);
    }
    expect([...store.objects.keys()].filter((name) => name.startsWith(KEYS))).toHaveLength(2);
    expect(await describeTenants(store)).toEqual([info]);
  });

  test('one that is removed opens it no more; the last cannot be removed', async () => {
    const store = new MemoryStore();
    const made = await initTiny(store);
    const { info } = await made.keys.add({ secret: second, label: 'operations', scryptCost: CHEAP_SCRYPT });
    const [first = '', added = ''] = info.slots.map(({ slotId }) => slotId);
    await made.keys.remove(added);
    await expect(opened(store, second)).rejects.toMatchObject(wrong);
    await openTiny(store);
    await expect(made.keys.remove(added)).rejects.toMatchObject({ code: 'repository.key-slot-missing' });
    await expect(made.keys.remove(first)).rejects.toMatchObject({ code: 'repository.last-key-slot' });
  });

  test('that two programs add at the same moment are both there', async () => {
    const store = new MemoryStore();
    const made = await initTiny(store);
    await Promise.all(
      Array.from({ length: 4 }, (_, i) =>
        made.keys.add({ secret: { passphrase: `p${i}` }, label: `p${i}`, scryptCost: CHEAP_SCRYPT }),
      ),
    );
    for (let i = 0; i < 4; i++) await opened(store, { passphrase: `p${i}` });
    expect((await made.keys.info()).slots).toHaveLength(5);
  });

  test('are changed although somebody without a key put something under the next names', async () => {
    const store = new MemoryStore();
    const made = await initTiny(store);
    const names = [2, 3].flatMap((n) => ['a', 'b'].map((copy) => `${KEYS}${made.tenantId}/00000${n}-${copy}`));
    names.push(`${KEYS}${made.tenantId}/000000-a`);
    for (const name of names) store.objects.set(name, Buffer.from('not a key set'));
    expect((await made.keys.info()).leftGenerations).toEqual([]);
    const { info } = await made.keys.add({ secret: second, label: 'second', scryptCost: CHEAP_SCRYPT });
    expect([info.generation, info.slots.length]).toEqual([4, 2]);
    await opened(store, second);
    expect([...store.objects.keys()].filter((name) => names.includes(name))).toEqual([]);
  });

  test('are told as they are when another program removes an older set meanwhile', async () => {
    const store = new (class extends MemoryStore {
      vanishing = '';
      override async get(...given: Parameters<ObjectStore['get']>): Promise<Uint8Array> {
        if (given[0] === this.vanishing) await this.delete(given[0]);
        return super.get(...given);
      }
    })();
    const made = await initTiny(store);
    const [older = ''] = [...store.objects.keys()].filter((name) => name.startsWith(KEYS));
    const bytes = store.objects.get(older);
    await made.keys.add({ secret: second, label: 'second', scryptCost: CHEAP_SCRYPT });
    // It came late, as a copy does whose writer was stopped in between.
    if (bytes) store.objects.set(older, bytes);
    expect((await made.keys.info()).leftGenerations).toEqual([1]);
    store.vanishing = older;
    expect((await made.keys.info()).leftGenerations).toEqual([]);
    if (bytes) store.objects.set(older, bytes);
    expect((await describeTenants(store))[0]?.leftGenerations).toEqual([]);
  });

  test('that were built upon before they were read back count as written', async () => {
    const store = new (class extends MemoryStore {
      between: (() => Promise<unknown>) | undefined;
      override async putIfAbsent(...given: Parameters<ObjectStore['putIfAbsent']>): Promise<'created' | 'exists'> {
        const outcome = await super.putIfAbsent(...given);
        const { between } = this;
        this.between = undefined;
        await between?.();
        return outcome;
      }
    })();
    const made = await initTiny(store);
    const other = await openTiny(store);
    store.between = () => other.keys.add({ secret: { passphrase: 'other' }, label: 'other', scryptCost: CHEAP_SCRYPT });
    await made.keys.add({ secret: second, label: 'second', scryptCost: CHEAP_SCRYPT });
    expect((await made.keys.info()).slots.map(({ label }) => label)).toEqual(['first', 'second', 'other']);
  });

  test('survive a program that is killed at any write of a change', async () => {
    for (let killAfter = 0; killAfter < 8; killAfter++) {
      const store = new (class extends MemoryStore {
        left = Number.POSITIVE_INFINITY;
        override putIfAbsent(...given: Parameters<ObjectStore['putIfAbsent']>): Promise<'created' | 'exists'> {
          if (this.left-- <= 0) return Promise.reject(new Error('killed'));
          return super.putIfAbsent(...given);
        }
        override delete(name: string): Promise<void> {
          if (this.left-- <= 0) return Promise.reject(new Error('killed'));
          return super.delete(name);
        }
      })();
      const made = await initTiny(store);
      store.left = killAfter;
      const adding = made.keys.add({ secret: second, label: 'second', scryptCost: CHEAP_SCRYPT });
      const outcome = await adding.then(() => 'done').catch(() => 'killed');
      expect(outcome).toBe(killAfter < 4 ? 'killed' : 'done');
      store.left = Number.POSITIVE_INFINITY;
      const reopened = await openTiny(store);
      // Whatever was left is tidied by the next change.
      const { info } = await reopened.keys.add({
        secret: { passphrase: 'third' },
        label: 'x',
        scryptCost: CHEAP_SCRYPT,
      });
      expect(info.leftGenerations).toEqual([]);
      expect(info.slots).toHaveLength(killAfter === 0 ? 2 : 3);
    }
  });

  test('that the store does not let go of are reported', async () => {
    const store = new (class extends MemoryStore {
      override delete(name: string): Promise<void> {
        return Promise.reject(new LifeboatError('repository.store-denied', `${name}: no`));
      }
    })();
    const made = await initTiny(store);
    const { kept, info } = await made.keys.add({ secret: second, label: 'second', scryptCost: CHEAP_SCRYPT });
    expect(kept).toHaveLength(2);
    expect(info.leftGenerations).toEqual([1]);
    expect(info.shred.obstacles).toContainEqual(expect.stringContaining('generation 1'));
  });
});

describe('a page with a key', () => {
  const typed = (text: string, mode = 0o600): Secret => {
    const paperFile = scratch.file(Buffer.from(text));
    chmodSync(paperFile, mode);
    return { paperFile };
  };

  test('opens the tenant, also after a rotation, until its slot is removed', async () => {
    const store = new MemoryStore();
    const made = await initTiny(store);
    const page = await made.keys.print({ label: 'safe' });
    expect(page).toMatchObject({ repositoryId: made.repositoryId, tenantId: made.tenantId, epoch: 1, label: 'safe' });
    const secret = typed(page.lines.join('\n'));
    await made.keys.rotate();
    const disk = noisyDisk(4);
    await backUp(await openTiny(store), 1, disk);
    const onPaper = await opened(store, secret);
    expect(await readDisk(onPaper, MACHINE, pointId(1))).toEqual(disk);
    const { slots } = await onPaper.keys.info();
    expect(slots.map(({ slotId, kind, label }) => [slotId, kind, label])).toContainEqual([
      page.slotId,
      'paper',
      'safe',
    ]);
    await made.keys.remove(page.slotId);
    await expect(opened(store, secret)).rejects.toMatchObject({ code: 'repository.wrong-paper' });
    await made.keys.add({ secret, label: 'safe again' });
    await opened(store, secret);
  });

  test('of another repository is refused before anything is tried, and both are named', async () => {
    const [store, other] = [new MemoryStore(), new MemoryStore()];
    const made = await initTiny(store);
    const stranger = await initTiny(other);
    const secret = typed((await made.keys.print({ label: 'safe' })).lines.join('\n'));
    const refused = {
      code: 'repository.wrong-paper',
      message: expect.stringMatching(
        `${made.repositoryId.slice(0, 16)}.*${stranger.repositoryId.slice(0, 16)}`,
      ) as string,
    };
    await expect(opened(other, secret)).rejects.toMatchObject(refused);
    await expect(stranger.keys.add({ secret, label: 'x' })).rejects.toMatchObject(refused);
    await expect(initRepository({ store: new MemoryStore(), secret })).rejects.toMatchObject({ code: 'input.invalid' });
    await expect(addTenant({ store, secret, tenantName: 'other' })).rejects.toMatchObject({ code: 'input.invalid' });
  });

  test('is used only from a file that nobody else can read', async () => {
    const store = new MemoryStore();
    const { lines } = await (await initTiny(store)).keys.print({ label: 'safe' });
    const unusable = { code: 'repository.paper-unusable' };
    await expect(opened(store, typed(lines.join('\n'), 0o640))).rejects.toMatchObject(unusable);
    await expect(opened(store, { paperFile: '/nowhere/paper' })).rejects.toMatchObject(unusable);
    await expect(opened(store, typed(' '.repeat(65_537)))).rejects.toMatchObject(unusable);
  });

  test('keeps a tenant from being shredded', async () => {
    const store = new MemoryStore();
    const kms = new DirectoryKms(scratch.directory());
    await kms.createKey('k1');
    const made = await initRepository({ store, secret: { kms, keyRef: 'k1' }, deps });
    const { slotId } = await made.keys.print({ label: 'safe' });
    expect((await made.keys.info()).shred).toEqual({ possible: false, obstacles: ['a key on paper opens it (safe)'] });
    await made.keys.remove(slotId);
    expect((await made.keys.info()).shred.possible).toBe(true);
  });
});

describe('rotation', () => {
  test('begins an epoch that every way opens, and old points stay readable', async () => {
    const store = new MemoryStore();
    const made = await initTiny(store);
    await made.keys.add({ secret: second, label: 'second', scryptCost: CHEAP_SCRYPT });
    const before = noisyDisk(5, 1);
    await backUp(made, 1, before);
    // Nobody needs the second passphrase at hand.
    const { info } = await made.keys.rotate();
    expect(info.epoch).toBe(2);
    const after = noisyDisk(7, 2);
    await backUp(await openTiny(store), 2, after);
    const other = await opened(store, second);
    expect(await readDisk(other, MACHINE, pointId(1))).toEqual(before);
    expect(await readDisk(other, MACHINE, pointId(2))).toEqual(after);
  });

  test('ends a session of before: the attempt that goes on seals in the new epoch, and stores nothing twice', async () => {
    const store = new MemoryStore();
    const made = await initTiny(store);
    const directory = scratch.directory();
    const attempt = async (disk: Buffer) => {
      const session = await (await openTiny(store)).beginSession({ machineId: MACHINE, directory });
      const source = fileSource(scratch.file(disk));
      const request = { name: 'vda', sizeBytes: disk.length, source, changed: 'all' } as const;
      return { session, ...(await session.writeDisk(request, { signal })) };
    };
    const first = await attempt(noisyDisk(20, 1));
    await first.session.detach();
    const before = new Set(dataPacks(store).map(({ name }) => name));
    await made.keys.rotate();
    const disk = Buffer.concat([noisyDisk(20, 1), noisyDisk(1, 2)]);
    const { session, root, stats } = await attempt(disk);
    expect(session.sessionId).not.toBe(first.session.sessionId);
    expect([stats.newChunks, stats.knownChunks]).toEqual([1, 20]);
    expect(dataPacks(store).flatMap(({ name, header }) => (before.has(name) ? [] : [header.epoch]))).toEqual([2]);
    await session.commit({ pointId: pointId(1), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
    expect(await readDisk(await openTiny(store), MACHINE, pointId(1))).toEqual(disk);
    // Nobody waits for the one that was ended.
    expect((await readSessions(made.core)).open).toEqual([]);
  });

  test('between a commit and its end loses no point, and makes no second one', async () => {
    const store = new MemoryStore();
    const made = await initTiny(store);
    const directory = scratch.directory();
    const disk = noisyDisk(20, 1);
    const backUpTo = async (): Promise<void> => {
      const session = await (await openTiny(store)).beginSession({ machineId: MACHINE, directory });
      try {
        const source = fileSource(scratch.file(disk));
        const request = { name: 'vda', sizeBytes: disk.length, source, changed: 'all' } as const;
        const { root } = await session.writeDisk(request, { signal });
        await session.commit({ pointId: pointId(1), machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
      } finally {
        await session.detach();
      }
    };
    const put = store.putIfAbsent.bind(store);
    const dying = vi.spyOn(store, 'putIfAbsent').mockImplementation(async (name, ...rest) => {
      if (name.includes('/closed.')) throw new Error('killed');
      return put(name, ...rest);
    });
    await expect(backUpTo()).rejects.toThrow('killed');
    dying.mockRestore();
    await made.keys.rotate();
    await backUpTo();
    expect(await made.points()).toMatchObject([{ state: 'readable', pointId: pointId(1) }]);
    expect((await readSessions(made.core)).open).toEqual([]);
    await made.condemn();
    expect((await made.sweep()).waitingFor).toEqual([]);
    expect(await readDisk(await openTiny(store), MACHINE, pointId(1))).toEqual(disk);
  });

  test('shuts out who kept the keys of before from what is written afterwards; to him that is no damage', async () => {
    const store = new MemoryStore();
    const thief = await initTiny(store);
    await backUp(thief, 1, noisyDisk(3, 1));
    const kept = [...store.objects].filter(([name]) => name.startsWith(KEYS));
    await (await openTiny(store)).keys.rotate();
    await backUp(await openTiny(store), 2, noisyDisk(3, 2));
    // He sees the store as it is, with the key sets as they were.
    for (const name of [...store.objects.keys()].filter((object) => object.startsWith(KEYS)))
      store.objects.delete(name);
    for (const [name, object] of kept) store.objects.set(name, object);
    await readDisk(thief, MACHINE, pointId(1));
    const unknown = { code: 'repository.unknown-epoch', context: { epoch: 2 } };
    await expect(readDisk(thief, MACHINE, pointId(2))).rejects.toMatchObject(unknown);
    const point = await thief.readPoint(MACHINE, pointId(2));
    await expect(thief.checkPoint(point, 'content', { signal, progress() {} })).rejects.toMatchObject(unknown);
    // A header that merely says so is damage all the same.
    const pack = dataPacks(store).find(({ header }) => header.epoch === 1);
    const object = store.objects.get(pack?.name ?? '') ?? Buffer.alloc(0);
    const forged = encodePackHeader({ ...(pack?.header as PackHeader), epoch: 7 });
    object.set(forged);
    await expect(readDisk(await openTiny(store), MACHINE, pointId(1))).rejects.toMatchObject({
      code: 'repository.chunk-damaged',
    });
  });

  test('reaches processes that have the repository open: what they read, and what they seal from then on', async () => {
    const store = new MemoryStore();
    const running = await initTiny(store);
    await backUp(running, 1, noisyDisk(3, 1));
    await (await openTiny(store)).keys.rotate();
    const disk = noisyDisk(9, 2);
    await backUp(await openTiny(store), 2, disk);
    expect(await readDisk(running, MACHINE, pointId(2))).toEqual(disk);
    await (await openTiny(store)).keys.rotate();
    await backUp(running, 3, noisyDisk(9, 3));
    expect(new Set(dataPacks(store).map(({ header }) => header.epoch))).toEqual(new Set([1, 2, 3]));
    const point = await running.readPoint(MACHINE, pointId(3));
    expect((await running.checkPoint(point, 'content', { signal, progress() {} })).sound).toBe(true);
  });

  test('keeps a process whose way in was removed from beginning a session', async () => {
    const store = new MemoryStore();
    const made = await initTiny(store);
    const { info } = await made.keys.add({ secret: second, label: 'second', scryptCost: CHEAP_SCRYPT });
    const removed = await opened(store, second);
    await made.keys.remove(info.slots[1]?.slotId ?? '');
    await expect(backUp(removed, 1, noisyDisk(3))).rejects.toMatchObject(wrong);
  });
});

describe('a key set that somebody else made', () => {
  test('is refused, although it is sealed to the right slot', async () => {
    const store = new MemoryStore();
    await initTiny(store);
    const { superblockHash } = await readSuperblock(store);
    const [name = ''] = [...store.objects.keys()].filter((object) => object.startsWith(KEYS));
    const set = decodeKeySet(store.objects.get(name) ?? Buffer.alloc(0), name);
    // Everything a thief with write access needs is open: the slots' public keys. What they cannot make is the anchor.
    const object = sealKeySet(
      { ...set, generation: 2, bundle: newKeyBundle(set.tenantId, systemRandom) },
      { superblockHash, random: systemRandom },
    );
    for (const copy of ['a', 'b']) store.objects.set(name.replace('000001-a', `000002-${copy}`), object);
    const again = await openTiny(store).catch((error: unknown) => error);
    expect(again).toMatchObject({ core: { keyring: { signer: publicSigner(await openOriginal(store)) } } });
  });

  test('is refused when a bit of it was changed and its hash made right', async () => {
    const store = new MemoryStore();
    await initTiny(store);
    const names = [...store.objects.keys()].filter((object) => object.startsWith(KEYS));
    const set = decodeKeySet(store.objects.get(names[0] ?? '') ?? Buffer.alloc(0), 'it');
    const body = Buffer.from(set.bodyBytes);
    body[body.indexOf(Buffer.from('default'))] = 'D'.charCodeAt(0);
    for (const name of names) store.objects.set(name, encodeKeySet({ body, signature: set.signature }));
    await expect(openTiny(store)).rejects.toMatchObject({
      code: 'repository.object-damaged',
      message: expect.stringMatching(/not signed/) as string,
    });
  });
});

describe('a key service', () => {
  test('whose key is destroyed makes the tenant unreadable, and only where nothing else opens it', async () => {
    const store = new MemoryStore();
    const vault = scratch.directory();
    const kms = new DirectoryKms(vault);
    await kms.createKey('k1');
    const made = await initRepository({
      store,
      secret: { kms, keyRef: 'k1' },
      chunkSizeBytes: TINY_CHUNK,
      geometry: TINY_GEOMETRY,
      deps,
    });
    await backUp(made, 1, noisyDisk(3));
    expect((await made.keys.info()).shred).toEqual({ possible: true, obstacles: [] });
    const { info } = await made.keys.add({ secret: second, label: 'paranoia', scryptCost: CHEAP_SCRYPT });
    expect(info.shred).toEqual({ possible: false, obstacles: ['a passphrase opens it (paranoia)'] });
    await made.keys.remove(info.slots[1]?.slotId ?? '');
    expect((await made.keys.info()).shred.possible).toBe(true);
    await kms.destroy('k1');
    await kms.destroy('k1');
    await expect(opened(store, { kms })).rejects.toMatchObject({ code: 'repository.kms-refused' });
    await rm(vault, { recursive: true });
    await expect(opened(store, { kms })).rejects.toMatchObject({ code: 'repository.kms-unreachable' });
  });

  test('that did not wrap the key refuses it', async () => {
    const kms = new DirectoryKms(scratch.directory());
    await kms.createKey('k1');
    await kms.createKey('k2');
    const wrapped = await kms.wrap('k1', Buffer.alloc(32, 7));
    expect(Buffer.from(await kms.unwrap('k1', wrapped))).toEqual(Buffer.alloc(32, 7));
    await expect(kms.unwrap('k2', wrapped)).rejects.toMatchObject({ code: 'repository.kms-refused' });
    for (const name of ['../k1', '', 'a/b']) {
      await expect(kms.wrap(name, Buffer.alloc(32))).rejects.toMatchObject({ code: 'input.invalid' });
    }
  });
});

test('who may put objects and has no key locks nobody out with key sets of tenants there are not', async () => {
  const store = new MemoryStore();
  const made = await initTiny(store);
  const agent = await enrolled(made, scratch);
  for (let i = 0; i <= 1024; i++)
    store.objects.set(`${KEYS}${i.toString(16).padStart(32, '0')}/000001-a`, Buffer.from('x'));
  expect((await openTiny(store)).tenantId).toBe(made.tenantId);
  expect((await openAgentTiny(store, agent.path)).tenantId).toBe(made.tenantId);
  await made.keys.add({ secret: second, label: 'second', scryptCost: CHEAP_SCRYPT });
  await opened(store, second, made.tenantId);
  await expect(opened(store, second, 'by its name')).rejects.toMatchObject({ code: 'repository.limit-exceeded' });
});

describe('tenants of one repository', () => {
  test('have keys, points and chunks of their own', async () => {
    const store = new MemoryStore();
    const first = await initTiny(store);
    const other = await addTenant({ store, secret: second, tenantName: 'other', scryptCost: CHEAP_SCRYPT, deps });
    const disk = noisyDisk(6);
    await backUp(first, 1, disk);
    await backUp(other, 1, disk);
    expect(await readDisk(other, MACHINE, pointId(1))).toEqual(disk);
    expect((await first.points()).map(({ state }) => state)).toEqual(['readable']);
    expect((await other.points()).map(({ state }) => state)).toEqual(['readable']);
    await expect(opened(store, { passphrase: PASSPHRASE }, 'other')).rejects.toMatchObject(wrong);
    expect((await opened(store, second)).tenantName).toBe('other');
    expect((await opened(store, second, other.tenantId)).tenantName).toBe('other');
    await expect(opened(store, second, 'nobody')).rejects.toMatchObject({ code: 'repository.tenant-missing' });
    const again = addTenant({ store, secret: second, tenantName: 'other', scryptCost: CHEAP_SCRYPT, deps });
    await expect(again).rejects.toMatchObject({ code: 'repository.tenant-exists' });
  });

  test('do not open what was moved from one to the other', async () => {
    const store = new MemoryStore();
    const first = await initTiny(store);
    const other = await addTenant({ store, secret: second, tenantName: 'other', scryptCost: CHEAP_SCRYPT, deps });
    await backUp(first, 1, noisyDisk(4));
    for (const [name, object] of store.objects) {
      if (name.startsWith('data/') && !name.startsWith('data/tenants/')) {
        store.objects.set(name.replace('data/', `data/tenants/${other.tenantId}/`), object);
      }
    }
    expect(await other.points()).toMatchObject([{ state: 'damaged' }]);
  });
});

function publicSigner(repository: Repository): Uint8Array {
  return repository.core.keyring.signer;
}

/** Opens it without what was put beside it. */
async function openOriginal(store: MemoryStore): Promise<Repository> {
  const copy = new MemoryStore();
  for (const [name, object] of store.objects) if (!name.includes('/000002-')) copy.objects.set(name, object);
  return openTiny(copy);
}
