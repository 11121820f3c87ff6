/**
 * Which objects under data/points/ are recovery points. One is not when it was pruned (a tombstone of ours), or when its session
 * has an outcome that does not name it. Both records say "no": with control/ lost, every point that is there is read.
 *
 * A point of a revoked agent that its revocation does not name is refused to readers. It is a point all the same: what it needs is kept
 * until somebody prunes it.
 */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import { parseSessionId, type MachineId, type SessionId } from '@lifeboat/foundation/ids';

import { Revocations, type AgentPoint } from '../agents/revocations.ts';
import type { Core } from '../core.ts';
import { OUTCOMES, TOMBSTONES, tombstonesPrefix } from '../format/names.ts';
import type { Point } from '../read/point-reader.ts';
import { listNames, type StoreOptions } from '../store/object-store.ts';
import { sortRecords } from './listing.ts';
import { readOutcome } from './outcomes.ts';
import { isBuried, listTombstones, type PointKey } from './tombstones.ts';

/** Loaded once for a listing: two short listings instead of two questions for each point. */
export class PointValidity {
  readonly #core: Core;
  readonly #tombstones: ReadonlySet<string>;
  readonly #outcomes: ReadonlySet<string>;
  #revocations: Promise<Revocations> | undefined;

  private constructor(core: Core, tombstones: ReadonlySet<string>, outcomes: ReadonlySet<string>) {
    this.#core = core;
    this.#tombstones = tombstones;
    this.#outcomes = outcomes;
  }

  static async load(core: Core, machineId?: MachineId, options: StoreOptions = {}): Promise<PointValidity> {
    const tombstones = await listTombstones(core, machineId ? tombstonesPrefix(machineId) : TOMBSTONES, options);
    const names: string[] = [];
    for await (const name of listNames(core.store, OUTCOMES, options)) names.push(name);
    const outcomes = [...sortRecords(core, names).ours.keys()].map((name) => name.slice(OUTCOMES.length));
    return new PointValidity(core, tombstones, new Set(outcomes));
  }

  /** Why readers do not get the point; undefined: they do. The first point of an agent costs one listing more. */
  async refusal(point: AgentPoint, options: StoreOptions = {}): Promise<LifeboatError | undefined> {
    if (!point.agent) return undefined;
    this.#revocations ??= Revocations.load(this.#core, undefined, options);
    return (await this.#revocations).refusal(point);
  }

  /** Whether there is a tombstone of ours by its name, `<machine>/<point>`; what is in it was not read. */
  hasTombstone(point: string): boolean {
    return this.#tombstones.has(point);
  }

  async isBuried(point: PointKey, options: StoreOptions = {}): Promise<boolean> {
    return this.#tombstones.has(`${point.machineId}/${point.pointId}`) && isBuried(this.#core, point, options);
  }

  /** Whether the session that wrote the point was ended without it. */
  async isVoid(point: { sessionId: string; pointId: string }, options: StoreOptions = {}): Promise<boolean> {
    return this.#outcomes.has(point.sessionId) && isVoid(this.#core, point, options);
  }
}

export async function isVoid(
  core: Core,
  point: { sessionId: string; pointId: string },
  options: StoreOptions = {},
): Promise<boolean> {
  if (!core.rules.heedOutcome) return false;
  const sessionId = sessionOf(point.sessionId);
  const outcome = sessionId && (await readOutcome(core, sessionId, options));
  return outcome !== undefined && outcome.pointId !== point.pointId;
}

/** Throws `repository.point-missing` for a point that was pruned, or that never was one. */
export async function assertValid(core: Core, point: Point, options: StoreOptions = {}): Promise<void> {
  const { machineId, pointId, sessionId } = point;
  const buried = await isBuried(core, point, options);
  if (!buried && !(await isVoid(core, point, options))) return;
  const why = buried ? 'it was pruned' : `session ${sessionId} was ended before it was committed`;
  throw new LifeboatError('repository.point-missing', `machine ${machineId} has no point ${pointId}: ${why}`, {
    context: { machineId, pointId },
  });
}

function sessionOf(text: string): SessionId | undefined {
  try {
    return parseSessionId(text);
  } catch (error) {
    // A session of a name no writer of ours gives has no outcome.
    if (!hasCode(error, 'input.invalid')) throw error;
    return undefined;
  }
}
