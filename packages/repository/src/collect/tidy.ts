/**
 * Removes what collections and sessions leave under control/: only what means nothing any more, so nothing here needs the protocol.
 *
 * - records of sessions that are closed or have an outcome (fences and outcomes stay: a late PUT has no deadline)
 * - index segments whose packs are all gone
 * - relocations that lead only to packs that are gone
 * - damage reports of packs that are gone and that nobody needs
 * - parts of lists before the one that is being swept, and of lists that were never published; what is not ours stays
 *
 * The list itself stays until the next one is swept: its points are what the next collection compares with, and its id is the
 * generation writers seal under.
 */
import { hasCode } from '@lifeboat/foundation/errors';

import { listReports, readReport, type ReportName } from '../check/damage-reports.ts';
import type { Core } from '../core.ts';
import type { CondemnHead } from '../format/condemn-list.ts';
import { MAX_INDEX_SEGMENT_BYTES } from '../format/limits.ts';
import {
  CONDEMN_PARTS,
  CONDEMNED,
  damageClosedObject,
  damageOpenObject,
  hex,
  INDEX,
  type PackName,
  packObject,
  packOfObject,
  PACKS,
  relocatedPackOf,
  RELOCATIONS,
  SESSIONS,
} from '../format/names.ts';
import { targetPacks } from '../format/relocation.ts';
import { namingOf } from '../read/relocations.ts';
import { controlName } from '../seal/control-records.ts';
import { isUselessObject } from '../store/bad-object.ts';
import { listNames, type StoreOptions } from '../store/object-store.ts';
import { openSegment } from '../write/known-packs.ts';
import { isSwept } from './condemn-lists.ts';
import { listAll, listRecords } from './listing.ts';
import { readRelocation } from './moved-packs.ts';
import { PackNames } from './pack-names.ts';
import type { PackUse } from './pack-use.ts';

/** May be repeated. While `list` is open nobody can publish another, so parts that are not its own will never belong to one. */
export async function tidyUp(
  core: Core,
  what: {
    readonly list: CondemnHead;
    readonly over: ReadonlySet<string>;
    /** What points need, there or not. */
    readonly use: PackUse | undefined;
  },
  options: StoreOptions = {},
): Promise<void> {
  const reports = await listReports(core, options);
  const segments = await listAll(core, INDEX, options);
  const relocations = (await listAll(core, RELOCATIONS, options)).filter((name) => namingOf(core, name) !== 'foreign');
  const packs = await listPackNames(core, options);
  const stale = [
    ...(await settledReports(core, { reports, packs, use: what.use }, options)),
    ...(await closedSessions(core, what.over, options)),
    ...(await deadSegments(core, { segments, packs }, options)),
    ...(await deadRelocations(core, { relocations, packs }, options)),
    ...(await olderLists(core, what.list, options)),
  ];
  for (const name of stale) await removeUnlocked(core, name, options);
}

/** What lies under data/ may be locked: a later collection takes it. */
async function removeUnlocked(core: Core, name: string, options: StoreOptions): Promise<void> {
  try {
    await core.store.delete(name, options);
  } catch (error) {
    if (!hasCode(error, 'repository.object-locked')) throw error;
  }
}

async function listPackNames(core: Core, options: StoreOptions): Promise<PackNames> {
  const packs = new PackNames();
  for await (const name of listNames(core.store, PACKS, options)) {
    const pack = packOfObject(name);
    if (pack) packs.add(pack);
  }
  return packs;
}

async function closedSessions(core: Core, over: ReadonlySet<string>, options: StoreOptions): Promise<string[]> {
  const { ours } = await listRecords(core, SESSIONS, options);
  const stale = [...ours].filter(([plain]) => over.has(plain.slice(SESSIONS.length).split('/')[0] ?? ''));
  // `open` goes first: a session of which only that is left would look as if it were still at work.
  const isOpen = ([plain]: [string, string]): boolean => plain.endsWith('/open');
  return [...stale.filter(isOpen), ...stale.filter((record) => !isOpen(record))].map(([, name]) => name);
}

/** `packs` was listed after `segments`, as after the reports: both come after the packs they name. */
async function deadSegments(
  core: Core,
  { segments, packs }: { segments: readonly string[]; packs: PackNames },
  options: StoreOptions,
): Promise<string[]> {
  const dead: string[] = [];
  for (const name of segments) {
    try {
      const object = await core.store.get(name, { ...options, maxBytes: MAX_INDEX_SEGMENT_BYTES });
      if (!openSegment(core, object, name).some(({ pack }) => packs.has(pack))) dead.push(name);
    } catch (error) {
      if (!isUselessObject(error)) throw error;
      // One of other bytes serves nobody. On bad sectors it may be read another time, and a newer release reads its own.
      if (hasCode(error, 'repository.object-damaged')) dead.push(name);
    }
  }
  return dead;
}

/** Where one leads to a pack that is gone, but that another one leads from, readers go on. */
async function deadRelocations(
  core: Core,
  { relocations, packs }: { relocations: readonly string[]; packs: PackNames },
  options: StoreOptions,
): Promise<string[]> {
  const sources = new PackNames();
  for (const name of relocations) sources.add(relocatedPackOf(name));
  const dead: string[] = [];
  for (const name of relocations) {
    const targets = await packsLedTo(core, name, options);
    const goesOn = targets.length === 0 || targets.some((pack) => packs.has(pack) || sources.has(pack));
    // What the listing left out is asked for: without its relocation a blob is not found.
    if (!goesOn && !(await anyIsThere(core, targets, options))) dead.push(name);
  }
  return dead;
}

async function anyIsThere(core: Core, packs: readonly PackName[], options: StoreOptions): Promise<boolean> {
  for (const pack of packs) if (await core.store.head(packObject(pack), options)) return true;
  return false;
}

/** None for a relocation that cannot be read: of a pack that is needed it stops the next collection, and else goes with its pack. */
async function packsLedTo(core: Core, name: string, options: StoreOptions): Promise<PackName[]> {
  try {
    const record = await readRelocation(core, name, options);
    return record ? targetPacks(record.statement).map(({ pack }) => pack) : [];
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    return [];
  }
}

/**
 * Those of which every pack is gone, and needed by nobody. Dead is not enough: while a pack is there (locked, or made since the mark) a
 * writer may refer to it. Gone is not enough either: what points need of it can still be read again at its source.
 */
async function settledReports(
  core: Core,
  { reports, packs, use }: { reports: readonly ReportName[]; packs: PackNames; use: PackUse | undefined },
  options: StoreOptions,
): Promise<string[]> {
  const settled: string[] = [];
  for (const { reportId } of reports) {
    const report = await readReport(core, reportId, options);
    // It is not known which packs it is about.
    if (!report) continue;
    const matters = (pack: PackName): boolean => packs.has(pack) || !use || use.is(pack, 'hinted', 'target');
    if (report.packs.some(matters) || [...report.chunks, ...report.pages].some(({ pack }) => matters(pack))) continue;
    // The report goes before its closing: alone it would count as open.
    settled.push(damageOpenObject(reportId), damageClosedObject(reportId));
  }
  return settled.map((plain) => controlName(core, plain));
}

async function olderLists(core: Core, list: CondemnHead, options: StoreOptions): Promise<string[]> {
  const { ours } = await listRecords(core, CONDEMNED, options);
  // Asked after the listing: the parts of a next list are written only when this one is marked as swept.
  if (await isSwept(core, list, options)) return [];
  const own = `${CONDEMN_PARTS}${hex(list.listId)}/`;
  // Heads and marks stay, 200 bytes a collection: a number that were free again could be published by a collector that was frozen.
  return [...ours].flatMap(([plain, name]) =>
    plain.startsWith(CONDEMN_PARTS) && !plain.startsWith(own) ? [name] : [],
  );
}
