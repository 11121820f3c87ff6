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
import { checkPoint, type CheckReport } from '@lifeboat/repository/check/point-check';
import { reportDamage } from '@lifeboat/repository/check/damage-reports';
import { readCondemnLists } from '@lifeboat/repository/collect/condemn-lists';
import { condemn } from '@lifeboat/repository/collect/condemn';
import { listAll } from '@lifeboat/repository/collect/listing';
import { markLive } from '@lifeboat/repository/collect/mark';
import type { PackUse } from '@lifeboat/repository/collect/pack-use';
import { SAFETY_RULES } from '@lifeboat/repository/collect/rules';
import { sweep } from '@lifeboat/repository/collect/sweep';
import { buryPoint, type PointKey } from '@lifeboat/repository/collect/tombstones';
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
  pointOfObject,
  POINTS,
  relocatedPackOf,
  RELOCATIONS,
  sessionClosedObject,
  SESSIONS,
  type PackName,
} from '@lifeboat/repository/format/names';
import { parsePack } from '@lifeboat/repository/format/pack';
import { decodePointObject, type DiskRoot } from '@lifeboat/repository/format/point';
import type { CheckLevel } from '@lifeboat/repository/format/verification';
import { BlobDamage } from '@lifeboat/repository/read/blob-reader';
import {
  listPoints,
  newestReadable,
  readPoint,
  type Point,
  type PointSummary,
} from '@lifeboat/repository/read/point-reader';
import { controlName, openRecord } from '@lifeboat/repository/seal/control-records';
import { noise } from '@lifeboat/repository/testing/disks';
import { WriterSession } from '@lifeboat/repository/write/session';
import type { SessionId } from '@lifeboat/foundation/ids';

import { memorySession, OperationDirectory } from './memory-session.ts';
import { OF_A_SEED, WORLDS, type Habits, type Lull, type WorldName } from './habits.ts';
import { Owners } from './owners.ts';
import { Rot } from './rot.ts';
import { CHUNK_BYTES, DISK, LIMITS, mapOf, openDisk, simulatedSealer } from './simulated-core.ts';
import { keyring } from './simulated-keys.ts';
import { Process, World } from './world.ts';

const MACHINES = ['machine-a', 'machine-b'].map(parseMachineId);
/** Few different chunks, so that contents come back and meet what was condemned. */
const ALPHABET = [Buffer.alloc(CHUNK_BYTES), ...Array.from({ length: 12 }, (_, i) => noise(i + 1))];
const MAX_STEPS = 12_000;
const MAX_ATTEMPTS = 4;
const HOUR_MS = 3_600_000;
/** Of the schedules; the rest would only take time. */
const WITH_HIDDEN = 0.2;
/** What is lost stays lost: of the schedules, those that also look before the last collections. */
const WITH_FIRST_LOOK = 0.2;
const MAX_LAST_ROUNDS = 6;
/** Of the sealed bytes alone; headers and tables make up more than half of such packs. */
const MAX_DEAD_SHARE = 0.49;
/** Of the points that were made before a schedule begins, the last one but one. */
const PRUNED_BEFORE = 0.7;
/** A pack of three chunks, one of which is dead, counts as worth it. */
const COMPACT = { minDeadShare: 0.05, maxRewriteBytes: 2 ** 40, includeLocked: false, packs: LIMITS };

/** `learnEpochs`: who meets keys of an epoch it does not know asks for them, before it says that something is damaged. */
const ALL_RULES = { ...SAFETY_RULES, learnEpochs: true };
export type Rule = keyof typeof ALL_RULES;
export const RULES = Object.keys(ALL_RULES) as Rule[];

export interface Fault {
  /** 'lost': a point that must be whole is not. 'left': something nobody needs stays for ever. 'broke': the code threw what it must not. */
  readonly kind: 'lost' | 'left' | 'broke';
  readonly what: string;
}

/** What went wrong, or undefined. `without`: rules that do not hold in this world; `kind`: of the world, if not the seed's own. */
export async function runSchedule(
  seed: number,
  without: readonly Rule[] = [],
  kind?: WorldName,
): Promise<Fault | undefined> {
  const rules = { ...ALL_RULES, ...Object.fromEntries(without.map((rule) => [rule, false])) };
  // Stores answer with errors all the time, and nobody looks at where those were thrown.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return await new Schedule(seed, rules, kind).run();
  } catch {
    Error.stackTraceLimit = stackTraceLimit;
    return await whyBroken(new Schedule(seed, rules, kind));
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** Once more, for the trace. */
async function whyBroken(schedule: Schedule): Promise<Fault | undefined> {
  try {
    return await schedule.run();
  } catch (error) {
    return { kind: 'broke', what: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

interface Backup {
  readonly machineId: MachineId;
  /** Whether an agent makes it. */
  readonly byAgent: boolean;
  readonly pointId: PointId;
  readonly directory: OperationDirectory;
  readonly withParent: boolean;
  attempts: number;
}

class Schedule {
  readonly #world: World;
  readonly #habits: Habits;
  readonly #owners: Owners;
  readonly #rot: Rot;
  readonly #contents = new Map<PointId, Buffer>();
  readonly #succeeded = new Map<PointId, MachineId>();
  readonly #buried = new Set<PointId>();
  #lost: string | undefined;
  #points = 0;
  #processes = 0;

  constructor(seed: number, { learnEpochs, ...rules }: typeof ALL_RULES, kind: WorldName | undefined) {
    this.#world = new World(seed);
    const own = this.#world.pick(OF_A_SEED) ?? 'usual';
    this.#habits = WORLDS[kind ?? own];
    this.#world.odds = { ...this.#world.odds, ...this.#habits.odds };
    const epochs = this.#habits.rotations === 0 ? 'one' : learnEpochs ? 'learnt' : 'as opened';
    this.#owners = new Owners({ world: this.#world, rules, epochs });
    this.#rot = new Rot(this.#world);
  }

  async run(): Promise<Fault | undefined> {
    const world = this.#world;
    const { backups, collectors, collectorRounds, rot, rotations, byAgent } = this.#habits;
    if (byAgent > 0) await this.#owners.enrol(MACHINES);
    const machines = MACHINES.slice(0, 1 + world.below(2));
    await this.#age(machines);
    for (const machineId of machines) this.#machine(machineId, 1 + world.below(backups));
    for (let i = 0; i < 1 + world.below(2); i++) this.#pruner();
    for (let i = 0; i < collectors + world.below(2); i++) this.#collector(1 + world.below(collectorRounds));
    if (world.random() < 0.3) this.#reader();
    if (world.odds.hidePoint > 0) this.#hider();
    if (rot > 0) {
      this.#rotter(1 + world.below(rot));
      this.#checker();
    }
    for (let i = world.below(1 + rotations); i > 0; i--) this.#rotator();
    if (byAgent > 0 && world.random() < 0.7) this.#revoker();
    await world.run(MAX_STEPS);
    world.immediate = true;
    await this.#owners.revokeAll();
    if (world.random() < WITH_FIRST_LOOK) this.#lost ??= await this.#checkPoints('after everything');
    if (rot > 0) this.#lost ??= await this.#healAll();
    const left = this.#lost === undefined ? await this.#checkGarbage() : undefined;
    this.#lost ??= await this.#checkPoints('after the last collection');
    if (world.random() < WITH_HIDDEN) this.#lost ??= await this.#checkHidden();
    if (this.#lost !== undefined) return { kind: 'lost', what: this.#lost };
    return left === undefined ? undefined : { kind: 'left', what: left };
  }

  /** What the repository went through before: backups, prunes and collections, one after the other. */
  async #age(machines: readonly MachineId[]): Promise<void> {
    const world = this.#world;
    const core = this.#owners.open(new Process('before', 0));
    world.immediate = true;
    for (let round = 0; round < this.#habits.rounds; round++) {
      for (const machineId of machines) {
        const pointId = this.#newPointId();
        const parent = await this.#parent(core, machineId);
        const content = this.#newContent(parent?.content);
        this.#contents.set(pointId, content);
        const session = await this.#begin(core, { machineId, directory: new OperationDirectory() });
        await this.#commit(session, { machineId, pointId }, await writeDisk(session, content, parent));
        if (parent && world.random() < PRUNED_BEFORE) await this.#bury(core, { machineId, pointId: parent.pointId });
      }
      await condemn(core, { compact: COMPACT });
      await sweep(core, { graceMs: 0 });
    }
    world.immediate = false;
  }

  async #bury(core: Core, key: PointKey): Promise<void> {
    this.#buried.add(key.pointId);
    await buryPoint(core, { ...key, by: 'simulation', reason: 'chance' });
  }

  /** What was backed up of the machine last, before the schedule began. */
  #newest(machineId: MachineId): Buffer | undefined {
    const last = [...this.#succeeded].findLast(([, of]) => of === machineId);
    return last && this.#contents.get(last[0]);
  }

  /** Backups of one machine, most of them one after the other. */
  #machine(machineId: MachineId, backups: number): void {
    let content = this.#newest(machineId) ?? this.#newContent();
    const next = (left: number): void => {
      if (left === 0) return;
      const backup: Backup = {
        machineId,
        byAgent: this.#world.random() < this.#habits.byAgent,
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
      await this.#pauses(process, backup.attempts === 1 ? this.#habits.interval : 6);
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
    const core = this.#owners.open(process, backup.byAgent ? machineId : undefined);
    const content = this.#contents.get(pointId) ?? Buffer.alloc(0);
    const parent = backup.withParent ? await this.#parent(core, machineId) : undefined;
    // Long preparations (a snapshot that does not come) between the choice of the parent and the session.
    if (parent) await this.#lull(process, this.#habits.longPreparation);
    const reported = this.#rot.reported;
    const session = await this.#begin(core, { machineId, directory });
    const root = await writeDisk(session, content, parent);
    if (this.#world.random() < 0.05) return session.abandon();
    // Other disks, a guest that thaws slowly: the session is open for a while.
    await this.#lull(process, this.#habits.longSession);
    await this.#commit(session, { machineId, pointId }, root);
    if (reported.size > 0) await this.#checkFresh({ machineId, pointId }, reported);
    // An agent cannot: whoever owns the machine takes its points in.
    if (backup.byAgent) return;
    try {
      await linkPoints(core, { machineId });
    } catch (error) {
      // As whoever owns a machine does: what is in no link now, the next one takes in.
      if (isBug(error)) throw error;
    }
  }

  #begin(core: Core, { machineId, directory }: Pick<Backup, 'machineId' | 'directory'>): Promise<WriterSession> {
    const files = memorySession(directory);
    const { limits } = this.#habits;
    return WriterSession.begin(core, { machineId, directory: '' }, { sealer: simulatedSealer, limits, files });
  }

  async #commit(session: WriterSession, { machineId, pointId }: PointKey, root: DiskRoot): Promise<void> {
    await session.commit({ pointId, machine: {}, capture: {}, disks: [{ name: DISK, root }] });
    this.#succeeded.set(pointId, machineId);
    this.#rot.noteHealed();
  }

  async #lull(process: Process, { chance, pauses }: Lull): Promise<void> {
    if (this.#world.random() < chance) await this.#pauses(process, pauses);
  }

  /** Lets others go first, so often at most. */
  async #pauses(process: Process, most: number): Promise<void> {
    for (let i = this.#world.below(most); i > 0; i--) await this.#world.pause(process);
  }

  /** The newest point, as whoever backs up finds it before the session begins; it may be pruned at any time after that. */
  async #parent(core: Core, machineId: MachineId) {
    const point = await newestReadable(core, machineId);
    const root = point?.disks[0]?.root;
    const content = point && this.#contents.get(point.pointId);
    return root && content ? { pointId: point.pointId, root, content } : undefined;
  }

  #pruner(): void {
    const process = this.#process('pruner', () => this.#pruner());
    const core = this.#owners.open(process);
    this.#world.start(process, async () => {
      const { prunerRounds, prunerPause, spare } = this.#habits;
      for (let round = 0; round < prunerRounds; round++) {
        await this.#pauses(process, prunerPause);
        for (const name of await listAll(core, POINTS)) {
          const key = pointOfObject(name);
          if (!key || this.#world.random() < spare) continue;
          try {
            await this.#bury(core, key);
          } catch (error) {
            if (isBug(error)) throw error;
          }
        }
      }
    });
  }

  #collector(rounds: number): void {
    const process = this.#process('collector', () => this.#collector(rounds));
    const core = this.#owners.open(process);
    const { collectorTries, collectorPause, collectorRest } = this.#habits;
    const graceMs = this.#world.pick(this.#habits.graceMs) ?? 0;
    this.#world.start(process, async () => {
      for (let round = 0; round < rounds; round++) {
        await this.#pauses(process, collectorRest);
        for (let tries = 0; tries < collectorTries; tries++) {
          try {
            const compact = this.#world.random() < this.#habits.compacting ? COMPACT : undefined;
            await condemn(core, { compact });
            const { state } = await sweep(core, { graceMs });
            if (state === 'swept' || state === 'idle') break;
          } catch (error) {
            if (isBug(error)) throw error;
          }
          await this.#pauses(process, collectorPause);
        }
      }
    });
  }

  /** Reads points while all this goes on. A point may be pruned meanwhile, and then be gone; never be wrong. */
  #reader(): void {
    const process = this.#process('reader');
    const core = this.#owners.open(process);
    this.#world.start(process, async () => {
      for (let round = 0; round < 3; round++) {
        await this.#pauses(process, 60);
        const point = this.#world.pick((await listPoints(core)).filter(({ state }) => state === 'readable'));
        if (!point?.pointId || !point.machineId) continue;
        const target = Buffer.alloc(this.#habits.diskChunks * CHUNK_BYTES);
        try {
          const opened = await readPoint(core, { machineId: point.machineId, pointId: point.pointId });
          await openDisk(core, opened).read(0, target);
        } catch (error) {
          if (isBug(error)) throw error;
          continue;
        }
        if (!target.equals(this.#contents.get(point.pointId) ?? Buffer.alloc(0)))
          this.#lost ??= `${point.pointId} was read and is not what was backed up`;
      }
    });
  }

  #rotter(strikes: number): void {
    const process = this.#process('rot');
    this.#world.start(process, async () => {
      for (let i = 0; i < strikes; i++) {
        await this.#pauses(process, 400);
        this.#rot.strike();
      }
    });
  }

  /** Looks at points now and then, and says what is damaged. */
  #checker(): void {
    const process = this.#process('checker', () => this.#checker());
    const core = this.#owners.open(process);
    this.#world.start(process, async () => {
      for (let round = 0; round < 6; round++) {
        await this.#pauses(process, 200);
        try {
          const point = this.#world.pick((await listPoints(core)).filter(({ state }) => state === 'readable'));
          const level = this.#world.random() < 0.5 ? 'content' : 'ciphertext';
          if (point?.machineId && point.pointId)
            await this.#check(core, { machineId: point.machineId, pointId: point.pointId }, level);
        } catch (error) {
          if (isBug(error)) throw error;
        }
      }
    });
  }

  async #check(core: Core, key: PointKey, level: CheckLevel): Promise<CheckReport> {
    const point = await readPoint(core, key);
    const context = { signal: new AbortController().signal, progress: () => undefined };
    const report = await checkPoint(core, { point, level, context });
    if (report.sound) return report;
    await reportDamage(core, report.damage);
    this.#rot.noteReport(report.damage);
    return report;
  }

  #rotator(): void {
    const process = this.#process('rotator');
    this.#world.start(process, async () => {
      await this.#pauses(process, 600);
      await this.#owners.rotate(process);
    });
  }

  #revoker(): void {
    const process = this.#process('revoker', () => this.#revoker());
    this.#world.start(process, async () => {
      for (const machineId of MACHINES) {
        await this.#pauses(process, 150);
        await this.#owners.revoke(process, machineId);
      }
    });
  }

  /** For a while the store leaves out, without a word, a point it listed before (a replica that lags, a folder not mounted). */
  #hider(): void {
    const process = this.#process('hider');
    this.#world.start(process, async () => {
      for (let round = 0; round < 6; round++) {
        await this.#pauses(process, 60);
        const known = this.#world.pick(this.#listedPoints());
        if (known) this.#world.hidden.add(known);
      }
    });
  }

  /** Points the newest condemn list knows, and whose sessions are over: what the rule promises to miss. */
  #listedPoints(): string[] {
    const { objects } = this.#world;
    const keys = { keyring };
    const newest = [...objects.names()]
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
    const core = this.#owners.open(new Process('checker', 0));
    const listed = new Set<PointId>();
    const points = await listPoints(core);
    const missed = await this.#checkChains(core, points);
    if (missed !== undefined) return `${when}, ${missed}`;
    for (const point of points) {
      // Of an agent that was revoked before it was there: nobody was told that it is.
      if (point.state === 'damaged' && point.error.code === 'repository.agent-revoked') continue;
      if (point.state === 'damaged') return `${when}, ${point.object} is damaged: ${point.error.message}`;
      const { machineId, pointId } = point;
      listed.add(pointId);
      for (const reader of this.#owners.oldest ? [core, this.#owners.oldest] : [core]) {
        const wrong = await this.#checkPoint(reader, { machineId, pointId });
        if (wrong !== undefined) return `${when}, ${pointId} ${wrong}`;
      }
    }
    for (const pointId of this.#succeeded.keys()) {
      if (!listed.has(pointId) && !this.#buried.has(pointId))
        return `${when}, ${pointId} was committed and is not listed`;
    }
    return undefined;
  }

  /** Undefined: it is what was backed up, as far as no chunk is lost to rot. */
  async #checkPoint(core: Core, key: PointKey): Promise<string | undefined> {
    const content = this.#contents.get(key.pointId) ?? Buffer.alloc(0);
    try {
      const point = await readPoint(core, key);
      const target = Buffer.alloc(content.length, 0xee);
      if (this.#habits.rot === 0) await openDisk(core, point).read(0, target);
      else await this.#readChunks(core, point, { content, target });
      return target.equals(content) ? undefined : 'is not what was backed up';
    } catch (error) {
      return `is listed and cannot be read: ${String(error)}`;
    }
  }

  /** Chunk by chunk: what rot cost counts as read. */
  async #readChunks(
    core: Core,
    point: Point,
    { content, target }: Record<'content' | 'target', Buffer>,
  ): Promise<void> {
    for await (const { firstChunk, count, places } of mapOf(core, point).runs(0, content.length / CHUNK_BYTES)) {
      if (places instanceof Error) throw places;
      for (let i = 0; i < count; i++) {
        const place = typeof places === 'string' ? places : places[i];
        const at = (firstChunk + i) * CHUNK_BYTES;
        if (typeof place !== 'object') target.fill(0, at, at + CHUNK_BYTES);
        else if (this.#rot.isLost(place)) content.copy(target, at, at, at + CHUNK_BYTES);
        else target.set(await core.blobs.read(place, { kind: 'data', plain: { exactBytes: CHUNK_BYTES } }), at);
      }
    }
  }

  /** A point that was just made refers to nothing that a report named before its session began, unless it was healed. */
  async #checkFresh(key: PointKey, reported: ReadonlySet<string>): Promise<void> {
    const core = this.#owners.open(new Process('onlooker', 0, { isOnlooker: true }));
    for await (const { places } of mapOf(core, await readPoint(core, key)).runs(0, this.#habits.diskChunks)) {
      if (places instanceof Error) throw places;
      for (const place of typeof places === 'string' ? [] : places)
        if (typeof place === 'object' && this.#rot.isStale(place, reported))
          this.#lost ??= `${key.pointId} refers to ${place.id} in pack ${place.pack}, which was reported as damaged before`;
    }
  }

  /** What checks find, the next backups heal, if the machines hold it still. Then nothing is lost any more. */
  async #healAll(): Promise<string | undefined> {
    const core = this.#owners.open(new Process('last checker', 0));
    const healing: PointKey[] = [];
    for (const { machineId, pointId: damaged } of await this.#damagedPoints(core)) {
      const pointId = this.#newPointId();
      healing.push({ machineId, pointId });
      const content = this.#contents.get(damaged) ?? Buffer.alloc(0);
      this.#contents.set(pointId, content);
      const session = await this.#begin(core, { machineId, directory: new OperationDirectory() });
      await this.#commit(session, { machineId, pointId }, await writeDisk(session, content));
    }
    const [left] = await this.#damagedPoints(core);
    // What they healed outlives them.
    for (const key of healing) await this.#bury(core, key);
    return left && `${left.pointId} was backed up once more, and is not whole again`;
  }

  /**
   * By both looks: one at the chunks passes over what rotted of a pack beside them, which one at the bytes takes for damage of all of it. Were
   * chance to choose, the second look might find what the first could not, and nobody had backed up once more.
   */
  async #damagedPoints(core: Core): Promise<PointKey[]> {
    const damaged: PointKey[] = [];
    for (const { machineId, pointId } of await listPoints(core)) {
      if (!machineId || !pointId) continue;
      let chunks = 0;
      for (const level of ['content', 'ciphertext'] as const)
        chunks += (await this.#check(core, { machineId, pointId }, level)).damage.chunks.length;
      if (chunks > 0) damaged.push({ machineId, pointId });
    }
    return damaged;
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
    const directory = new OperationDirectory();
    const backup = { machineId, byAgent: false, pointId, directory, withParent: false, attempts: 0 };
    await this.#backUp(backup, new Process('last writer', 0));
    // Given up half-way, by chance.
    if (!this.#succeeded.has(pointId)) return undefined;
    const name = pointObject(machineId, pointId);
    this.#world.hidden.add(name);
    const core = this.#owners.open(new Process('blind collector', 0));
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
    const core = this.#owners.open(new Process('last collector', 0));
    let published = false;
    let { state } = await condemn(core, { compact: COMPACT });
    for (let round = 0; state !== 'nothing'; round++) {
      if (round >= MAX_LAST_ROUNDS) return `the last collections do not end: ${state}`;
      published ||= state === 'published';
      const swept = await sweep(core, { graceMs: 0 });
      if (swept.state !== 'swept') return `the last collection ends with ${swept.state}`;
      ({ state } = await condemn(core, { compact: COMPACT }));
    }
    // What the newest list names, and had to stay, is left as it is until there is another list.
    const { newest } = await readCondemnLists(core);
    const { use, pruned, void: never } = await markLive(core, { purpose: 'compact', newest, expected: nobody() });
    if (pruned.length + never.length > 0) return 'points that were pruned, or never were any, are still there';
    const names = [...this.#world.objects.names()];
    for (const name of names) {
      const pack = name.startsWith(PACKS) ? packOfObject(name) : undefined;
      if (pack && !use.needs(pack)) return `${name} is needed by nobody and still there`;
      // What rotted cannot be written anew, and of what was healed nobody knows which blobs are needed. One that was moved, and that another
      // pack leads to all the same, stays until no point names that one.
      if (
        pack &&
        !this.#rot.hasStruck(pack) &&
        !use.is(pack, 'healed', 'moved') &&
        this.#deadShare(pack, use) > MAX_DEAD_SHARE
      )
        return `${name} is dead for the most part and still there`;
      // What was healed and rotted again is led on from there.
      const flags = this.#habits.rot > 0 ? (['hinted', 'target'] as const) : (['hinted'] as const);
      const isFollowed = !name.startsWith(RELOCATIONS) || use.is(relocatedPackOf(name), ...flags);
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
    return new Process(`${name} ${this.#processes++}`, this.#world.skew(), { onKill });
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

/** Of a disk that was read as a whole, or whose parent says what it was. */
async function writeDisk(
  session: WriterSession,
  content: Buffer,
  parent?: { readonly root: DiskRoot; readonly content: Buffer },
): Promise<DiskRoot> {
  const request = {
    name: DISK,
    sizeBytes: content.length,
    source: { module: '', options: content.toString('hex') },
    changed: parent ? changedRanges(parent.content, content) : ('all' as const),
    ...(parent ? { parent: parent.root } : {}),
  };
  return (await session.writeDisk(request, { signal: new AbortController().signal })).root;
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
