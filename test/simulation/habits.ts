/** Kinds of worlds: how machines, pruners, collectors and everybody else behave there. */
import type { WriterLimits } from '@lifeboat/repository/write/limits';

import { LIMITS } from './simulated-core.ts';
import { DROWSY, HAUNTED, type Odds } from './world.ts';

const HOUR_MS = 3_600_000;

export interface Habits {
  /** Of backups, prunes and collections that were before, one after the other. */
  readonly rounds: number;
  /** Backups of a machine, at most. */
  readonly backups: number;
  /** Turns before each of them. */
  readonly interval: number;
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
  /** Turns before each round. */
  readonly collectorRest: number;
  readonly graceMs: readonly number[];
  /** Collectors there are for sure. */
  readonly collectors: number;
  /** Chance that a collection compacts. */
  readonly compacting: number;
  readonly limits: WriterLimits;
  readonly odds: Partial<Odds>;
  /** Packs that rot, at most; with them come checks that report it. */
  readonly rot: number;
  /** Rotations of the tenant's keys, at most. */
  readonly rotations: number;
  /** Chance that a backup is an agent's, which is revoked at some time. */
  readonly byAgent: number;
}

/** How often there is one, and how many turns it takes at most. */
export interface Lull {
  readonly chance: number;
  readonly pauses: number;
}

const USUAL: Habits = {
  rounds: 0,
  backups: 3,
  interval: 6,
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
  collectorRest: 100,
  graceMs: [0, 0, HOUR_MS, 24 * HOUR_MS],
  collectors: 1,
  compacting: 0.5,
  limits: LIMITS,
  odds: {},
  rot: 0,
  rotations: 0,
  byAgent: 0,
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
  withParent: 0.1,
  prunerRounds: 8,
  collectors: 3,
  collectorRounds: 6,
  graceMs: [0],
  limits: { ...LIMITS, stripeChunks: 1, packBytes: 300 },
  odds: { ...HAUNTED, freezeDelete: 0.3 },
};

/** Whoever is about to change something stands still first: what was read before is old by then. */
const SLEEPY: Habits = { ...GHOSTLY, withParent: 0.2, collectors: 2, odds: DROWSY };

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

/**
 * The same where little goes wrong, and sessions are open for long over parents that are pruned meanwhile: what was moved is moved on, and
 * what was left behind is needed once more.
 */
const LAYERED: Habits = {
  ...CRUMBLING,
  rounds: 3,
  backups: 2,
  interval: 60,
  withParent: 1,
  diskChunks: 5,
  longPreparation: { chance: 0, pauses: 0 },
  longSession: { chance: 0.6, pauses: 150 },
  prunerRounds: 5,
  spare: 0.75,
  collectorRounds: 4,
  collectorTries: 12,
  collectorPause: 20,
  collectorRest: 40,
  compacting: 1,
  graceMs: [1000 * 24 * HOUR_MS],
  odds: { kill: 0.0005, freeze: 0.001, fail: 0.002 },
};

/**
 * Not among the kinds of a seed yet: see `docs/format.md`, section 12. Packs that rot where they lie, checks that say so, and sessions that heal it, beside everything that
 * writes anew and deletes.
 */
const ROTTING: Habits = {
  ...CRUMBLING,
  rounds: 1,
  backups: 5,
  withParent: 0.8,
  contents: 6,
  prunerRounds: 6,
  spare: 0.7,
  collectorRounds: 5,
  compacting: 0.7,
  rot: 4,
};

/** Agents and the tenant back up the same machines; the tenant rotates its keys, and revokes the agents. */
const KEYED: Habits = {
  ...USUAL,
  backups: 5,
  byAgent: 0.8,
  rotations: 2,
  longPreparation: { chance: 0.2, pauses: 60 },
  longSession: { chance: 0.2, pauses: 60 },
  odds: { kill: 0.002, fail: 0.004, freezePut: 0.2 },
};

/** Machines that hardly change and build each point on the one before meet rare situations more often; nothing else is different there. */
export const WORLDS = {
  usual: USUAL,
  hasty: HASTY,
  leisurely: LEISURELY,
  ghostly: GHOSTLY,
  sleepy: SLEEPY,
  crumbling: CRUMBLING,
  layered: LAYERED,
  rotting: ROTTING,
  keyed: KEYED,
};
export type WorldName = keyof typeof WORLDS;
export const OF_A_SEED: readonly WorldName[] = [
  ...Array.from({ length: 5 }, () => 'usual' as const),
  'hasty',
  'leisurely',
  'ghostly',
  'sleepy',
  'crumbling',
  'layered',
  'keyed',
];
