/**
 * A repository: recovery points of machines, encrypted and deduplicated, in an object store. docs/format.md is its specification.
 */

import { join } from 'node:path';

import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { systemClock, type Clock } from '@lifeboat/foundation/clock';
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId, PointId } from '@lifeboat/foundation/ids';
import { silentLog, type Log } from '@lifeboat/foundation/log';
import { systemRandom, type Random } from '@lifeboat/foundation/random';
import type { ProgressSink, VerbContext } from '@lifeboat/foundation/progress';

import { judgeChains, readChains, type ChainFinding, type CheckedChains } from './chain/chain-check.ts';
import { linkEveryPoint, linkPoints, type LinkedPoint, type LinkReport } from './chain/link-points.ts';
import { TailFiles, type TailMemory } from './chain/tail-memory.ts';
import { reportDamage, type Damage } from './check/damage-reports.ts';
import { CheckMemory } from './check/check-memory.ts';
import { checkPoint, type CheckReport } from './check/point-check.ts';
import { VerificationLog } from './check/verification-log.ts';
import { verificationPass, type PassReport } from './check/verification-pass.ts';
import { DEFAULT_COMPACTION, type CompactionLimits } from './collect/compaction-plan.ts';
import { condemn, type CondemnReport } from './collect/condemn.ts';
import { SAFETY_RULES } from './collect/rules.ts';
import { sweep, type SweepReport } from './collect/sweep.ts';
import type { Core } from './core.ts';
import { appendEvidence, readEvidence, type EvidenceChain } from './evidence/chain.ts';
import type { Evidence } from './format/evidence.ts';
import { sha256 } from './format/frame.ts';
import { DEFAULT_CHUNK_BYTES, DEFAULT_GEOMETRY, MAX_SUPERBLOCK_BYTES } from './format/limits.ts';
import { hex, PROBES, SUPERBLOCK } from './format/names.ts';
import type { CheckLevel } from './format/verification.ts';
import { decodeSuperblock, encodeSuperblock, type Geometry, type Superblock } from './format/superblock.ts';
import {
  openAgent,
  openWithPointKeys,
  type AgentAccess,
  type AgentSecret,
  type PointKeysSecret,
} from './agents/agent-file.ts';
import { grantPoints, type GrantedPoint } from './agents/grant.ts';
import { Agents } from './agents/agents.ts';
import {
  listObjects,
  writeObject,
  type ControlObject,
  type ObjectKey,
  type ObjectState,
} from './objects/control-objects.ts';
import { checkObjects, type ObjectFinding } from './objects/object-check.ts';
import type { BlobOpener } from './read/blob-opener.ts';
import { BlobReader } from './read/blob-reader.ts';
import { checkLocks, type LockReport } from './lock/lock-check.ts';
import { extendLocks, type ExtensionReport } from './lock/lock-extension.ts';
import type { LockPolicy } from './lock/lock-policy.ts';
import { DiskReader } from './read/disk-reader.ts';
import { MapReader } from './read/map-reader.ts';
import { PageReader } from './read/page-reader.ts';
import { listPoints, newestReadable, readPoint, type Point, type PointSummary } from './read/point-reader.ts';
import { Relocations } from './read/relocations.ts';
import { threadOpener } from './read/thread-opener.ts';
import { Retention } from './retention/retention.ts';
import { CurrentKeys } from './seal/current-keys.ts';
import {
  listTenants,
  readNewestSet,
  removeOlderSets,
  unlock,
  type OpenedSlot,
  type Unlocked,
} from './seal/key-store.ts';
import { newKeyBundle, TenantKeyring } from './seal/keyring.ts';
import { assertPaperOf } from './seal/paper.ts';
import { zstd } from './seal/codec.ts';
import { secretBytes, type Cost, type Secret, type SecretBytes } from './seal/secret.ts';
import { RepositoryKeys, writeFirstKeySet } from './seal/repository-keys.ts';
import { probeStore } from './store/capabilities.ts';
import type { ObjectStore, StoreOptions } from './store/object-store.ts';
import { OverlayStore } from './store/overlay-store.ts';
import { TenantStore } from './store/tenant-store.ts';
import { defaultWriterLimits, type WriterLimits } from './write/limits.ts';
import type { Sealer } from './write/sealer.ts';
import { WriterSession, type BeginSession } from './write/session.ts';
import { threadSealer } from './write/thread-sealer.ts';

export interface RepositoryDeps {
  readonly clock?: Clock;
  readonly random?: Random;
  readonly log?: Log;
  /** Where reading, compressing and encrypting of a backup runs: threads, unless a test says otherwise. */
  readonly sealer?: Sealer;
  /** Where decrypting and decompressing runs when a point is read: threads, unless a test says otherwise. */
  readonly opener?: BlobOpener;
  /** Where the local indexes of this host lie, each in a directory of its own; without one the index is held in memory. */
  readonly indexDirectory?: string;
  /** Where this host remembers the ends of chains, each tenant in a directory of its own; without one it remembers none. */
  readonly chainDirectory?: string;
  /** Memory of a writer; production never sets this. */
  readonly writerLimits?: WriterLimits;
}

export interface InitOptions {
  readonly store: ObjectStore;
  /** A key file that does not exist is made, mode 0600. */
  readonly secret: Secret;
  /** What the first way in and the first tenant are called. */
  readonly label?: string;
  readonly tenantName?: string;
  /** Power of two, 64 B to 4 MiB; fixed for the life of the repository. Default 1 MiB. */
  readonly chunkSizeBytes?: number;
  readonly deps?: RepositoryDeps;
  /** Page sizes and passphrase cost; production never sets these. */
  readonly geometry?: Geometry;
  readonly scryptCost?: Cost;
}

export interface OpenOptions {
  readonly store: ObjectStore;
  /** The file of an agent, or with keys of points, opens what these may do: everything else throws `repository.not-permitted`. */
  readonly secret: Secret | AgentSecret | PointKeysSecret;
  /** Name or id. Default: the tenant the secret opens. */
  readonly tenant?: string;
  readonly deps?: RepositoryDeps;
}

export interface AddTenantOptions extends Pick<InitOptions, 'store' | 'secret' | 'label' | 'deps' | 'scryptCost'> {
  readonly tenantName: string;
}

/**
 * Makes a repository in an empty store and opens it. The superblock is written last: until then there is none.
 * Errors: `repository.already-exists`, `repository.key-file-unusable`, `repository.limit-exceeded`, `repository.store-unsupported` for a
 * store in which two can create one object, those of the store.
 */
export async function initRepository(options: InitOptions): Promise<Repository> {
  const { store, deps = {} } = options;
  const random = deps.random ?? systemRandom;
  const createdMs = (deps.clock ?? systemClock).nowMs();
  for await (const { name } of store.list('')) {
    // Of an attempt that was killed while it looked what the store can do.
    if (Object.values(PROBES).some((prefix) => name.startsWith(prefix))) continue;
    throw new LifeboatError('repository.already-exists', `${store.description} is not empty: it holds ${name}`, {
      context: { object: name },
    });
  }
  const superblock: Superblock = {
    repositoryId: random.bytes(16),
    tenantId: random.bytes(16),
    createdMs,
    chunkSizeBytes: options.chunkSizeBytes ?? DEFAULT_CHUNK_BYTES,
    ...(options.geometry ?? DEFAULT_GEOMETRY),
    capabilities: await probeStore(store, random),
  };
  const object = encodeSuperblock(superblock);
  const superblockHash = sha256(object);
  const secret = await firstSecret(options.secret, random);
  const bundle = newKeyBundle(superblock.tenantId, random);
  const unlocked = await writeFirstKeySet({ ...options, secret, bundle, superblockHash, random, createdMs });
  if ((await store.putIfAbsent(SUPERBLOCK, [object])) === 'exists') {
    // Bound to a superblock that never came to be, the key set opens nothing.
    await removeOlderSets(store, { tenant: hex(superblock.tenantId), generation: unlocked.set.generation + 1 });
    throw new LifeboatError(
      'repository.already-exists',
      `${store.description}: another program made a repository there just now`,
    );
  }
  return new Repository({ store, superblock, superblockHash, access: { unlocked, secret }, deps });
}

/**
 * Opens a repository. Errors: `repository.not-a-repository`, `repository.newer-version`, `repository.wrong-passphrase`,
 * `repository.wrong-key-file`, `repository.key-file-unusable`, `repository.wrong-paper`, `repository.paper-unusable`, `repository.kms-refused`, `repository.kms-unreachable`,
 * `repository.tenant-missing`, `repository.agent-file-unusable`, `repository.object-damaged`, those of the store.
 */
export async function openRepository(options: OpenOptions): Promise<Repository> {
  const { store, tenant, deps = {} } = options;
  const { superblock, superblockHash } = await readSuperblock(store);
  if ('agentFile' in options.secret) {
    const access = await openAgent(store, { path: options.secret.agentFile, superblockHash, tenant });
    return new Repository({ store, superblock, superblockHash, access, deps });
  }
  if ('pointKeysFile' in options.secret) {
    const access = await openWithPointKeys(store, { path: options.secret.pointKeysFile, superblockHash });
    return new Repository({ store, superblock, superblockHash, access, deps });
  }
  const secret = await secretBytes(options.secret);
  assertPaperOf(secret, superblock.repositoryId);
  const first = hex(superblock.tenantId);
  const unlocked = await unlock(store, { secret, superblockHash, tenant, first, log: deps.log ?? silentLog });
  return new Repository({ store, superblock, superblockHash, access: { unlocked, secret }, deps });
}

/**
 * Makes a tenant in a repository that is there, and opens it: keys, points and chunks of its own, shared with nobody.
 * Errors: `repository.tenant-exists`, and those of `openRepository`.
 */
export async function addTenant(options: AddTenantOptions): Promise<Repository> {
  const { store, tenantName, deps = {} } = options;
  const random = deps.random ?? systemRandom;
  const { superblock, superblockHash } = await readSuperblock(store);
  for (const keys of await listTenants(store)) {
    if (keys.tenant === tenantName || (await readNewestSet(store, keys)).tenantName === tenantName) {
      throw new LifeboatError('repository.tenant-exists', `${store.description} has a tenant ${tenantName} already`);
    }
  }
  const secret = await firstSecret(options.secret, random);
  const bundle = newKeyBundle(random.bytes(16), random);
  const createdMs = (deps.clock ?? systemClock).nowMs();
  const unlocked = await writeFirstKeySet({ ...options, secret, bundle, superblockHash, random, createdMs });
  return new Repository({ store, superblock, superblockHash, access: { unlocked, secret }, deps });
}

/** What a new tenant begins with; a page can only be printed of keys that are there. */
async function firstSecret(secret: Secret, random: Random): Promise<SecretBytes> {
  if ('paperFile' in secret) {
    throw new LifeboatError(
      'input.invalid',
      'a printed page opens what it was printed for; new keys need another way in',
    );
  }
  return secretBytes(secret, random);
}

/** What a repository says of itself to whoever can read the store. Errors: `repository.not-a-repository`, `.newer-version`. */
export async function readSuperblock(
  store: ObjectStore,
): Promise<{ superblock: Superblock; superblockHash: Uint8Array }> {
  let object: Uint8Array;
  try {
    object = await store.get(SUPERBLOCK, { maxBytes: MAX_SUPERBLOCK_BYTES });
  } catch (error) {
    if (!hasCode(error, 'repository.object-missing', 'repository.store-unreachable')) throw error;
    throw new LifeboatError(
      'repository.not-a-repository',
      `${store.description} holds no repository: ${error.message}`,
      { cause: error },
    );
  }
  return {
    superblock: decodeSuperblock(object, `${SUPERBLOCK} in ${store.description}`),
    superblockHash: sha256(object),
  };
}

export interface CollectionRequest {
  readonly dryRun?: boolean;
  /** What is left out is as in `DEFAULT_COMPACTION`; undefined: packs are left as they are. */
  readonly compact?: Partial<CompactionLimits>;
  readonly progress?: ProgressSink;
}

/** How a tenant was opened that is not an agent's to open. */
interface TenantAccess {
  readonly unlocked: Unlocked;
  readonly secret: SecretBytes;
}

/** What only who opened the tenant itself may do. */
interface Administration {
  readonly keys: RepositoryKeys;
  readonly retention: Retention;
  readonly agents: Agents;
  readonly openedBy: OpenedSlot;
  readonly superblockHash: Uint8Array;
}

/** An open repository. Safe for concurrent use; sessions are independent of each other. */
export class Repository {
  /** For this package's own rooms and tests: it holds the keys. */
  readonly core: Core;
  readonly tenantName: string;
  readonly #deps: RepositoryDeps;
  readonly #tails: TailMemory | undefined;
  readonly #administration: Administration | undefined;

  /** Use `initRepository`, `openRepository` or `addTenant`. */
  constructor(input: {
    store: ObjectStore;
    superblock: Superblock;
    superblockHash: Uint8Array;
    access: TenantAccess | AgentAccess;
    deps: RepositoryDeps;
  }) {
    const { superblock, superblockHash, access, deps } = input;
    const { tenantId, tenantName, generation } = 'unlocked' in access ? access.unlocked.set : access.set;
    const isFirst = Buffer.compare(tenantId, superblock.tenantId) === 0;
    const store = isFirst ? input.store : new TenantStore(input.store, hex(tenantId));
    const { keyring, learn } = 'unlocked' in access ? this.#tenantKeys(access.unlocked) : access;
    this.tenantName = tenantName;
    const log = deps.log ?? silentLog;
    const relocations = new Relocations({ store, keyring, log });
    const current = new CurrentKeys({ store: input.store, tenant: hex(tenantId), generation, learn });
    const refreshKeys = (options?: StoreOptions): Promise<void> => current.refresh(options);
    const opener = deps.opener ?? threadOpener();
    const blobs = new BlobReader({ store, keyring, refreshKeys, relocations, opener });
    this.#deps = deps;
    this.core = {
      store,
      superblock,
      keyring,
      refreshKeys,
      blobs,
      pages: new PageReader(blobs, superblock),
      relocations,
      clock: deps.clock ?? systemClock,
      random: deps.random ?? systemRandom,
      log,
      zstd,
      rules: SAFETY_RULES,
    };
    const { chainDirectory } = deps;
    this.#tails = chainDirectory === undefined ? undefined : new TailFiles(join(chainDirectory, this.tenantId));
    if (!('unlocked' in access) || !(keyring instanceof TenantKeyring)) return;
    const { clock, random } = this.core;
    const { repositoryId } = superblock;
    const keys = new RepositoryKeys({
      store: input.store,
      repositoryId,
      superblockHash,
      tenantId,
      secret: access.secret,
      clock,
      random,
      log,
    });
    const openedBy = access.unlocked.slot;
    this.#administration = {
      keys,
      retention: new Retention({ core: this.core, by: openedBy, keys }),
      agents: new Agents({ core: this.core, keyring, superblockHash, by: openedBy }),
      openedBy,
      superblockHash,
    };
  }

  #tenantKeys({ bundle }: Unlocked): Pick<AgentAccess, 'learn'> & { readonly keyring: TenantKeyring } {
    const keyring = new TenantKeyring(bundle);
    const learn = async (known: number, options: StoreOptions): Promise<number> => {
      const newer = await this.keys.unlock(options);
      if (newer.set.generation > known) keyring.adopt(newer.bundle);
      return newer.set.generation;
    };
    return { keyring, learn };
  }

  /** The ways in. Throws `repository.not-permitted` for an agent. */
  get keys(): RepositoryKeys {
    return this.#administer('manage its keys').keys;
  }

  /** Which points stay: policies, holds, pruning. Throws `repository.not-permitted` for an agent. */
  get retention(): Retention {
    return this.#administer('decide which points stay').retention;
  }

  /** Who may back up without being able to read. Throws `repository.not-permitted` for an agent. */
  get agents(): Agents {
    return this.#administer('enrol or revoke agents').agents;
  }

  /**
   * The keys of these points, for a file of mode 0600 with which a host restores or starts them (`pointKeysFile`); they open the packs the
   * points need now. Errors: those of `readPoint`, `repository.map-damaged`, `repository.limit-exceeded`, those of the store.
   */
  async grant(points: readonly GrantedPoint[], options: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    const { superblockHash } = this.#administer('hand out keys');
    return grantPoints(this.core, { superblockHash, points }, options);
  }

  #administer(act: string): Administration {
    if (this.#administration) return this.#administration;
    const who = this.core.keyring.role === 'agent' ? 'an agent may' : 'who has keys of points may';
    throw new LifeboatError('repository.not-permitted', `${who} not ${act}`);
  }

  /** 32 hexadecimal digits. */
  get tenantId(): string {
    return hex(this.core.keyring.tenantId);
  }

  get chunkSizeBytes(): number {
    return this.core.superblock.chunkSizeBytes;
  }

  /** 32 hexadecimal digits. */
  get repositoryId(): string {
    return hex(this.core.superblock.repositoryId);
  }

  /** Begins a writer session, or resumes the one that lies in the directory. */
  beginSession(input: BeginSession): Promise<WriterSession> {
    const sealer = this.#deps.sealer ?? threadSealer();
    const limits = this.#deps.writerLimits ?? defaultWriterLimits(this.chunkSizeBytes);
    const { indexDirectory } = this.#deps;
    return WriterSession.begin(this.core, input, { sealer, limits, indexDirectory });
  }

  /** Every point, oldest first; damaged ones are listed as such. An agent sees those of its machines. A listing that fails throws. */
  points(machineId?: MachineId, options: { signal?: AbortSignal } = {}): Promise<PointSummary[]> {
    return listPoints(this.core, machineId, options);
  }

  /** The machine's newest point that can be read, undefined when it has none: a backup's parent. Does not read the others. */
  newestPoint(machineId: MachineId, options: { signal?: AbortSignal } = {}): Promise<Point | undefined> {
    return newestReadable(this.core, machineId, options);
  }

  /** Errors: `repository.point-missing`, `repository.point-damaged`, `repository.newer-version`. */
  readPoint(machineId: MachineId, pointId: PointId, options: { signal?: AbortSignal } = {}): Promise<Point> {
    return readPoint(this.core, { machineId, pointId }, options);
  }

  /**
   * A disk of a point as a block device. Reads throw `repository.chunk-damaged` or `repository.map-damaged` for the range that is
   * lost, and never hand out wrong bytes. `cacheBytes` bounds the plain chunks that are kept (64 MiB).
   */
  openDisk(point: Point, diskName: string, options: { cacheBytes?: number } = {}): BlockDevice {
    const disk = point.disks.find(({ name }) => name === diskName);
    if (!disk) {
      const names = point.disks.map(({ name }) => name).join(', ');
      throw new LifeboatError(
        'repository.disk-missing',
        `point ${point.pointId} has no disk ${diskName}; it has: ${names}`,
        {
          context: { pointId: point.pointId, disk: diskName },
        },
      );
    }
    const { pages, blobs, superblock } = this.core;
    const what = { point: point.pointId, disk: diskName };
    const map = new MapReader({
      root: disk.root,
      pages,
      geometry: superblock,
      what: `disk ${diskName} of point ${point.pointId}`,
    });
    return new DiskReader({ map, blobs, what, cacheBytes: options.cacheBytes });
  }

  /**
   * Compares what is stored with what the point needs; changes nothing.
   * 'present': every pack is there in its size. 'ciphertext': every byte of every pack has its hash. 'content': every chunk opens
   * to its id. Damage is reported, not thrown. `run`: what checks of many points share. `log` is told which packs are whole, as far as this
   * looks at them; what is in `memory` is not read again.
   */
  checkPoint(
    point: Point,
    level: CheckLevel,
    context: VerbContext,
    run: { readonly log?: VerificationLog; readonly memory?: CheckMemory } = {},
  ): Promise<CheckReport> {
    const { log, memory } = run;
    log?.begin();
    return checkPoint(this.core, {
      point,
      level,
      context,
      memory,
      ...(log ? { whole: (pack) => log.note(pack) } : {}),
    });
  }

  /** For a check of many points that begins now, at one level: what they share is read once. */
  checkMemory(): CheckMemory {
    // A page that was read before it was damaged would hide that it is.
    this.core.pages.forget();
    return new CheckMemory();
  }

  /** What checks without a budget write down for those with one. To be published at the end. */
  verificationLog(level: CheckLevel): VerificationLog {
    // A content check opens chunks where the maps say; it does not read packs to the last byte.
    return new VerificationLog(this.core, level === 'ciphertext' ? 'ciphertext' : 'present');
  }

  /** Looks at as many packs as the budget allows, least recently looked at first, and remembers which in the store. */
  checkWithin(input: Parameters<typeof verificationPass>[1], context: VerbContext): Promise<PassReport> {
    return verificationPass(this.core, input, context);
  }

  /** Adds a record to what is known of a machine, and returns its number. Errors: `repository.evidence-busy`, those of the store. */
  appendEvidence(machineId: MachineId, evidence: Evidence, options: { signal?: AbortSignal } = {}): Promise<number> {
    return appendEvidence(this.core, machineId, evidence, options);
  }

  /** What is known of a machine, and whether its chain is whole. Errors: `repository.limit-exceeded`, those of the store. */
  evidence(machineId: MachineId, options: { signal?: AbortSignal } = {}): Promise<EvidenceChain> {
    return readEvidence(this.core, machineId, options);
  }

  /**
   * Writes down what a check found, for the next backups: they refer to none of it, read it again where their source still has it,
   * and lead the older points to it. Returns how many records that took; none when all of it is known. May be repeated.
   */
  async reportDamage(damage: Damage, options: { signal?: AbortSignal } = {}): Promise<number> {
    this.#administer('report damage');
    return reportDamage(this.core, damage, options);
  }

  /**
   * Takes points that are in no link into the chain of their machine: after each commit, by who owns the machine. May be repeated.
   * Errors: `repository.chain-busy`, those of the store.
   */
  async linkPoints(machineId: MachineId, options: { signal?: AbortSignal } = {}): Promise<LinkReport> {
    // Links are signed by the tenant: the next collection takes in what agents committed.
    if (!this.#administration) return { linked: [] };
    return linkPoints(this.core, { machineId, memory: this.#tails }, options);
  }

  /**
   * Takes every point that is in no link into the chain of its machine, and returns them: what agents committed, who sign no links, and what
   * kills left. Before each collection. May be repeated. Errors: those of the store.
   */
  async linkEveryPoint(options: { signal?: AbortSignal } = {}): Promise<LinkedPoint[]> {
    this.#administer('sign links');
    return linkEveryPoint(this.core, { memory: this.#tails }, options);
  }

  /** Reads the chains, all or one, and compares each with itself and with what this host remembers. Before the points are listed. */
  readChains(machineId?: MachineId, options: { signal?: AbortSignal } = {}): Promise<CheckedChains> {
    return readChains(this.core, { machineId, memory: this.#tails }, options);
  }

  /** What is wrong with chains, and with the points they name. `points`: listed after `readChains`, of the same machines. */
  judgeChains(
    input: { readonly checked: CheckedChains; readonly points: readonly PointSummary[] },
    options: { signal?: AbortSignal } = {},
  ): Promise<ChainFinding[]> {
    return judgeChains(this.core, input, options);
  }

  /**
   * What is known of machines and the like, by kind: the newest version of each that can be read. Errors: `repository.not-permitted` for
   * an agent, those of the store.
   */
  async objects(kind: string, options: { signal?: AbortSignal } = {}): Promise<ObjectState[]> {
    this.#administer('read what is known of other machines');
    return listObjects(this.core, kind, options);
  }

  /** Writes the next version of a control object, or none where `make` wants none; an agent writes none. Errors: see `writeObject`. */
  async writeObject(
    key: ObjectKey,
    make: Parameters<typeof writeObject>[2],
    options: { signal?: AbortSignal } = {},
  ): Promise<ControlObject | undefined> {
    return this.#administration && writeObject(this.core, key, make, options);
  }

  /** What is wrong with versions of control objects; an agent, which can open none, finds nothing. Errors: those of the store. */
  async checkObjects(options: { signal?: AbortSignal } = {}): Promise<ObjectFinding[]> {
    return this.#administration ? checkObjects(this.core, options) : [];
  }

  /**
   * First half of a collection: finds packs no point needs, and publishes the list of them. With `compact` it moves, within limits, what
   * is needed out of packs that are mostly dead, and puts those on the list, too. Deletes nothing.
   */
  async condemn(input: CollectionRequest = {}, options: { signal?: AbortSignal } = {}): Promise<CondemnReport> {
    this.#administer('collect garbage');
    return condemn(this.core, this.#collection(input), options);
  }

  /** Second half: deletes what is on the list and still dead, once the sessions that may not know it are over. Repeat it until then. */
  async sweep(input: { readonly graceMs?: number } = {}, options: { signal?: AbortSignal } = {}): Promise<SweepReport> {
    this.#administer('collect garbage');
    return sweep(this.core, input, options);
  }

  /** What pruning and collecting would do: the same code over the same store, but nothing is written. */
  simulation(): Pick<Repository, 'retention' | 'condemn' | 'linkEveryPoint'> {
    const core = { ...this.core, store: new OverlayStore(this.core.store) };
    const { openedBy: by, keys } = this.#administer('simulate what pruning would do');
    return {
      retention: new Retention({ core, by, keys }),
      linkEveryPoint: (options) => linkEveryPoint(core, {}, options),
      condemn: (input, options) => condemn(core, { ...this.#collection(input), dryRun: true }, options),
    };
  }

  #collection({ dryRun = false, compact, progress }: CollectionRequest = {}): Parameters<typeof condemn>[1] {
    const packs = this.#deps.writerLimits ?? defaultWriterLimits(this.chunkSizeBytes);
    return { dryRun, compact: compact && { ...DEFAULT_COMPACTION, ...compact, packs, ...(progress && { progress }) } };
  }

  /**
   * Holds what is in use for another generation, centrally: once in each, with credentials that may extend locks. May be repeated.
   * Errors: `repository.store-unsupported` where nothing can be locked, `repository.store-denied`, those of the store.
   */
  async extendLocks(policy: LockPolicy, context: VerbContext): Promise<ExtensionReport> {
    this.#administer('extend locks');
    return extendLocks(this.core, policy, context);
  }

  /** Asks the store whether everything the points `inPolicy` chooses need is held for the whole retention. Changes nothing. */
  checkLocks(
    input: { readonly policy: LockPolicy; readonly inPolicy: (point: PointSummary) => boolean },
    context: VerbContext,
  ): Promise<LockReport> {
    return checkLocks(this.core, input, context);
  }

  /** Ends what reads run in. Sessions and disks of this repository must not be used afterwards. */
  close(): Promise<void> {
    return this.core.blobs.close();
  }
}
