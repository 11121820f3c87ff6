/** What a session of an agent does otherwise than one of the tenant: it asks whether it may, and leaves decisions to who may take them. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId, PointId, SessionId } from '@lifeboat/foundation/ids';

import { readOutcome } from '../collect/outcomes.ts';
import type { Core } from '../core.ts';
import type { SessionOutcome } from '../format/session-outcome.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { Revocations } from './revocations.ts';

/** Whoever wrote a fence decides within a listing or two. */
const OUTCOME_LOOKS = 20;
const OUTCOME_PAUSE_MS = 1000;

/**
 * Whether who holds these keys may make a point of the machine now; nothing for the tenant itself.
 * Throws `repository.not-permitted`, `repository.agent-expired`, `repository.agent-revoked`, and what a listing that fails throws.
 */
export async function assertMayBackUp(core: Core, machineId: MachineId, options: StoreOptions = {}): Promise<void> {
  const { agent, role } = core.keyring;
  if (role === 'reader')
    throw new LifeboatError(
      'repository.not-permitted',
      'keys of points are for reading them; no backup is made with them',
    );
  if (!agent) return;
  const { agentId, name, notBeforeMs, notAfterMs, mayBackUp } = agent;
  const context = { agentId, machineId };
  if (!mayBackUp || !agent.machines.includes(machineId))
    throw new LifeboatError('repository.not-permitted', `agent ${name} may not back up machine ${machineId}`, {
      context,
    });
  const nowMs = core.clock.nowMs();
  if (nowMs < notBeforeMs || nowMs > notAfterMs) {
    const [from, to, now] = [notBeforeMs, notAfterMs, nowMs].map((ms) => new Date(ms).toISOString());
    throw new LifeboatError(
      'repository.agent-expired',
      `agent ${name} is certified from ${from} to ${to}; it is ${now}`,
      {
        context,
      },
    );
  }
  if ((await Revocations.load(core, agentId, options)).isRevoked(agentId))
    throw new LifeboatError('repository.agent-revoked', `agent ${name} (${agentId}) was revoked`, { context });
}

/**
 * What became of a session that was fenced, when only others may say so. Throws `repository.session-undecided` where nobody did within
 * 20 seconds: the commit may be repeated, and asks again.
 */
export async function awaitOutcome(
  core: Core,
  session: { readonly sessionId: SessionId; readonly pointId: PointId },
  options: StoreOptions = {},
): Promise<SessionOutcome> {
  for (let look = 1; ; look++) {
    const outcome = await readOutcome(core, session.sessionId, options);
    if (outcome) return outcome;
    if (look === OUTCOME_LOOKS) break;
    await core.clock.sleep(OUTCOME_PAUSE_MS, options.signal);
  }
  const { sessionId, pointId } = session;
  throw new LifeboatError(
    'repository.session-undecided',
    `session ${sessionId} was fenced, and who did it has not said whether point ${pointId} counts`,
    { context: { sessionId, pointId } },
  );
}
