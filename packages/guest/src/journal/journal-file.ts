/**
 * The journal of an edit: enough to finish it after kill -9, and to take it back exactly.
 *
 *   <directory>/
 *     old-bytes     what the changed places of the disks held
 *     new-bytes     what they shall hold; removed once the disks hold it
 *     old-files     what the edited files held and the new ones do not (original-files.ts)
 *     journal.json  written last, durably: the places, hashes of both contents, the edits for people, the result
 *     state         'writing' ─► 'applied' ─► 'reverting' ─► 'reverted'
 *
 * No journal.json: nothing has reached a disk. It is there: the journal is complete, and `state` says what is under way;
 * every step writes the same bytes when it is repeated.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import type { ImageFile } from '@lifeboat/host/disk-image-server';
import { removeIfThere, syncDirectory, writeDurably } from '@lifeboat/host/durable-file';
import type { FileEdit } from '../access/guest-tree.ts';

/** A run of one disk that differs before and after. */
export interface JournalRun {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly oldSha256: string;
  readonly newSha256: string;
  /** Where the content begins in old-bytes and new-bytes; absent: all zeros, not stored. */
  readonly oldAt?: number;
  readonly newAt?: number;
}

export interface JournalDisk {
  readonly name: string;
  readonly image: ImageFile;
  readonly sizeBytes: number;
  /** By offset, without overlap. */
  readonly runs: readonly JournalRun[];
}

export interface Journal {
  readonly formatVersion: 1;
  /** What was edited, for people: path, old hash, new hash. */
  readonly edits: readonly FileEdit[];
  readonly disks: readonly JournalDisk[];
  /** What the edit returned: given again to whoever repeats it. */
  readonly result: unknown;
}

export type JournalState = 'writing' | 'applied' | 'reverting' | 'reverted';
const states: readonly JournalState[] = ['writing', 'applied', 'reverting', 'reverted'];

const JOURNAL = 'journal.json';
const STATE = 'state';

export const oldBytesPath = (directory: string): string => join(directory, 'old-bytes');
export const newBytesPath = (directory: string): string => join(directory, 'new-bytes');
export const oldFilesPath = (directory: string): string => join(directory, 'old-files');

/** Makes the journal complete: from here on the edit is carried out, also after a crash. */
export async function sealJournal(directory: string, journal: Journal): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await writeState(directory, 'writing');
  const body = JSON.stringify(journal);
  // The hash finds what a failing host disk did to the file; it is no protection against an attacker with our rights.
  await writeDurably(join(directory, JOURNAL), `${hashOf(body)}\n${body}\n`);
}

/** Undefined: there is no complete journal. Errors: `guest.journal-damaged`. */
export async function readJournal(directory: string): Promise<{ journal: Journal; state: JournalState } | undefined> {
  const text = await readIfThere(join(directory, JOURNAL));
  if (text === undefined) return undefined;
  const damaged = (problem: string, cause?: unknown): LifeboatError =>
    new LifeboatError('guest.journal-damaged', `The journal in ${directory} ${problem}`, {
      cause,
      context: { directory },
    });
  const cut = text.indexOf('\n');
  const body = text.slice(cut + 1).trimEnd();
  if (text.slice(0, cut) !== hashOf(body)) throw damaged('does not match its checksum');
  const journal = JSON.parse(body) as Journal;
  if (journal.formatVersion !== 1)
    throw damaged(`has the version ${String(journal.formatVersion)}; this program reads 1`);
  const word = (await readIfThere(join(directory, STATE)))?.trim();
  const state = states.find((candidate) => candidate === word);
  if (state === undefined) throw damaged(`has the state '${word ?? 'none'}'`);
  return { journal, state };
}

export async function writeState(directory: string, state: JournalState): Promise<void> {
  await writeDurably(join(directory, STATE), `${state}\n`);
}

/** Forgets a journal whose edit was taken back: there is none any more. The disks must hold the old bytes. */
export async function discardReverted(directory: string): Promise<void> {
  await removeIfThere(join(directory, JOURNAL));
  // Without it the rest is that of an incomplete journal; the rest without it would be a journal without content.
  await syncDirectory(directory);
  await discardIncomplete(directory);
}

/** Removes what an attempt left that did not complete its journal. */
export async function discardIncomplete(directory: string): Promise<void> {
  for (const path of [oldBytesPath, newBytesPath, oldFilesPath].map((pathIn) => pathIn(directory)))
    await removeIfThere(path);
  await removeIfThere(join(directory, STATE));
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
