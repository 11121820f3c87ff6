/**
 * Compensation: takes back everything an operation left on this host, whatever its verb was and wherever it died. Idempotent;
 * the lock makes sure that no attempt runs meanwhile (an attempt in this process is told to let go).
 */
import { existsSync } from 'node:fs';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { openOperation } from '@lifeboat/host/operation';
import { operationDirectory, readIntent } from '@lifeboat/host/operation-directory';
import { undoCapture } from './capture/capture-machine.ts';
import type { EngineDeps } from './deps.ts';
import { undefineMachine } from './machine/define-machine.ts';
import type { Intent } from './operations.ts';
import { removeJournalsOf } from './redeploy/kept-journals.ts';
import { undoRedeploy } from './redeploy/redeploy.ts';
import { undoRevert } from './redeploy/revert-redeploy.ts';
import { removeTargets } from './restore/targets.ts';
import type { AbandonInput } from './verbs.ts';

/** Of an attempt that was killed between its directory and its intent: it has done nothing, but the directory is there. */
const NO_INTENT = { intent: { verb: 'abandon' }, epoch: undefined };

export async function abandonOperation(deps: EngineDeps, input: AbandonInput, context: VerbContext): Promise<void> {
  const { stateRoot, hypervisor } = deps;
  const { opId } = input;
  for (const item of await hypervisor.listTagged()) {
    if (item.opId === opId && item.hostId === deps.hostId) await hypervisor.removeTagged(item);
  }
  const directory = operationDirectory(stateRoot, opId);
  const intent = (await readIntent(directory, opId)) ?? NO_INTENT;
  // Never begun, or gone already.
  if (intent === NO_INTENT && !existsSync(directory)) return;
  const operation = await openOperation({
    stateRoot,
    opId,
    intent: intent.intent,
    ...(intent.epoch === undefined ? {} : { epoch: intent.epoch }),
    signal: context.signal,
  });
  let remove = false;
  try {
    await undoCapture(deps, operation);
    const { verb } = intent.intent as Intent;
    if (verb === 'redeploy') await undoRedeploy(operation);
    if (verb === 'revert') await undoRevert(operation);
    if (input.removeTargets) {
      await undefineMachine(deps, operation);
      await removeJournalsOf(deps, await removeTargets(operation));
    }
    remove = true;
  } finally {
    await operation.close({ remove });
  }
}
