/** Agents back up what they may not read; who has stolen one reads nothing and takes nothing away. */
import { chmodSync, readFileSync } from 'node:fs';

import * as fc from 'fast-check';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';

import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId, type MachineId } from '@lifeboat/foundation/ids';

import { buryPoint } from '../collect/tombstones.ts';
import { readOutcome } from '../collect/outcomes.ts';
import { settleSession } from '../collect/session-end.ts';
import { readSessions } from '../collect/session-records.ts';
import type { Core } from '../core.ts';
import { encodeAgentCredential } from '../format/agent-credential.ts';
import { encodeCertificate, encodeCertificateBody } from '../format/certificate.ts';
import { encodeCondemnSwept } from '../format/condemn-list.ts';
import {
  AGENTS,
  certificateObject,
  condemnSweptObject,
  fenceObject,
  keySetObject,
  KEYS,
  outcomeObject,
  PACKS,
  pointObject,
  POINTS,
  sessionClosedObject,
} from '../format/names.ts';
import { decodeKeySet, encodeKeySet, encodeKeySetBody } from '../format/key-set.ts';
import { decodePackHeader, kindOf, parsePack } from '../format/pack.ts';
import { decodePointObject, type DiskRoot } from '../format/point.ts';
import { encodeFence } from '../format/session-outcome.ts';
import { encodeSessionRecord } from '../format/session-record.ts';
import { MapReader } from '../read/map-reader.ts';
import { openRepository, type Repository } from '../repository.ts';
import { open } from '../seal/aead.ts';
import { AgentKeyring } from '../seal/agent-keyring.ts';
import { packKey, tocSeal } from '../seal/blob-seal.ts';
import { certifiedStatement, signedCertificate } from '../seal/certificate.ts';
import { controlName, openRecord, sealRecord } from '../seal/control-records.ts';
import { openWithPrivateKey, publicPart, signEd25519 } from '../seal/curve-keys.ts';
import { deriveKey } from '../seal/derive.ts';
import { pointKey, pointSeal } from '../seal/point-seal.ts';
import { MemoryStore } from '../store/memory-store.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { enrolled, openAgentTiny, SetClock, VALID_MS, type EnrolledAgent } from '../testing/agents.ts';
import { noisyDisk, readDisk } from '../testing/disks.ts';
import { fileSource } from '../testing/file-source.ts';
import { initTiny, MACHINE, openTiny, pointId, Scratch, TINY_CHUNK } from '../testing/tiny.ts';
import type { WriteDiskRequest } from '../write/disk-writer.ts';
import { encodePoint, putPoint } from '../write/point-writer.ts';
import type { WriterSession } from '../write/session.ts';

const scratch = new Scratch();
afterAll(() => scratch.remove());
const signal = new AbortController().signal;
const OTHER = parseMachineId('machine-2');
const DAY_MS = 86_400_000;

/** Counts what is deleted, and lets a test do something at the moment of a PUT. */
class WatchedStore extends MemoryStore {
  readonly deleted: string[] = [];
  beforePut: ((name: string) => Promise<void>) | undefined;
  afterPut: ((name: string) => Promise<void>) | undefined;

  override async putIfAbsent(...[name, parts, options]: Parameters<MemoryStore['putIfAbsent']>) {
    await this.beforePut?.(name);
    const outcome = await super.putIfAbsent(name, parts, options);
    await this.afterPut?.(name);
    return outcome;
  }

  override async delete(name: string): Promise<void> {
    this.deleted.push(name);
    return super.delete(name);
  }
}

let clock: SetClock;
let store: WatchedStore;
let tenant: Repository;
let file: EnrolledAgent;
let agent: Repository;
beforeEach(async () => {
  clock = new SetClock();
  store = new WatchedStore({ clock });
  tenant = await initTiny(store, { clock });
  file = await enrolled(tenant, scratch);
  agent = await openAgentTiny(store, file.path, { clock });
});

const sessions: WriterSession[] = [];
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.detach();
});

async function begin(
  repository: Repository,
  machineId: MachineId = MACHINE,
  directory = scratch.directory(),
): Promise<WriterSession> {
  const session = await repository.beginSession({ machineId, directory });
  sessions.push(session);
  return session;
}

async function write(session: WriterSession, content: Buffer, request: Partial<WriteDiskRequest> = {}) {
  const source = fileSource(scratch.file(content));
  return session.writeDisk({ name: 'vda', sizeBytes: content.length, source, changed: 'all', ...request }, { signal });
}

const commit = (session: WriterSession, n: number, root: DiskRoot, options: StoreOptions = {}) =>
  session.commit({ pointId: pointId(n), machine: {}, capture: {}, disks: [{ name: 'vda', root }] }, options);

async function backUp(
  repository: Repository,
  n: number,
  content: Buffer,
  more: { machineId?: MachineId; request?: Partial<WriteDiskRequest> } = {},
) {
  const session = await begin(repository, more.machineId);
  const written = await write(session, content, more.request);
  const point = await commit(session, n, written.root);
  clock.pass(1000);
  return { ...written, point };
}

const listed = async (repository: Repository): Promise<unknown[]> =>
  (await repository.points()).map((point) => [
    point.pointId,
    point.state === 'readable' ? 'readable' : point.error.code,
  ]);

describe('an agent', () => {
  test('backs up, audits, and changes little: as one who may read does', async () => {
    const before = noisyDisk(30, 1);
    const first = await backUp(agent, 1, before);
    expect(Buffer.from(store.objects.get(pointObject(MACHINE, pointId(1))) ?? []).readUInt16BE(12)).toBe(2);
    // Packs have other names in each, and the pack set is as deep as their names make it: the bytes of pages are not compared.
    const twin = new WatchedStore({ clock });
    for (const [name, bytes] of store.objects) twin.objects.set(name, bytes);
    const reader = await openTiny(twin, { clock });
    const after = Buffer.concat([before.subarray(0, 7 * TINY_CHUNK), noisyDisk(2, 9), before.subarray(9 * TINY_CHUNK)]);
    const changed = [{ offsetBytes: 7 * TINY_CHUNK, lengthBytes: 2 * TINY_CHUNK }];
    const results = [];
    for (const repository of [agent, reader]) {
      const session = await begin(repository);
      const source = fileSource(scratch.file(after));
      const audit = await session.compare({ parent: first.root, source, chunkIndexes: [0, 7, 8, 20] }, { signal });
      const { root, stats } = await write(session, after, { parent: first.root, changed });
      await commit(session, 2, root);
      results.push({ audit, root: { ...root }, stats: { ...stats, stageMs: 0, metadataBytes: 0 } });
    }
    const [own, full] = results;
    if (!own || !full) throw new TypeError('two were asked');
    expect(own.audit.mismatches).toEqual([7, 8]);
    expect({ ...own, root: 0 }).toEqual({ ...full, root: 0 });
    expect(own.stats).toMatchObject({ newChunks: 2, readBytes: 2 * TINY_CHUNK });
    for (const repository of [tenant, reader]) expect(await readDisk(repository, MACHINE, pointId(2))).toEqual(after);
    // What did not change is shared: the two maps hold the same references but for the new chunks.
    const placesOf = async (repository: Repository, root: DiskRoot): Promise<unknown[]> => {
      const places: unknown[] = [];
      const { core } = repository;
      const map = new MapReader({ root, pages: core.pages, geometry: core.superblock, what: 'it' });
      for (let chunk = 0; chunk < 30; chunk++) {
        const place = await map.place(chunk);
        places.push(chunk === 7 || chunk === 8 ? (place as { id: string }).id : place);
      }
      return places;
    };
    expect(await placesOf(agent, own.root)).toEqual(await placesOf(reader, full.root));
    expect(await listed(tenant)).toEqual([
      [pointId(1), 'readable'],
      [pointId(2), 'readable'],
    ]);
  });

  test('stores no chunk that another machine stored, and takes over what the tenant wrote', async () => {
    const content = noisyDisk(20, 1);
    await backUp(tenant, 1, content, { machineId: OTHER });
    const own = await backUp(tenant, 2, content);
    const again = await backUp(agent, 3, content, { request: { parent: own.root, changed: [] } });
    expect(again.root).toEqual(own.root);
    const { stats } = await backUp(agent, 4, content);
    expect(stats).toMatchObject({ newChunks: 0, knownChunks: 20 });
    expect(await readDisk(tenant, MACHINE, pointId(4))).toEqual(content);
  });

  test('goes on with a session that was broken off', async () => {
    const directory = scratch.directory();
    const content = noisyDisk(20, 1);
    const killed = await begin(agent, MACHINE, directory);
    await write(killed, content);
    await killed.detach();
    const session = await begin(agent, MACHINE, directory);
    expect(session.sessionId).toBe(killed.sessionId);
    const { root, stats } = await write(session, content);
    expect(stats).toMatchObject({ newChunks: 0 });
    await commit(session, 1, root);
    expect(await readDisk(tenant, MACHINE, pointId(1))).toEqual(content);
    const { open: left } = await readSessions(tenant.core);
    expect(left).toEqual([]);
  });

  test('seals to the epoch that was begun since it was enrolled, and to no older one', async () => {
    const first = store.objects.get(keySetObject(tenant.tenantId, 1, 'a')) ?? new Uint8Array();
    await tenant.keys.rotate();
    await backUp(agent, 1, noisyDisk(5));
    const epochs = (): unknown[] =>
      [...store.objects]
        .filter(([name]) => name.startsWith(PACKS))
        .map(([name, bytes]) => decodePackHeader(bytes, name).header.epoch)
        .filter((epoch) => epoch !== undefined);
    expect(new Set(epochs())).toEqual(new Set([2]));
    // A set that the tenant did not sign, and an older one in the place of the newest, change nothing.
    const [name = '', newest = new Uint8Array()] = [...store.objects].find(([key]) => key.startsWith(KEYS)) ?? [];
    const set = decodeKeySet(newest, name);
    const body = encodeKeySetBody({
      ...set,
      generation: 9,
      epoch: 9,
      sessionPublicKey: publicPart('x25519', Buffer.alloc(32, 9)),
    });
    store.objects.set(keySetObject(tenant.tenantId, 9, 'a'), encodeKeySet({ body, signature: set.signature }));
    await backUp(agent, 2, noisyDisk(5, 2));
    for (const key of store.objects.keys()) if (key.startsWith(KEYS)) store.objects.delete(key);
    for (const copy of ['a', 'b'] as const) store.objects.set(keySetObject(tenant.tenantId, 1, copy), first);
    await backUp(agent, 3, noisyDisk(5, 3));
    expect(new Set(epochs())).toEqual(new Set([2]));
  });

  test('takes over no older epoch than that it was enrolled in', async () => {
    const older = store.objects.get(keySetObject(tenant.tenantId, 1, 'a')) ?? new Uint8Array();
    await tenant.keys.rotate();
    const { path } = await enrolled(await openTiny(store, { clock }), scratch, { name: 'later' });
    for (const key of store.objects.keys()) if (key.startsWith(KEYS)) store.objects.delete(key);
    for (const copy of ['a', 'b'] as const) store.objects.set(keySetObject(tenant.tenantId, 1, copy), older);
    const later = await openAgentTiny(store, path, { clock });
    expect(later.core.keyring.epoch).toBe(2);
  });

  test('goes on in a new session where the keys were rotated meanwhile; the one before commits nothing', async () => {
    const directory = scratch.directory();
    const content = noisyDisk(20, 1);
    const older = await begin(agent, MACHINE, directory);
    const before = await write(older, content);
    await tenant.keys.rotate();
    const session = await begin(agent, MACHINE, directory);
    expect(session.sessionId).not.toBe(older.sessionId);
    await expect(commit(older, 1, before.root)).rejects.toMatchObject({ code: 'repository.session-unusable' });
    const { root, stats } = await write(session, content);
    expect(stats).toMatchObject({ newChunks: 0 });
    await commit(session, 1, root);
    expect(await readDisk(tenant, MACHINE, pointId(1))).toEqual(content);
    // What is left of the older one is for a collector.
    const { open: left } = await readSessions(tenant.core);
    expect(left.map(({ sessionId }) => sessionId)).toEqual([older.sessionId]);
    await tenant.condemn();
    expect(await readDisk(tenant, MACHINE, pointId(1))).toEqual(content);
  });

  test('sees its own machines, and says of content that it may not read it, not that it is damaged', async () => {
    await backUp(tenant, 1, noisyDisk(5), { machineId: OTHER });
    await backUp(agent, 2, noisyDisk(5, 2));
    expect(await listed(agent)).toEqual([[pointId(2), 'readable']]);
    const point = await agent.readPoint(MACHINE, pointId(2));
    const context = { signal, progress: () => {} };
    expect(await agent.checkPoint(point, 'ciphertext', context)).toMatchObject({ sound: true });
    await expect(agent.checkPoint(point, 'content', context)).rejects.toMatchObject({
      code: 'repository.not-permitted',
    });
    await expect(readDisk(agent, MACHINE, pointId(2))).rejects.toMatchObject({ code: 'repository.not-permitted' });
    await expect(agent.readPoint(OTHER, pointId(1))).rejects.toMatchObject({ code: 'repository.not-permitted' });
    await expect(begin(agent, OTHER)).rejects.toMatchObject({ code: 'repository.not-permitted' });
  });

  test('does nothing else', async () => {
    const acts: (() => unknown)[] = [
      () => agent.keys,
      () => agent.retention,
      () => agent.agents,
      () => agent.condemn(),
      () => agent.sweep(),
      () => agent.simulation(),
      () => agent.extendLocks({ retentionMs: DAY_MS, generationMs: DAY_MS }, { signal, progress: () => {} }),
      () => agent.reportDamage({ packs: [], chunks: [], pages: [] }),
      () => buryPoint(agent.core, { machineId: MACHINE, pointId: pointId(1), by: '', reason: '' }),
    ];
    await backUp(agent, 1, noisyDisk(5));
    for (const act of acts) {
      const code = await Promise.resolve().then(act).catch(codeOf);
      expect([act.toString(), code]).toEqual([act.toString(), 'repository.not-permitted']);
    }
  });

  test('gives a session up without a word about others, and not while a commit is under way', async () => {
    const idle = await begin(agent);
    await idle.abandon();
    const directory = scratch.directory();
    const session = await begin(agent, MACHINE, directory);
    const { root } = await write(session, noisyDisk(5));
    const second = await begin(agent, MACHINE, directory);
    store.beforePut = async (name) => {
      if (name.startsWith(POINTS)) await second.abandon();
    };
    await commit(session, 1, root);
    expect(await listed(tenant)).toEqual([[pointId(1), 'readable']]);
    expect((await readSessions(tenant.core)).open).toEqual([]);
    // The other way about: what was given up commits nothing.
    const given = scratch.directory();
    const [one, two] = [await begin(agent, MACHINE, given), await begin(agent, MACHINE, given)];
    const written = await write(one, noisyDisk(5, 2));
    await two.abandon();
    await expect(commit(one, 2, written.root)).rejects.toMatchObject({ code: 'repository.session-unusable' });
    expect(await listed(tenant)).toEqual([[pointId(1), 'readable']]);
  });

  test('that was fenced while it committed asks what became of it, and decides nothing', async () => {
    const session = await begin(agent);
    const { root } = await write(session, noisyDisk(5));
    const name = controlName(tenant.core, fenceObject(session.sessionId));
    const body = encodeFence({ sessionId: session.sessionId, fencedMs: 0 });
    store.afterPut = async (put) => {
      if (put.startsWith(POINTS)) store.objects.set(name, sealRecord(tenant.core, { type: 'FENC', name, body }));
    };
    await expect(commit(session, 1, root)).rejects.toMatchObject({ code: 'repository.session-undecided' });
    expect(store.objects.has(controlName(tenant.core, outcomeObject(session.sessionId)))).toBe(false);
    await settleSession(tenant.core, session);
    expect(await commit(session, 1, root)).toMatchObject({ pointId: pointId(1) });

    const late = await begin(agent);
    const written = await write(late, noisyDisk(5, 2));
    store.afterPut = undefined;
    store.beforePut = async (put) => {
      if (put.startsWith(POINTS)) await settleSession(tenant.core, late);
    };
    await expect(commit(late, 2, written.root)).rejects.toMatchObject({ code: 'repository.session-fenced' });
    expect(await listed(tenant)).toEqual([[pointId(1), 'readable']]);
  });
});

const codeOf = (error: unknown): unknown => (error instanceof LifeboatError ? error.code : error);

/** Every object that any of these keys opens, whatever it was meant for. */
function openedBy(keys: readonly Uint8Array[]): string[] {
  const found: string[] = [];
  const { tenantId } = tenant.core.keyring;
  for (const [name, bytes] of store.objects) {
    const opens = (key: Uint8Array): boolean => {
      if (name.startsWith(PACKS)) {
        const { header } = decodePackHeader(bytes, name);
        const { sealedToc } = parsePack(bytes, name);
        const kind = kindOf(header);
        if (!kind) return false;
        const session =
          header.sealedSessionKey &&
          openWithPrivateKey('session seal', { rawPrivate: key, sealed: header.sealedSessionKey });
        const machine = deriveKey(key, `machine key ${header.machineId}`, tenantId);
        return [
          key,
          packKey(key, header.salt),
          packKey(machine, header.salt),
          ...(session ? [packKey(session, header.salt)] : []),
        ].some((candidate) => open(tocSeal({ key: candidate, kind, tenantId }), sealedToc) !== undefined);
      }
      if (name.startsWith(POINTS)) {
        const { header, sealedBody } = decodePointObject(bytes, name);
        const machine = deriveKey(key, `machine key ${header.machineId}`, tenantId);
        return [key, machine].some(
          (candidate) => open(pointSeal(pointKey(candidate, header), header), sealedBody) !== undefined,
        );
      }
      if (name.startsWith(KEYS)) {
        const set = decodeKeySet(bytes, name);
        return set.slots.some(
          ({ sealedSetKey, salt }) =>
            openWithPrivateKey('key set seal', { rawPrivate: key, sealed: sealedSetKey }) !== undefined ||
            openWithPrivateKey('key set seal', {
              rawPrivate: deriveKey(key, 'key slot private key', salt),
              sealed: sealedSetKey,
            }) !== undefined,
        );
      }
      return false;
    };
    if (keys.some(opens)) found.push(name);
  }
  return found.toSorted();
}

describe('who has stolen the file of an agent', () => {
  /** As a thief would have it: no method of ours between him and the keys. */
  const stolenKeys = (): Uint8Array[] => {
    const { credential } = file;
    const { chunkIdKey, signingSeed, signer, sessionPublicKey, machines } = credential;
    return [
      chunkIdKey,
      deriveKey(chunkIdKey, 'index key'),
      deriveKey(chunkIdKey, 'control key'),
      signingSeed,
      signer,
      sessionPublicKey,
      publicPart('ed25519', signingSeed),
      publicPart('x25519', signingSeed),
      ...machines.map(({ key }) => key),
    ];
  };

  test('opens no chunk, no other machine, no key set', async () => {
    await backUp(tenant, 1, noisyDisk(9, 1), { machineId: OTHER });
    await backUp(tenant, 2, noisyDisk(9, 2));
    await backUp(agent, 3, noisyDisk(9, 3));
    const maps = [...store.objects]
      .filter(([name, bytes]) => name.startsWith(PACKS) && decodePackHeader(bytes, name).header.machineId === MACHINE)
      .map(([name]) => name);
    const own = [...maps, pointObject(MACHINE, pointId(2)), pointObject(MACHINE, pointId(3))];
    expect(maps.length).toBeGreaterThan(2);
    expect(openedBy(stolenKeys())).toEqual(own.toSorted());
    // That it finds something at all: the keys of the tenant open everything.
    const { machineRootKey, epochs } = (await tenant.keys.unlock({})).bundle;
    const all = [...store.objects.keys()].filter((name) => name.startsWith(PACKS) || name.startsWith(POINTS));
    expect(openedBy([machineRootKey, ...epochs.map(({ sessionPrivateKey }) => sessionPrivateKey)])).toEqual(
      all.toSorted(),
    );
  });

  test('takes nothing away: no tombstone, outcome, list, mark, certificate or revocation of his counts', async () => {
    const { point } = await backUp(tenant, 1, noisyDisk(9, 1));
    const other = await begin(tenant);
    const thief = thiefCore();
    const before = await listed(tenant);
    // He signs with the only key he has, as if it were the tenant's.
    await buryPoint(thief, { machineId: MACHINE, pointId: pointId(1), by: 'thief', reason: '' });
    await settleSession({ ...thief, store: withoutPoints(store) }, { sessionId: other.sessionId, machineId: MACHINE });
    const name = controlName(thief, condemnSweptObject(1));
    const body = encodeCondemnSwept({ listId: new Uint8Array(16), sweptMs: 0, deletedPacks: 0 });
    const mark = sealRecord(thief, { type: 'CSWP', name, body });
    expect(() => openRecord(tenant.core, { type: 'CSWP', name, object: mark })).toThrow(LifeboatError);
    // What he may sign is no record of another kind either.
    const own = await begin(agent);
    const [session = '', record = new Uint8Array()] =
      [...store.objects].find(([key]) => key.includes(`${own.sessionId}/open`)) ?? [];
    expect(() => openRecord(tenant.core, { type: 'SESS', name: session, object: record })).toThrow('who may not');
    expect(await listed(tenant)).toEqual(before);
    expect(await tenant.readPoint(MACHINE, pointId(1))).toMatchObject({ hash: point.hash });
    expect(await readOutcome(tenant.core, other.sessionId)).toBeUndefined();
    expect(store.deleted.filter((deleted) => !deleted.includes('/probes/'))).toEqual([]);
  });

  test('cannot make himself a certificate, nor use another tenant’s, another agent’s, or his own for other machines', async () => {
    const { root } = await backUp(agent, 1, noisyDisk(9, 1));
    const { credential } = file;
    const body = {
      tenantId: credential.tenantId,
      agentId: Buffer.alloc(16, 9),
      name: 'forged',
      publicKey: publicPart('ed25519', credential.signingSeed),
      machines: [{ machineId: MACHINE }, { machineId: OTHER }],
      capabilities: 1,
      notBeforeMs: 0,
      notAfterMs: Number.MAX_SAFE_INTEGER,
      issuedBy: 'me',
    };
    const encoded = encodeCertificateBody(body);
    const signed = (seed: Uint8Array): Uint8Array =>
      encodeCertificate({ body: encoded, signature: signEd25519(seed, signedCertificate(encoded)) });
    const stranger = await initTiny(new MemoryStore());
    const strangersFile = await enrolled(stranger, scratch);
    const second = await enrolled(tenant, scratch, { name: 'second' });
    const forgeries = [
      { why: 'signature is not ours', certificate: signed(credential.signingSeed) },
      {
        why: 'another tenant',
        certificate: strangersFile.credential.certificate,
        signingSeed: strangersFile.credential.signingSeed,
      },
      { why: 'signature is not ours', certificate: second.credential.certificate },
      { why: 'may not back up machine machine-2', machineId: OTHER },
    ];
    for (const [i, { machineId = MACHINE, why, ...forged }] of forgeries.entries()) {
      await putForged({ ...credential, ...forged }, { machineId, n: 2 + i, root });
      await expect(tenant.readPoint(machineId, pointId(2 + i))).rejects.toMatchObject({
        code: 'repository.point-damaged',
        message: expect.stringContaining(why) as string,
      });
    }
    expect(await listed(tenant)).toContainEqual([pointId(1), 'readable']);
  });

  test('commits nothing under a name that is another’s, nor a record of another session', async () => {
    const { point } = await backUp(agent, 1, noisyDisk(9, 1));
    const object = store.objects.get(pointObject(MACHINE, point.pointId)) ?? new Uint8Array();
    store.objects.set(pointObject(MACHINE, pointId(2)), object);
    store.objects.set(pointObject(OTHER, pointId(1)), object);
    const session = await begin(tenant, OTHER);
    const own = await begin(agent);
    const records = [...store.objects].filter(([name]) => name.includes(`${own.sessionId}/open`));
    for (const [name, bytes] of records) {
      const plain = name.slice(0, name.lastIndexOf('.')).replace(own.sessionId, session.sessionId);
      store.objects.set(controlName(tenant.core, plain.replace('/open', '/closed')), bytes);
    }
    expect(await tenant.readPoint(MACHINE, pointId(2)).catch(codeOf)).toBe('repository.point-damaged');
    expect(await tenant.readPoint(OTHER, pointId(1)).catch(codeOf)).toBe('repository.point-damaged');
    const { open: left } = await readSessions(tenant.core);
    expect(left.map(({ sessionId }) => sessionId).toSorted()).toEqual([session.sessionId, own.sessionId].toSorted());
  });

  test('ends no session of a machine that is not his', async () => {
    const session = await begin(tenant, OTHER);
    const name = [...store.objects.keys()].find((stored) => stored.includes(`${session.sessionId}/open`)) ?? '';
    const open = store.objects.get(name) ?? new Uint8Array();
    // Whoever could damage the record that says whose it is.
    store.objects.set(name, open.slice(0, -1));
    const thief = await openAgentTiny(store, file.path, { clock });
    const closed = controlName(thief.core, sessionClosedObject(session.sessionId));
    const body = encodeSessionRecord({
      sessionId: session.sessionId,
      machineId: MACHINE,
      instantMs: 0,
      event: 'abandoned',
      pointId: '',
      knownLists: new Uint8Array(0),
      closing: Buffer.alloc(32),
    });
    store.objects.set(closed, sealRecord(thief.core, { type: 'SESS', name: closed, body }));
    const { open: left } = await readSessions(tenant.core);
    expect(left.map(({ sessionId }) => sessionId)).toEqual([session.sessionId]);
  });

  /** Keys of the agent where the tenant's are asked for. */
  function thiefCore(): Core {
    const { credential } = file;
    const keyring = new AgentKeyring(credential, 'stolen');
    const signer = publicPart('ed25519', credential.signingSeed);
    const forged = Object.create(keyring, {
      tenantId: { value: credential.tenantId },
      signer: { value: signer },
      sign: { value: (bytes: Uint8Array) => signEd25519(credential.signingSeed, bytes) },
      nameTag: { value: (plain: string) => keyring.nameTag(plain) },
      machineKey: { value: (machineId: MachineId) => keyring.machineKey(machineId) },
      agent: { value: undefined },
    }) as AgentKeyring;
    return { ...agent.core, keyring: forged };
  }

  async function putForged(
    credential: EnrolledAgent['credential'],
    what: { machineId: MachineId; n: number; root: DiskRoot },
  ): Promise<void> {
    const { machineId, n, root } = what;
    const own = new AgentKeyring(file.credential, 'stolen');
    const { certificate, signingSeed } = credential;
    const publicKey = publicPart('ed25519', signingSeed);
    const keyring = Object.create(own, {
      agent: { value: { ...own.agent, publicKey } },
      tenantId: { value: credential.tenantId },
      // He has no key of another machine, and makes one up.
      machineKey: { value: () => own.machineKey(MACHINE) },
      signAsWriter: {
        value: (statement: Uint8Array) => ({
          signer: publicKey,
          signature: signEd25519(signingSeed, certifiedStatement(statement, certificate)),
          certificate,
        }),
      },
    }) as AgentKeyring;
    const core = { ...agent.core, keyring };
    const body = { machine: {}, capture: {}, disks: [{ name: 'vda', root, info: null }], files: [] };
    const session = await begin(agent);
    const input = { ...body, machineId, pointId: pointId(n), sessionId: session.sessionId };
    await putPoint(core, { machineId, pointId: pointId(n), object: await encodePoint(core, input) });
  }
});

function withoutPoints(over: MemoryStore): MemoryStore {
  const copy = new MemoryStore();
  copy.putIfAbsent = (...args) => over.putIfAbsent(...args);
  return copy;
}

describe('a certificate', () => {
  test('ends: no session begins, none commits, and what was made before stays', async () => {
    await backUp(agent, 1, noisyDisk(5));
    const session = await begin(agent);
    const { root } = await write(session, noisyDisk(5, 2));
    clock.pass(VALID_MS);
    await expect(commit(session, 2, root)).rejects.toMatchObject({ code: 'repository.agent-expired' });
    await expect(begin(agent)).rejects.toMatchObject({ code: 'repository.agent-expired' });
    expect(await listed(tenant)).toEqual([[pointId(1), 'readable']]);
    expect(await tenant.agents.list()).toMatchObject([{ name: 'host', state: 'expired' }]);
  });

  test('is no good for a point that says it was made outside of its time', async () => {
    const session = await begin(agent);
    const { root } = await write(session, noisyDisk(5));
    const body = { machine: {}, capture: {}, disks: [{ name: 'vda', root, info: null }], files: [] };
    for (const [n, ms] of [
      [1, -1],
      [2, VALID_MS + 1],
    ] as const) {
      const core = { ...agent.core, clock: new SetClock(Date.UTC(2026, 0, 1) + ms) };
      const input = { ...body, machineId: MACHINE, pointId: pointId(n), sessionId: session.sessionId };
      await putPoint(core, { machineId: MACHINE, pointId: pointId(n), object: await encodePoint(core, input) });
      await expect(tenant.readPoint(MACHINE, pointId(n))).rejects.toMatchObject({
        code: 'repository.point-damaged',
        message: expect.stringContaining('is certified from 2026-01-01') as string,
      });
    }
  });

  test('is for machines that are named, and one name is for one agent', async () => {
    const enrol = (name: string, machines: readonly MachineId[]) =>
      tenant.agents.enrol({ name, machines, validMs: VALID_MS });
    await expect(enrol('host', [MACHINE])).rejects.toMatchObject({ code: 'repository.agent-exists' });
    await expect(enrol('none', [])).rejects.toMatchObject({ code: 'input.invalid' });
    const { agent: made } = await enrol('both', [OTHER, MACHINE, OTHER]);
    expect(made).toMatchObject({ state: 'active', machines: [MACHINE, OTHER], issuedBy: 'first' });
    await tenant.agents.revoke({ agent: 'host', reason: 'sold' });
    await enrol('host', [MACHINE]);
    expect((await tenant.agents.list()).map(({ name, state }) => [name, state])).toEqual([
      ['both', 'active'],
      ['host', 'revoked'],
      ['host', 'active'],
    ]);
    await expect(tenant.agents.revoke({ agent: 'nobody', reason: '' })).rejects.toMatchObject({
      code: 'repository.agent-missing',
    });
  });
});

describe('a revocation', () => {
  const revoke = () => tenant.agents.revoke({ agent: 'host', reason: 'stolen' });

  test('leaves the points that are there, and refuses those after it: in the middle of a backup', async () => {
    const first = await backUp(agent, 1, noisyDisk(5));
    const session = await begin(agent);
    const { root } = await write(session, noisyDisk(5, 2));
    expect(await revoke()).toMatchObject({ state: 'revoked', acceptedPoints: 1, revocation: { reason: 'stolen' } });
    await expect(commit(session, 2, root)).rejects.toMatchObject({ code: 'repository.agent-revoked' });
    await expect(begin(agent)).rejects.toMatchObject({ code: 'repository.agent-revoked' });
    expect(await listed(tenant)).toEqual([[pointId(1), 'readable']]);
    // Another one goes on where it was.
    const next = await openAgentTiny(store, (await enrolled(tenant, scratch)).path, { clock });
    const { stats } = await backUp(next, 3, noisyDisk(5), { request: { parent: first.root } });
    expect(stats).toMatchObject({ newChunks: 0 });
  });

  test('that is written while the commit is on its way: the point does not count, its maker hears of it, nothing is lost', async () => {
    const session = await begin(agent);
    const { root } = await write(session, noisyDisk(5));
    store.beforePut = async (name) => {
      if (name.startsWith(POINTS)) await revoke();
    };
    const committed = commit(session, 1, root);
    await expect(committed).rejects.toMatchObject({ code: 'repository.agent-revoked' });
    expect(await listed(tenant)).toEqual([[pointId(1), 'repository.agent-revoked']]);
    await expect(tenant.readPoint(MACHINE, pointId(1))).rejects.toMatchObject({
      code: 'repository.agent-revoked',
      message: expect.stringContaining('agent host') as string,
    });
    // No parent either, and nothing is collected for it until a person says so.
    const next = await begin(tenant);
    await expect(write(next, noisyDisk(5), { parent: root })).rejects.toMatchObject({ code: 'repository.parent-gone' });
    await next.abandon();
    expect(await tenant.condemn()).toMatchObject({ points: 1 });
    await tenant.sweep({ graceMs: 0 });
    const packs = (): string[] => [...store.objects.keys()].filter((name) => name.startsWith(PACKS));
    expect(store.deleted.filter((name) => name.startsWith('data/'))).toEqual([]);
    expect(packs().length).toBeGreaterThan(0);
    await buryPoint(tenant.core, { machineId: MACHINE, pointId: pointId(1), by: 'a person', reason: 'not trusted' });
    expect(await tenant.condemn()).toMatchObject({ state: 'published' });
    expect(await tenant.sweep({ graceMs: 0 })).toMatchObject({ state: 'swept' });
    expect(packs()).toEqual([]);
  });

  test('that begins when the point is there already names it: both sides say that it counts', async () => {
    const session = await begin(agent);
    const { root } = await write(session, noisyDisk(5));
    store.afterPut = async (name) => {
      if (name.startsWith(POINTS)) await revoke();
    };
    await commit(session, 1, root);
    expect(await listed(tenant)).toEqual([[pointId(1), 'readable']]);
  });

  test('counts a point that came between its two listings', async () => {
    const session = await begin(agent);
    const { root } = await write(session, noisyDisk(5));
    let commits: Promise<unknown> | undefined;
    store.beforePut = async (name) => {
      // The first listing is over; no revocation is there yet.
      if (name.includes('/revoked-') && !commits) {
        store.beforePut = undefined;
        commits = commit(session, 1, root);
        await commits;
      }
    };
    expect(await revoke()).toMatchObject({ acceptedPoints: 1 });
    expect(await listed(tenant)).toEqual([[pointId(1), 'readable']]);
  });

  test('may be repeated, and changes nothing then', async () => {
    await backUp(agent, 1, noisyDisk(5));
    const first = await revoke();
    const thief = { ...agent.core, clock };
    const session = await begin(tenant);
    const body = { machine: {}, capture: {}, disks: [], files: [] };
    const input = { ...body, machineId: MACHINE, pointId: pointId(2), sessionId: session.sessionId };
    await putPoint(thief, { machineId: MACHINE, pointId: pointId(2), object: await encodePoint(thief, input) });
    expect(await revoke()).toEqual(first);
    expect(await listed(tenant)).toEqual([
      [pointId(1), 'readable'],
      [pointId(2), 'repository.agent-revoked'],
    ]);
  });

  test('that cannot be read means that nobody knows: nothing of the agent counts until it is back, or said again', async () => {
    await backUp(agent, 1, noisyDisk(5));
    await revoke();
    const revocations = [...store.objects].filter(([name]) => name.includes('/revoked-'));
    expect(revocations).toHaveLength(2);
    const [one, two] = revocations;
    if (!one || !two) throw new TypeError('there are two');
    // Either of the two is enough.
    store.objects.set(one[0], one[1].slice(0, 40));
    expect(await listed(tenant)).toEqual([[pointId(1), 'readable']]);
    store.objects.set(two[0], two[1].slice(0, 40));
    expect(await listed(tenant)).toEqual([[pointId(1), 'repository.agent-revoked']]);
    expect(await tenant.condemn()).toMatchObject({ points: 1, deadPacks: 0 });
    await revoke();
    expect(await listed(tenant)).toEqual([[pointId(1), 'readable']]);
  });

  test('that was stopped half-way is finished when it is repeated, and then holds', async () => {
    await backUp(agent, 1, noisyDisk(5));
    await backUp(agent, 2, noisyDisk(5));
    const take = (n: number): (() => void) => {
      const name = pointObject(MACHINE, pointId(n));
      const object = store.objects.get(name) ?? new Uint8Array(0);
      store.objects.delete(name);
      return () => void store.objects.set(name, object);
    };
    const [putFirst, putSecond] = [take(1), take(2)];
    await revoke();
    const [, second = ''] = [...store.objects.keys()].filter((name) =>
      name.startsWith(`${AGENTS}${file.agentId}/revoked-`),
    );
    store.objects.delete(second);
    // It was there before who was stopped could list once more, and its agent saw no revocation.
    putFirst();
    expect(await listed(tenant)).toEqual([[pointId(1), 'repository.agent-revoked']]);
    await revoke();
    expect(await listed(tenant)).toEqual([[pointId(1), 'readable']]);
    putSecond();
    await revoke();
    expect(await listed(tenant)).toEqual([
      [pointId(1), 'readable'],
      [pointId(2), 'repository.agent-revoked'],
    ]);
  });

  test('of a stranger, or of the agent itself, is none', async () => {
    await backUp(agent, 1, noisyDisk(5));
    const prefix = `${AGENTS}${file.agentId}/revoked-0123456789abcdef`;
    store.objects.set(`${prefix}.${'0'.repeat(32)}`, Buffer.from('x'));
    store.objects.set(prefix, Buffer.from('x'));
    expect(await listed(tenant)).toEqual([[pointId(1), 'readable']]);
    await expect(async () => agent.agents.revoke({ agent: 'host', reason: '' })).rejects.toMatchObject({
      code: 'repository.not-permitted',
    });
  });

  test('needs no certificate in the store', async () => {
    await backUp(agent, 1, noisyDisk(5));
    store.objects.delete(controlName(tenant.core, certificateObject(file.agentId)));
    expect(await tenant.agents.list()).toEqual([]);
    expect(await tenant.agents.revoke({ agent: file.agentId, reason: 'stolen' })).toMatchObject({
      state: 'revoked',
      acceptedPoints: 1,
    });
    await expect(begin(agent)).rejects.toMatchObject({ code: 'repository.agent-revoked' });
  });

  test('stops a reader whose listing fails', async () => {
    await backUp(agent, 1, noisyDisk(5));
    const list = store.list.bind(store);
    store.list = (prefix) => {
      if (prefix.startsWith(AGENTS)) throw new LifeboatError('repository.store-unreachable', 'gone');
      return list(prefix);
    };
    for (const ask of [() => tenant.points(), () => tenant.readPoint(MACHINE, pointId(1))])
      await expect(ask()).rejects.toMatchObject({ code: 'repository.store-unreachable' });
  });
});

describe('the file of an agent', () => {
  const unusable = { code: 'repository.agent-file-unusable' };
  const saved = (content: Uint8Array): string => {
    const path = scratch.file(content);
    chmodSync(path, 0o600);
    return path;
  };

  test('is for one user, one repository and one tenant', async () => {
    chmodSync(file.path, 0o640);
    await expect(openAgentTiny(store, file.path)).rejects.toMatchObject(unusable);
    chmodSync(file.path, 0o600);
    await expect(openAgentTiny(store, `${file.path}-not`)).rejects.toMatchObject(unusable);
    const stranger = new MemoryStore();
    await initTiny(stranger);
    await expect(openAgentTiny(stranger, file.path)).rejects.toMatchObject(unusable);
    const secret = { agentFile: file.path };
    await expect(openRepository({ store, secret, tenant: 'another' })).rejects.toMatchObject(unusable);
    expect((await openRepository({ store, secret, tenant: 'default' })).tenantName).toBe('default');
  });

  test('whose keys are not those of its certificate is refused', async () => {
    const { credential } = file;
    const second = await enrolled(tenant, scratch, { name: 'second', machines: [OTHER] });
    const mixed = [
      { ...credential, signingSeed: second.credential.signingSeed },
      { ...credential, certificate: second.credential.certificate },
      { ...credential, machines: second.credential.machines },
      { ...credential, signer: second.credential.signingSeed },
      { ...credential, tenantId: Buffer.alloc(16) },
    ];
    for (const each of mixed)
      await expect(openAgentTiny(store, saved(encodeAgentCredential(each)))).rejects.toMatchObject(unusable);
  });

  test('that is cut short, or changed in any bit, is refused', async () => {
    const whole = readFileSync(file.path);
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length * 8 - 1), fc.boolean(), async (bit, cut) => {
        const changed = Buffer.from(whole);
        changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        const path = saved(cut ? whole.subarray(0, bit >> 3) : changed);
        const code = await openAgentTiny(store, path).catch(codeOf);
        expect(['repository.agent-file-unusable', 'repository.newer-version']).toContain(code);
      }),
      { numRuns: 60 },
    );
  });
});
