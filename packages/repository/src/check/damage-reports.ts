/** Damage that checks found: written down for the writers that come after, until it is healed. */
import { hasCode } from '@lifeboat/foundation/errors';

import { listRecords } from '../collect/listing.ts';
import { PackNames } from '../collect/pack-names.ts';
import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import {
  decodeClosing,
  decodeReport,
  decodeReportedBlobs,
  encodeClosing,
  encodeReport,
  encodeReportedBlobs,
  encodeReportedPacks,
  reportedPacks,
  type ReportedBlobs,
} from '../format/damage-report.ts';
import { damaged } from '../format/frame.ts';
import { MAX_DAMAGE_REPORT_BYTES, MAX_RECORD_BYTES, MAX_REPORTED_BLOBS, MAX_REPORTED_PACKS } from '../format/limits.ts';
import { DAMAGE, damageClosedObject, damageOpenObject, hex, type ChunkId, type PackName } from '../format/names.ts';
import { open, seal } from '../seal/aead.ts';
import { controlName, openRecord, sealRecord } from '../seal/control-records.ts';
import { damageSeal } from '../seal/damage-seal.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';

/** Reports that are read, open ones first. With more of them a writer heals the rest in its next sessions. */
const MAX_REPORTS_READ = 256;
/** Blobs and packs a writer knows one by one, of all reports together: some 60 MB. Of more it avoids the packs they are in. */
const MAX_KNOWN = 262_144;
/** Chunks, and pages, in one report. */
const PART_BLOBS = MAX_REPORTED_BLOBS / 2;

/** Chunks and pages that cannot be read in the place that is named, and packs of which nothing can be relied on. */
export interface Damage extends ReportedBlobs {
  readonly packs: readonly PackName[];
}

export interface Report extends Damage {
  readonly reportId: string;
}

export interface ReportName {
  readonly reportId: string;
  readonly isClosed: boolean;
}

/** Slots by pack; undefined: all of it. */
type Places = Map<PackName, Set<number> | undefined>;

/** What is known to be damaged, as a writer asks it. */
export class KnownDamage {
  /** Reports that wait to be healed, as far as memory allows: see `add`. */
  readonly open: Report[] = [];
  /** Ids of chunks that wait to be healed. */
  readonly openIds = new Set<ChunkId>();
  readonly #all: Places = new Map();
  readonly #open: Places = new Map();
  /** Packs of reports there was no room for: every place in them counts as damaged. */
  readonly #avoided = new PackNames();
  readonly #maxKnown: number;
  #known = 0;
  #hasWhole = false;

  constructor(maxKnown = MAX_KNOWN) {
    this.#maxKnown = maxKnown;
  }

  /** Open ones first. False: there was no room for it, so that of what it names the packs are avoided, and nothing is healed. */
  add(report: Report, isClosed: boolean): boolean {
    const { packs, chunks, pages } = report;
    this.#known += packs.length + chunks.length + pages.length;
    if (this.#known > this.#maxKnown) {
      for (const pack of packs) this.#avoided.add(pack);
      for (const { pack } of [...chunks, ...pages]) this.#avoided.add(pack);
      return false;
    }
    addTo(this.#all, report);
    this.#hasWhole ||= packs.length > 0;
    if (isClosed) return true;
    addTo(this.#open, report);
    for (const { id } of chunks) this.openIds.add(id);
    this.open.push(report);
    return true;
  }

  /** Whether anything of the pack was ever reported. */
  touches(pack: PackName): boolean {
    return this.#all.has(pack) || this.#avoided.has(pack);
  }

  /** Whether the place was ever reported, healed or not. */
  has(ref: BlobRef): boolean {
    return holds(this.#all, ref) || this.#avoided.has(ref.pack);
  }

  /** Whether the pack as a whole was ever reported. */
  isWhole(pack: PackName): boolean {
    return this.#all.has(pack) && this.#all.get(pack) === undefined;
  }

  /** Whether there is any pack whose points' maps are worth looking through. */
  get mayWait(): boolean {
    return this.#open.size > 0 || this.#hasWhole;
  }

  /** Whether the maps of points that need the pack are worth looking through. */
  waitsIn(pack: PackName): boolean {
    return this.#open.has(pack) || this.isWhole(pack);
  }

  /** Whether the place waits to be healed. */
  waits(ref: BlobRef): boolean {
    return holds(this.#open, ref);
  }
}

function addTo(known: Places, { packs, chunks, pages }: Damage): void {
  for (const { pack, slot } of [...chunks, ...pages]) {
    const slots = known.get(pack);
    if (slots) slots.add(slot);
    else if (!known.has(pack)) known.set(pack, new Set([slot]));
  }
  for (const pack of packs) known.set(pack, undefined);
}

function holds(known: ReadonlyMap<PackName, ReadonlySet<number> | undefined>, { pack, slot }: BlobRef): boolean {
  return known.has(pack) && (known.get(pack)?.has(slot) ?? true);
}

/** Which reports there are, open ones first; what is in them is not looked at. A listing that fails throws. */
export async function listReports(core: Core, options: StoreOptions = {}): Promise<ReportName[]> {
  const { ours } = await listRecords(core, DAMAGE, options);
  const ids = new Set([...ours.keys()].map((plain) => plain.slice(DAMAGE.length).split('/')[0] ?? ''));
  const names: ReportName[] = [];
  for (const reportId of ids) {
    if (!ours.has(damageOpenObject(reportId))) continue;
    const isClosed = ours.has(damageClosedObject(reportId)) && (await readClosing(core, reportId, options));
    names.push({ reportId, isClosed });
  }
  return names.toSorted((a, b) => Number(a.isClosed) - Number(b.isClosed) || (a.reportId < b.reportId ? -1 : 1));
}

/** Reads the reports. One that is damaged or not ours is logged and passed over; a listing that fails throws. */
export async function readDamage(core: Core, options: StoreOptions = {}): Promise<KnownDamage> {
  const names = await listReports(core, options);
  const known = new KnownDamage();
  let avoided = 0;
  for (const { reportId, isClosed } of names.slice(0, MAX_REPORTS_READ)) {
    const report = await readReport(core, reportId, options);
    if (report && !known.add(report, isClosed)) avoided++;
  }
  if (names.length > MAX_REPORTS_READ || avoided > 0)
    core.log.warn('there is more damage reported than a backup can heal at once', { reports: names.length, avoided });
  return known;
}

/**
 * Writes down what no open report names yet. Returns how many reports that took. Who may only read can still say what is damaged:
 * `repository.store-denied` is logged, and nothing is written.
 */
export async function reportDamage(core: Core, damage: Damage, options: StoreOptions = {}): Promise<number> {
  const newPacks = new Set(damage.packs);
  const newChunks = byPlace(damage.chunks);
  const newPages = byPlace(damage.pages);
  const isOpen = ({ isClosed }: ReportName): boolean => !isClosed;
  for (const { reportId } of (await listReports(core, options)).filter(isOpen).slice(0, MAX_REPORTS_READ)) {
    const known = await readReport(core, reportId, options);
    for (const pack of known?.packs ?? []) newPacks.delete(pack);
    for (const ref of known?.chunks ?? []) newChunks.delete(keyOf(ref));
    for (const ref of known?.pages ?? []) newPages.delete(keyOf(ref));
  }
  const [packs, chunks, pages] = [[...newPacks], [...newChunks.values()], [...newPages.values()]];
  const count = Math.max(
    Math.ceil(packs.length / MAX_REPORTED_PACKS),
    Math.ceil(Math.max(chunks.length, pages.length) / PART_BLOBS),
  );
  for (let i = 0; i < count; i++) {
    const part = {
      packs: packs.slice(i * MAX_REPORTED_PACKS, (i + 1) * MAX_REPORTED_PACKS),
      chunks: chunks.slice(i * PART_BLOBS, (i + 1) * PART_BLOBS),
      pages: pages.slice(i * PART_BLOBS, (i + 1) * PART_BLOBS),
    };
    try {
      await writeReport(core, part, options);
    } catch (error) {
      if (!hasCode(error, 'repository.store-denied')) throw error;
      core.log.warn('damage cannot be written down for the next backups', { why: error.message });
      return i;
    }
  }
  return count;
}

function byPlace(refs: readonly BlobRef[]): Map<string, BlobRef> {
  return new Map(refs.map((ref) => [keyOf(ref), ref]));
}

/** Says that everything the report names is found elsewhere. May be repeated. */
export async function closeReport(core: Core, reportId: string, options: StoreOptions = {}): Promise<void> {
  const name = controlName(core, damageClosedObject(reportId));
  const body = encodeClosing({ closedMs: core.clock.nowMs() });
  await core.store.putIfAbsent(name, [sealRecord(core, { type: 'DMGC', name, body })], options);
}

async function writeReport(core: Core, damage: Damage, options: StoreOptions): Promise<void> {
  const { tenantId, indexKey } = core.keyring;
  const reportedMs = core.clock.nowMs();
  const reportId = `${String(reportedMs).padStart(14, '0')}-${hex(core.random.bytes(8))}`;
  const salt = core.random.bytes(32);
  const sealed = seal(damageSeal(indexKey, { tenantId, reportId, salt }), encodeReportedBlobs(damage));
  const body = encodeReport({ reportedMs, packs: encodeReportedPacks(damage.packs), salt, sealed });
  const name = controlName(core, damageOpenObject(reportId));
  await core.store.putIfAbsent(name, [sealRecord(core, { type: 'DMGR', name, body })], options);
}

/** Undefined for one that is damaged or not ours: it counts as none. */
export async function readReport(
  core: Core,
  reportId: string,
  options: StoreOptions = {},
): Promise<Report | undefined> {
  const name = controlName(core, damageOpenObject(reportId));
  return trusting(core, name, async () => {
    const object = await core.store.get(name, { ...options, maxBytes: MAX_DAMAGE_REPORT_BYTES });
    const report = decodeReport(openRecord(core, { type: 'DMGR', name, object }), name);
    const { tenantId, indexKey } = core.keyring;
    const plain = open(damageSeal(indexKey, { tenantId, reportId, salt: report.salt }), report.sealed);
    if (!plain) throw damaged(name, 'its seal does not open');
    return { reportId, packs: reportedPacks(report, name), ...decodeReportedBlobs(plain, name) };
  });
}

async function readClosing(core: Core, reportId: string, options: StoreOptions): Promise<boolean> {
  const name = controlName(core, damageClosedObject(reportId));
  const closed = await trusting(core, name, async () => {
    const object = await core.store.get(name, { ...options, maxBytes: MAX_RECORD_BYTES });
    decodeClosing(openRecord(core, { type: 'DMGC', name, object }), name);
    return true;
  });
  return closed ?? false;
}

async function trusting<T>(core: Core, name: string, read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    core.log.warn('a record of damage cannot be used', { object: name, why: error.message });
    return undefined;
  }
}

function keyOf({ pack, slot }: BlobRef): string {
  return `${pack} ${slot}`;
}
