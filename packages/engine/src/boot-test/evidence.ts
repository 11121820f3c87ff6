/** Console and screenshots of boot tests outlive their operations, for a time: `<state>/evidence/<opId>/`. */
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '@lifeboat/foundation/errors';
import type { OpId } from '@lifeboat/foundation/ids';
import { namesIn } from '@lifeboat/host/names-in';
import type { EngineDeps } from '../deps.ts';

/** A quarter: what an auditor asks for is mostly younger, and a console is at most 64 MiB. docs/glossary.md says it, too. */
export const EVIDENCE_DAYS = 90;
const DAY_MS = 86_400_000;

export function evidenceDirectory({ stateRoot }: Pick<EngineDeps, 'stateRoot'>, opId: OpId): string {
  return join(evidenceRoot(stateRoot), opId);
}

/**
 * Removes evidence of operations that are over for `EVIDENCE_DAYS`, by the last file that was added to it. What cannot be
 * removed is said in the log and tried again by the next round.
 */
export async function reapEvidence(
  { stateRoot, clock, log }: Pick<EngineDeps, 'stateRoot' | 'clock' | 'log'>,
  liveOps: ReadonlySet<string>,
): Promise<void> {
  const untilMs = clock.nowMs() - EVIDENCE_DAYS * DAY_MS;
  for (const name of await namesIn(evidenceRoot(stateRoot))) {
    const path = join(evidenceRoot(stateRoot), name);
    try {
      if (liveOps.has(name) || (await stat(path)).mtimeMs >= untilMs) continue;
      await rm(path, { recursive: true });
      log.info(`evidence of ${name} removed after ${EVIDENCE_DAYS} days`);
    } catch (error) {
      log.warn(`old evidence ${path} stays: ${messageOf(error)}`);
    }
  }
}

function evidenceRoot(stateRoot: string): string {
  return join(stateRoot, 'evidence');
}
