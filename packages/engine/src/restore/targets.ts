/**
 * Files that an operation makes outside its directory. Each is made where nothing is, so that of two operations with one
 * name one is refused; and what is removed is what this operation made, as long as it is still that.
 *
 *   note the name ─► make it, exclusively ─► note the file ─► use
 *
 * Killed between making and noting, a file without content is left under a noted name, and goes as well.
 */
import { lstat, open, rm } from 'node:fs/promises';
import type { BigIntStats } from 'node:fs';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import type { Operation } from '@lifeboat/host/operation';

/** Facts: the files that were made, and the name that is about to be. */
const MADE = 'targets';
const NEXT = 'next-target';

interface MadeFile {
  readonly path: string;
  readonly identity: string;
}

/** Makes empty files, all or, but for a kill, none. Errors: `engine.target-exists`. */
export async function makeTargets(
  operation: Pick<Operation, 'record' | 'recall'>,
  paths: readonly string[],
): Promise<void> {
  const made: MadeFile[] = [];
  try {
    for (const path of paths) {
      await operation.record(NEXT, path);
      made.push({ path, identity: await makeEmpty(path) });
      await operation.record(MADE, made);
    }
    await operation.record(NEXT, null);
  } catch (error) {
    // It is somebody else's, also while it is empty.
    if (systemCode(error) === 'EEXIST') await operation.record(NEXT, null);
    await removeTargets(operation);
    if (systemCode(error) !== 'EEXIST') throw error;
    const path = paths[made.length] ?? '';
    throw new LifeboatError('engine.target-exists', `${path} exists already`, { context: { path }, cause: error });
  }
}

/** Removes what this operation made and nobody has replaced. Idempotent. Returns the paths where nothing is any more. */
export async function removeTargets(operation: Pick<Operation, 'recall'>): Promise<string[]> {
  const made = ((await operation.recall(MADE)) as MadeFile[] | undefined) ?? [];
  const next = (await operation.recall(NEXT)) as string | null | undefined;
  const gone: string[] = [];
  for (const { path, identity } of made) {
    if (await removeIf(path, (file) => identityOf(file) === identity)) gone.push(path);
  }
  if (next) await removeIf(next, (file) => file.isFile() && file.size === 0n);
  return gone;
}

async function makeEmpty(path: string): Promise<string> {
  const file = await open(path, 'wx');
  try {
    return identityOf(await file.stat({ bigint: true }));
  } finally {
    await file.close();
  }
}

/** Inode numbers are reused, births are not. */
function identityOf({ ino, birthtimeNs }: BigIntStats): string {
  return `${ino}@${birthtimeNs}`;
}

/** False: something else is there. */
async function removeIf(path: string, isIt: (file: BigIntStats) => boolean): Promise<boolean> {
  try {
    if (!isIt(await lstat(path, { bigint: true }))) return false;
    await rm(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
  return true;
}
