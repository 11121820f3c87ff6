/**
 * Takes an edit of restored disks back, by the journal that outlived its operation.
 *
 * An operation of its own, named after the edit: a second revert of the same edit waits for the first, and one that was killed is gone on
 * with when it is asked for again. QEMU's lock on the images refuses disks that a machine runs from.
 */
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { parseOpId } from '@lifeboat/foundation/ids';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { revertJournal } from '@lifeboat/guest/journal/apply-journal';
import { readJournal, type Journal } from '@lifeboat/guest/journal/journal-file';
import { revertFiles } from '@lifeboat/guest/journal/revert-files';
import { openOperation, type Operation } from '@lifeboat/host/operation';
import type { EngineDeps } from '../deps.ts';
import { recordEvidence } from '../evidence/record-evidence.ts';
import type { Intent } from '../operations.ts';
import { findPoint } from '../points.ts';
import type { KeptRedeploy, RevertInput, RevertSummary } from '../verbs.ts';
import { aboutEdit, keptJournal, keptJournals, type AboutEdit } from './kept-journals.ts';
import { guestDisk } from './guest-disk.ts';
import { revertIfThere } from './redeploy.ts';

/** As `OpId` allows. */
const MAX_OP_ID = 63;
/** The fact that a revert has begun. */
const BEGUN = 'begun';
interface Begun {
  readonly journalDirectory: string;
}

/** One that cannot be read is listed as damaged, not left out. */
export async function listRedeploys({ stateRoot }: Pick<EngineDeps, 'stateRoot'>): Promise<KeptRedeploy[]> {
  const listed: KeptRedeploy[] = [];
  for (const opId of await keptJournals(stateRoot)) {
    const directory = keptJournal(stateRoot, opId);
    try {
      const found = await readJournal(directory);
      if (found === undefined) continue;
      const about = await aboutEdit(directory);
      const { disks, files } = touched(found.journal);
      listed.push({ opId, state: found.state, disks, editedFiles: files, ...(about ? { about } : {}) });
    } catch (error) {
      listed.push({ opId, state: 'damaged', disks: [], editedFiles: [], problem: messageOf(error) });
    }
  }
  return listed.toSorted((a, b) => (a.about?.editedAtMs ?? 0) - (b.about?.editedAtMs ?? 0));
}

/**
 * Errors: `guest.journal-missing` where no journal is kept by that name, `guest.journal-changed-since`, `guest.files-changed-since`,
 * `guest.no-originals`, those of the guest and host rooms; the disks are then as they were.
 */
export async function revertRedeploy(
  deps: EngineDeps,
  input: RevertInput,
  context: VerbContext,
): Promise<RevertSummary> {
  const { stateRoot, clock } = deps;
  const directory = keptJournal(stateRoot, input.edit);
  const found = await readJournal(directory);
  if (found === undefined) {
    throw new LifeboatError('guest.journal-missing', `No journal of an edit '${input.edit}' is kept in ${directory}`, {
      context: { directory },
    });
  }
  const about = await aboutEdit(directory);
  const intent: Intent = { verb: 'revert', machine: about?.machine ?? input.edit };
  const opId = parseOpId(`revert-${input.edit}`.slice(0, MAX_OP_ID));
  const operation = await openOperation({ stateRoot, opId, intent, signal: context.signal });
  let isOver = false;
  try {
    const startedMs = clock.monotonicMs();
    const beganMs = clock.nowMs();
    // Another revert may have ended while this one waited for the lock.
    const state = (await readJournal(directory))?.state;
    const summary = { edit: input.edit, by: input.by, ...touched(found.journal), wasReverted: state === 'reverted' };
    if (!summary.wasReverted) {
      await operation.record(BEGUN, { journalDirectory: directory } satisfies Begun);
      const within = { directory: operation.directory, signal: operation.signal, progress: context.progress };
      await takeBack({ input, directory, about, journal: found.journal }, within);
      await record(deps, { input, about, summary, beganMs, signal: operation.signal });
    }
    isOver = true;
    return { ...summary, durationMs: Math.round(clock.monotonicMs() - startedMs) };
  } finally {
    // What was begun is gone on with from there.
    await operation.close({ remove: isOver });
  }
}

/**
 * For who clears up after a revert that was killed and is not asked for again: one that went file by file and had begun to write to the disks is
 * taken back, so that they hold the edit again. One to the byte stays where it is: its journal says so, and asked again it goes on. Idempotent.
 */
export async function undoRevert(operation: Pick<Operation, 'directory' | 'signal' | 'recall'>): Promise<void> {
  const begun = (await operation.recall(BEGUN)) as Begun | undefined;
  if (begun === undefined || (await readJournal(begun.journalDirectory))?.state !== 'applied') return;
  await revertIfThere(operation);
}

async function takeBack(
  what: {
    readonly input: RevertInput;
    readonly directory: string;
    readonly about: AboutEdit | undefined;
    readonly journal: Journal;
  },
  within: VerbContext & { readonly directory: string },
): Promise<void> {
  const { input, directory, about, journal } = what;
  const { signal, progress } = within;
  const { by, overwriteChanged } = input;
  if (by === 'bytes') {
    await revertJournal({ directory, workDirectory: within.directory, signal, progress, overwriteChanged });
    return;
  }
  // Without a note the journal's own disks must do: those that were edited.
  const disks = about?.disks.map(guestDisk) ?? journal.disks.map(({ name, image }) => ({ name, image }));
  await revertFiles(
    { disks, journalDirectory: directory, directory: within.directory, overwriteChanged },
    { signal, progress },
  );
}

async function record(
  deps: EngineDeps,
  done: {
    readonly input: RevertInput;
    readonly about: AboutEdit | undefined;
    readonly summary: Pick<RevertSummary, 'files' | 'by'>;
    readonly beganMs: number;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { input, about, summary, beganMs, signal } = done;
  // An edit of a version that noted no point belongs to no machine's chain that could be named.
  if (about === undefined) return;
  await recordEvidence(
    deps,
    {
      machineId: async () => (await findPoint(deps.repository, about.machine, about.pointId)).machineId,
      operation: 'revert',
      operationId: input.edit,
      beganMs,
      claims: [],
      hardware: about.profile,
      summary: `${about.pointId}: ${summary.files.length} files taken back ${summary.by === 'bytes' ? 'to the byte' : 'through the filesystem'}`,
    },
    signal,
  );
}

function touched({ disks, edits }: Journal): { readonly disks: readonly string[]; readonly files: readonly string[] } {
  return { disks: disks.map(({ image }) => image.path), files: [...new Set(edits.map(({ path }) => path))] };
}
