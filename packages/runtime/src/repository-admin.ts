/** What `lifeboat repo` does: short acts on the configured repository, without workflows. */
import { constants } from 'node:fs';
import { mkdir, open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { checkRepository, checkWithin } from '@lifeboat/engine/check/check-repository';
import { listMachines } from '@lifeboat/engine/machine/machine-records';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { parseMachineId } from '@lifeboat/foundation/ids';
import { silentLog } from '@lifeboat/foundation/log';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { copyPoints, type CopiedPoint } from '@lifeboat/repository/copy/copy-points';
import {
  copyHolds,
  copyPolicies,
  type CopiedHolds,
  type CopiedPolicies,
} from '@lifeboat/repository/copy/copy-retention';
import { addTenant, initRepository, readSuperblock, type Repository } from '@lifeboat/repository/repository';
import {
  describeTenants,
  type KeyChange,
  type KeyPage,
  type KeysInfo,
} from '@lifeboat/repository/seal/repository-keys';
import type { Secret } from '@lifeboat/repository/seal/secret';
import { readLedgerOf } from '@lifeboat/repository/retention/ledger';
import { repositoryStats } from '@lifeboat/repository/stats';
import { TenantStore } from '@lifeboat/repository/store/tenant-store';
import { inlineSealer } from '@lifeboat/repository/write/inline-sealer';
import { configurationEnvironment, loadConfiguration, type Configuration } from './configuration.ts';
import { assertNewPlace, rememberPlace } from './known-places.ts';
import {
  kmsSecret,
  openConfiguredRepository,
  passphraseOf,
  repositoryDeps,
  secretOf,
  unlessAway,
} from './repository.ts';
import { retentionInfo, type RetentionInfo } from './retention-info.ts';
import { isVacant, makePlace, nameOfPlace, openConfiguredStore } from './repository-store.ts';

const deps = { log: silentLog };
/** Lanes of a copy: both sides are network and disks as a rule, and two keep either busy. */
const COPY_LANES = 2;

export type NewWay =
  | { readonly kind: 'key-file'; readonly path: string }
  | { readonly kind: 'passphrase-file'; readonly path: string }
  /** A page that was printed for this repository, and whose slot was removed. */
  | { readonly kind: 'paper-file'; readonly path: string }
  | { readonly kind: 'kms'; readonly keyRef: string };

export interface RepositoryInfo {
  readonly place: string;
  readonly repositoryId: string;
  readonly createdMs: number;
  readonly chunkSizeBytes: number;
  readonly tenants: readonly (KeysInfo & { readonly retention: RetentionInfo })[];
}

/** Makes the repository, or with `addTenant` a tenant in the one that is there. Errors: those of `initRepository`, `addTenant`. */
export async function initConfigured(
  configuration: Configuration,
  options: { readonly chunkSizeBytes?: number; readonly label?: string; readonly addTenant?: string },
): Promise<RepositoryInfo> {
  const { place, secret: kind } = configuration.repository;
  if (kind.kind === 'key-file') await mkdir(dirname(kind.path), { recursive: true, mode: 0o700 });
  if (options.addTenant === undefined) {
    if (await isVacant(place, deps)) await assertNewPlace(configuration);
    await makePlace(place);
  }
  const store = await openConfiguredStore(place, deps);
  const secret = await secretOf(configuration);
  const common = {
    store,
    secret,
    deps: repositoryDeps(configuration, deps),
    ...(options.label ? { label: options.label } : {}),
  };
  const { chunkSizeBytes, addTenant: tenantName } = options;
  const made =
    tenantName === undefined
      ? await initRepository({ ...common, ...(chunkSizeBytes === undefined ? {} : { chunkSizeBytes }) })
      : await addTenant({ ...common, tenantName });
  await made.close();
  await rememberPlace(configuration);
  return infoOf(configuration);
}

/** Needs no key; what it says of keys and retention is checked only by who opens them. */
export async function infoOf(configuration: Configuration): Promise<RepositoryInfo> {
  const { place } = configuration.repository;
  const store = await openConfiguredStore(place, deps);
  const { superblock } = await unlessAway(configuration, deps, () => readSuperblock(store));
  const first = Buffer.from(superblock.tenantId).toString('hex');
  const tenants = [];
  for (const keys of await describeTenants(store)) {
    const own = keys.tenantId === first ? store : new TenantStore(store, keys.tenantId);
    tenants.push({ ...keys, retention: retentionInfo((await readLedgerOf(own)).state, systemClock.nowMs()) });
  }
  return {
    place: nameOfPlace(place),
    repositoryId: Buffer.from(superblock.repositoryId).toString('hex'),
    createdMs: superblock.createdMs,
    chunkSizeBytes: superblock.chunkSizeBytes,
    tenants,
  };
}

export async function withRepository<T>(
  configuration: Configuration,
  body: (repository: Repository) => Promise<T>,
): Promise<T> {
  const repository = await openConfiguredRepository(configuration, deps);
  try {
    return await body(repository);
  } finally {
    await repository.close();
  }
}

export function statsOf(
  configuration: Configuration,
  options: { signal: AbortSignal },
): ReturnType<typeof repositoryStats> {
  return withRepository(configuration, (repository) => repositoryStats(repository.core, options));
}

export function machinesOf(
  configuration: Configuration,
  options: { signal: AbortSignal },
): ReturnType<typeof listMachines> {
  return withRepository(configuration, (repository) => listMachines(repository, options));
}

export function checkConfigured(
  configuration: Configuration,
  input: Parameters<typeof checkRepository>[1],
  options: { signal: AbortSignal },
): ReturnType<typeof checkRepository> {
  return withRepository(configuration, (repository) => checkRepository(checkDeps(repository), input, options));
}

/** As much of the repository as the budget allows, least recently checked first. */
export function checkConfiguredWithin(
  configuration: Configuration,
  input: Parameters<typeof checkWithin>[1],
  context: VerbContext,
): ReturnType<typeof checkWithin> {
  return withRepository(configuration, (repository) => checkWithin(checkDeps(repository), input, context));
}

function checkDeps(repository: Repository): Parameters<typeof checkRepository>[0] {
  return { repository, clock: systemClock, log: deps.log };
}

export async function addWay(
  configuration: Configuration,
  input: { readonly way: NewWay; readonly label: string },
): Promise<KeyChange> {
  const { way, label } = input;
  let secret: Secret;
  if (way.kind === 'key-file') secret = { keyFile: way.path };
  else if (way.kind === 'paper-file') secret = { paperFile: way.path };
  else if (way.kind === 'passphrase-file') secret = await passphraseOf(way.path);
  else secret = kmsSecret(configuration.repository.kms, way.keyRef);
  return withRepository(configuration, (repository) => repository.keys.add({ secret, label }));
}

/** A printed page, and where the repository was when it was printed. */
export type PrintedKey = KeyPage & { readonly place: string };

/**
 * Adds a way in for paper and gives its page out; with `output` into a file that does not exist yet, mode 0600. A page that could not be
 * written takes its way in back. Killed in between, it leaves one that nobody holds: its label says which.
 */
export async function printKey(
  configuration: Configuration,
  input: {
    readonly label: string;
    readonly output?: { readonly path: string; render(page: PrintedKey): string };
  },
): Promise<PrintedKey> {
  const { label, output } = input;
  const file = output && (await createPageFile(output.path));
  try {
    return await withRepository(configuration, async (repository) => {
      const page = { ...(await repository.keys.print({ label })), place: nameOfPlace(configuration.repository.place) };
      try {
        await file?.writeFile(output?.render(page) ?? '');
        await file?.sync();
      } catch (error) {
        await repository.keys.remove(page.slotId);
        throw error;
      }
      return page;
    });
  } catch (error) {
    if (output) await rm(output.path, { force: true });
    throw error;
  } finally {
    await file?.close();
  }
}

async function createPageFile(path: string): ReturnType<typeof open> {
  try {
    return await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (cause) {
    throw new LifeboatError('input.invalid', `the page cannot be made: ${messageOf(cause)}`, { cause });
  }
}

/**
 * Destroys the key service's keys of the tenant, and proves that it does not open any more. `confirm` is the tenant's id. Where four eyes
 * or a delay guard the repository, it asks for that first, and does it when it is called again after the approval and the delay.
 * Errors: `repository.not-shreddable`, `repository.point-held`, `input.invalid`, those of the key service.
 */
export async function shredTenant(
  configuration: Configuration,
  confirm: string,
): Promise<{
  readonly tenantId: string;
  readonly outcome: 'done' | 'requested';
  /** The request it waits for. */
  readonly request?: number;
  readonly destroyedKeys: readonly string[];
}> {
  const info = await withRepository(configuration, (repository) => repository.keys.info());
  if (confirm !== info.tenantId) {
    throw new LifeboatError('input.invalid', `confirm with the tenant's id, ${info.tenantId}, not '${confirm}'`);
  }
  if (!info.shred.possible) {
    throw new LifeboatError(
      'repository.not-shreddable',
      `tenant ${info.tenantName} stays readable: ${info.shred.obstacles.join('; ')}`,
    );
  }
  const { tenantId } = info;
  const allowed = await withRepository(configuration, (repository) =>
    repository.retention.perform({ act: { kind: 'delete-tenant' }, reason: `confirmed with ${confirm}` }),
  );
  if (allowed.outcome === 'requested') {
    const request = allowed.entry === undefined ? {} : { request: allowed.entry };
    return { tenantId, outcome: 'requested', ...request, destroyedKeys: [] };
  }
  const secret = kmsSecret(configuration.repository.kms, undefined);
  if (!('kms' in secret))
    throw new LifeboatError('internal.bug', 'a key service was asked for and something else came');
  const destroyedKeys = [...new Set(info.slots.map(({ keyRef }) => keyRef).filter((keyRef) => keyRef !== undefined))];
  for (const keyRef of destroyedKeys) await secret.kms.destroy(keyRef);
  let opened: Repository | undefined;
  try {
    opened = await openConfiguredRepository(configuration, deps);
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'repository.kms-refused')
      return { tenantId, outcome: 'done', destroyedKeys };
    throw error;
  }
  await opened.close();
  throw new LifeboatError(
    'repository.not-shreddable',
    `the key service said that ${destroyedKeys.join(', ')} were destroyed, but tenant ${info.tenantName} still opens`,
  );
}

export interface CopyTarget {
  /** Directory or s3://bucket/prefix. */
  readonly to: string;
  readonly keyFile?: string;
  readonly passphraseFile?: string;
}

export interface Copied {
  readonly points: readonly CopiedPoint[];
  readonly holds: CopiedHolds;
  /** Undefined where they were not asked for. */
  readonly policies?: CopiedPolicies;
}

/** Copies holds, points and, if asked, policies into the other repository, which must be there. It may be repeated, also after a kill. */
export async function copyConfigured(
  configuration: Configuration,
  input: { readonly target: CopyTarget; readonly machine?: string; readonly policies: boolean },
  context: VerbContext,
): Promise<Copied> {
  const { target, machine } = input;
  const environment: Record<string, string> = {
    ...configurationEnvironment(configuration),
    LIFEBOAT_REPOSITORY: target.to,
  };
  for (const name of ['LIFEBOAT_CONTROL', 'LIFEBOAT_LOCK_DAYS', 'LIFEBOAT_TENANT']) delete environment[name];
  if (target.keyFile !== undefined || target.passphraseFile !== undefined) {
    for (const name of ['LIFEBOAT_KEY_FILE', 'LIFEBOAT_PASSPHRASE_FILE', 'LIFEBOAT_PAPER_FILE'])
      delete environment[name];
  }
  if (target.keyFile !== undefined) environment['LIFEBOAT_KEY_FILE'] = target.keyFile;
  if (target.passphraseFile !== undefined) environment['LIFEBOAT_PASSPHRASE_FILE'] = target.passphraseFile;
  const other = await openConfiguredRepository(loadConfiguration({ environment }), {
    ...deps,
    sealer: inlineSealer({ laneCount: COPY_LANES }),
  });
  try {
    return await withRepository(configuration, async (source) => {
      const { signal } = context;
      const between = { source, target: other, machineId: machine === undefined ? undefined : parseMachineId(machine) };
      const holds = await copyHolds(between, { signal });
      const points = await copyPoints({ ...between, directory: join(configuration.stateRoot, 'copy') }, context);
      return { points, holds, ...(input.policies ? { policies: await copyPolicies(between, { signal }) } : {}) };
    });
  } finally {
    await other.close();
  }
}
