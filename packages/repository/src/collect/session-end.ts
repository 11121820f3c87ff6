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
import { hasCode } from '@lifeboat/foundation/errors';
import { parseMachineId, type MachineId, type PointId, type SessionId } from '@lifeboat/foundation/ids';

import type { Core } from '../core.ts';
import { damaged } from '../format/frame.ts';
import { MAX_POINT_BYTES, MAX_RECORD_BYTES } from '../format/limits.ts';
import { fenceObject, outcomeObject, POINTS, pointsPrefix } from '../format/names.ts';
import { decodePointObject } from '../format/point.ts';
import {
  decodeOutcome,
  encodeFence,
  encodeOutcome,
  encodeOutcomeBody,
  type SessionOutcome,
} from '../format/session-outcome.ts';
import { lengthPrefixed } from '../seal/derive.ts';
import type { StoreOptions } from '../store/object-store.ts';

/** Fences a session and settles what became of it. Idempotent. Throws what a listing that fails throws. */
export async function settleSession(
  core: Core,
  session: { readonly sessionId: SessionId; readonly machineId: string },
  options: StoreOptions = {},
): Promise<SessionOutcome> {
  const { sessionId } = session;
  const early = core.rules.listAfterFence ? undefined : await pointOfSession(core, session, options);
  const fence = encodeFence({ sessionId, fencedMs: core.clock.nowMs() });
  await core.store.putIfAbsent(fenceObject(sessionId), [fence], options);
  const found = core.rules.listAfterFence ? await pointOfSession(core, session, options) : early;
  return decideOutcome(core, { sessionId, pointId: found ?? '' }, options);
}

/** Writes the outcome, or finds that somebody did; returns the one that holds. Throws `repository.object-damaged` for a forged one. */
export async function decideOutcome(
  core: Core,
  proposed: { readonly sessionId: SessionId; readonly pointId: PointId | '' },
  options: StoreOptions = {},
): Promise<SessionOutcome> {
  const { tenantId, signer } = core.keyring;
  const outcome: SessionOutcome = { tenantId, ...proposed, decidedMs: core.clock.nowMs(), signer };
  const body = encodeOutcomeBody(outcome);
  const object = encodeOutcome({ body, signature: core.keyring.sign(signedOutcome(body)) });
  const name = outcomeObject(proposed.sessionId);
  if ((await core.store.putIfAbsent(name, [object], options)) === 'created') return outcome;
  return openOutcome(core, proposed.sessionId, options);
}

/** Undefined: nobody had to end this session, or what says so is not ours. */
export async function readOutcome(
  core: Core,
  sessionId: SessionId,
  options: StoreOptions = {},
): Promise<SessionOutcome | undefined> {
  try {
    return await openOutcome(core, sessionId, options);
  } catch (error) {
    if (hasCode(error, 'repository.object-missing')) return undefined;
    if (!hasCode(error, 'repository.object-damaged')) throw error;
    core.log.error('an outcome is forged or damaged; the points of its session count as they are', {
      sessionId,
      why: error.message,
    });
    return undefined;
  }
}

async function openOutcome(core: Core, sessionId: SessionId, options: StoreOptions): Promise<SessionOutcome> {
  const name = outcomeObject(sessionId);
  const object = await core.store.get(name, { ...options, maxBytes: MAX_RECORD_BYTES });
  const { outcome, body, signature } = decodeOutcome(object, name);
  if (outcome.sessionId !== sessionId) throw damaged(name, `it is the outcome of session ${outcome.sessionId}`);
  if (Buffer.compare(outcome.tenantId, core.keyring.tenantId) !== 0)
    throw damaged(name, 'it belongs to another tenant');
  if (!core.keyring.verify(outcome.signer, signedOutcome(body), signature))
    throw damaged(name, 'its signature is not ours');
  return outcome;
}

function signedOutcome(body: Uint8Array): Buffer {
  return lengthPrefixed('lifeboat session outcome', body);
}

async function pointOfSession(
  core: Core,
  session: { readonly sessionId: SessionId; readonly machineId: string },
  options: StoreOptions,
): Promise<PointId | undefined> {
  for await (const { name } of core.store.list(prefixOf(session.machineId), options)) {
    try {
      const object = await core.store.get(name, { ...options, maxBytes: MAX_POINT_BYTES });
      const { header } = decodePointObject(object, name);
      if (header.sessionId === session.sessionId) return header.pointId as PointId;
    } catch (error) {
      // Pruned meanwhile, or not readable: then it is no point that the session could claim.
      if (!hasCode(error, 'repository.object-missing', 'repository.object-damaged')) throw error;
    }
  }
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
