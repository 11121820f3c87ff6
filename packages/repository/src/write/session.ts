/**
 * A writer session: everything between the first chunk of a backup and its commit.
 *
 * ```
 *   beginSession ─► session.key on disk ─► condemn lists ─► `open` in the store, names them ─► condemn lists again
 *   writeDisk … writeDisk                    packs; a journal record for each that is durable
 *   commit ─► index segments ─► intent on disk ─► PUT of the point ─► was the session fenced? ─► `closed` ─► key and journal gone
 * ```
 * Killed anywhere before the PUT: nothing is visible, and the same directory goes on where it was. Killed after it: `commit` with
 * the same input sends the same bytes, finds them there, and reports success.
 *
 * What the session refers to must not be collected under it. Three things see to that, and docs/format.md proves that they are enough:
 * a collector waits for every session that did not name its list; a session refers to nothing that a list it knows names; and
 * what is taken over from a parent is taken from a point that is valid while the session is open.
 *
 * Calls of one session are made one after the other; `writeDisk` uses all lanes by itself.
 */
import { hasCode, LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { parsePointId, parseSessionId, type MachineId, type PointId, type SessionId } from '@lifeboat/foundation/ids';
import type { ProgressSink, VerbContext } from '@lifeboat/foundation/progress';

import { assertMayBackUp, awaitOutcome } from '../agents/agent-session.ts';
import { assertNotRevoked } from '../agents/revocations.ts';
import { condemnedPacks, readCondemnLists, type CondemnLists } from '../collect/condemn-lists.ts';
import { PackNames } from '../collect/pack-names.ts';
import { decideOutcome } from '../collect/outcomes.ts';
import { isVoid } from '../collect/point-validity.ts';
import { settleSession } from '../collect/session-end.ts';
import { isBuried } from '../collect/tombstones.ts';
import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { sha256 } from '../format/frame.ts';
import {
  fenceObject,
  hex,
  packObject,
  pointsPrefix,
  sessionClosedObject,
  sessionOpenObject,
  type ChunkId,
  type PackName,
} from '../format/names.ts';
import type { DiskRoot } from '../format/point.ts';
import { MAX_INDEX_SEGMENT_ENTRIES, MAX_SESSION_LISTS } from '../format/limits.ts';
import { encodeSessionRecord, type SessionEvent } from '../format/session-record.ts';
import type { JsonValue } from '../json.ts';
import { MapReader } from '../read/map-reader.ts';
import { openPoint, readPoint, type Point } from '../read/point-reader.ts';
import { controlName, sealRecord } from '../seal/control-records.ts';
import { deriveKey } from '../seal/derive.ts';
import type { SessionKey } from '../seal/keyring.ts';
import { isUselessObject } from '../store/bad-object.ts';
import { listNames } from '../store/object-store.ts';
import { ChunkIndex } from './chunk-index.ts';
import { compareChunks, type Comparison } from './compare.ts';
import { DiskWriter, type DiskSession, type WriteDiskRequest, type WriteDiskStats } from './disk-writer.ts';
import { IndexCache, localIndex } from './index-cache.ts';
import { encodeRecord } from './index-run.ts';
import { writeIndexSegment } from './index-segments.ts';
import { isUsable, listPacks, loadIndex, syncIndex } from './known-packs.ts';
import { generationOf } from './generation.ts';
import { Healing, holds, type HealingOutcome, type WholePlaces } from './healing.ts';
import type { WriterLimits } from './limits.ts';
import type { FinishedPack, PackOwner } from './pack-builder.ts';
import { encodePoint, putPoint } from './point-writer.ts';
import { SessionFiles, type SessionStorage, type StoredPack } from './session-files.ts';
import type { Sealer } from './sealer.ts';
import { PackSizes } from './pack-sizes.ts';
import type { SourceSpec } from './source.ts';

export interface BeginSession {
  readonly machineId: MachineId;
  /** The operation's directory: key and journal of the session live here, across attempts. */
  readonly directory: string;
  /** The point whose disks are to be taken over: that they are held is shown by reading it, and no other point is looked for. */
  readonly parent?: PointId | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface CommitInput {
  readonly pointId: PointId;
  /** Inventory of the machine. */
  readonly machine: JsonValue;
  /** Method, consistency, tracking, audit, bytes. */
  readonly capture: JsonValue;
  readonly disks: readonly { readonly name: string; readonly root: DiskRoot; readonly info?: JsonValue }[];
  /** Small files that belong to the machine (domain XML, NVRAM); together at most 8 MiB. */
  readonly files?: readonly { readonly name: string; readonly content: Uint8Array }[];
}

export interface CompareRequest {
  readonly parent: DiskRoot;
  readonly source: SourceSpec;
  /** Chunks to read and compare; those the parent does not map are left out. */
  readonly chunkIndexes: readonly number[];
}

export type Transferred = Pick<WriteDiskStats, 'sourceBytes' | 'storedBytes'>;

/** Checks of journalled packs in flight when a session is resumed. */
const RESUME_CHECKS = 16;

export class WriterSession {
  readonly sessionId: SessionId;
  readonly machineId: MachineId;
  readonly #core: Core;
  readonly #directory: string;
  readonly #files: SessionStorage;
  readonly #limits: WriterLimits;
  readonly #sealer: Sealer;
  readonly #key: SessionKey;
  readonly #indexDirectory: string | undefined;
  readonly #parent: PointId | undefined;
  /** What this session stored lately; without a local index also what was known before. */
  #index = new ChunkIndex();
  #cache: IndexCache | undefined;
  /** Sizes of the packs in the store, and which of them this session stored. */
  #sizes = new PackSizes();
  /** What this session stored and no index segment holds yet. */
  #stored: BlobRef[] = [];
  #segments = 0;
  #spilling: Promise<void> = Promise.resolve();
  /** Packs that an open condemn list names, or the newest that was swept: this session refers to none of them. */
  #condemned = new PackNames();
  /** A condemn list cannot be read: this session refers to nothing but its parents and what it stores itself. */
  #alone = false;
  /** What distinguishes packs sealed after a condemn list from those before it. */
  #generation = generationOf(undefined);
  /** Roots that are known to belong to a valid point, or that this session wrote. */
  readonly #heldRoots = new Set<string>();
  readonly #healing: Healing;
  #transferred: Transferred = { sourceBytes: 0, storedBytes: 0 };
  /** Where chunks that wait to be healed lie as well; the index leaves them out, so that they are stored anew. */
  readonly #elsewhere = new Map<ChunkId, BlobRef>();
  #healed: HealingOutcome | undefined;
  #listed: Promise<void> | undefined;
  #known: Promise<void> | undefined;
  #busy = false;

  /**
   * Begins a session, or goes on with the one whose key and journal lie in the directory: with its packs only, where it was ended, or where
   * the tenant's keys were rotated since.
   */
  static async begin(
    core: Core,
    input: BeginSession,
    deps: { sealer: Sealer; limits: WriterLimits; indexDirectory?: string | undefined; files?: SessionStorage },
  ): Promise<WriterSession> {
    const { machineId, directory, parent, signal } = input;
    const options = { signal };
    const files = deps.files ?? new SessionFiles({ directory, tenantId: core.keyring.tenantId, machineId });
    let session: WriterSession | undefined;
    try {
      await assertMayBackUp(core, machineId, options);
      let stored = await files.readKey();
      /** Of an epoch before this one. Its packs are taken up, as those of any other session may be; its key seals nothing any more. */
      let outdated: SessionId | undefined;
      await core.refreshKeys(options);
      if (stored && (await core.store.head(controlName(core, fenceObject(stored.sessionId)), options))) {
        // Held to be dead. Its packs are not taken up either: a PUT that is still on its way may bring one back that was collected.
        await files.remove();
        stored = undefined;
      } else if (stored && (await core.store.head(controlName(core, sessionClosedObject(stored.sessionId)), options))) {
        // Committed or abandoned by an attempt that died before it could tidy up; nothing may be added to it.
        stored = undefined;
      } else if (stored && stored.key.epoch < core.keyring.epoch) {
        outdated = stored.sessionId;
        stored = undefined;
      }
      if (!stored) {
        stored = { sessionId: newSessionId(core), key: core.keyring.newSessionKey(core.random) };
        await files.writeKey(stored);
      }
      const healing = await Healing.begin(core, options);
      session = new WriterSession({ core, ...deps, files, ...stored, machineId, directory, parent, healing });
      const before = await readCondemnLists(core, options);
      await session.#record('open', { before }, options);
      // A list published between the two knows nothing of this session: it must know of the list.
      await session.#heed(core.rules.readListsAfterOpen ? await readCondemnLists(core, options) : before, options);
      // Only now that this one is open: until then a collector waits for the one whose packs it takes up.
      // An agent sees to it that nothing commits it here, and leaves the rest to a collector.
      if (outdated && core.keyring.agent) await files.claimNothing(outdated);
      else if (outdated) await settleSession(core, { sessionId: outdated, machineId }, options);
      await session.#resume(files.openJournal(), options);
      return session;
    } catch (error) {
      await session?.detach();
      await files.close();
      throw error;
    }
  }

  private constructor(input: {
    core: Core;
    directory: string;
    files: SessionStorage;
    limits: WriterLimits;
    sealer: Sealer;
    sessionId: SessionId;
    key: SessionKey;
    machineId: MachineId;
    indexDirectory?: string | undefined;
    parent?: PointId | undefined;
    healing: Healing;
  }) {
    this.#core = input.core;
    this.#directory = input.directory;
    this.#files = input.files;
    this.#limits = input.limits;
    this.#sealer = input.sealer;
    this.#indexDirectory = input.indexDirectory;
    this.#parent = input.parent;
    this.sessionId = input.sessionId;
    this.#key = input.key;
    this.#healing = input.healing;
    this.machineId = input.machineId;
  }

  /**
   * Stores a disk and returns its root, durable in the store. Repeating it costs the reads, not the uploads.
   * Errors: what the source throws, `repository.sealing-mismatch`, `repository.map-damaged` (parent), `repository.parent-gone`, those of
   * the store, and the signal's reason.
   */
  async writeDisk(
    request: WriteDiskRequest,
    context: { signal: AbortSignal; progress?: ProgressSink },
  ): Promise<{ root: DiskRoot; stats: WriteDiskStats }> {
    return this.#exclusively(async () => {
      if (request.parent) await this.#assertHeld(request.parent, context);
      const writer = new DiskWriter({
        core: this.#core,
        session: this.#diskSession(),
        limits: this.#limits,
        sealer: this.#sealer,
        request,
        context: verbContext(context),
      });
      this.#healed = undefined;
      try {
        const written = await writer.run();
        this.#heldRoots.add(JSON.stringify(written.root));
        return written;
      } finally {
        this.#count(writer.stats);
      }
    });
  }

  /** Reads chunks of the source and returns those that are not what the parent says: the audit of a change tracker. */
  async compare(
    request: CompareRequest,
    context: { signal: AbortSignal; progress?: ProgressSink },
  ): Promise<Comparison> {
    return this.#exclusively(async () => {
      const comparison = await compareChunks({
        request,
        map: this.#map(request.parent),
        sealer: this.#sealer,
        stripeChunks: this.#limits.stripeChunks,
        owner: this.#dataOwner,
        context: verbContext(context),
      });
      this.#count({ sourceBytes: comparison.sourceBytes, storedBytes: 0 });
      return comparison;
    });
  }

  /** What this process read and stored for the session so far, also in calls that failed. */
  get transferred(): Transferred {
    return this.#transferred;
  }

  #count({ sourceBytes, storedBytes }: Transferred): void {
    const before = this.#transferred;
    this.#transferred = {
      sourceBytes: before.sourceBytes + sourceBytes,
      storedBytes: before.storedBytes + storedBytes,
    };
  }

  /**
   * Which of these chunks the root maps to data, part by part, in order: what an audit may draw its sample from. A part ends with a page of
   * the map at the latest; pages are read as the parts are asked for. Throws `repository.map-damaged`.
   */
  async *mapRuns(
    root: DiskRoot,
    chunks: { readonly firstChunk: number; readonly count: number },
    options: { signal?: AbortSignal } = {},
  ): AsyncIterable<{ firstChunk: number; count: number; isMapped: boolean }> {
    for await (const { firstChunk, count, places } of this.#map(root).runs(chunks.firstChunk, chunks.count, options)) {
      if (places instanceof Error) throw places;
      if (typeof places === 'string') {
        yield { firstChunk, count, isMapped: false };
        continue;
      }
      const isMapped = (i: number): boolean => typeof places[i] === 'object';
      for (let start = 0, i = 1; i <= count; i++) {
        if (i < count && isMapped(i) === isMapped(start)) continue;
        yield { firstChunk: firstChunk + start, count: i - start, isMapped: isMapped(start) };
        start = i;
      }
    }
  }

  /**
   * Leads older points from damaged places to what this session stored of them, or finds stored elsewhere. When the disks are written;
   * `commit` does it where the caller does not. What cannot be healed is said, and fails nothing. May be repeated. Errors: those of the
   * store.
   */
  heal(options: { signal?: AbortSignal } = {}): Promise<HealingOutcome> {
    return this.#exclusively(() => this.#heal(options));
  }

  /**
   * Makes the point visible, and ends the session. May be repeated with the same input, also by another process over the same
   * directory. Errors: `repository.point-exists`, `repository.session-fenced`, `repository.limit-exceeded`, those of the store; of an agent
   * also `repository.agent-revoked`, `repository.agent-expired`, `repository.session-undecided`.
   */
  async commit(input: CommitInput, options: { signal?: AbortSignal } = {}): Promise<Point> {
    return this.#exclusively(async () => {
      const { pointId } = input;
      const { machineId, sessionId } = this;
      const body = {
        machine: input.machine,
        capture: input.capture,
        disks: input.disks.map(({ name, root, info }) => ({ name, root, info: info ?? null })),
        files: input.files ?? [],
      };
      const inputHash = hashOf(body);
      const intent = await this.#files.readIntent(pointId);
      await this.#files.claimCommit(sessionId, pointId);
      let object = intent && Buffer.compare(intent.inputHash, inputHash) === 0 ? intent.object : undefined;
      // Of a session that was ended without it, the point is void under any bytes that name that session.
      if (object && (await isVoid(this.#core, openPoint(this.#core, object, { machineId, pointId }), options)))
        object = undefined;
      await this.#heal(options);
      if (!object) {
        await assertMayBackUp(this.#core, machineId, options);
        await this.#spill(1, options);
        object = await encodePoint(this.#core, { ...body, machineId, pointId, sessionId }, options);
        await this.#files.writeIntent(pointId, { inputHash, object });
      }
      // Proof before the commit that what we are about to publish can be read, and would be.
      const point = openPoint(this.#core, object, { machineId, pointId });
      await assertNotRevoked(this.#core, point, options);
      await putPoint(this.#core, { machineId, pointId, object }, options);
      await this.#assertCommitted(point, options);
      await this.#closeReports(options);
      await this.#record('committed', { pointId }, options);
      await this.#files.remove();
      await this.#cache?.close();
      return point;
    });
  }

  /** The point is committed: a report that stays open only has its blocks looked at again. */
  async #closeReports(options: { signal?: AbortSignal | undefined }): Promise<void> {
    // An agent leaves that to the tenant: its relocations say the same to all writers.
    if (this.#core.keyring.agent) return;
    try {
      await this.#healing.close(options);
    } catch (error) {
      options.signal?.throwIfAborted();
      this.#core.log.warn('a damage report could not be closed', { why: messageOf(error) });
    }
  }

  /** Ends the session without a point. What it uploaded stays until it is collected; another session may refer to it. */
  async abandon(): Promise<void> {
    await this.#exclusively(async () => {
      // Another process over the same directory may be about to commit: it must learn of this, or this of it.
      if (this.#core.keyring.agent) await this.#abandonLocally();
      else {
        const { pointId } = await settleSession(this.#core, this);
        await this.#record(pointId === '' ? 'abandoned' : 'committed', { pointId });
      }
      await this.#files.remove();
      await this.#cache?.close();
    });
  }

  /**
   * An agent may not say what became of a session, so its processes agree in the directory: no commit is begun from here on. Where one
   * was, a collector decides after the grace.
   */
  async #abandonLocally(): Promise<void> {
    if (await this.#files.claimNothing(this.sessionId)) return this.#record('abandoned', {});
    this.#core.log.warn('a commit was begun here; whether it succeeded is for a collector to say', {
      sessionId: this.sessionId,
    });
  }

  /** Lets go of the directory without ending the session: the next `beginSession` over it goes on. */
  async detach(): Promise<void> {
    await this.#cache?.close();
    await this.#files.close();
  }

  get #segmentEntries(): number {
    return this.#limits.segmentEntries ?? MAX_INDEX_SEGMENT_ENTRIES;
  }

  get #dataOwner(): PackOwner {
    const { tenantId, chunkIdKey } = this.#core.keyring;
    const { key, epoch, sealed } = this.#key;
    const access = { epoch, sealedSessionKey: sealed };
    return { kind: 'data', tenantId, chunkIdKey, baseKey: key, generation: this.#generation, access };
  }

  #diskSession(): DiskSession {
    const { tenantId, chunkIdKey } = this.#core.keyring;
    const { machineId } = this;
    return {
      machineId,
      directory: this.#directory,
      dataOwner: this.#dataOwner,
      pageOwner: (kind) => ({
        kind,
        tenantId,
        chunkIdKey,
        baseKey: this.#core.keyring.machineKey(machineId),
        generation: this.#generation,
        access: { machineId },
      }),
      loadListed: () => this.#loadListed(),
      isUsable: (ref) => this.#isUsable(ref),
      healing: this.#healing,
      loadKnown: () => this.#loadKnown(),
      lookup: (id: ChunkId) => this.#index.get(id),
      find: (id: ChunkId) => this.#find(id),
      sizeOf: (pack) => this.#sizes.get(pack),
      storeDataPack: async (pack, bytes, signal) => {
        if ((await this.#put(pack, bytes, signal)) === 'taken') throw notOurs(pack.name);
        await this.#files.append({ pack: pack.name, sizeBytes: pack.sizeBytes, blobs: pack.blobs });
        this.#remember({ pack: pack.name, sizeBytes: pack.sizeBytes, blobs: pack.blobs });
        await this.#spill(this.#segmentEntries, { signal });
      },
      storePagePack: async (pack, bytes, { spoilt, signal }) => {
        if ((await this.#put(pack, bytes, signal)) === 'taken') return 'taken';
        const sizes = new Map([[pack.name, pack.sizeBytes]]);
        this.#healing.keepPages(pack.blobs);
        await this.#healing.leadPages({ from: spoilt, moved: pack.blobs, sizes }, { signal });
        return 'stored';
      },
    };
  }

  /** A name says the content, but what lies under it may have been damaged since it was put: "exists" is looked at. */
  async #put(pack: FinishedPack, bytes: Uint8Array, signal: AbortSignal): Promise<'stored' | 'taken'> {
    const outcome = await this.#core.store.putIfAbsent(packObject(pack.name), [bytes], { signal });
    if (outcome === 'exists' && !(await holds(this.#core, pack.name, bytes, { signal }))) {
      this.#core.log.warn('a pack that is there already is damaged; it is not referred to', { pack: pack.name });
      return 'taken';
    }
    this.#sizes.set(pack.name, pack.sizeBytes);
    return 'stored';
  }

  #remember(stored: StoredPack): void {
    this.#sizes.setOwn(stored.pack, stored.sizeBytes);
    for (const ref of stored.blobs) {
      this.#index.add(ref);
      this.#stored.push(ref);
    }
  }

  async #find(id: ChunkId): Promise<BlobRef | undefined> {
    return this.#index.get(id) ?? this.#cache?.find(id, (ref) => this.#isKnown(ref));
  }

  #isUsable(ref: BlobRef): boolean {
    return isUsable(ref, this.#sizes) && !this.#healing.avoids(ref);
  }

  /** Whether deduplication may answer with it. A chunk that waits to be healed is stored anew, whatever others know of it. */
  #isKnown(ref: BlobRef): boolean {
    if (this.#condemned.has(ref.pack) || !this.#isUsable(ref)) return false;
    if (this.#alone && !this.#sizes.isOwn(ref.pack)) return false;
    if (this.#sizes.isOwn(ref.pack) || !this.#healing.damage.openIds.has(ref.id)) return true;
    this.#elsewhere.set(ref.id, ref);
    return false;
  }

  async #heal(options: { signal?: AbortSignal | undefined }): Promise<HealingOutcome> {
    if (this.#healed) return this.#healed;
    if (this.#healing.isIdle) return { chunks: 0 };
    await this.#loadKnown();
    const places: WholePlaces = {
      candidates: async (id) => [await this.#find(id), this.#elsewhere.get(id)].filter((ref) => ref !== undefined),
      isOwn: (pack) => this.#sizes.isOwn(pack),
      sizeOf: (pack) => this.#sizes.get(pack),
    };
    return (this.#healed = await this.#healing.run(places, options));
  }

  /** Makes index segments of what was stored, once there are so many; memory keeps only what none holds. One call after the other. */
  #spill(atLeast: number, options: { signal?: AbortSignal | undefined }): Promise<void> {
    const spilled = this.#spilling.then(() => this.#writeSegments(atLeast, options));
    // The caller learns of it; the next call begins anew.
    this.#spilling = spilled.catch(() => undefined);
    return spilled;
  }

  async #writeSegments(atLeast: number, options: { signal?: AbortSignal | undefined }): Promise<void> {
    while (this.#stored.length >= atLeast) {
      const refs = this.#stored.slice(0, this.#segmentEntries);
      const { sessionId } = this;
      const name = await writeIndexSegment(this.#core, { sessionId, sequence: this.#segments, refs }, options);
      this.#segments++;
      await this.#cache?.add(refs.map(encodeRecord), [name]);
      this.#stored = this.#stored.slice(refs.length);
      if (!this.#cache) continue;
      this.#index = new ChunkIndex();
      for (const ref of this.#stored) this.#index.add(ref);
    }
  }

  /** Takes up the packs of earlier attempts that are still in the store, whole. */
  async #resume(journal: AsyncIterable<StoredPack>, options: { signal?: AbortSignal | undefined }): Promise<void> {
    let batch: StoredPack[] = [];
    let packs = 0;
    let reusedPacks = 0;
    const takeUp = async (): Promise<void> => {
      const present = await Promise.all(batch.map((stored) => this.#isThere(stored, options)));
      for (const [i, stored] of batch.entries()) {
        packs++;
        if (present[i]) {
          reusedPacks++;
          this.#remember(stored);
        } else {
          this.#core.log.warn('a pack of this session is gone, damaged or condemned; its chunks are stored again', {
            pack: stored.pack,
          });
        }
      }
      batch = [];
      // What an earlier attempt stored may be more than memory holds: it goes where that attempt had put it.
      if (this.#stored.length < this.#segmentEntries || this.#indexDirectory === undefined) return;
      await this.#openCache(this.#indexDirectory);
      await this.#spill(this.#segmentEntries, options);
    };
    for await (const stored of journal) if (batch.push(stored) >= RESUME_CHECKS) await takeUp();
    await takeUp();
    if (packs > 0) {
      const { sessionId, machineId } = this;
      this.#core.log.info('a session goes on', { sessionId, machineId, reusedPacks });
    }
  }

  #loadListed(): Promise<void> {
    this.#listed ??= listPacks(this.#core, { sizes: this.#sizes });
    // A failed listing is tried again by the next caller.
    this.#listed.catch(() => (this.#listed = undefined));
    return this.#listed;
  }

  async #isThere({ pack, sizeBytes }: StoredPack, options: { signal?: AbortSignal | undefined }): Promise<boolean> {
    if (this.#alone || this.#condemned.has(pack) || this.#healing.damage.touches(pack)) return false;
    return (await this.#core.store.head(packObject(pack), options))?.sizeBytes === sizeBytes;
  }

  async #openCache(indexDirectory: string): Promise<IndexCache> {
    return (this.#cache ??= await IndexCache.open(localIndex(this.#core, indexDirectory)));
  }

  #loadKnown(): Promise<void> {
    this.#known ??= (async () => {
      const packs = this.#sizes;
      await this.#loadListed();
      if (this.#alone) return;
      if (this.#indexDirectory === undefined)
        return loadIndex(this.#core, { index: this.#index, isUsable: (ref) => this.#isKnown(ref) });
      await syncIndex(this.#core, { cache: await this.#openCache(this.#indexDirectory), packs });
    })();
    // A failed load is tried again by the next caller.
    this.#known.catch(() => (this.#known = undefined));
    return this.#known;
  }

  #map(root: DiskRoot): MapReader {
    const { pages, superblock } = this.#core;
    return new MapReader({ root, pages, geometry: superblock, what: `a disk of machine ${this.machineId}` });
  }

  async #record(
    event: SessionEvent,
    what: { pointId?: PointId | string; before?: CondemnLists },
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<void> {
    const { sessionId, machineId } = this;
    const plain = event === 'open' ? sessionOpenObject(sessionId) : sessionClosedObject(sessionId);
    const name = controlName(this.#core, plain);
    const secret = deriveKey(this.#key.key, 'session closing');
    const body = encodeSessionRecord({
      sessionId,
      machineId,
      instantMs: this.#core.clock.nowMs(),
      event,
      pointId: what.pointId ?? '',
      knownLists: Buffer.concat((what.before?.open ?? []).slice(-MAX_SESSION_LISTS).map(({ listId }) => listId)),
      closing: event === 'open' ? sha256(secret) : secret,
    });
    await this.#core.store.putIfAbsent(name, [sealRecord(this.#core, { type: 'SESS', name, body })], options);
  }

  /** From now on this session refers to nothing these lists name, and seals nothing under a name they could hold. */
  async #heed(lists: CondemnLists, options: { signal?: AbortSignal | undefined }): Promise<void> {
    const { avoidCondemned, sealUnderGeneration } = this.#core.rules;
    if (sealUnderGeneration && lists.newest) this.#generation = generationOf(lists.newest.listId);
    for (const damage of lists.unreadable) this.#stayAlone(damage);
    if (!avoidCondemned) return;
    const heeded = new Set(lists.open);
    // A late PUT may bring back what it names, and a collector that was frozen over it delete that again.
    if (this.#core.rules.avoidSwept && lists.newest) heeded.add(lists.newest);
    for (const head of heeded) {
      try {
        for await (const pack of condemnedPacks(this.#core, head, options)) this.#condemned.add(pack);
      } catch (error) {
        if (!isUselessObject(error)) throw error;
        this.#stayAlone(error);
      }
    }
  }

  /**
   * What a list names that cannot be read is not known, so nothing is taken from the index, and nothing is sealed under a name
   * that could be on it. What a valid parent holds is safe all the same, so backups go on; they store again what was stored before.
   */
  #stayAlone(why: Error): void {
    this.#alone = true;
    this.#generation = this.#core.random.bytes(16);
    this.#core.log.error('a condemn list cannot be read: chunks are stored again until it is mended', {
      why: why.message,
    });
  }

  /**
   * What a parent refers to is held by the point it is from, so that point must be valid now, with the session open: else it may
   * have been pruned and collected before anybody could know of this session.
   */
  async #assertHeld(parent: DiskRoot, options: { signal?: AbortSignal }): Promise<void> {
    const wanted = JSON.stringify(parent);
    if (!this.#core.rules.checkParent || this.#heldRoots.has(wanted)) return;
    if (typeof parent.map === 'string') return;
    for await (const name of this.#possibleHolders(options)) {
      try {
        const point = await readPoint(this.#core, { machineId: this.machineId, pointId: parsePointId(name) }, options);
        for (const { root } of point.disks) this.#heldRoots.add(JSON.stringify(root));
      } catch (error) {
        const skipped = hasCode(
          error,
          'repository.point-missing',
          'repository.point-damaged',
          'repository.agent-revoked',
          'repository.newer-version',
          'input.invalid',
        );
        if (!skipped) throw error;
      }
      if (this.#heldRoots.has(wanted)) return;
    }
    throw new LifeboatError(
      'repository.parent-gone',
      `no point of machine ${this.machineId} holds the disk that was to be taken over`,
      { context: { machineId: this.machineId } },
    );
  }

  /** The one the caller named; then all points of the machine, newest first: a parent is the newest nearly always. */
  async *#possibleHolders(options: { signal?: AbortSignal }): AsyncGenerator<string> {
    if (this.#parent !== undefined) yield this.#parent;
    const names: string[] = [];
    const prefix = pointsPrefix(this.machineId);
    for await (const name of listNames(this.#core.store, prefix, options)) names.push(name.slice(prefix.length));
    yield* names.toSorted().toReversed();
  }

  /**
   * A collector that holds a session to be dead fences it, and then looks for its points. So a writer looks for the fence after
   * its PUT: one of the two sees the other.
   */
  async #assertCommitted(point: Point, options: { signal?: AbortSignal }): Promise<void> {
    const { machineId, pointId } = point;
    const sessionId = parseSessionId(point.sessionId);
    if (!this.#core.rules.checkFenceAfterCommit) return;
    if (await this.#core.store.head(controlName(this.#core, fenceObject(sessionId)), options)) {
      const decide = this.#core.keyring.agent ? awaitOutcome : decideOutcome;
      const outcome = await decide(this.#core, { sessionId, pointId }, options);
      if (outcome.pointId !== pointId) {
        throw new LifeboatError(
          'repository.session-fenced',
          `session ${sessionId} was ended as dead before it committed`,
          { context: { sessionId, machineId, pointId } },
        );
      }
    }
    if (this.#core.rules.checkRevocationAfterCommit) await assertNotRevoked(this.#core, point, options);
    if (await isBuried(this.#core, point, options)) {
      throw new LifeboatError('repository.point-missing', `point ${pointId} was committed earlier, and pruned since`, {
        context: { machineId, pointId },
      });
    }
  }

  async #exclusively<T>(action: () => Promise<T>): Promise<T> {
    if (this.#busy)
      throw new LifeboatError('internal.bug', `session ${this.sessionId} was asked for two things at once`);
    this.#busy = true;
    try {
      return await action();
    } finally {
      this.#busy = false;
    }
  }
}

/** A data pack has the key of its session: nobody else made one of that name, and the next session makes others. */
function notOurs(pack: PackName): LifeboatError {
  return new LifeboatError(
    'repository.object-damaged',
    `pack ${pack}, which this session stored earlier, is not what was stored; a new operation stores it anew`,
    { context: { object: packObject(pack) } },
  );
}

function newSessionId(core: Core): SessionId {
  return parseSessionId(`s${hex(core.random.bytes(16))}`);
}

function verbContext(context: { signal: AbortSignal; progress?: ProgressSink }): VerbContext {
  return { signal: context.signal, progress: context.progress ?? (() => {}) };
}

function hashOf(
  body: { files: readonly { name: string; content: Uint8Array }[] } & Record<string, unknown>,
): Uint8Array {
  const files = body.files.map(({ name, content }) => [name, hex(sha256(content))]);
  return sha256(Buffer.from(JSON.stringify({ ...body, files }), 'utf8'));
}
