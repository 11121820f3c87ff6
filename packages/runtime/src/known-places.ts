/**
 * Where this host has had a repository. A place that is empty now, and was not, is a disk that is not mounted: a backup must not
 * begin a second repository below its mount point.
 *
 *   <state>/repositories/<16 hex of the place's name>   the name
 */
import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { readRecord, writeDurably } from '@lifeboat/host/durable-file';
import type { Configuration } from './configuration.ts';
import { nameOfPlace } from './repository-store.ts';

export async function rememberPlace(configuration: Configuration): Promise<void> {
  const { path, name } = recordOf(configuration);
  if ((await readRecord(path)) !== undefined) return;
  await mkdir(configuration.stateRoot, { recursive: true, mode: 0o711 });
  await mkdir(join(configuration.stateRoot, 'repositories'), { recursive: true, mode: 0o700 });
  await writeDurably(path, JSON.stringify({ place: name }));
}

/** Errors: `repository.store-unreachable` for a place that held a repository. The caller has found it empty. */
export async function assertNewPlace(configuration: Configuration): Promise<void> {
  const { path, name } = recordOf(configuration);
  if ((await readRecord(path)) === undefined) return;
  throw new LifeboatError(
    'repository.store-unreachable',
    `${name} is empty, but held a repository before: its disk or share is not mounted, or somebody emptied it. Mount it. ` +
      `To begin a new repository there, remove ${path}`,
    { context: { place: name } },
  );
}

function recordOf({ stateRoot, repository }: Configuration): { path: string; name: string } {
  const name = nameOfPlace(repository.place);
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 16);
  return { path: join(stateRoot, 'repositories', hash), name };
}
