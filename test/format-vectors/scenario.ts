/**
 * The life of a tiny repository, through the writers that production uses, with fixed clock and randomness. Every type of object and
 * file the format knows comes from it; a new type needs a step here that makes one.
 *
 * ```
 *   init ─► a way in of each kind ─► web: two points, the keys rotated in between ─► db: two points, the first pruned (each linked)
 *     ─► policy, hold, guard, requests ─► machine records ─► a session that hangs ─► condemn, sweep: fence and outcome ─► a pack moved
 *     ─► web: third point, what was proven of it, and a check within a budget ─► db: damage reported, and healed by the third point ─► second tenant
 *     ─► an agent backs mail up, and heals ─► keys of its newest point are handed out ─► it is revoked ─► a session that is still open
 * ```
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseMachineId, parsePointId, type MachineId, type PointId } from '@lifeboat/foundation/ids';
import { condemn } from '@lifeboat/repository/collect/condemn';
import { sweep } from '@lifeboat/repository/collect/sweep';
import { buryPoint } from '@lifeboat/repository/collect/tombstones';
import type { Core } from '@lifeboat/repository/core';
import { sha256 } from '@lifeboat/repository/format/frame';
import { packOfObject, PACKS, type PackName } from '@lifeboat/repository/format/names';
import { decodePackHeader, kindOf } from '@lifeboat/repository/format/pack';
import type { DiskRoot } from '@lifeboat/repository/format/point';
import { inlineOpener } from '@lifeboat/repository/read/blob-opener';
import {
  addTenant,
  initRepository,
  openRepository,
  type Repository,
  type RepositoryDeps,
} from '@lifeboat/repository/repository';
import type { Compression } from '@lifeboat/repository/seal/codec';
import { DirectoryKms } from '@lifeboat/repository/seal/kms-directory';
import { MemoryStore } from '@lifeboat/repository/store/memory-store';
import { noise } from '@lifeboat/repository/testing/disks';
import { fileSource } from '@lifeboat/repository/testing/file-source';
import { movePack } from '@lifeboat/repository/testing/move-pack';
import { CHEAP_SCRYPT, TINY_CHUNK, TINY_GEOMETRY, TINY_LIMITS } from '@lifeboat/repository/testing/tiny';
import { inlineSealer } from '@lifeboat/repository/write/inline-sealer';
import { WriterSession } from '@lifeboat/repository/write/session';
import { FixedClock, fixedRandom } from './fixed.ts';

export const PASSPHRASE = 'correct horse';
export const SECOND_PASSPHRASE = 'battery staple';
export const SECOND_TENANT = 'second';
export const KMS_KEY = 'k1';
export const WEB = parseMachineId('web');
const DB = parseMachineId('db');
const MAIL = parseMachineId('mail');
export const AGENT_FILE = 'mail.agent';
export const POINT_KEYS_FILE = 'mail.keys';
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const signal = new AbortController().signal;

const text = (words: string): Buffer => Buffer.alloc(TINY_CHUNK, words);
const nothing = Buffer.alloc(TINY_CHUNK);
const webDisk = (changed: number): Buffer =>
  Buffer.concat([
    noise(1),
    noise(changed),
    text('text that compresses '),
    nothing,
    noise(3),
    noise(4),
    noise(5).subarray(0, 10),
  ]);
const dbDisk = (n: number): Buffer => Buffer.concat([noise(100 + n), noise(200 + n), text('log '), nothing]);

export interface StoredDisk {
  readonly tenant: string;
  readonly machineId: MachineId;
  readonly pointId: PointId;
  readonly disk: string;
  readonly content: Buffer;
}

export interface Outcome {
  /** By name. */
  readonly objects: ReadonlyMap<string, Uint8Array>;
  /** Session files, key files and what was typed from paper, by where they belong. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** What the repository must give back. */
  readonly disks: readonly StoredDisk[];
  /** A data pack that lies elsewhere as well. */
  readonly movedPack: PackName;
}

/** `scratch` is an empty directory; everything that is kept is returned. */
export async function runScenario(compression: Compression, scratch: string): Promise<Outcome> {
  const scenario = new Scenario(compression, scratch);
  return scenario.run();
}

class Scenario {
  readonly #clock = new FixedClock();
  readonly #store = new MemoryStore({ clock: this.#clock });
  readonly #random = fixedRandom();
  #disks: StoredDisk[] = [];
  readonly #compression: Compression;
  readonly #scratch: string;
  readonly #deps: RepositoryDeps;
  #sources = 0;

  constructor(compression: Compression, scratch: string) {
    this.#compression = compression;
    this.#scratch = scratch;
    this.#deps = {
      clock: this.#clock,
      random: this.#random,
      // One lane: what is drawn, and in which order packs are filled, must not depend on who is faster.
      sealer: inlineSealer({ compression, laneCount: 1 }),
      opener: inlineOpener(compression),
      writerLimits: TINY_LIMITS,
    };
  }

  async run(): Promise<Outcome> {
    const first = await initRepository({
      store: this.#store,
      secret: { passphrase: PASSPHRASE },
      chunkSizeBytes: TINY_CHUNK,
      geometry: TINY_GEOMETRY,
      scryptCost: CHEAP_SCRYPT,
      deps: this.#deps,
    });
    await this.#addWaysIn(first);

    const root = await this.#backUp(first, { machineId: WEB, n: 1, content: webDisk(2) });
    await first.keys.rotate();
    const rotated = await this.#reopened(first);
    const next = await this.#backUp(rotated, { machineId: WEB, n: 2, content: webDisk(12), parent: root });

    await this.#backUp(rotated, { machineId: DB, n: 3, content: dbDisk(1) });
    const dbRoot = await this.#backUp(rotated, { machineId: DB, n: 4, content: dbDisk(2) });
    const core = this.#core(rotated);
    await buryPoint(core, { machineId: DB, pointId: pointIdOf(3), by: 'the scenario', reason: 'older than the rest' });
    this.#disks = this.#disks.filter(({ pointId }) => pointId !== pointIdOf(3));

    await this.#keepLedger(rotated);
    await this.#keepObjects(rotated);
    const hanging = await this.#begin(rotated, DB, this.#directory('hanging'));
    await hanging.detach();
    await condemn(core);
    this.#clock.pass(8 * DAY_MS);
    await sweep(core);

    const movedPack = await this.#move(core);
    await this.#backUp(rotated, { machineId: WEB, n: 5, content: webDisk(22), parent: next });
    await this.#prove(rotated, 5);
    await this.#reportDamage(rotated, dbRoot);
    await this.#backUp(rotated, { machineId: DB, n: 7, content: dbDisk(2), parent: dbRoot });

    const second = await addTenant({
      store: this.#store,
      secret: { passphrase: SECOND_PASSPHRASE },
      tenantName: SECOND_TENANT,
      scryptCost: CHEAP_SCRYPT,
      deps: this.#deps,
    });
    await this.#backUp(second, { machineId: WEB, n: 6, content: webDisk(2) });

    await this.#backUpByAgent(rotated);
    const open = await this.#begin(rotated, WEB, this.#directory('operation'));
    await this.#writeDisk(open, 'vda', webDisk(32));
    await open.detach();
    return { objects: this.#store.objects, files: this.#files(), disks: this.#disks, movedPack };
  }

  async #backUpByAgent(tenant: Repository): Promise<void> {
    const validMs = 30 * DAY_MS;
    const { credential } = await tenant.agents.enrol({ name: 'mail host', machines: [MAIL], validMs });
    const agentFile = join(this.#scratch, AGENT_FILE);
    writeFileSync(agentFile, credential, { mode: 0o600 });
    const agent = await openRepository({ store: this.#store, secret: { agentFile }, deps: this.#deps });
    const content = Buffer.concat([noise(300), noise(1), text('mail '), nothing]);
    const parent = await this.#backUp(agent, { machineId: MAIL, n: 8, content });
    await this.#reportDamage(tenant, parent);
    await this.#backUp(agent, { machineId: MAIL, n: 9, content, parent });
    const keys = await tenant.grant([{ machineId: MAIL, pointId: pointIdOf(9) }]);
    writeFileSync(join(this.#scratch, POINT_KEYS_FILE), keys, { mode: 0o600 });
    await tenant.agents.revoke({ agent: 'mail host', reason: 'the host was sold' });
  }

  async #addWaysIn(repository: Repository): Promise<void> {
    const { keys } = repository;
    await keys.add({ secret: { keyFile: join(this.#scratch, 'repository.key') }, label: 'this host' });
    const kms = new DirectoryKms(this.#directory('kms'), this.#random);
    await kms.createKey(KMS_KEY);
    await keys.add({ secret: { kms, keyRef: KMS_KEY }, label: 'vault' });
    const { lines } = await keys.print({ label: 'safe' });
    writeFileSync(join(this.#scratch, 'paper.txt'), `${lines.join('\n')}\n`);
  }

  /** Every kind of step, and the acts that need nothing to be lost. */
  async #keepLedger({ retention }: Repository): Promise<void> {
    const reason = 'because the scenario says so';
    const zone = 'Europe/Berlin';
    const policy = { last: 3, hourly: 0, daily: 7, weekly: 4, monthly: 12, yearly: 2, zone };
    await retention.perform({ act: { kind: 'policy', policy }, reason });
    await retention.perform({ act: { kind: 'policy', machineId: WEB, policy: { ...policy, last: 9 } }, reason });
    await retention.perform({ act: { kind: 'hold', machineId: WEB, pointId: pointIdOf(1) }, reason });
    const { entry: hold = 0 } = await retention.perform({ act: { kind: 'hold', machineId: DB }, reason });
    await retention.perform({ act: { kind: 'guard', guard: { fourEyes: true, delayMs: MINUTE_MS } }, reason });
    const lift = async (): Promise<number> =>
      (await retention.perform({ act: { kind: 'lift', hold }, reason })).entry ?? 0;
    await retention.withdraw({ request: await lift(), reason });
    const request = await lift();
    const secret = { keyFile: join(this.#scratch, 'repository.key') };
    const other = await openRepository({ store: this.#store, secret, deps: this.#deps });
    this.#clock.pass(MINUTE_MS);
    await other.retention.approve({ request, reason });
    this.#clock.pass(2 * MINUTE_MS);
    await other.retention.carryOutDue();
  }

  /** Two records, so that one follows the other; and what a check remembers. */
  async #prove(repository: Repository, n: number): Promise<void> {
    const pointId = pointIdOf(n);
    const evidence = { operationId: 'boot-1', hostId: 'host-1', beganMs: this.#clock.nowMs(), readBytes: 4096 };
    await repository.appendEvidence(WEB, {
      ...evidence,
      operation: 'check',
      endedMs: this.#clock.nowMs(),
      claims: [
        { pointId, level: 'stored', result: 'proven', disks: [], reason: '' },
        { pointId, level: 'content', result: 'failed', disks: ['vda'], reason: 'a chunk does not open' },
      ],
      artefacts: [],
      hardware: '',
      summary: '',
    });
    this.#clock.pass(MINUTE_MS);
    await repository.appendEvidence(WEB, {
      ...evidence,
      operation: 'boot-test',
      endedMs: this.#clock.nowMs(),
      claims: [{ pointId, level: 'booted', result: 'proven', disks: [], reason: '' }],
      artefacts: [{ name: 'console.log', sizeBytes: 3, sha256: sha256(Buffer.from('abc')) }],
      hardware: 'nvme',
      summary: 'it was ready after 12 s',
    });
    const budget = { bytes: 4 * TINY_LIMITS.packBytes };
    const context = { signal, progress: () => {} };
    await repository.checkWithin({ level: 'content', budget, damaged: () => Promise.resolve() }, context);
  }

  /** A machine that was given another name, and one that was deleted. */
  async #keepObjects(repository: Repository): Promise<void> {
    const profile = (name: string): Buffer =>
      Buffer.from(JSON.stringify({ name, connection: 'qemu:///system', domainUuid: name, firmware: 'uefi' }));
    for (const [id, name] of [
      [WEB, 'web'],
      [WEB, 'web-2'],
      [DB, 'db'],
    ] as const)
      await repository.writeObject({ kind: 'machine', id }, () => ({ schema: 'machine/1', payload: profile(name) }));
    await repository.writeObject({ kind: 'machine', id: DB }, () => 'delete');
  }

  /** A chunk of the disk that is whole: what is stored of it anew serves as well as it does. */
  async #reportDamage(repository: Repository, root: DiskRoot): Promise<void> {
    if (typeof root.map === 'string') throw new TypeError('the disk holds something');
    const { places } = await repository.core.pages.map(root.map, { level: 0, index: 0 });
    const chunks = places.filter((place) => typeof place !== 'string').slice(0, 1);
    await repository.reportDamage({ packs: [], chunks, pages: [] });
  }

  async #backUp(
    repository: Repository,
    input: { machineId: MachineId; n: number; content: Buffer; parent?: DiskRoot },
  ): Promise<DiskRoot> {
    const { machineId, n, content, parent } = input;
    const pointId = pointIdOf(n);
    const session = await this.#begin(repository, machineId, this.#directory(n === 5 ? 'operation' : `backup-${n}`));
    const root = await this.#writeDisk(session, 'vda', content, parent);
    const empty = await this.#writeDisk(session, 'vdb', Buffer.alloc(2 * TINY_CHUNK));
    await session.commit({
      pointId,
      machine: { name: machineId, firmware: 'uefi' },
      capture: { consistency: 'crash', points: n },
      disks: [
        { name: 'vda', root, info: { bus: 'virtio' } },
        { name: 'vdb', root: empty },
      ],
      files: [{ name: 'domain.xml', content: Buffer.from(`<domain><name>${machineId}</name></domain>`) }],
    });
    await repository.linkPoints(machineId);
    const what = { tenant: repository.tenantName, machineId, pointId };
    this.#disks.push(
      { ...what, disk: 'vda', content },
      { ...what, disk: 'vdb', content: Buffer.alloc(2 * TINY_CHUNK) },
    );
    this.#clock.pass(MINUTE_MS);
    return root;
  }

  #begin(repository: Repository, machineId: MachineId, directory: string): Promise<WriterSession> {
    const { sealer, writerLimits: limits } = this.#deps;
    if (!sealer || !limits) throw new TypeError('the scenario has both');
    return WriterSession.begin(this.#core(repository), { machineId, directory }, { sealer, limits });
  }

  async #writeDisk(session: WriterSession, name: string, content: Buffer, parent?: DiskRoot): Promise<DiskRoot> {
    const path = join(this.#scratch, `source-${this.#sources++}`);
    writeFileSync(path, content);
    const request = { name, sizeBytes: content.length, source: fileSource(path), changed: 'all' } as const;
    const { root } = await session.writeDisk({ ...request, ...(parent ? { parent } : {}) }, { signal });
    return root;
  }

  /** The data pack of the first point that holds nothing compressed: noise, which every release of zstd leaves alone. */
  async #move(core: Core): Promise<PackName> {
    for await (const { name } of core.store.list(PACKS)) {
      const pack = packOfObject(name);
      const object = this.#store.objects.get(name);
      if (!pack || !object || kindOf(decodePackHeader(object, name).header) !== 'data') continue;
      await movePack({ core }, pack, { relocationId: 'r1', compression: this.#compression });
      return pack;
    }
    throw new TypeError('the scenario made a data pack');
  }

  /** Pages and points are compressed as the chunks are. */
  #core({ core }: Repository): Core {
    return { ...core, zstd: () => this.#compression };
  }

  async #reopened(repository: Repository): Promise<Repository> {
    await repository.close();
    return openRepository({ store: this.#store, secret: { passphrase: PASSPHRASE }, deps: this.#deps });
  }

  #directory(name: string): string {
    const path = join(this.#scratch, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  #files(): Map<string, Uint8Array> {
    const files = new Map<string, Uint8Array>();
    for (const name of ['repository.key', 'paper.txt', `kms/${KMS_KEY}`, AGENT_FILE, POINT_KEYS_FILE]) {
      files.set(name, readFileSync(join(this.#scratch, name)));
    }
    for (const name of readdirSync(join(this.#scratch, 'operation')).toSorted()) {
      files.set(`operation/${name}`, readFileSync(join(this.#scratch, 'operation', name)));
    }
    return files;
  }
}

function pointIdOf(n: number): PointId {
  return parsePointId(`p20260101T00000${n}Z-0000000${n}`);
}
