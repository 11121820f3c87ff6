/**
 * Takes an edit back file by file, through the filesystem: for disks that a machine ran from since, whose blocks are no longer what the
 * edit wrote.
 *
 *   1. every edited file must hold what the edit wrote, or what it held before (then there is nothing to do)
 *   2. in throw-away overlays, newest edit first: the old content from the new one and `old-files`, checked by its hash
 *   3. a journal of this edit, then the disks                       ── edit-under-journal.ts, so a crash is finished
 *   4. the journal that was taken back says `reverted`
 *
 * For Linux: files of Windows are overwritten in place, and what they held is kept as blocks alone. The files then hold the old content; the disks are not what they were byte for byte, as a filesystem that was in use moves on.
 */
import { createHash } from 'node:crypto';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { FileEdit, GuestTree } from '../access/guest-tree.ts';
import type { GuestDisk, OpenGuest } from '../access/open-guest.ts';
import { editUnderJournal } from '../inject/edit-under-journal.ts';
import { MAX_INITRD_BYTES } from '../linux/kernels.ts';
import { oldFilesPath, readJournal, writeState } from './journal-file.ts';
import { originalContent } from './original-files.ts';

export interface RevertFilesOptions {
  /** All disks of the machine: what the edit did not touch may hold the root all the same. */
  readonly disks: readonly GuestDisk[];
  /** Of the edit. */
  readonly journalDirectory: string;
  /** The operation's directory; gets a journal of its own. */
  readonly directory: string;
  /** Puts the old files back also over what was changed since. */
  readonly overwriteChanged: boolean;
}

/**
 * Resolves with the paths that hold their old content again. Idempotent per `directory`.
 * Errors: `guest.files-changed-since` with the files, `guest.journal-missing`, `guest.journal-damaged`, `guest.no-originals` for an edit of
 * a version that did not keep the files, those of opening; the disks are then as they were.
 */
export async function revertFiles(options: RevertFilesOptions, context: VerbContext): Promise<string[]> {
  const { disks, journalDirectory, directory } = options;
  const found = await readJournal(journalDirectory);
  if (found === undefined) throw missing(journalDirectory);
  const { edits } = found.journal;
  if (found.state === 'reverted') return pathsOf(edits);
  if (found.state !== 'applied') {
    throw new LifeboatError('guest.journal-mismatch', `The journal in ${journalDirectory} is ${found.state}`, {
      context: { directory: journalDirectory, state: found.state },
    });
  }
  const withoutOriginal = edits.filter(({ original }) => original === undefined);
  if (withoutOriginal.length > 0) {
    throw new LifeboatError(
      'guest.no-originals',
      `The journal in ${journalDirectory} does not hold what ${pathsOf(withoutOriginal).join(', ')} held`,
      { context: { directory: journalDirectory } },
    );
  }
  const edit = async ({ tree }: OpenGuest): Promise<{ edits: FileEdit[]; result: object }> => ({
    edits: await putBack(tree, edits, options, context),
    result: {},
  });
  await editUnderJournal({ disks, directory, system: 'linux', edit }, context);
  await writeState(journalDirectory, 'reverted');
  return pathsOf(edits);
}

async function putBack(
  tree: GuestTree,
  edits: readonly FileEdit[],
  { journalDirectory, overwriteChanged }: RevertFilesOptions,
  { progress, signal }: VerbContext,
): Promise<FileEdit[]> {
  const last = new Map(edits.map((edit) => [edit.path, edit]));
  const first = new Map(edits.toReversed().map((edit) => [edit.path, edit]));
  const untouched = new Set<string>();
  const changed: string[] = [];
  for (const [path, edit] of last) {
    const now = sha256(await contentOf(tree, path));
    if (now === first.get(path)?.oldSha256) untouched.add(path);
    else if (now !== edit.newSha256) changed.push(path);
  }
  if (changed.length > 0 && !overwriteChanged) {
    throw new LifeboatError(
      'guest.files-changed-since',
      `These files hold something else than the edit wrote: ${changed.join(', ')}`,
      { context: { directory: journalDirectory, files: changed.length } },
    );
  }
  const done: FileEdit[] = [];
  for (const edit of edits.toReversed()) {
    if (untouched.has(edit.path)) continue;
    signal.throwIfAborted();
    progress({ phase: 'revert', doneBytes: 0, detail: edit.path });
    done.push(...(await putBackOne(tree, edit, journalDirectory)));
  }
  return done;
}

async function putBackOne(tree: GuestTree, edit: FileEdit, journalDirectory: string): Promise<FileEdit[]> {
  const { path, original, oldSha256 } = edit;
  if (original === undefined) throw new LifeboatError('internal.bug', `${path} has no original`);
  const isThere = await tree.isFile(path);
  if (!original.existed) return isThere ? [await tree.remove(path)] : [];
  const content = await originalContent(original, await contentOf(tree, path), oldFilesPath(journalDirectory));
  if (sha256(content) !== oldSha256) {
    throw new LifeboatError(
      'guest.journal-damaged',
      `${journalDirectory}: the old content of ${path} cannot be put together: what is there now lacks what the journal did not keep, or the journal is damaged`,
      { context: { directory: journalDirectory, path } },
    );
  }
  return [isThere ? await tree.replace(path, [content]) : await tree.write(path, content, original)];
}

/** Empty for a file that is not there: as an edit that removes one notes it. */
async function contentOf(tree: GuestTree, path: string): Promise<Buffer> {
  return (await tree.read(path, { maxBytes: MAX_INITRD_BYTES })) ?? Buffer.alloc(0);
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function pathsOf(edits: readonly FileEdit[]): string[] {
  return [...new Set(edits.map(({ path }) => path))];
}

function missing(directory: string): LifeboatError {
  return new LifeboatError('guest.journal-missing', `There is no complete journal in ${directory}`, {
    context: { directory },
  });
}
