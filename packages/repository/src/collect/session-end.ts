/**
 * Ends a session that does not end itself, and tells a writer how its session ended.
 *
 * ```
 *   collector                          writer
 *   1. fence (create-only)             a. PUT of the point
 *   2. list the machine's points       b. is there a fence?  no: success
 *   3. outcome (create-only)              yes: outcome (create-only, "committed")
 *   4. what the outcome says is so     c. what the outcome says is so
 * ```
 * If the writer's b came before 1, its point was there before 2. If not, it sees the fence, and the one object that both write
 * decides. A point that arrives after an outcome that does not name it counts for nobody.
 */
import { hasCode, type LifeboatError } from '@lifeboat/foundation/errors';
import { parseMachineId, parsePointId, type MachineId, type PointId, type SessionId } from '@lifeboat/foundation/ids';

import type { Core } from '../core.ts';
import { fenceObject, pointOfObject, POINTS, pointsPrefix } from '../format/names.ts';
import { encodeFence, type SessionOutcome } from '../format/session-outcome.ts';
import { earliestValid } from '../read/point-reader.ts';
import { controlName, sealRecord } from '../seal/control-records.ts';
import { isBadObject } from '../store/bad-object.ts';
import { listNames, type StoreOptions } from '../store/object-store.ts';
import { decideOutcome } from './outcomes.ts';
import { readClosed } from './session-records.ts';

/**
 * Fences a session and settles what became of it. Idempotent. Errors: what a listing that fails throws; `repository.object-unreadable`
 * where an object that may be the session's point is on bad sectors.
 */
export async function settleSession(
  core: Core,
  session: { readonly sessionId: SessionId; readonly machineId: string; readonly closing?: Uint8Array | undefined },
  options: StoreOptions = {},
): Promise<SessionOutcome> {
  const { sessionId } = session;
  const early = core.rules.listAfterFence ? undefined : await pointOfSession(core, session, options);
  const name = controlName(core, fenceObject(sessionId));
  const body = encodeFence({ sessionId, fencedMs: core.clock.nowMs() });
  await core.store.putIfAbsent(name, [sealRecord(core, { type: 'FENC', name, body })], options);
  const found = core.rules.listAfterFence ? await pointOfSession(core, session, options) : early;
  // It may have closed itself since it was looked for; then it says itself what it committed, whatever a listing leaves out.
  const said =
    found || !session.closing ? '' : await readClosed(core, { sessionId, closing: session.closing }, options);
  return decideOutcome(core, { sessionId, pointId: found ?? (said ? parsePointId(said) : '') }, options);
}

async function pointOfSession(
  core: Core,
  session: { readonly sessionId: SessionId; readonly machineId: string },
  options: StoreOptions,
): Promise<PointId | undefined> {
  let unreadable: LifeboatError | undefined;
  for await (const name of listNames(core.store, prefixOf(session.machineId), options)) {
    const key = pointOfObject(name);
    if (!key) continue;
    try {
      const point = await earliestValid(core, key, options);
      if (point.sessionId === session.sessionId) return point.pointId;
    } catch (error) {
      // On bad sectors it may be the session's own, and an outcome that does not name it holds for ever.
      if (hasCode(error, 'repository.object-unreadable')) unreadable ??= error;
      // Pruned meanwhile, or changed: then it is no point that the session could claim.
      else if (!isBadObject(error) && !hasCode(error, 'repository.object-missing', 'repository.point-damaged'))
        throw error;
    }
  }
  if (unreadable) throw unreadable;
  return undefined;
}

/** A session record that does not name a machine we know how to spell: all points are looked through. */
function prefixOf(machineId: string): string {
  try {
    const machine: MachineId = parseMachineId(machineId);
    return pointsPrefix(machine);
  } catch (error) {
    if (!hasCode(error, 'input.invalid')) throw error;
    return POINTS;
  }
}
