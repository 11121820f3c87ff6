import { readFile } from 'node:fs/promises';
import { hasCode, LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import {
  initRepository,
  openRepository,
  type OpenOptions,
  type Repository,
  type RepositoryDeps,
} from '@lifeboat/repository/repository';
import type { Secret } from '@lifeboat/repository/seal/secret';
import { PRESETS } from '@lifeboat/repository/write/presets';
import { threadSealer } from '@lifeboat/repository/write/thread-sealer';
import type { Sealer } from '@lifeboat/repository/write/sealer';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Configuration, KmsSettings } from './configuration.ts';
import { CommandKms } from './kms-command.ts';
import { assertNewPlace, rememberPlace } from './known-places.ts';
import { isVacant, makePlace, nameOfPlace, openConfiguredStore } from './repository-store.ts';

/**
 * Opens the configured repository. Errors: those of `openRepository`, `repository.store-unreachable` for a place that is empty and was not,
 * `input.invalid` for a passphrase file that cannot be read.
 */
export async function openConfiguredRepository(
  configuration: Configuration,
  deps: { readonly log: Log; readonly sealer?: Sealer },
): Promise<Repository> {
  const store = await openConfiguredStore(configuration.repository.place, deps);
  const { tenant } = configuration.repository;
  const secret = await openingOf(configuration);
  return unlessAway(configuration, deps, () =>
    openRepository({
      store,
      secret,
      ...(tenant === undefined ? {} : { tenant }),
      deps: { ...repositoryDeps(configuration, deps), ...(deps.sealer ? { sealer: deps.sealer } : {}) },
    }),
  );
}

/** A place that held a repository and is empty now is a disk that is not mounted: that is said, and not that there is none. */
export async function unlessAway<T>(
  configuration: Configuration,
  deps: { readonly log: Log },
  open: () => Promise<T>,
): Promise<T> {
  try {
    return await open();
  } catch (error) {
    const mayBeAway = hasCode(error, 'repository.not-a-repository');
    if (mayBeAway && (await isVacant(configuration.repository.place, deps))) await assertNewPlace(configuration);
    throw error;
  }
}

/**
 * Opens it, and makes it first where its directory is missing or empty, or nothing lies under its prefix of a bucket: what a first
 * backup expects. A place that holds anything else is never touched, nor one that held a repository and is empty now.
 */
export async function openOrMakeRepository(configuration: Configuration, deps: { log: Log }): Promise<Repository> {
  const { place, secret } = configuration.repository;
  try {
    const found = await openConfiguredRepository(configuration, deps);
    await rememberPlace(configuration);
    return found;
  } catch (error) {
    // What went wrong stands where one cannot even look whether the place is empty.
    if (!hasCode(error, 'repository.not-a-repository') || !(await isVacant(place, deps))) throw error;
  }
  await assertNewPlace(configuration);
  if (secret.kind === 'key-file') await mkdir(dirname(secret.path), { recursive: true, mode: 0o700 });
  await makePlace(place);
  try {
    const store = await openConfiguredStore(place, deps);
    const made = await initRepository({
      store,
      secret: await secretOf(configuration),
      deps: repositoryDeps(configuration, deps),
    });
    await rememberPlace(configuration);
    deps.log.info('made a new repository', { place: nameOfPlace(place) });
    return made;
  } catch (error) {
    // Another process was faster.
    if (!hasCode(error, 'repository.already-exists')) throw error;
    return openConfiguredRepository(configuration, deps);
  }
}

/** The local index is state that every process of this host shares, losing it costs time; what it remembers of chains is as well. */
export function repositoryDeps({ stateRoot, repository }: Configuration, { log }: { log: Log }): RepositoryDeps {
  const sealer = threadSealer(PRESETS[repository.compression ?? 'fast']);
  return { log, sealer, indexDirectory: join(stateRoot, 'index'), chainDirectory: join(stateRoot, 'chains') };
}

async function openingOf(configuration: Configuration): Promise<OpenOptions['secret']> {
  const { secret } = configuration.repository;
  if (secret.kind === 'agent-file') return { agentFile: secret.path };
  return secret.kind === 'point-keys-file' ? { pointKeysFile: secret.path } : secretOf(configuration);
}

/** A way into the tenant. Throws `input.invalid` where the file of an agent, or with keys of points, is configured, which is none. */
export async function secretOf(configuration: Configuration): Promise<Secret> {
  const { secret, kms } = configuration.repository;
  if (secret.kind === 'agent-file' || secret.kind === 'point-keys-file') {
    const what = secret.kind === 'agent-file' ? 'is the file of an agent' : 'holds keys of points';
    const why = `${secret.path} ${what}: it makes no repository and opens no tenant`;
    throw new LifeboatError('input.invalid', why);
  }
  if (secret.kind === 'kms') return kmsSecret(kms, kms?.keyRef);
  if (secret.kind === 'key-file') return { keyFile: secret.path };
  if (secret.kind === 'paper-file') return { paperFile: secret.path };
  return passphraseOf(secret.path);
}

export function kmsSecret(kms: KmsSettings | undefined, keyRef: string | undefined): Secret {
  if (!kms) throw new LifeboatError('input.invalid', 'no program asks a key service: set LIFEBOAT_KMS_COMMAND');
  return { kms: new CommandKms(kms.command), ...(keyRef === undefined ? {} : { keyRef }) };
}

export async function passphraseOf(path: string): Promise<Secret> {
  try {
    const text = await readFile(path, 'utf8');
    // An editor ends the last line; a passphrase does not.
    return { passphrase: text.replace(/\r?\n$/, '') };
  } catch (cause) {
    throw new LifeboatError('input.invalid', `passphrase file ${path} cannot be read: ${messageOf(cause)}`, {
      cause,
    });
  }
}
