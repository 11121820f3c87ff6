/**
 * Edits the disks of a guest so that a crash is finished or forgotten, and everything can be taken back.
 *
 *   1. A complete journal from an earlier attempt?  finish it, return its result; one that was taken back, or half so,
 *      is taken back to the end and forgotten
 *   2. open the guest in throw-away overlays        (open-guest.ts; filesystems checked before and after)
 *   3. apply the edits to its files
 *   4. write the journal: old and new bytes, hashes (record-changes.ts), what the
 *      edited files held (original-files.ts)                                  ── until here the disks are untouched
 *   5. write the new bytes to the disks, read back  (apply-journal.ts)        ── from here a crash is finished by 1
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { FileEdit } from '../access/guest-tree.ts';
import {
  withEditableGuest,
  type GuestAccess,
  type GuestChanges,
  type GuestDisk,
  type OpenGuest,
} from '../access/open-guest.ts';
import { applyOrTakeBack, forgetTakenBack } from '../journal/finish-edit.ts';
import { discardIncomplete, oldFilesPath, readJournal } from '../journal/journal-file.ts';
import { OriginalFiles } from '../journal/original-files.ts';
import { recordChanges } from '../journal/record-changes.ts';

export interface EditOptions<T> {
  readonly disks: readonly GuestDisk[];
  readonly system: NonNullable<GuestAccess['system']>;
  /** The operation's directory; the journal is `journal/` in it and must be kept to revert. */
  readonly directory: string;
  readonly edit: (guest: OpenGuest) => Promise<{ readonly edits: readonly FileEdit[]; readonly result: T }>;
  /** Looks at what came of it before anything is recorded; what it throws throws the edit away. */
  readonly verify?: (changes: GuestChanges, result: T) => Promise<T>;
}

export interface JournaledEdit<T> {
  readonly result: T;
  readonly edits: readonly FileEdit[];
  readonly journalDirectory: string;
}

/**
 * Idempotent per `directory`: called again after a crash it finishes or begins anew, after an abort or a revert it begins
 * anew, after success it returns the same. `T` is what JSON gives back as it was. Errors: those of opening, edit and journal.
 */
export async function editUnderJournal<T>(options: EditOptions<T>, context: VerbContext): Promise<JournaledEdit<T>> {
  const { disks, system, directory, edit, verify } = options;
  const { signal, progress } = context;
  const journalDirectory = join(directory, 'journal');
  const finish = { directory: journalDirectory, workDirectory: directory, signal, progress };
  await mkdir(journalDirectory, { recursive: true, mode: 0o700 });
  await forgetTakenBack(finish);
  if ((await readJournal(journalDirectory)) === undefined) {
    await discardIncomplete(journalDirectory);
    progress({ phase: 'inject', doneBytes: 0, detail: 'opening the guest' });
    const originals = await OriginalFiles.create(oldFilesPath(journalDirectory));
    const kept = onceOnly(() => originals.close());
    try {
      await withEditableGuest(
        { disks, directory, signal, system, originals },
        {
          work: edit,
          changes: async (changes, { edits, result }) => {
            // Durable before the journal says what is in it.
            await kept();
            return await recordChanges(changes, {
              directory: journalDirectory,
              workDirectory: directory,
              edits,
              result: verify ? await verify(changes, result) : result,
              signal,
            });
          },
        },
      );
    } finally {
      await kept();
    }
  }
  const journal = await applyOrTakeBack(finish);
  return { result: journal.result as T, edits: journal.edits, journalDirectory };
}

/** Calls it the first time, and waits for that ever after. */
function onceOnly(act: () => Promise<void>): () => Promise<void> {
  let acted: Promise<void> | undefined;
  return () => (acted ??= act());
}
