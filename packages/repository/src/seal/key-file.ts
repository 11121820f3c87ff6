import { constants, open } from 'node:fs/promises';
import { dirname } from 'node:path';

import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import type { Random } from '@lifeboat/foundation/random';

const FORM = /^lifeboat-key-1:([A-Za-z0-9+/]{43}=)\n?$/;
/** A key file is one line; anything larger is some other file. */
const MAX_BYTES = 256;

/**
 * The 32 bytes of a key file: one line `lifeboat-key-1:<base64>`, mode 0600.
 * Throws `repository.key-file-unusable` when it is missing, of another form, or open to other users.
 */
export async function readKeyFile(path: string): Promise<Uint8Array> {
  const unusable = (why: string, cause?: unknown, missing = false): LifeboatError =>
    new LifeboatError('repository.key-file-unusable', `key file ${path} ${why}`, { context: { path, missing }, cause });
  let file;
  try {
    file = await open(path, constants.O_RDONLY);
  } catch (error) {
    const missing = systemCode(error) === 'ENOENT';
    throw unusable(missing ? 'does not exist' : `cannot be read (${systemCode(error)})`, error, missing);
  }
  try {
    const { mode, size } = await file.stat();
    if ((mode & 0o077) !== 0)
      throw unusable(`has mode ${(mode & 0o777).toString(8)}: other users can read it; set 600`);
    const content = size <= MAX_BYTES ? await file.readFile('latin1') : '';
    const base64 = FORM.exec(content)?.[1];
    if (base64 === undefined) throw unusable('does not hold a Lifeboat key (one line, lifeboat-key-1:…)');
    return Buffer.from(base64, 'base64');
  } finally {
    await file.close();
  }
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
