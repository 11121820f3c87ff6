/**
 * What is kept of the scenario, for each version of the format a directory, for ever:
 *
 * ```
 *   v1/repository/…   every object, under its name: a directory repository
 *   v1/local/…        session files, key files, what was typed from paper
 *   v1/zstd.json      the frames that were made on the way
 *   v1/values.json    what the readers must make of each object and file; bytes in hexadecimal
 *   v1/expected.json  the disks that must come back
 * ```
 */
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { OBJECT_TYPES, sha256, type ObjectType } from '@lifeboat/repository/format/frame';
import { FORMAT_VERSION } from '@lifeboat/repository/format/limits';
import { inlineOpener } from '@lifeboat/repository/read/blob-opener';
import { openRepository, readSuperblock, type Repository } from '@lifeboat/repository/repository';
import { readKeyFile, readPaperFile } from '@lifeboat/repository/seal/key-file';
import { DirectoryKms } from '@lifeboat/repository/seal/kms-directory';
import type { Secret, SecretBytes } from '@lifeboat/repository/seal/secret';
import { MemoryStore } from '@lifeboat/repository/store/memory-store';
import type { Frames } from './fixed.ts';
import { asJson, READERS, type Opened } from './readers.ts';
import { AGENT_FILE, KMS_KEY, POINT_KEYS_FILE, PASSPHRASE, SECOND_PASSPHRASE, type Outcome } from './scenario.ts';

export const FIXTURE = join(import.meta.dirname, `v${FORMAT_VERSION}`);

export interface Expected {
  readonly movedPack: string;
  readonly disks: readonly {
    readonly tenant: string;
    readonly machineId: string;
    readonly pointId: string;
    readonly disk: string;
    readonly sizeBytes: number;
    readonly sha256: string;
  }[];
}

export type Files = ReadonlyMap<string, Uint8Array>;

/** Every file below the directory, by its path in there. */
export function readTree(directory: string): Map<string, Uint8Array> {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted();
  return new Map(files.map((path) => [relative(directory, path), readFileSync(path)]));
}

function writeTree(directory: string, files: Files): void {
  for (const [name, content] of files) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), content);
  }
}

export const readJson = (name: string): unknown => JSON.parse(readFileSync(join(FIXTURE, name), 'utf8'));

/** One line for each entry, so that a difference shows where it is. */
function writeJson(name: string, entries: Readonly<Record<string, unknown>>): void {
  const lines = Object.entries(entries).map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`);
  writeFileSync(join(FIXTURE, name), `{\n${lines.join(',\n')}\n}\n`);
}

/** Puts what the scenario made in the place of what is there. `scratch` is an empty directory. */
export async function writeFixture(made: Outcome, frames: Frames, scratch: string): Promise<void> {
  rmSync(FIXTURE, { recursive: true, force: true });
  writeTree(join(FIXTURE, 'repository'), made.objects);
  writeTree(join(FIXTURE, 'local'), made.files);
  writeJson('zstd.json', frames);
  const opened = await openFixture(made.objects, scratch);
  const values: Record<string, unknown> = {};
  for (const [name, bytes] of framed(made.objects, made.files)) values[name] = await read(name, bytes, opened);
  const disks = made.disks.map(({ content, ...disk }) => ({
    ...disk,
    sizeBytes: content.length,
    sha256: sha256(content).toString('hex'),
  }));
  writeJson('values.json', values);
  writeJson('expected.json', { movedPack: made.movedPack, disks } satisfies Expected);
}

/** Objects, and those files that are made of frames. */
export function framed(objects: Files, files: Files): Map<string, Uint8Array> {
  return new Map([...objects, ...files].filter(([, bytes]) => typeOf(bytes) !== undefined));
}

/** Undefined for what is no frame, such as a key file. */
export function typeOf(bytes: Uint8Array): ObjectType | undefined {
  const start = Buffer.from(bytes).toString('latin1', 0, 12);
  return OBJECT_TYPES.find((type) => start === `LIFEBOAT${type}`);
}

export interface OpenedFixture {
  readonly tenants: ReadonlyMap<string, Opened>;
  readonly first: string;
}

export async function read(name: string, bytes: Uint8Array, { tenants, first }: OpenedFixture): Promise<unknown> {
  const type = typeOf(bytes);
  const [, tenant = first] = /(?:^keys|\/tenants)\/([0-9a-f]{32})\//.exec(name) ?? [];
  const opened = tenants.get(tenant);
  if (!type || !opened) throw new TypeError(`${name} is of no type, or of no tenant, that is known`);
  return asJson(await READERS[type](bytes, name, opened));
}

/** Every way into the first tenant. Key files are copied to the empty directory `scratch`: git does not keep mode 0600. */
export function waysIn(scratch: string): Record<'passphrase' | 'key file' | 'key service' | 'paper', Secret> {
  cpSync(join(FIXTURE, 'local'), scratch, { recursive: true });
  for (const name of ['repository.key', 'paper.txt', `kms/${KMS_KEY}`, AGENT_FILE, POINT_KEYS_FILE])
    chmodSync(join(scratch, name), 0o600);
  return {
    passphrase: { passphrase: PASSPHRASE },
    'key file': { keyFile: join(scratch, 'repository.key') },
    'key service': { kms: new DirectoryKms(join(scratch, 'kms')) },
    paper: { paperFile: join(scratch, 'paper.txt') },
  };
}

export async function openFixture(objects: Files, scratch: string): Promise<OpenedFixture> {
  const store = new MemoryStore();
  for (const [name, bytes] of objects) store.objects.set(name, bytes);
  const { superblockHash } = await readSuperblock(store);
  const ways = waysIn(scratch);
  const secrets: SecretBytes[] = [
    { passphrase: PASSPHRASE },
    { fileKey: await readKeyFile(join(scratch, 'repository.key')) },
    ways['key service'] as SecretBytes,
    { paper: await readPaperFile(join(scratch, 'paper.txt')) },
  ];
  const open = (passphrase: string): Promise<Repository> =>
    openRepository({ store, secret: { passphrase }, deps: { opener: inlineOpener() } });
  const [one, two] = [await open(PASSPHRASE), await open(SECOND_PASSPHRASE)];
  return {
    first: one.tenantId,
    tenants: new Map([
      [one.tenantId, { core: one.core, superblockHash, secrets }],
      [two.tenantId, { core: two.core, superblockHash, secrets: [{ passphrase: SECOND_PASSPHRASE }] }],
    ]),
  };
}
