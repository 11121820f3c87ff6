/** Damage that checks found: written down for the writers that come after, until it is healed. */
import { hasCode } from '@lifeboat/foundation/errors';

import { listRecords } from '../collect/listing.ts';
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
import type { StoreOptions } from '../store/object-store.ts';

/**
 * Reports that are read, open ones first: each names up to 16,384 blobs, 100 bytes each in memory. With more of them a writer knows
 * less of the damage, and heals the rest in its next sessions.
 */
const MAX_REPORTS_READ = 256;
/** Chunks, and pages, in one report. */
const PART_BLOBS = MAX_REPORTED_BLOBS / 2;

/** Chunks and pages that cannot be read in the place that is named, and packs of which nothing can be relied on. */
export interface Damage extends ReportedBlobs {
  readonly packs: readonly PackName[];
}

export interface Report extends Damage {
  readonly reportId: string;
}

/** What is known to be damaged, as a writer asks it. */
export class KnownDamage {
  /** Whether there is nothing at all. */
  get isEmpty(): boolean {
    return this.#all.size === 0;
  }

  readonly open: readonly Report[];
  /** All of them, open or closed. */
  readonly reports: readonly Report[];
  /** Ids of chunks that wait to be healed. */
  readonly openIds: ReadonlySet<ChunkId>;
  /** Slots by pack; undefined: all of it. */
  readonly #all = new Map<PackName, Set<number> | undefined>();
  readonly #open = new Map<PackName, Set<number> | undefined>();

  constructor(reports: { readonly open: readonly Report[]; readonly closed: readonly Report[] }) {
    this.open = reports.open;
    this.reports = [...reports.open, ...reports.closed];
    this.openIds = new Set(this.open.flatMap(({ chunks }) => chunks.map(({ id }) => id)));
    for (const report of this.reports) addTo(this.#all, report);
    for (const report of reports.open) addTo(this.#open, report);
  }

  /** Whether anything of the pack was ever reported. */
  touches(pack: PackName): boolean {
    return this.#all.has(pack);
  }

  /** Whether the place was ever reported, healed or not. */
  has(ref: BlobRef): boolean {
    return holds(this.#all, ref);
  }

  /** Whether the pack as a whole was ever reported. */
  isWhole(pack: PackName): boolean {
    return this.#all.has(pack) && this.#all.get(pack) === undefined;
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

function addTo(known: Map<PackName, Set<number> | undefined>, { packs, chunks, pages }: Damage): void {
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

/** Reads the reports. One that is damaged or not ours is logged and passed over; a listing that fails throws. */
export async function readDamage(core: Core, options: StoreOptions = {}): Promise<KnownDamage> {
  const { ours } = await listRecords(core, DAMAGE, options);
  const ids = [...ours.keys()].map((plain) => plain.slice(DAMAGE.length).split('/')[0] ?? '');
  const closed = new Set<string>();
  for (const reportId of new Set(ids))
    if (ours.has(damageClosedObject(reportId)) && (await isClosed(core, reportId, options))) closed.add(reportId);
  const reported = new Set(ids.filter((reportId) => ours.has(damageOpenObject(reportId))));
  const wanted = [...reported].toSorted((a, b) => Number(closed.has(a)) - Number(closed.has(b)) || (a < b ? -1 : 1));
  if (wanted.length > MAX_REPORTS_READ)
    core.log.warn('there are more damage reports than are read', { reports: wanted.length, limit: MAX_REPORTS_READ });
  const reports: { open: Report[]; closed: Report[] } = { open: [], closed: [] };
  for (const reportId of wanted.slice(0, MAX_REPORTS_READ)) {
    const report = await readReport(core, reportId, options);
    if (report) (closed.has(reportId) ? reports.closed : reports.open).push(report);
  }
  return new KnownDamage(reports);
}

/**
 * Writes down what no open report names yet. Returns how many reports that took. Who may only read can still say what is damaged:
 * `repository.store-denied` is logged, and nothing is written.
 */
export async function reportDamage(core: Core, damage: Damage, options: StoreOptions = {}): Promise<number> {
  const { open: known } = await readDamage(core, options);
  const packs = unknown(
    damage.packs,
    known.flatMap((report) => report.packs),
    (pack) => pack,
  );
  const chunks = unknown(
    damage.chunks,
    known.flatMap((report) => report.chunks),
    keyOf,
  );
  const pages = unknown(
    damage.pages,
    known.flatMap((report) => report.pages),
    keyOf,
  );
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

function unknown<T>(found: readonly T[], known: readonly T[], keyOfItem: (item: T) => string): T[] {
  const keys = new Set(known.map(keyOfItem));
  return found.filter((item) => {
    const isNew = !keys.has(keyOfItem(item));
    keys.add(keyOfItem(item));
    return isNew;
  });
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

async function readReport(core: Core, reportId: string, options: StoreOptions): Promise<Report | undefined> {
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

async function isClosed(core: Core, reportId: string, options: StoreOptions): Promise<boolean> {
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
    const harmless = hasCode(
      error,
      'repository.object-damaged',
      'repository.object-missing',
      'repository.object-unreadable',
      'repository.newer-version',
    );
    if (!harmless) throw error;
    core.log.warn('a record of damage cannot be used', { object: name, why: error.message });
    return undefined;
  }
}

function keyOf({ pack, slot }: BlobRef): string {
  return `${pack} ${slot}`;
}
