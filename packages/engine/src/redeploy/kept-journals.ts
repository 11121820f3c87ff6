/** Journals of finished edits outlive their operations, for a revert: `<state>/journals/<opId>`, as long as their disks. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, messageOf } from '@lifeboat/foundation/errors';
import { parseOpId, type OpId } from '@lifeboat/foundation/ids';
import { readJournal } from '@lifeboat/guest/journal/journal-file';
import { readRecord, writeDurably } from '@lifeboat/host/durable-file';
import { namesIn } from '@lifeboat/host/names-in';
import type { EngineDeps } from '../deps.ts';
import type { KeptRedeploy } from '../verbs.ts';

const ABOUT = 'about.json';

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

/** By name. A name that is no operation's is not listed. */
export async function keptJournals(stateRoot: string): Promise<OpId[]> {
  return (await namesIn(journalsRoot(stateRoot))).filter(isOpId).map(parseOpId).toSorted();
}

/** What an edit was for; beside its journal, for whoever takes it back later. */
export type AboutEdit = NonNullable<KeptRedeploy['about']>;

export async function noteAbout(journalDirectory: string, about: AboutEdit): Promise<void> {
  await writeDurably(join(journalDirectory, ABOUT), JSON.stringify(about));
}

/** Errors: `host.record-damaged`. */
export async function aboutEdit(journalDirectory: string): Promise<AboutEdit | undefined> {
  return (await readRecord(join(journalDirectory, ABOUT))) as AboutEdit | undefined;
}

function isOpId(name: string): boolean {
  try {
    parseOpId(name);
    return true;
  } catch (error) {
    if (hasCode(error, 'input.invalid')) return false;
    throw error;
  }
}

function journalsRoot(stateRoot: string): string {
  return join(stateRoot, 'journals');
}
