import { readFile } from 'node:fs/promises';
import { hasCode, LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import { initRepository, openRepository, type Repository } from '@lifeboat/repository/repository';
import type { Secret } from '@lifeboat/repository/seal/secret';
import { DirectoryStore } from '@lifeboat/repository/store/directory-store';
import { mkdir, readdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Configuration } from './configuration.ts';

/** Opens the configured repository. Errors: those of `openRepository`, `input.invalid` for a passphrase file that cannot be read. */
export async function openConfiguredRepository(configuration: Configuration, deps: { log: Log }): Promise<Repository> {
  const { directory } = configuration.repository;
  return openRepository({ store: new DirectoryStore(directory), secret: await secretOf(configuration), deps });
}

/**
 * Opens it, and makes it first where its directory is missing or empty: what a first backup expects. A directory that holds
 * anything else is never touched.
 */
export async function openOrMakeRepository(configuration: Configuration, deps: { log: Log }): Promise<Repository> {
  const { directory, secret } = configuration.repository;
  try {
    return await openConfiguredRepository(configuration, deps);
  } catch (error) {
    if (!(await isVacant(directory))) throw error;
  }
  if (secret.kind === 'key-file') await mkdir(dirname(secret.path), { recursive: true, mode: 0o700 });
  await mkdir(directory, { recursive: true, mode: 0o700 });
  try {
    const store = new DirectoryStore(directory);
    const made = await initRepository({ store, secret: await secretOf(configuration), deps });
    deps.log.info('made a new repository', { directory });
    return made;
  } catch (error) {
    // Another process was faster.
    if (!hasCode(error, 'repository.already-exists')) throw error;
    return openConfiguredRepository(configuration, deps);
  }
}

async function isVacant(directory: string): Promise<boolean> {
  try {
    return (await readdir(directory)).length === 0;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ENOENT';
  }
}

async function secretOf(configuration: Configuration): Promise<Secret> {
  const { secret } = configuration.repository;
  if (secret.kind === 'key-file') return { keyFile: secret.path };
  try {
    const text = await readFile(secret.path, 'utf8');
    // An editor ends the last line; a passphrase does not.
    return { passphrase: text.replace(/\r?\n$/, '') };
  } catch (cause) {
    throw new LifeboatError('input.invalid', `passphrase file ${secret.path} cannot be read: ${messageOf(cause)}`, {
      cause,
    });
  }
}
