/**
 * Carries out a redeploy plan and returns what is really installed.
 *
 *   1. A complete journal from an earlier attempt?  finish it, return its result; one that was taken back, or half so,
 *      is taken back to the end and forgotten
 *   2. open the guest in throw-away overlays        (open-guest.ts; filesystems checked before and after)
 *   3. apply the edits to its files, read each initrd back
 *   4. write the journal: old and new bytes, hashes (record-changes.ts)       ── until here the disks are untouched
 *   5. write the new bytes to the disks, read back  (apply-journal.ts)        ── from here a crash is finished by 1
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock, type Clock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { FileEdit } from '../access/guest-tree.ts';
import { withEditableGuest, type GuestDisk } from '../access/open-guest.ts';
import { applyJournal, revertJournal, type ApplyOptions } from '../journal/apply-journal.ts';
import { discardIncomplete, discardReverted, readJournal, type Journal } from '../journal/journal-file.ts';
import { recordChanges } from '../journal/record-changes.ts';
import type { RedeployPlan } from '../plan/redeploy-plan.ts';
import { applyEdits, type InstalledKernel } from './apply-edits.ts';

export interface InjectOptions {
  readonly disks: readonly GuestDisk[];
  readonly plan: RedeployPlan;
  /** The operation's directory; the journal is `journal/` in it and must be kept to revert. */
  readonly directory: string;
  readonly clock?: Clock;
}

export interface InjectionResult {
  readonly kernels: readonly InstalledKernel[];
  /** Files of the guest that are different now. */
  readonly edits: readonly FileEdit[];
  /** From opening the disks to the last byte durable on them; of the attempt that wrote the journal. */
  readonly durationMs: number;
  readonly journalDirectory: string;
}

/**
 * Idempotent per `directory`: called again after a crash it finishes or begins anew, after an abort or a revert it begins
 * anew, after success it returns the same.
 * Errors: `guest.redeploy-refused`, `guest.changed-since-plan`, `guest.injection-incomplete`, those of opening and journal.
 */
export async function injectDrivers(options: InjectOptions, context: VerbContext): Promise<InjectionResult> {
  const { plan, directory } = options;
  const { signal, progress } = context;
  const clock = options.clock ?? systemClock;
  const startMs = clock.monotonicMs();
  const journalDirectory = join(directory, 'journal');
  const finish = { directory: journalDirectory, workDirectory: directory, signal, progress };
  if (plan.refusals.length > 0) {
    throw new LifeboatError(
      'guest.redeploy-refused',
      `The plan for '${plan.profile.name}' refuses: ${plan.refusals.map((refusal) => refusal.text).join(' ')}`,
      { context: { profile: plan.profile.name, refusals: plan.refusals.map((refusal) => refusal.code).join(',') } },
    );
  }
  await mkdir(journalDirectory, { recursive: true, mode: 0o700 });
  await forgetTakenBack(finish);
  if ((await readJournal(journalDirectory)) === undefined) {
    await discardIncomplete(journalDirectory);
    progress({ phase: 'inject', doneBytes: 0, detail: 'opening the guest' });
    await withEditableGuest(
      { disks: options.disks, directory, signal },
      {
        work: ({ tree }) => applyEdits(tree, plan, { nowMs: clock.nowMs(), directory, context }),
        changes: (changes, { kernels, edits }) =>
          recordChanges(changes, {
            directory: journalDirectory,
            workDirectory: directory,
            edits,
            result: { kernels },
            signal,
          }),
      },
    );
  }
  const journal = await applyOrTakeBack(finish);
  const { kernels } = journal.result as { kernels: readonly InstalledKernel[] };
  return { kernels, edits: journal.edits, durationMs: clock.monotonicMs() - startMs, journalDirectory };
}

/** An abort must not leave a disk that is half edited; any other failure leaves the journal, from which a retry goes on. */
async function applyOrTakeBack(options: ApplyOptions): Promise<Journal> {
  try {
    return await applyJournal(options);
  } catch (error) {
    if (options.signal.aborted) await takeBack(options);
    throw error;
  }
}

/** An attempt that was aborted in mid-edit took its edit back, or was killed while it did. */
async function forgetTakenBack(options: ApplyOptions): Promise<void> {
  const state = (await readJournal(options.directory))?.state;
  if (state !== 'reverting' && state !== 'reverted') return;
  await takeBack(options);
  await discardReverted(options.directory);
}

/** To the end, also after an abort. */
async function takeBack(options: ApplyOptions): Promise<void> {
  await revertJournal({ ...options, signal: new AbortController().signal });
}
