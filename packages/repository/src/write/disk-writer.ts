/**
 * Writes one disk: from what changed to the root of its new map.
 *
 * ```
 *   plan ─► leaves of the map ─► stripes ──► lane 1: read, hash ─► decide ─► compress, seal ─► pack ─► upload ─► journal
 *                 │                     └──► lane 2: …                                                      │
 *                 └──────────── a leaf is written when each of its chunks has a place ◄───────────────────────┘
 * ```
 * 1. A lane takes a leaf (a run of neighbours) and works through it in stripes; it reads the next while it seals this one.
 * 2. For every chunk read, in this thread: all zeros? the same as in the parent? stored before? being stored by another lane?
 *    Only the rest is sealed.
 * 3. A pack is sealed when another stripe might not fit; it is uploaded while its lane goes on in another buffer.
 * 4. Leaves are written in the order of the disk. A leaf may wait for a pack of another lane; when too many wait, lanes seal what
 *    they have.
 * 5. At the end: the map's root, then the pack set, each in packs of their own.
 *
 * Not guaranteed: the same packs for the same disk. Which chunks meet in a pack depends on the timing of the lanes. A repeated
 * write finds the chunks by their ids instead.
 */
import type { Extent } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId } from '@lifeboat/foundation/ids';
import type { VerbContext } from '@lifeboat/foundation/progress';

import type { Core } from '../core.ts';
import type { BlobRef, Place } from '../format/blob-ref.ts';
import { rootLevel } from '../format/map-page.ts';
import type { ChunkId, PackName } from '../format/names.ts';
import type { DiskRoot } from '../format/point.ts';
import { asMapDamage } from '../read/blob-reader.ts';
import { MapReader } from '../read/map-reader.ts';
import { readPackSet } from '../read/pack-set-reader.ts';
import type { ByteRange } from '../store/object-store.ts';
import { BufferPool } from './buffer-pool.ts';
import type { Healing } from './healing.ts';
import { leafTasks, type AwaitedChunk, type LeafTask } from './leaf-plan.ts';
import type { WriterLimits } from './limits.ts';
import { MapBuilder } from './map-builder.ts';
import { orAbort } from './or-abort.ts';
import type { FinishedPack, PackOwner } from './pack-builder.ts';
import { PackDeltas } from './pack-deltas.ts';
import { PackSetWriter } from './pack-set-writer.ts';
import { PackSizes } from './pack-sizes.ts';
import { PageWriter } from './page-writer.ts';
import type { Sealer } from './sealer.ts';
import type { SealingLane, StripeIds } from './sealing-lane.ts';
import type { SourceSpec } from './source.ts';
import { noTimes, STAGES, type StageTimes } from './stage-times.ts';
import { planRuns } from './write-plan.ts';

export interface WriteDiskRequest {
  readonly name: string;
  readonly sizeBytes: number;
  readonly source: SourceSpec;
  /** The disk as it was in an earlier point: what did not change is taken over from it. */
  readonly parent?: DiskRoot | undefined;
  /** What may differ from the parent. 'all': read everything and compare. Without a parent everything is read anyway. */
  readonly changed: 'all' | readonly ByteRange[];
  /** Covers the whole disk: chunks wholly in holes and zeros are not read. */
  readonly allocation?: readonly Extent[] | undefined;
}

export interface WriteDiskStats {
  /** Chunks read from the source. */
  readonly readBytes: number;
  /** The same as the source counted it: what was read beside a chunk, or twice, is in it. */
  readonly sourceBytes: number;
  /** Of those, chunks that were all zeros. */
  readonly zeroBytes: number;
  /** Not read, because the allocation says there is nothing. */
  readonly skippedBytes: number;
  /** Read although nothing changed there: what the parent holds of it is damaged. */
  readonly readAgainBytes: number;
  /** Not read, because nothing changed there. */
  readonly takenOverBytes: number;
  /** Chunks read that are as they were in the parent. */
  readonly unchangedChunks: number;
  /** Chunks read that were stored already, somewhere. */
  readonly knownChunks: number;
  readonly newChunks: number;
  /** Plain bytes of new chunks. */
  readonly newBytes: number;
  /** Bytes of the packs they went into. */
  readonly storedBytes: number;
  /** Bytes of packs of pages. */
  readonly metadataBytes: number;
  /** What the lanes spent their time on, added up. */
  readonly stageMs: StageTimes;
}

/** What a disk writer needs of its session. */
export interface DiskSession {
  readonly machineId: MachineId;
  /** The operation's. */
  readonly directory: string;
  readonly dataOwner: PackOwner;
  pageOwner(kind: 'map' | 'set'): PackOwner;
  /** Loads which packs there are, once. */
  loadListed(signal: AbortSignal): Promise<void>;
  readonly healing: Healing;
  /** Whether a map may refer to it: its pack was listed, in a size that holds the blob, and is not known to be damaged. After `loadListed`. */
  isUsable(ref: BlobRef): boolean;
  /** Loads what the repository knows, once. */
  loadKnown(signal: AbortSignal): Promise<void>;
  /** Where a chunk is that this session stored lately: answers at once, from memory. */
  lookup(id: ChunkId): BlobRef | undefined;
  /** Where a chunk is that is stored already, also before this session. */
  find(id: ChunkId): Promise<BlobRef | undefined>;
  /** Of a pack that the store lists, or that this session stored. */
  sizeOf(pack: PackName): number | undefined;
  /** Durable in the store and in the journal, and known to `lookup`, when it resolves. */
  storeDataPack(pack: FinishedPack, bytes: Uint8Array, signal: AbortSignal): Promise<void>;
  /** 'taken': something else lies under its name. `spoilt`: names under which its pages lie, damaged; they are led here. */
  storePagePack(
    pack: FinishedPack,
    bytes: Uint8Array,
    how: { readonly spoilt: readonly PackName[]; readonly signal: AbortSignal },
  ): Promise<'stored' | 'taken'>;
}

/** Packs whose number of references changes, in memory: 13 MB. */
const PACK_CHANGES = 65_536;
/** Bytes a blob needs beside its payload in a pack, at most; and a pack beside its blobs. */
const OVERHEAD_PER_CHUNK_BYTES = 128;
const OVERHEAD_PER_PACK_BYTES = 2048;

export class DiskWriter {
  readonly #core: Core;
  readonly #session: DiskSession;
  readonly #limits: WriterLimits;
  readonly #sealer: Sealer;
  readonly #request: WriteDiskRequest;
  readonly #context: VerbContext;
  readonly #chunkCount: number;
  readonly #parent: MapReader | undefined;
  readonly #pool: BufferPool;
  readonly #builder: MapBuilder;
  readonly #deltas: PackDeltas;
  readonly #mapPages: PageWriter;
  readonly #abort = new AbortController();
  readonly #signal: AbortSignal;
  /** Leaves begun and not written yet, in the order of the disk. */
  readonly #waiting: LeafTask[] = [];
  readonly #claimed = new Set<ChunkId>();
  readonly #uploads = new Set<Promise<void>>();
  readonly #stats = {
    readBytes: 0,
    sourceBytes: 0,
    zeroBytes: 0,
    skippedBytes: 0,
    readAgainBytes: 0,
    takenOverBytes: 0,
    unchangedChunks: 0,
    knownChunks: 0,
    newChunks: 0,
    newBytes: 0,
    storedBytes: 0,
    metadataBytes: 0,
    stageMs: noTimes(),
  };
  #tasks: Iterator<LeafTask> = [][Symbol.iterator]();
  #totalBytes = 0;
  #advancing: Promise<void> = Promise.resolve();

  constructor(input: {
    core: Core;
    session: DiskSession;
    limits: WriterLimits;
    sealer: Sealer;
    request: WriteDiskRequest;
    context: VerbContext;
  }) {
    const { core, session, limits, request, context } = input;
    const { chunkSizeBytes } = core.superblock;
    this.#core = core;
    this.#session = session;
    this.#limits = limits;
    this.#sealer = input.sealer;
    this.#request = request;
    this.#context = context;
    this.#chunkCount = Math.ceil(request.sizeBytes / chunkSizeBytes);
    this.#signal = AbortSignal.any([context.signal, this.#abort.signal]);
    this.#parent = request.parent && this.#openParent(request.parent);
    this.#mapPages = this.#pageWriter('map');
    this.#deltas = new PackDeltas({
      directory: session.directory,
      maxPacks: limits.packChanges ?? PACK_CHANGES,
      random: core.random,
    });
    const stripeBytes = limits.stripeChunks * (chunkSizeBytes + OVERHEAD_PER_CHUNK_BYTES);
    this.#pool = new BufferPool({
      count: input.sealer.laneCount + limits.spareBuffers,
      bytes: Math.max(limits.packBytes, stripeBytes + OVERHEAD_PER_PACK_BYTES),
    });
    this.#builder = new MapBuilder({
      geometry: core.superblock,
      rootLevel: rootLevel(core.superblock, this.#chunkCount),
      base: this.#sameSize ? this.#parent : undefined,
      pages: this.#mapPages,
      deltas: this.#deltas,
    });
  }

  /** So far; whole once `run` has come to an end, whatever end. */
  get stats(): WriteDiskStats {
    return this.#stats;
  }

  /** Runs once. On an error packs that were uploaded stay in the session's journal, and nothing else is left. */
  async run(): Promise<{ root: DiskRoot; stats: WriteDiskStats }> {
    try {
      return await this.#run();
    } finally {
      await this.#deltas.close();
    }
  }

  async #run(): Promise<{ root: DiskRoot; stats: WriteDiskStats }> {
    const { sizeBytes, allocation } = this.#request;
    const { chunkSizeBytes, leafEntries } = this.#core.superblock;
    const changed = this.#changed();
    const damaged = await this.#damagedRanges();
    const asked = changed === 'all' ? changed : [...changed, ...damaged];
    const runs = planRuns({ sizeBytes, chunkSizeBytes, changed: asked, allocation });
    const bytesOf = (kind: 'read' | 'empty'): number =>
      runs
        .filter((run) => (run.kind === 'read') === (kind === 'read'))
        .reduce((sum, run) => sum + this.#bytesOf(run.firstChunk, run.count), 0);
    this.#totalBytes = bytesOf('read');
    if (damaged.length > 0 && changed !== 'all') {
      const without = planRuns({ sizeBytes, chunkSizeBytes, changed, allocation }).filter(
        ({ kind }) => kind === 'read',
      );
      const withoutBytes = without.reduce((sum, run) => sum + this.#bytesOf(run.firstChunk, run.count), 0);
      this.#stats.readAgainBytes = this.#totalBytes - withoutBytes;
    }
    this.#stats.skippedBytes = bytesOf('empty');
    this.#stats.takenOverBytes = sizeBytes - this.#totalBytes - this.#stats.skippedBytes;
    this.#tasks = leafTasks(runs, {
      chunkCount: this.#chunkCount,
      leafEntries,
      hasParent: this.#parent !== undefined,
      everyLeaf: this.#parent !== undefined && !this.#sameSize,
    });
    this.#progress();
    await this.#runLanes(Math.ceil(this.#totalBytes / (this.#limits.stripeChunks * chunkSizeBytes)));
    return { root: await this.#finish(), stats: this.#stats };
  }

  get #sameSize(): boolean {
    return this.#request.parent?.sizeBytes === this.#request.sizeBytes;
  }

  #openParent(parent: DiskRoot): MapReader {
    const { chunkSizeBytes } = this.#core.superblock;
    if (parent.chunkSizeBytes !== chunkSizeBytes) {
      throw new LifeboatError(
        'input.invalid',
        `the parent of disk ${this.#request.name} has chunks of ${parent.chunkSizeBytes} bytes, the repository of ${chunkSizeBytes}`,
      );
    }
    const { pages, superblock } = this.#core;
    return new MapReader({
      root: parent,
      pages,
      geometry: superblock,
      what: `the parent of disk ${this.#request.name}`,
    });
  }

  /** What the caller says changed; a disk that grew or shrank is also read from the chunk in which the shorter one ends. */
  #changed(): 'all' | readonly ByteRange[] {
    const { parent, changed, sizeBytes } = this.#request;
    if (!parent || changed === 'all') return 'all';
    if (this.#sameSize) return changed;
    const { chunkSizeBytes } = this.#core.superblock;
    const offsetBytes = Math.floor(Math.min(parent.sizeBytes, sizeBytes) / chunkSizeBytes) * chunkSizeBytes;
    return [...changed, { offsetBytes, lengthBytes: sizeBytes - offsetBytes }];
  }

  /**
   * Chunks whose place in the parent is reported as damaged, and led nowhere yet. The parent's map is looked through only when its
   * pack set names a pack that was reported. Throws `repository.map-damaged`: then the parent is no help.
   */
  async #damagedRanges(): Promise<ByteRange[]> {
    const { healing } = this.#session;
    const parent = this.#parent;
    if (!parent || !healing.damage.mayWait) return [];
    const options = { signal: this.#signal };
    let waits = false;
    for await (const need of readPackSet(this.#core.pages, parent.root.packs, options)) {
      if (need instanceof Error) throw this.#setDamage(need);
      waits ||= healing.damage.waitsIn(need.pack);
    }
    if (!waits) return [];
    const ranges: ByteRange[] = [];
    const end = Math.min(parent.root.sizeBytes, this.#request.sizeBytes);
    for await (const { firstChunk, places } of parent.runs(0, parent.chunkCount, options)) {
      if (places instanceof Error) throw places;
      if (typeof places === 'string') continue;
      for (const [i, place] of places.entries()) {
        if (typeof place === 'string' || !(await healing.needsRead(place, options))) continue;
        const offsetBytes = (firstChunk + i) * parent.root.chunkSizeBytes;
        const lengthBytes = Math.min(parent.chunkBytes(firstChunk + i), end - offsetBytes);
        if (lengthBytes <= 0) continue;
        healing.readAgain(place);
        ranges.push({ offsetBytes, lengthBytes });
      }
    }
    return ranges;
  }

  #setDamage(error: unknown): unknown {
    const what = `the pack set of the parent of disk ${this.#request.name}`;
    return asMapDamage(error, { what, offsetBytes: 0, lengthBytes: this.#request.sizeBytes });
  }

  // --- lanes

  async #runLanes(stripes: number): Promise<void> {
    const { chunkSizeBytes } = this.#core.superblock;
    const config = {
      source: this.#request.source,
      sizeBytes: this.#request.sizeBytes,
      chunkSizeBytes,
      stripeChunks: this.#limits.stripeChunks,
      owner: this.#session.dataOwner,
    };
    const laneCount = Math.min(this.#sealer.laneCount, stripes);
    const lanes = Array.from({ length: laneCount }, async () => {
      const lane = await this.#sealer.openLane(config);
      try {
        await this.#serve(lane);
      } catch (error) {
        // The others stop at their next step; what they throw then is this reason.
        this.#abort.abort(error);
        throw error;
      } finally {
        const { times, sourceBytes } = await lane.close();
        this.#stats.sourceBytes += sourceBytes;
        for (const stage of STAGES) this.#stats.stageMs[stage] += times[stage];
      }
    });
    // Also without lanes there may be leaves to write: chunks known to hold nothing, or a disk of another size.
    if (laneCount === 0) await this.#takeTask();
    const outcomes = await Promise.allSettled(lanes);
    await Promise.allSettled(this.#uploads);
    await this.#advance();
    this.#context.signal.throwIfAborted();
    if (this.#abort.signal.aborted) throw this.#abort.signal.reason;
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  async #serve(lane: SealingLane): Promise<void> {
    const stripes = this.#stripes();
    let hasPack = false;
    const seal = async (): Promise<void> => {
      const { buffer, pack } = await orAbort(lane.seal(), this.#signal);
      hasPack = false;
      this.#upload(pack, buffer);
    };
    const hash = (stripe: Stripe): Promise<StripeIds> => {
      const ids = lane.hash(stripe.chunks);
      // It may fail while this lane is busy with the stripe before; it is awaited in its turn.
      ids.catch(() => undefined);
      return ids;
    };
    let stripe = await stripes.next();
    let ids = stripe && hash(stripe);
    while (stripe && ids) {
      const current = stripe;
      const found = await orAbort(ids, this.#signal);
      const crowded = this.#waiting.length > this.#limits.waitingLeaves;
      // Read ahead, but never while too many leaves wait: what they wait for may be in this lane's own pack.
      stripe = crowded ? undefined : await stripes.next();
      ids = stripe && hash(stripe);
      const wanted = await this.#decide(current, found);
      const buffer: ArrayBuffer | undefined =
        wanted.length > 0 && !hasPack ? await this.#pool.acquire(this.#signal) : undefined;
      hasPack ||= buffer !== undefined;
      const { needsSeal } = await orAbort(lane.store(buffer ? { wanted, buffer } : { wanted }), this.#signal);
      if (needsSeal || (crowded && hasPack)) await seal();
      this.#signal.throwIfAborted();
      if (crowded) {
        await orAbort(Promise.all(this.#uploads), this.#signal);
        await this.#advance();
        stripe = await stripes.next();
        ids = stripe && hash(stripe);
      }
    }
    if (hasPack) await seal();
  }

  /** Stripes for one lane: all of a leaf, then another leaf nobody has. */
  #stripes(): { next(): Promise<Stripe | undefined> } {
    let task: LeafTask | undefined;
    let at = 0;
    const { stripeChunks } = this.#limits;
    return {
      next: async () => {
        if (!task || at >= task.reads.length) {
          task = await this.#takeTask();
          at = 0;
        }
        if (!task) return undefined;
        const chunks = task.reads.slice(at, at + stripeChunks);
        at += chunks.length;
        return { task, chunks };
      },
    };
  }

  /** The next leaf with something to read. Leaves without are written on the way. */
  async #takeTask(): Promise<LeafTask | undefined> {
    let passed = 0;
    for (let next = this.#tasks.next(); !next.done; next = this.#tasks.next()) {
      this.#waiting.push(next.value);
      if (next.value.reads.length > 0) return next.value;
      if (++passed % 64 === 0) {
        this.#signal.throwIfAborted();
        await this.#advance();
      }
    }
    return undefined;
  }

  // --- deduplication

  /** Answers every chunk of a stripe; returns the positions that have to be stored. */
  async #decide({ task, chunks }: Stripe, ids: StripeIds): Promise<number[]> {
    const options = { signal: this.#signal };
    const parent = this.#parent;
    const before: Place[] = [];
    const unchanged: boolean[] = [];
    for (const [i, chunk] of chunks.entries()) {
      const place = parent && chunk < parent.chunkCount ? await parent.place(chunk, options) : 'hole';
      before.push(place);
      unchanged.push(isBlob(place, ids[i]) && (await this.#isThere(place)));
    }
    const differs = ids.some((id, i) => id !== undefined && !unchanged[i]);
    const stored = differs ? await this.#findStored(ids, unchanged) : [];
    // No await from here on: two lanes must not claim one chunk.
    const wanted: number[] = [];
    const { leafEntries } = this.#core.superblock;
    for (const [position, chunk] of chunks.entries()) {
      const id = ids[position];
      const old = before[position];
      const sizeBytes = this.#bytesOf(chunk, 1);
      this.#stats.readBytes += sizeBytes;
      let answer: Place | AwaitedChunk;
      if (id === undefined) {
        this.#stats.zeroBytes += sizeBytes;
        answer = old === 'hole' && parent && chunk < parent.chunkCount ? 'hole' : 'zero';
      } else if (unchanged[position] && old !== undefined) {
        this.#stats.unchangedChunks++;
        answer = old;
      } else {
        const known = stored[position] ?? this.#session.lookup(id);
        if (known || this.#claimed.has(id)) this.#stats.knownChunks++;
        else {
          this.#claimed.add(id);
          wanted.push(position);
          this.#stats.newChunks++;
          this.#stats.newBytes += sizeBytes;
        }
        answer = known ?? { awaits: id };
      }
      task.slots[chunk - task.index * leafEntries] = answer;
    }
    task.unanswered -= chunks.length;
    this.#progress();
    return wanted;
  }

  /** What is the same as in the parent is taken from there only while its pack is: it was read, and can be stored again. */
  async #isThere(place: BlobRef): Promise<boolean> {
    await this.#session.loadListed(this.#signal);
    return this.#session.isUsable(place);
  }

  /** Looks up what is not as it was. */
  async #findStored(ids: StripeIds, unchanged: readonly boolean[]): Promise<(BlobRef | undefined)[]> {
    await this.#session.loadKnown(this.#signal);
    return Promise.all(
      ids.map(async (id, i) => (id === undefined || unchanged[i] ? undefined : this.#session.find(id))),
    );
  }

  // --- packs

  #upload(pack: FinishedPack, buffer: ArrayBuffer): void {
    const upload = this.#store(pack, buffer)
      .catch((error: unknown) => this.#abort.abort(error))
      .finally(() => this.#uploads.delete(upload));
    this.#uploads.add(upload);
  }

  async #store(pack: FinishedPack, buffer: ArrayBuffer): Promise<void> {
    await this.#session.storeDataPack(pack, new Uint8Array(buffer, 0, pack.sizeBytes), this.#signal);
    this.#stats.storedBytes += pack.sizeBytes;
    for (const { id } of pack.blobs) this.#claimed.delete(id);
    this.#pool.release(buffer);
    await this.#advance();
  }

  // --- the map

  /** Writes the leaves at the head of the queue that are complete. Calls queue up. */
  #advance(): Promise<void> {
    this.#advancing = this.#advancing
      .then(() => this.#writeLeaves())
      .catch((error: unknown) => this.#abort.abort(error));
    return this.#advancing;
  }

  async #writeLeaves(): Promise<void> {
    for (let task = this.#waiting[0]; task && !this.#signal.aborted; task = this.#waiting[0]) {
      const places = await this.#resolve(task);
      if (!places) return;
      await this.#builder.putLeaf(task.index, places, { signal: this.#signal });
      if (this.#deltas.isFull) await this.#deltas.spill();
      this.#waiting.shift();
    }
  }

  /** The places of a leaf, or undefined while one of them is not known. */
  async #resolve(task: LeafTask): Promise<Place[] | undefined> {
    if (task.unanswered > 0) return undefined;
    const { leafEntries } = this.#core.superblock;
    const places: Place[] = [];
    for (const [i, slot] of task.slots.entries()) {
      let place: Place | undefined;
      if (slot === 'parent') {
        const chunk = task.index * leafEntries + i;
        place = this.#parent && chunk < this.#parent.chunkCount ? await this.#parent.place(chunk) : 'hole';
      } else if (typeof slot === 'object' && 'awaits' in slot) {
        const { awaits } = slot;
        place = this.#session.lookup(awaits);
        // Stored, and in the index already.
        if (!place && !this.#claimed.has(awaits)) place = await this.#session.find(awaits);
      } else {
        place = slot;
      }
      if (place === undefined) return undefined;
      places.push(place);
    }
    return places;
  }

  async #finish(): Promise<DiskRoot> {
    const options = { signal: this.#signal };
    const left = this.#waiting.length;
    if (left > 0)
      throw new LifeboatError('internal.bug', `disk ${this.#request.name}: ${left} leaves never got their chunks`);
    const map = await this.#builder.finish(options);
    await this.#mapPages.flush();
    for (const { pack, pages } of this.#mapPages.packs) this.#deltas.addPack(pack, pages);
    const setPages = this.#pageWriter('set');
    const takenOver = new PackSizes();
    const writer = new PackSetWriter({
      pages: this.#core.pages,
      writer: setPages,
      maxPacks: this.#core.superblock.packSetEntries,
      sizeOf: (pack) => {
        const size = this.#session.sizeOf(pack) ?? takenOver.get(pack);
        if (size === undefined) throw new LifeboatError('internal.bug', `the size of pack ${pack} is not known`);
        return size;
      },
    });
    const before = this.#sameSize ? (this.#request.parent?.packs ?? null) : null;
    // A pack taken over from a parent of another size is new to this set: the store has its size, or, where it was moved, the set before.
    if (!this.#deltas.isEmpty && this.#parent && !this.#sameSize) {
      await this.#session.loadKnown(this.#signal);
      for await (const need of readPackSet(this.#core.pages, this.#parent.root.packs, options)) {
        if (need instanceof Error) throw this.#setDamage(need);
        if (need.sizeBytes !== undefined && this.#session.sizeOf(need.pack) === undefined)
          takenOver.set(need.pack, need.sizeBytes);
      }
    }
    const { sizeBytes } = this.#request;
    let packs: BlobRef | null;
    try {
      packs = await writer.update(before, this.#deltas.sorted(), options);
    } catch (error) {
      throw this.#setDamage(error);
    }
    await setPages.flush();
    // Copies: the page writer completed its references in place.
    return {
      sizeBytes,
      chunkSizeBytes: this.#core.superblock.chunkSizeBytes,
      map: typeof map === 'string' ? map : { ...map },
      packs: packs && { ...packs },
    };
  }

  #pageWriter(kind: 'map' | 'set'): PageWriter {
    return new PageWriter({
      owner: this.#session.pageOwner(kind),
      compression: this.#core.zstd(1),
      packBytes: this.#limits.pagePackBytes,
      upload: async (pack, bytes, spoilt) => {
        const outcome = await this.#session.storePagePack(pack, bytes, { spoilt, signal: this.#signal });
        if (outcome === 'stored') this.#stats.metadataBytes += pack.sizeBytes;
        return outcome;
      },
    });
  }

  #bytesOf(firstChunk: number, count: number): number {
    const { chunkSizeBytes } = this.#core.superblock;
    return Math.min((firstChunk + count) * chunkSizeBytes, this.#request.sizeBytes) - firstChunk * chunkSizeBytes;
  }

  #progress(): void {
    this.#context.progress({
      phase: 'write',
      doneBytes: this.#stats.readBytes,
      totalBytes: this.#totalBytes,
      detail: this.#request.name,
    });
  }
}

interface Stripe {
  readonly task: LeafTask;
  readonly chunks: readonly number[];
}

function isBlob(place: Place | undefined, id: ChunkId | undefined): place is BlobRef {
  return typeof place === 'object' && place.id === id;
}
