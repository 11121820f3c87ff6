/** Journals of finished edits outlive their operations, for a revert: `<state>/journals/<opId>`, as long as their disks. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '@lifeboat/foundation/errors';
import { readJournal } from '@lifeboat/guest/journal/journal-file';
import { namesIn } from '@lifeboat/host/names-in';
import type { EngineDeps } from '../deps.ts';

export function keptJournal(stateRoot: string, opId: string): string {
  return join(journalsRoot(stateRoot), opId);
}

/** Disks were removed: the journals that belong to none but these go as well. One that cannot be read stays, for a person. */
export async function removeJournalsOf(
  { stateRoot, log }: Pick<EngineDeps, 'stateRoot' | 'log'>,
  removedDisks: readonly string[],
): Promise<void> {
  if (removedDisks.length === 0) return;
  for (const name of await namesIn(journalsRoot(stateRoot))) {
    const directory = keptJournal(stateRoot, name);
    try {
      const disks = (await readJournal(directory))?.journal.disks ?? [];
      if (disks.length > 0 && disks.every(({ image }) => removedDisks.includes(image.path))) {
        await rm(directory, { recursive: true });
      }
    } catch (error) {
      log.warn(`journal ${directory} stays: ${messageOf(error)}`);
    }
  }
}

function journalsRoot(stateRoot: string): string {
  return join(stateRoot, 'journals');
}
