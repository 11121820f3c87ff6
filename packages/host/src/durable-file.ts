import { link, open, readFile, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';

/** Small facts only; more is not something this room wrote. */
const MAX_RECORD_BYTES = 1024 * 1024;
/** What kill -9 between write and rename leaves; holds nothing anybody relied on. */
export const TEMPORARY_SUFFIX = '.tmp';
let sequence = 0;

/**
 * Replaces a file so that after a power cut either the old or the new content is there, whole:
 * write beside it, fsync, rename, fsync the directory. Mode 0600.
 */
export async function writeDurably(path: string, content: string): Promise<void> {
  await place(path, content, (temporary) => rename(temporary, path));
}

/** As `writeDurably`, but never replaces: false, and nothing changed, if the file exists. Decides a race of creators. */
export async function createDurably(path: string, content: string): Promise<boolean> {
  try {
    await place(path, content, async (temporary) => {
      await link(temporary, path);
      await unlink(temporary);
    });
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

async function place(path: string, content: string, move: (temporary: string) => Promise<void>): Promise<void> {
  sequence += 1;
  const temporary = `${path}.${process.pid}-${sequence}${TEMPORARY_SUFFIX}`;
  try {
    const file = await open(temporary, 'w', 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await move(temporary);
  } catch (error) {
    await removeIfThere(temporary);
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Makes creations, renames and removals in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/**
 * The JSON value of a record file; undefined if there is no such file.
 * Errors: `host.record-damaged` if it is too big or not JSON.
 */
export async function readRecord(path: string): Promise<unknown> {
  let text: string;
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      if (size > MAX_RECORD_BYTES) {
        throw new LifeboatError(
          'host.record-damaged',
          `${path} holds ${size} bytes; a record has at most ${MAX_RECORD_BYTES}`,
        );
      }
      text = await readFile(file, 'utf8');
    } finally {
      await file.close();
    }
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new LifeboatError('host.record-damaged', `${path} is not JSON`, { cause, context: { path } });
  }
}

export async function removeIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}
