/** Records that say how a session ended which somebody else had to end. Why they decide: `session-end.ts`. */
import { hasCode } from '@lifeboat/foundation/errors';
import type { PointId, SessionId } from '@lifeboat/foundation/ids';

import type { Core } from '../core.ts';
import { damaged } from '../format/frame.ts';
import { MAX_RECORD_BYTES } from '../format/limits.ts';
import { outcomeObject } from '../format/names.ts';
import { decodeOutcome, encodeOutcome, encodeOutcomeBody, type SessionOutcome } from '../format/session-outcome.ts';
import { controlName } from '../seal/control-records.ts';
import { lengthPrefixed } from '../seal/derive.ts';
import { isBadObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';

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
  const name = controlName(core, outcomeObject(proposed.sessionId));
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
    if (!isBadObject(error)) throw error;
    core.log.error('an outcome is forged or cannot be read; the points of its session count as they are', {
      sessionId,
      why: error.message,
    });
    return undefined;
  }
}

async function openOutcome(core: Core, sessionId: SessionId, options: StoreOptions): Promise<SessionOutcome> {
  const name = controlName(core, outcomeObject(sessionId));
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
