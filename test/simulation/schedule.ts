/**
 * One schedule: writers, pruners, collectors and readers at work in one world, and what must be true of it.
 *
 * - A point somebody was told is committed, or that a reader lists, gives back what was backed up; until it is pruned.
 * - The chains miss no point but one that was taken away; and one that only listings leave out is not collected.
 * - When everybody is done, collections remove every pack, relocation, point, session record and index segment nobody needs, and of no
 *   pack is so much dead that it is worth writing anew.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId, parsePointId, type MachineId, type PointId } from '@lifeboat/foundation/ids';
import { judgeChains, readChains } from '@lifeboat/repository/chain/chain-check';
import { linkPoints } from '@lifeboat/repository/chain/link-points';
import { condemn } from '@lifeboat/repository/collect/condemn';
import { markLive } from '@lifeboat/repository/collect/mark';
import type { PackUse } from '@lifeboat/repository/collect/pack-use';
import { SAFETY_RULES, type SafetyRules } from '@lifeboat/repository/collect/rules';
import { sweep } from '@lifeboat/repository/collect/sweep';
import { buryPoint } from '@lifeboat/repository/collect/tombstones';
import type { Core } from '@lifeboat/repository/core';
import { decodeCondemnHead, decodeCondemnPart } from '@lifeboat/repository/format/condemn-list';
import {
  CONDEMN_LISTS,
  condemnPartObject,
  hex,
  INDEX,
  packObject,
  packOfObject,
  PACKS,
  pointObject,
  relocatedPackOf,
  RELOCATIONS,
  sessionClosedObject,
  SESSIONS,
  type PackName,
} from '@lifeboat/repository/format/names';
import { parsePack } from '@lifeboat/repository/format/pack';
import { decodePointObject } from '@lifeboat/repository/format/point';
import { BlobDamage } from '@lifeboat/repository/read/blob-reader';
import { listPoints, readPoint, type PointSummary } from '@lifeboat/repository/read/point-reader';
import { controlName, openRecord } from '@lifeboat/repository/seal/control-records';
import { noise } from '@lifeboat/repository/testing/disks';
import type { WriterLimits } from '@lifeboat/repository/write/limits';
import { WriterSession } from '@lifeboat/repository/write/session';
import type { SessionId } from '@lifeboat/foundation/ids';

import { memorySession, OperationDirectory } from './memory-session.ts';
import { CHUNK_BYTES, keyring, LIMITS, openDisk, openSimulated, simulatedSealer } from './simulated-core.ts';
import { DROWSY, HAUNTED, Process, World, type Odds } from './world.ts';

const MACHINES = ['machine-a', 'machine-b'].map(parseMachineId);
/** Few different chunks, so that contents come back and meet what was condemned. */
const ALPHABET = [Buffer.alloc(CHUNK_BYTES), ...Array.from({ length: 12 }, (_, i) => noise(i + 1))];
const MAX_STEPS = 12_000;
const MAX_ATTEMPTS = 4;
const HOUR_MS = 3_600_000;
/** Of the schedules; the rest would only take time. */
const WITH_HIDDEN = 0.2;
const MAX_LAST_ROUNDS = 6;
/** Of the sealed bytes alone; headers and tables make up more than half of such packs. */
const MAX_DEAD_SHARE = 0.49;
/** A pack of two chunks, one of which is dead, counts as worth it. */
const COMPACT = { minDeadShare: 0.2, maxRewriteBytes: 2 ** 40, includeLocked: false, packs: LIMITS };

export interface Fault {
  /** 'lost': a point that must be whole is not. 'left': something nobody needs stays for ever. 'broke': the code threw what it must not. */
  readonly kind: 'lost' | 'left' | 'broke';
  readonly what: string;
}

/** What went wrong, or undefined. `without`: rules that do not hold in this world; `kind`: of the world, if not the seed's own. */
export async function runSchedule(
  seed: number,
  without: readonly (keyof SafetyRules)[] = [],
  kind?: WorldName,
): Promise<Fault | undefined> {
  const rules = { ...SAFETY_RULES, ...Object.fromEntries(without.map((rule) => [rule, false])) };
  const schedule = new Schedule(seed, rules, kind);
  try {
    return await schedule.run();
  } catch (error) {
    return { kind: 'broke', what: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

/** How machines, pruners and collectors of one world behave. */
interface Habits {
  /** Backups of a machine, at most. */
  readonly backups: number;
  readonly withParent: number;
  readonly diskChunks: number;
  /** Chance that a chunk is what it was, where the disk is not. */
  readonly sameChunk: number;
  /** Different contents of a chunk, beside zeros. */
  readonly contents: number;
  /** Chance that a disk is what it was at the backup before. */
  readonly unchanged: number;
  /** Between the choice of a parent and its session, and between the last disk and the commit. */
  readonly longPreparation: Lull;
  readonly longSession: Lull;
  readonly prunerPause: number;
  readonly prunerRounds: number;
  /** Chance that a pruner lets a point be. */
  readonly spare: number;
  readonly collectorRounds: number;
  readonly collectorTries: number;
  readonly collectorPause: number;
  readonly graceMs: readonly number[];
  /** Collectors there are for sure. */
  readonly collectors: number;
  /** Chance that a collection compacts. */
  readonly compacting: number;
  readonly limits: WriterLimits;
  readonly odds: Partial<Odds>;
}

/** How often there is one, and how many turns it takes at most. */
interface Lull {
  readonly chance: number;
  readonly pauses: number;
}

const USUAL: Habits = {
  backups: 3,
  withParent: 0.6,
  diskChunks: 2,
  sameChunk: 0,
  contents: 3,
  unchanged: 0,
  longPreparation: { chance: 0.3, pauses: 250 },
  longSession: { chance: 0.3, pauses: 200 },
  prunerPause: 80,
  prunerRounds: 3,
  spare: 0.4,
  collectorRounds: 3,
  collectorTries: 4,
  collectorPause: 40,
  graceMs: [0, 0, HOUR_MS, 24 * HOUR_MS],
  collectors: 1,
  compacting: 0.5,
  limits: LIMITS,
  odds: {},
};

/** Backups that are prepared for long, and collections that come and go: a parent is pruned and collected before it is taken over. */
const HASTY: Habits = {
  ...USUAL,
  backups: 4,
  withParent: 0.95,
  contents: 1,
  unchanged: 0.6,
  longPreparation: { chance: 0.9, pauses: 300 },
  longSession: { chance: 0.1, pauses: 100 },
  prunerPause: 40,
  prunerRounds: 20,
  spare: 0.2,
  collectorRounds: 8,
  graceMs: [0],
};

/** Sessions that are open for long, and collectors that look in rarely: a parent is pruned between the two marks of a collection. */
const LEISURELY: Habits = {
  ...USUAL,
  backups: 6,
  withParent: 0.8,
  contents: 1,
  unchanged: 0.3,
  longPreparation: { chance: 0, pauses: 0 },
  longSession: { chance: 0.9, pauses: 200 },
  prunerPause: 80,
  prunerRounds: 20,
  spare: 0.3,
  collectorRounds: 6,
  collectorTries: 8,
  collectorPause: 150,
  graceMs: [1000 * 24 * HOUR_MS],
};

/** Two collectors that stand still for long, packs of one chunk each, and PUTs that are repeated and arrive when all is over. */
const GHOSTLY: Habits = {
  ...USUAL,
  backups: 6,
  contents: 2,
  withParent: 0.2,
  prunerRounds: 8,
  collectors: 2,
  collectorRounds: 6,
  graceMs: [0],
  limits: { ...LIMITS, stripeChunks: 1, packBytes: 300 },
  odds: HAUNTED,
};

/** Whoever is about to change something stands still first: what was read before is old by then. */
const SLEEPY: Habits = { ...GHOSTLY, odds: DROWSY };

/** Points that change in part, of which many are pruned: packs die bit by bit, are written anew, and what was written anew is in its turn. */
const CRUMBLING: Habits = {
  ...USUAL,
  backups: 8,
  withParent: 0.95,
  diskChunks: 3,
  sameChunk: 0.6,
  contents: 12,
  prunerPause: 40,
  prunerRounds: 16,
  spare: 0.4,
  collectors: 1,
  collectorRounds: 8,
  compacting: 0.95,
  graceMs: [0, 0, 24 * HOUR_MS],
};

/** Machines that hardly change and build each point on the one before meet rare situations more often; nothing else is different there. */
const WORLDS = {
  usual: USUAL,
  hasty: HASTY,
  leisurely: LEISURELY,
  ghostly: GHOSTLY,
  sleepy: SLEEPY,
  crumbling: CRUMBLING,
};
export type WorldName = keyof typeof WORLDS;
const OF_A_SEED: readonly WorldName[] = [
  ...Array.from({ length: 6 }, () => 'usual' as const),
  'hasty',
  'leisurely',
  'ghostly',
  'sleepy',
  'crumbling',
  'crumbling',
];

interface Backup {
  readonly machineId: MachineId;
  readonly pointId: PointId;
  readonly directory: OperationDirectory;
  readonly withParent: boolean;
  attempts: number;
}

class Schedule {
  readonly #world: World;
  readonly #rules: SafetyRules;
  readonly #habits: Habits;
  readonly #contents = new Map<PointId, Buffer>();
  readonly #succeeded = new Map<PointId, MachineId>();
  readonly #buried = new Set<PointId>();
  #lost: string | undefined;
  #points = 0;
  #processes = 0;

  constructor(seed: number, rules: SafetyRules, kind: WorldName | undefined) {
    this.#world = new World(seed);
    this.#rules = rules;
    const own = this.#world.pick(OF_A_SEED) ?? 'usual';
    this.#habits = WORLDS[kind ?? own];
    this.#world.odds = { ...this.#world.odds, ...this.#habits.odds };
  }

  async run(): Promise<Fault | undefined> {
    const world = this.#world;
    const { backups, collectors, collectorRounds } = this.#habits;
    for (const machineId of MACHINES.slice(0, 1 + world.below(2))) this.#machine(machineId, 1 + world.below(backups));
    for (let i = 0; i < 1 + world.below(2); i++) this.#pruner();
    for (let i = 0; i < collectors + world.below(2); i++) this.#collector(1 + world.below(collectorRounds));
    if (world.random() < 0.3) this.#reader();
    if (world.odds.hidePoint > 0) this.#hider();
    await world.run(MAX_STEPS);
    world.immediate = true;
    this.#lost ??= await this.#checkPoints('after everything');
    const left = this.#lost === undefined ? await this.#checkGarbage() : undefined;
    this.#lost ??= await this.#checkPoints('after the last collection');
    if (world.random() < WITH_HIDDEN) this.#lost ??= await this.#checkHidden();
    if (this.#lost !== undefined) return { kind: 'lost', what: this.#lost };
    return left === undefined ? undefined : { kind: 'left', what: left };
  }

  /** Backups of one machine, most of them one after the other. */
  #machine(machineId: MachineId, backups: number): void {
    let content = this.#newContent();
    const next = (left: number): void => {
      if (left === 0) return;
      const backup: Backup = {
        machineId,
        pointId: this.#newPointId(),
        directory: new OperationDirectory(),
        withParent: this.#world.random() < this.#habits.withParent,
        attempts: 0,
      };
      if (this.#world.random() >= this.#habits.unchanged) content = this.#newContent(content);
      this.#contents.set(backup.pointId, content);
      const then = (): void => next(left - 1);
      this.#attempt(backup, then);
      // The worker was held to be dead, and is not.
      if (this.#world.random() < 0.15) this.#attempt(backup, () => undefined);
    };
    next(backups);
  }

  #attempt(backup: Backup, then: () => void): void {
    if (backup.attempts++ >= MAX_ATTEMPTS) return then();
    const process = this.#process('writer', () => this.#attempt(backup, then));
    this.#world.start(process, async () => {
      for (let i = this.#world.below(6); i > 0; i--) await this.#world.pause(process);
      try {
        await this.#backUp(backup, process);
      } catch (error) {
        if (isBug(error)) throw error;
        return this.#attempt(backup, then);
      }
      then();
    });
  }

  async #backUp(backup: Backup, process: Process): Promise<void> {
    const { machineId, pointId, directory } = backup;
    const core = openSimulated(this.#world, process, this.#rules);
    const content = this.#contents.get(pointId) ?? Buffer.alloc(0);
    const parent = backup.withParent ? await this.#parent(core, machineId) : undefined;
    // Long preparations (a snapshot that does not come) between the choice of the parent and the session.
    if (parent) await this.#lull(process, this.#habits.longPreparation);
    const session = await WriterSession.begin(
      core,
      { machineId, directory: '' },
      { sealer: simulatedSealer, limits: this.#habits.limits, files: memorySession(directory) },
    );
    const request = {
      name: 'vda',
      sizeBytes: content.length,
      source: { module: '', options: content.toString('hex') },
      changed: parent ? changedRanges(parent.content, content) : ('all' as const),
      ...(parent ? { parent: parent.root } : {}),
    };
    const { root } = await session.writeDisk(request, { signal: new AbortController().signal });
    if (this.#world.random() < 0.05) return session.abandon();
    // Other disks, a guest that thaws slowly: the session is open for a while.
    await this.#lull(process, this.#habits.longSession);
    await session.commit({ pointId, machine: {}, capture: {}, disks: [{ name: 'vda', root }] });
    this.#succeeded.set(pointId, machineId);
    try {
      await linkPoints(core, { machineId });
    } catch (error) {
      // As whoever owns a machine does: what is in no link now, the next one takes in.
      if (isBug(error)) throw error;
    }
  }

  async #lull(process: Process, { chance, pauses }: Lull): Promise<void> {
    if (this.#world.random() >= chance) return;
    for (let i = this.#world.below(pauses); i > 0; i--) await this.#world.pause(process);
  }

  /** The newest point, as whoever backs up finds it before the session begins; it may be pruned at any time after that. */
  async #parent(core: Parameters<typeof listPoints>[0], machineId: MachineId) {
    const points = await listPoints(core, machineId);
    const newest = points.findLast(({ state }) => state === 'readable');
    if (!newest?.pointId) return undefined;
    const point = await readPoint(core, { machineId, pointId: newest.pointId });
    const root = point.disks[0]?.root;
    const content = this.#contents.get(newest.pointId);
    return root && content ? { root, content } : undefined;
  }

  #pruner(): void {
    const process = this.#process('pruner', () => this.#pruner());
    const core = openSimulated(this.#world, process, this.#rules);
    this.#world.start(process, async () => {
      const { prunerRounds, prunerPause, spare } = this.#habits;
      for (let round = 0; round < prunerRounds; round++) {
        for (let i = this.#world.below(prunerPause); i > 0; i--) await this.#world.pause(process);
        for (const { pointId, machineId } of await listPoints(core)) {
          if (!pointId || !machineId || this.#world.random() < spare) continue;
          this.#buried.add(pointId);
          await buryPoint(core, { machineId, pointId, by: 'simulation', reason: 'chance' });
        }
      }
    });
  }

  #collector(rounds: number): void {
    const process = this.#process('collector', () => this.#collector(rounds));
    const core = openSimulated(this.#world, process, this.#rules);
    const { collectorTries, collectorPause } = this.#habits;
    const graceMs = this.#world.pick(this.#habits.graceMs) ?? 0;
    this.#world.start(process, async () => {
      for (let round = 0; round < rounds; round++) {
        for (let i = this.#world.below(100); i > 0; i--) await this.#world.pause(process);
        for (let tries = 0; tries < collectorTries; tries++) {
          try {
            const compact = this.#world.random() < this.#habits.compacting ? COMPACT : undefined;
            await condemn(core, { compact });
            const { state } = await sweep(core, { graceMs });
            if (state === 'swept' || state === 'idle') break;
          } catch (error) {
            if (isBug(error)) throw error;
          }
          for (let i = this.#world.below(collectorPause); i > 0; i--) await this.#world.pause(process);
        }
      }
    });
  }

  /** Reads points while all this goes on. A point may be pruned meanwhile, and then be gone; never be wrong. */
  #reader(): void {
    const process = this.#process('reader');
    const core = openSimulated(this.#world, process, this.#rules);
    this.#world.start(process, async () => {
      for (let round = 0; round < 3; round++) {
        for (let i = this.#world.below(60); i > 0; i--) await this.#world.pause(process);
        const point = this.#world.pick((await listPoints(core)).filter(({ state }) => state === 'readable'));
        if (!point?.pointId || !point.machineId) continue;
        const target = Buffer.alloc(this.#habits.diskChunks * CHUNK_BYTES);
        try {
          const opened = await readPoint(core, { machineId: point.machineId, pointId: point.pointId });
          await openDisk(core, opened, 'vda').read(0, target);
        } catch (error) {
          if (isBug(error)) throw error;
          continue;
        }
        if (!target.equals(this.#contents.get(point.pointId) ?? Buffer.alloc(0)))
          this.#lost ??= `${point.pointId} was read and is not what was backed up`;
      }
    });
  }

  /** For a while the store leaves out, without a word, a point it listed before (a replica that lags, a folder not mounted). */
  #hider(): void {
    const process = this.#process('hider');
    this.#world.start(process, async () => {
      for (let round = 0; round < 6; round++) {
        for (let i = this.#world.below(60); i > 0; i--) await this.#world.pause(process);
        const known = this.#world.pick(this.#listedPoints());
        if (known) this.#world.hidden.add(known);
      }
    });
  }

  /** Points the newest condemn list knows, and whose sessions are over: what the rule promises to miss. */
  #listedPoints(): string[] {
    const { objects } = this.#world;
    const keys = { keyring };
    const newest = [...objects.keys()]
      .filter((name) => name.startsWith(CONDEMN_LISTS))
      .toSorted()
      .at(-1);
    const headObject = newest === undefined ? undefined : objects.get(newest);
    if (!newest || !headObject) return [];
    const head = decodeCondemnHead(openRecord(keys, { type: 'CLST', name: newest, object: headObject }), newest);
    const names: string[] = [];
    for (let sequence = 0; sequence < head.pointParts; sequence++) {
      const part = controlName(keys, condemnPartObject({ listId: hex(head.listId), kind: 'points', sequence }));
      const object = objects.get(part);
      if (!object) continue;
      for (const { machineId, pointId } of decodeCondemnPart(
        openRecord(keys, { type: 'CPRT', name: part, object }),
        part,
      ).points) {
        const name = pointObject(parseMachineId(machineId), parsePointId(pointId));
        const point = objects.get(name);
        if (!point) continue;
        const { sessionId } = decodePointObject(point, name).header;
        if (objects.has(controlName(keys, sessionClosedObject(sessionId as SessionId)))) names.push(name);
      }
    }
    return names;
  }

  async #checkPoints(when: string): Promise<string | undefined> {
    const core = openSimulated(this.#world, new Process('checker', 0), this.#rules);
    const listed = new Set<PointId>();
    const points = await listPoints(core);
    const missed = await this.#checkChains(core, points);
    if (missed !== undefined) return `${when}, ${missed}`;
    for (const point of points) {
      if (point.state === 'damaged') return `${when}, ${point.object} is damaged: ${point.error.message}`;
      const { machineId, pointId } = point;
      listed.add(pointId);
      const target = Buffer.alloc(this.#habits.diskChunks * CHUNK_BYTES, 0xee);
      try {
        const opened = await readPoint(core, { machineId, pointId });
        await openDisk(core, opened, 'vda').read(0, target);
      } catch (error) {
        return `${when}, ${pointId} is listed and cannot be read: ${String(error)}`;
      }
      if (!target.equals(this.#contents.get(pointId) ?? Buffer.alloc(0)))
        return `${when}, ${pointId} is not what was backed up`;
    }
    for (const pointId of this.#succeeded.keys()) {
      if (!listed.has(pointId) && !this.#buried.has(pointId))
        return `${when}, ${pointId} was committed and is not listed`;
    }
    return undefined;
  }

  /**
   * One more backup, which no list knows, and which listings then leave out: what it needs must not be collected. When it is listed again,
   * all is well.
   */
  async #checkHidden(): Promise<string | undefined> {
    const [machineId] = MACHINES;
    if (!machineId) return undefined;
    const pointId = this.#newPointId();
    this.#contents.set(pointId, this.#newContent());
    const backup = { machineId, pointId, directory: new OperationDirectory(), withParent: false, attempts: 0 };
    await this.#backUp(backup, new Process('last writer', 0));
    // Given up half-way, by chance.
    if (!this.#succeeded.has(pointId)) return undefined;
    const name = pointObject(machineId, pointId);
    this.#world.hidden.add(name);
    const core = openSimulated(this.#world, new Process('blind collector', 0), this.#rules);
    try {
      await condemn(core);
      await sweep(core, { graceMs: 0 });
    } catch (error) {
      if (isBug(error)) throw error;
    }
    this.#world.hidden.delete(name);
    return this.#checkPoints('after a collection that was shown too few points');
  }

  /** What the chains say, when nobody is at work: nothing is missing that was not pruned. */
  async #checkChains(core: Core, points: readonly PointSummary[]): Promise<string | undefined> {
    const checked = await readChains(core, {});
    const losses = (await judgeChains(core, { checked, points })).filter(({ isLoss }) => isLoss);
    return losses[0]?.what;
  }

  /** Healthy collections, long after, must leave nothing but what points need. */
  async #checkGarbage(): Promise<string | undefined> {
    this.#world.nowMs += 90 * 24 * HOUR_MS;
    const core = openSimulated(this.#world, new Process('last collector', 0), this.#rules);
    let published = false;
    let { state } = await condemn(core, { compact: COMPACT });
    for (let round = 0; state !== 'nothing'; round++) {
      if (round >= MAX_LAST_ROUNDS) return `the last collections do not end: ${state}`;
      published ||= state === 'published';
      const swept = await sweep(core, { graceMs: 0 });
      if (swept.state !== 'swept') return `the last collection ends with ${swept.state}`;
      ({ state } = await condemn(core, { compact: COMPACT }));
    }
    const { use, pruned, void: never } = await markLive(core, { purpose: 'compact', expected: nobody() });
    if (pruned.length + never.length > 0) return 'points that were pruned, or never were any, are still there';
    const names = [...this.#world.objects.keys()];
    for (const name of names) {
      const pack = name.startsWith(PACKS) ? packOfObject(name) : undefined;
      if (pack && !use.needs(pack)) return `${name} is needed by nobody and still there`;
      if (pack && this.#deadShare(pack, use) > MAX_DEAD_SHARE)
        return `${name} is dead for the most part and still there`;
      const isFollowed = !name.startsWith(RELOCATIONS) || use.is(relocatedPackOf(name), 'hinted');
      if (!isFollowed) return `${name} is asked for by nobody and still there`;
      // A list that was open before went without looking for sessions that know it.
      if (published && name.startsWith(SESSIONS)) return `${name} is still there`;
    }
    const listed = names.filter((name) => name.startsWith(PACKS));
    const stray = published && listed.length === 0 ? names.find((name) => name.startsWith(INDEX)) : undefined;
    return stray === undefined ? undefined : `${stray} is still there`;
  }

  /** By the pack itself: of the sealed bytes of its blobs, those no map leads to. */
  #deadShare(pack: PackName, use: PackUse): number {
    const { blobs } = parsePack(this.#world.objects.get(packObject(pack)) ?? new Uint8Array(0), pack);
    const bytesOf = (some: typeof blobs): number => some.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    return bytesOf(blobs.filter(({ slot }) => !use.isUsed({ pack, slot }))) / bytesOf(blobs);
  }

  #process(name: string, onKill?: () => void): Process {
    return new Process(`${name} ${this.#processes++}`, this.#world.skew(), onKill);
  }

  #newPointId(): PointId {
    const n = this.#points++;
    return parsePointId(`p20260101T00${String(n).padStart(4, '0')}Z-${n.toString(16).padStart(8, '0')}`);
  }

  #newContent(before?: Buffer): Buffer {
    const { contents, diskChunks, sameChunk } = this.#habits;
    const letters = ALPHABET.slice(0, 1 + contents);
    const chunk = (i: number): Buffer =>
      before && sameChunk > 0 && this.#world.random() < sameChunk
        ? before.subarray(i * CHUNK_BYTES, (i + 1) * CHUNK_BYTES)
        : (this.#world.pick(letters) ?? Buffer.alloc(0));
    return Buffer.concat(Array.from({ length: diskChunks }, (_, i) => chunk(i)));
  }
}

/** Errors of a store that does not answer end an attempt; whatever else is thrown is a mistake of the code. */
function isBug(error: unknown): boolean {
  return !(error instanceof BlobDamage) && (!(error instanceof LifeboatError) || error.code === 'internal.bug');
}

function changedRanges(before: Buffer, after: Buffer): { offsetBytes: number; lengthBytes: number }[] {
  const ranges = [];
  for (let offsetBytes = 0; offsetBytes < after.length; offsetBytes += CHUNK_BYTES) {
    const end = offsetBytes + CHUNK_BYTES;
    if (!before.subarray(offsetBytes, end).equals(after.subarray(offsetBytes, end)))
      ranges.push({ offsetBytes, lengthBytes: CHUNK_BYTES });
  }
  return ranges;
}

async function* nobody(): AsyncIterable<never> {
  // No point is expected.
}
