import { constants, open } from 'node:fs/promises';
import { dirname } from 'node:path';

import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import type { Random } from '@lifeboat/foundation/random';
import { KiB } from '@lifeboat/foundation/units';

import { parsePaper, type Paper } from './paper.ts';

const FORM = /^lifeboat-key-1:([A-Za-z0-9+/]{43}=)\n?$/;
/** A key file is one line, and a printed page a few KiB; anything larger is some other file. */
const MAX_BYTES = { 'key file': 256, 'typed page': 64 * KiB } as const;
const CODES = { 'key file': 'repository.key-file-unusable', 'typed page': 'repository.paper-unusable' } as const;

/**
 * The 32 bytes of a key file: one line `lifeboat-key-1:<base64>`, mode 0600.
 * Throws `repository.key-file-unusable` when it is missing, of another form, or open to other users.
 */
export async function readKeyFile(path: string): Promise<Uint8Array> {
  const base64 = FORM.exec((await readPrivateFile(path, 'key file')) ?? '')?.[1];
  if (base64 === undefined)
    throw unusable('key file', path, 'does not hold a Lifeboat key (one line, lifeboat-key-1:…)');
  return Buffer.from(base64, 'base64');
}

/** What was typed from a printed page, mode 0600 like a key file. Throws `repository.paper-unusable`. */
export async function readPaperFile(path: string): Promise<Paper> {
  const typed = await readPrivateFile(path, 'typed page');
  if (typed === undefined) throw unusable('typed page', path, `is larger than ${MAX_BYTES['typed page']} bytes`);
  return parsePaper(typed);
}

type PrivateFile = keyof typeof MAX_BYTES;

/** Undefined when it is too large to be one. */
async function readPrivateFile(path: string, what: PrivateFile): Promise<string | undefined> {
  let file;
  try {
    file = await open(path, constants.O_RDONLY);
  } catch (error) {
    const missing = systemCode(error) === 'ENOENT';
    throw unusable(what, path, missing ? 'does not exist' : `cannot be read (${systemCode(error)})`, {
      error,
      missing,
    });
  }
  try {
    const { mode, size } = await file.stat();
    if ((mode & 0o077) !== 0) {
      throw unusable(what, path, `has mode ${(mode & 0o777).toString(8)}: other users can read it; set 600`);
    }
    return size <= MAX_BYTES[what] ? await file.readFile('utf8') : undefined;
  } finally {
    await file.close();
  }
}

function unusable(
  what: PrivateFile,
  path: string,
  why: string,
  { error, missing = false }: { error?: unknown; missing?: boolean } = {},
): LifeboatError {
  return new LifeboatError(CODES[what], `${what} ${path} ${why}`, { context: { path, missing }, cause: error });
}

/** Makes a key file that does not exist yet, durably, before anything is sealed with it. */
export async function createKeyFile(path: string, random: Random): Promise<Uint8Array> {
  const key = random.bytes(32);
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(`lifeboat-key-1:${Buffer.from(key).toString('base64')}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  const directory = await open(dirname(path), constants.O_RDONLY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
  return key;
}
