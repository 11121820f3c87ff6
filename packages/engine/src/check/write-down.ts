import { hasCode } from '@lifeboat/foundation/errors';
import type { Damage } from '@lifeboat/repository/check/damage-reports';
import type { EngineDeps } from '../deps.ts';

/**
 * Writes down what a check found, for the next backups. An agent, and a host with the keys of some points, may not sign it: they say what
 * they found all the same. Errors: those of the store.
 */
export async function writeDown(
  { repository, log }: Pick<EngineDeps, 'repository' | 'log'>,
  damage: Damage,
  options: { readonly signal: AbortSignal },
): Promise<void> {
  try {
    await repository.reportDamage(damage, options);
  } catch (error) {
    if (!hasCode(error, 'repository.not-permitted')) throw error;
    log.warn('damage cannot be written down for the next backups with these keys', { why: error.message });
  }
}
