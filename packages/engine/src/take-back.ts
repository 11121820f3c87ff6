/**
 * For the reaper: what an operation that nobody will go on with left half made outside its directory. An edit of a disk is
 * taken back by its journal; disks that were not restored to the end are removed, as they have the names of good ones.
 *
 * What was finished stays. The directory does not tell whether the operation it belonged to failed later, so that restored
 * disks and defined machines are left to the compensation of the workflow, and after that to a person.
 */
import { recallFact } from '@lifeboat/host/operation';
import type { DeadOperation } from '@lifeboat/host/reaper';
import type { Intent } from './operations.ts';
import { undoRedeploy } from './redeploy/redeploy.ts';
import { undoRevert } from './redeploy/revert-redeploy.ts';
import { removeTargets } from './restore/targets.ts';

/** Idempotent. Errors: `guest.journal-mismatch`, `guest.journal-damaged`, those of the host room; then the journal stays. */
export async function takeBack({ directory, intent }: DeadOperation, signal: AbortSignal): Promise<void> {
  const recall = (name: string): Promise<unknown> => recallFact(directory, name);
  const { verb } = intent as Intent;
  if (verb === 'redeploy') await undoRedeploy({ directory, signal, recall });
  if (verb === 'revert') await undoRevert({ directory, signal, recall });
  if (verb === 'restore' && (await recall('done')) === undefined) await removeTargets({ recall });
}
