import { workflowInfo } from '@temporalio/workflow';
import type { PreflightRunInput } from '@lifeboat/contracts/workflow/operations';
import type { PreflightSummary } from '@lifeboat/contracts/workflow/verbs';
import { hostVerbs } from './activity-proxies.ts';
import { namedFailure } from './failure-naming.ts';
import { acquireLease, releaseLease } from './host-lease.ts';
import { newOpId } from './operation-id.ts';

/** What a look into guests writes: journals that are replayed, and nothing else. */
const SCRATCH_BYTES = 1024 ** 3;

/**
 * One night's pre-flight: all machines against the spare models, by plan. It takes its place on the host as any operation does; the verb removes
 * what it made, and killed, the reaper does.
 */
export async function Preflight({ hostId, profiles }: PreflightRunInput): Promise<PreflightSummary> {
  const holder = workflowInfo().workflowId;
  const opId = newOpId('pre');
  try {
    const need = { slots: 1, domains: 0, scratchBytes: SCRATCH_BYTES };
    const epoch = await acquireLease(hostId, { holder, need, opIds: [opId] });
    return await hostVerbs(hostId).preflight({ opId, epoch, profiles });
  } catch (error) {
    throw namedFailure(error, hostId);
  } finally {
    await releaseLease(hostId, holder);
  }
}
