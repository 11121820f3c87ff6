/**
 * First half of a collection: mark, move what is needed out of packs that are mostly dead, and publish what is dead as a condemn list.
 *
 * ```
 *   points ─► pack sets, maps ─► needed          list of packs ─► not needed? ──────────────► part … part ─► head: published
 *                                                             └─► mostly dead? ─► moved ─► part
 * ```
 * Nothing is deleted here. A list that is open already is gone on with; a second one is not begun.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { ProgressSink } from '@lifeboat/foundation/progress';

import type { Core } from '../core.ts';
import { encodeCondemnHead, encodeCondemnPart, type CondemnHead, type PointName } from '../format/condemn-list.ts';
import { MAX_CONDEMN_PART_PACKS, MAX_CONDEMN_PART_POINTS } from '../format/limits.ts';
import {
  CONDEMN_PARTS,
  condemnListObject,
  condemnPartObject,
  DAMAGE,
  hashBytes,
  FENCES,
  hex,
  LEDGER,
  OUTCOMES,
  packObject,
  packOfObject,
  PACKS,
  SESSIONS,
  TOMBSTONES,
  type CondemnPartKind,
  type PackName,
} from '../format/names.ts';
import { controlName, sealRecord } from '../seal/control-records.ts';
import { listNames, type StoreOptions } from '../store/object-store.ts';
import type { WriterLimits } from '../write/limits.ts';
import { Compaction } from './compact.ts';
import { CompactionPlan, isLocked, type Candidate, type CompactionLimits } from './compaction-plan.ts';
import { listedPoints, orRefuse, readCondemnLists, refuseUnreadable } from './condemn-lists.ts';
import { linkedPoints } from './linked-points.ts';
import { listRecords } from './listing.ts';
import { markLive, type Mark } from './mark.ts';

export interface CondemnReport {
  /**
   * 'published': a list was written, `sweep` is next. 'open': an earlier list waits for `sweep`. 'nothing': no pack is dead.
   * 'dry-run': this is what would be written.
   */
  readonly state: 'published' | 'open' | 'nothing' | 'dry-run';
  readonly listNumber?: number;
  /** Valid points, and pruned ones whose objects go with the list. */
  readonly points: number;
  readonly prunedPoints: number;
  readonly livePacks: number;
  readonly deadPacks: number;
  readonly deadBytes: number;
  /** Objects among points and records that nobody with our keys put there. They mean nothing, and stay. */
  readonly foreign: readonly string[];
  /** Dead, but held by a lock of the store: a later collection takes them. */
  readonly lockedPacks: number;
  /** Where packs were to be compacted. */
  readonly compaction?: CompactionReport;
}

/** Packs that were dead in part. In a dry run: what would be done, by what sizes say. */
export interface CompactionReport {
  /** Packs that were written anew, and are on the list now. */
  readonly packs: number;
  /** Sealed bytes that were copied. */
  readonly copiedBytes: number;
  /** By how much the old packs are larger than what they became: free when the list was swept. */
  readonly freedBytes: number;
  /** Dead beyond the threshold, and left for the next runs, because the budget was used up. */
  readonly leftPacks: number;
  readonly leftBytes: number;
  /** The same, held by locks of the store. */
  readonly lockedPacks: number;
  readonly lockedBytes: number;
  /** Left as they are, because not all that is needed of them could be read. */
  readonly unreadablePacks: number;
}

export interface CompactRequest extends CompactionLimits {
  readonly packs: Pick<WriterLimits, 'packBytes' | 'pagePackBytes'>;
  readonly progress?: ProgressSink;
}

/**
 * Errors: `repository.collection-refused`, `repository.collection-running`, `repository.clocks-disagree`,
 * `repository.limit-exceeded`, those of the store. Nothing is deleted, whatever happens.
 */
export async function condemn(
  core: Core,
  input: { readonly dryRun?: boolean; readonly compact?: CompactRequest | undefined } = {},
  options: StoreOptions = {},
): Promise<CondemnReport> {
  const lists = await readCondemnLists(core, options);
  refuseUnreadable(lists);
  const [open] = lists.open;
  if (open && !input.dryRun) {
    const { number, packCount, packBytes } = open;
    const counts = { points: 0, prunedPoints: 0, livePacks: 0, lockedPacks: 0, foreign: lists.foreign };
    return { state: 'open', listNumber: number, ...counts, deadPacks: packCount, deadBytes: packBytes };
  }
  const expected = lists.newest
    ? orRefuse(core, lists.newest, listedPoints(core, lists.newest, 'points', options))
    : nothing();
  const linked = await linkedPoints(core, options);
  const { newest } = lists;
  const { compact } = input;
  const mark = await markLive(core, { purpose: compact ? 'compact' : 'keep', newest, expected, linked }, options);
  const writer = new ListWriter(core, input.dryRun === true, options);
  const plan = compact && new CompactionPlan(core, { use: mark.use, limits: compact });
  let livePacks = 0;
  let deadBytes = 0;
  let lockedPacks = 0;
  // Packs that are gone, but that relocations still lead from: with the pack's last point these go, too.
  const gone = new Set(mark.forgotten);
  for await (const { name, sizeBytes } of core.store.list(PACKS, options)) {
    const pack = packOfObject(name);
    if (!pack) continue;
    gone.delete(pack);
    if (mark.use.needs(pack)) {
      livePacks++;
      await plan?.consider(pack, sizeBytes, options);
    } else if (await isLocked(core, name, options)) lockedPacks++;
    else {
      await writer.pack(pack);
      deadBytes += sizeBytes;
    }
  }
  for (const pack of gone) await writer.pack(pack);
  const number = lists.highestNumber + 1;
  let compaction: CompactionReport | undefined;
  if (compact && plan) {
    const chosen = plan.choose();
    const run = new Compaction({ core, use: mark.use, listNumber: number, limits: compact.packs, options, ...compact });
    const done = input.dryRun ? undefined : await run.run(chosen, mark.sources);
    const movedSizes = new Map(chosen.map(({ pack, sizeBytes }) => [pack, sizeBytes]));
    let movedBytes = 0;
    for (const pack of done?.packs ?? []) {
      livePacks--;
      const sizeBytes = movedSizes.get(pack) ?? 0;
      movedBytes += sizeBytes;
      if (await isLocked(core, packObject(pack), options)) lockedPacks++;
      else {
        await writer.pack(pack);
        deadBytes += sizeBytes;
      }
    }
    compaction = {
      packs: done ? done.packs.length : chosen.length,
      copiedBytes: done ? done.copiedBytes : sum(chosen, ({ liveBytes }) => liveBytes),
      freedBytes: done ? movedBytes - done.storedBytes : sum(chosen, (candidate) => candidate.deadBytes),
      leftPacks: plan.left.packs,
      leftBytes: plan.left.deadBytes,
      lockedPacks: plan.locked.packs,
      lockedBytes: plan.locked.deadBytes,
      unreadablePacks: done?.unreadablePacks ?? 0,
    };
  }
  for (const point of mark.points) await writer.point('points', point);
  for (const point of mark.pruned) await writer.point('pruned', point);
  await writer.flush();
  const report = {
    points: mark.points.length,
    prunedPoints: mark.pruned.length,
    livePacks,
    deadPacks: writer.packCount,
    deadBytes,
    lockedPacks,
    foreign: [...lists.foreign, ...mark.foreign, ...(await foreignRecords(core, options))],
    ...(compaction && { compaction }),
  };
  if (input.dryRun) return { state: 'dry-run', ...report };
  if (isNothing(mark, writer.packCount)) {
    await writer.withdraw();
    return { state: 'nothing', ...report };
  }
  const head = writer.head({ number, packBytes: deadBytes });
  const name = controlName(core, condemnListObject(number));
  const object = sealRecord(core, { type: 'CLST', name, body: encodeCondemnHead(head) });
  if ((await core.store.putIfAbsent(name, [object], options)) === 'exists') {
    await writer.withdraw();
    throw new LifeboatError(
      'repository.collection-running',
      `condemn list ${number} was published by another collector while this one made its own`,
      { context: { listNumber: number } },
    );
  }
  return { state: 'published', listNumber: number, ...report };
}

async function foreignRecords(core: Core, options: StoreOptions): Promise<string[]> {
  const foreign: string[] = [];
  for (const prefix of [SESSIONS, OUTCOMES, FENCES, TOMBSTONES, DAMAGE, LEDGER])
    foreign.push(...(await listRecords(core, prefix, options)).foreign);
  return foreign;
}

/** A list without packs is published, too, when there are other points than last time: the next collection must know them. */
function isNothing(mark: Mark, deadPacks: number): boolean {
  return mark.asExpected && deadPacks === 0 && mark.pruned.length === 0 && mark.void.length === 0;
}

function sum(candidates: readonly Candidate[], of: (candidate: Candidate) => number): number {
  return candidates.reduce((total, candidate) => total + of(candidate), 0);
}

/** Writes parts as they fill, so that a list of any length takes little memory. */
class ListWriter {
  readonly #core: Core;
  readonly #dryRun: boolean;
  readonly #options: StoreOptions;
  readonly #listId: Uint8Array;
  readonly #parts: Record<CondemnPartKind, number> = { packs: 0, points: 0, pruned: 0 };
  readonly #points: Record<'points' | 'pruned', PointName[]> = { points: [], pruned: [] };
  #packs: PackName[] = [];
  packCount = 0;

  constructor(core: Core, dryRun: boolean, options: StoreOptions) {
    this.#core = core;
    this.#dryRun = dryRun;
    this.#options = options;
    this.#listId = core.random.bytes(16);
  }

  async pack(pack: PackName): Promise<void> {
    this.packCount++;
    if (this.#packs.push(pack) >= MAX_CONDEMN_PART_PACKS) await this.#flushPacks();
  }

  async point(kind: 'points' | 'pruned', { machineId, pointId }: PointName): Promise<void> {
    if (this.#points[kind].push({ machineId, pointId }) >= MAX_CONDEMN_PART_POINTS) await this.#flushPoints(kind);
  }

  async flush(): Promise<void> {
    if (this.#packs.length > 0) await this.#flushPacks();
    for (const kind of ['points', 'pruned'] as const) if (this.#points[kind].length > 0) await this.#flushPoints(kind);
  }

  head(input: { number: number; packBytes: number }): CondemnHead {
    return {
      tenantId: this.#core.keyring.tenantId,
      ...input,
      listId: this.#listId,
      publishedMs: this.#core.clock.nowMs(),
      packCount: this.packCount,
      packParts: this.#parts.packs,
      pointParts: this.#parts.points,
      prunedParts: this.#parts.pruned,
    };
  }

  /** Removes the parts of a list that is not published. */
  async withdraw(): Promise<void> {
    const names: string[] = [];
    const prefix = `${CONDEMN_PARTS}${hex(this.#listId)}/`;
    for await (const name of listNames(this.#core.store, prefix, this.#options)) names.push(name);
    for (const name of names) await this.#core.store.delete(name, this.#options);
  }

  async #flushPacks(): Promise<void> {
    const packs = Buffer.concat(this.#packs.map(hashBytes));
    this.#packs = [];
    await this.#put('packs', encodeCondemnPart({ packs, points: [] }));
  }

  async #flushPoints(kind: 'points' | 'pruned'): Promise<void> {
    const points = this.#points[kind];
    this.#points[kind] = [];
    await this.#put(kind, encodeCondemnPart({ packs: new Uint8Array(0), points }));
  }

  async #put(kind: CondemnPartKind, body: Uint8Array): Promise<void> {
    const sequence = this.#parts[kind]++;
    if (this.#dryRun) return;
    const name = controlName(this.#core, condemnPartObject({ listId: hex(this.#listId), kind, sequence }));
    await this.#core.store.putIfAbsent(name, [sealRecord(this.#core, { type: 'CPRT', name, body })], this.#options);
  }
}

async function* nothing(): AsyncIterable<PointName> {
  // There was no collection before: no point is expected.
}
