/** Locks of the configured repository: the central extension, and the proof. Needs credentials that may extend locks. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import type { LockReport } from '@lifeboat/repository/lock/lock-check';
import type { ExtensionReport } from '@lifeboat/repository/lock/lock-extension';
import type { Configuration } from './configuration.ts';
import { openConfiguredRepository } from './repository.ts';
import { lockPolicyOf } from './repository-store.ts';

export interface LockSummary {
  /** What was extended first; undefined when that was not asked for. */
  readonly extension: ExtensionReport | undefined;
  readonly report: LockReport;
}

/** Errors: `input.invalid` where no retention is configured, those of the repository and its store. */
export async function lookAtLocks(
  configuration: Configuration,
  options: { readonly extend: boolean; readonly signal: AbortSignal; readonly log: Log },
): Promise<LockSummary> {
  const policy = lockPolicyOf(configuration.repository.place);
  if (!policy) {
    throw new LifeboatError('input.invalid', 'the repository has no retention: LIFEBOAT_LOCK_DAYS is not set');
  }
  const context = { signal: options.signal, progress: () => {} };
  const repository = await openConfiguredRepository(configuration, options);
  try {
    const extension = options.extend ? await repository.extendLocks(policy, context) : undefined;
    return { extension, report: await repository.checkLocks({ policy, inPolicy: () => true }, context) };
  } finally {
    await repository.close();
  }
}
