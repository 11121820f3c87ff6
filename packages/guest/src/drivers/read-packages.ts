/**
 * Driver packages in a folder, a zip or cab archive, or an ISO image.
 *
 * A package is a folder that holds an INF, with everything below it that is in no other such folder: a disc of a vendor holds hundreds, one
 * for each device and Windows. Archives are unpacked by libarchive's bsdtar, which leaves the target directory by no path and no link;
 * afterwards only plain files count.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join, relative, sep } from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import { GiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import { readAllModels, readHeader } from '../windows/inf-driver.ts';
import { InfFile } from '../windows/inf-file.ts';
import { decodeInfText } from '../windows/inf-text.ts';
import type { TargetVersion } from '../windows/windows-version.ts';
import type { DriverPackage, PackagedDriver, PackagedFile } from './driver-catalogue.ts';

/** The disc of all virtio drivers holds some 1500 files, 700 MB. */
const MAX_FILES = 50_000;
const MAX_BYTES = 16 * GiB;
const MAX_DEPTH = 32;
const UNPACK_LIMIT_MS = 15 * 60_000;

/** A package and where its files are now. */
export interface FoundPackage {
  readonly directory: string;
  readonly content: Pick<DriverPackage, 'id' | 'name' | 'files' | 'drivers'>;
}

/** An INF that is none of a driver: a disc has some, and the rest of it is still of use. */
export interface LeftOut {
  readonly path: string;
  readonly why: string;
}

/**
 * `path`: a folder, read where it is, or an archive, which is unpacked into the empty directory `unpackTo`.
 * Errors: `guest.driver-package-unusable`, those of `runTool`; an abort throws the signal's reason.
 */
export async function readPackages(
  path: string,
  { unpackTo, signal }: { unpackTo: string; signal: AbortSignal },
): Promise<{ found: FoundPackage[]; leftOut: LeftOut[] }> {
  const root = await folderOf(path, unpackTo, signal);
  const files = await plainFiles(root, path);
  const homes = new Set(files.filter(isInf).map((file) => dirname(file)));
  const homeOf = (file: string): string | undefined => {
    for (let at = dirname(file); ; at = dirname(at)) {
      if (homes.has(at)) return at;
      if (at === '.') return undefined;
    }
  };
  const found: FoundPackage[] = [];
  const leftOut: LeftOut[] = [];
  for (const [home, members] of Map.groupBy(files, homeOf)) {
    signal.throwIfAborted();
    if (home === undefined) continue;
    const directory = join(root, home);
    const paths = members.map((file) => relative(home, file)).toSorted();
    const drivers: PackagedDriver[] = [];
    for (const inf of paths.filter(isInf)) {
      try {
        drivers.push(await describe(directory, inf, paths));
      } catch (error) {
        if (!(error instanceof LifeboatError) || error.code !== 'guest.inf-invalid') throw error;
        leftOut.push({ path: join(home, inf), why: error.message });
      }
    }
    if (drivers.length === 0) continue;
    const packaged = await Promise.all(paths.map((file) => hashed(directory, file)));
    const name = home === '.' ? basename(path) : home;
    found.push({ directory, content: { id: idOf(packaged), name, files: packaged, drivers } });
  }
  if (found.length === 0) {
    const why = leftOut[0] ? `${leftOut[0].path}: ${leftOut[0].why}` : 'there is no INF file in it';
    throw unusable(path, `holds no driver for Windows: ${why}`);
  }
  return { found: found.toSorted((a, b) => (a.content.name < b.content.name ? -1 : 1)), leftOut };
}

/** The INF as it stands in a directory. Errors: `guest.inf-invalid`; the system's. */
export async function readInf(directory: string, path: string): Promise<InfFile> {
  return InfFile.parse(decodeInfText(await readFile(join(directory, path)), path), path);
}

/** Of a file as it is now. */
export async function hashed(directory: string, path: string): Promise<PackagedFile> {
  const hash = createHash('sha256');
  let sizeBytes = 0;
  for await (const chunk of createReadStream(join(directory, path)) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    sizeBytes += chunk.length;
  }
  return { path, sizeBytes, sha256: hash.digest('hex') };
}

async function folderOf(path: string, unpackTo: string, signal: AbortSignal): Promise<string> {
  let stats;
  try {
    stats = await lstat(path);
  } catch (error) {
    throw unusable(path, systemCode(error) === 'ENOENT' ? 'does not exist' : `cannot be read (${systemCode(error)})`);
  }
  if (stats.isDirectory()) return path;
  if (!stats.isFile()) throw unusable(path, 'is neither a folder nor a file');
  try {
    // Without --preserve-permissions and without owners; what is there is not overwritten through a link.
    await runTool('bsdtar', ['-x', '--no-same-owner', '--no-same-permissions', '-f', path, '-C', unpackTo], {
      timeoutMs: UNPACK_LIMIT_MS,
      signal,
    });
  } catch (error) {
    if (!(error instanceof LifeboatError) || error.code !== 'host.tool-failed') throw error;
    throw unusable(path, `is no archive that can be unpacked (zip, cab, ISO 9660): ${error.message}`, error);
  }
  return unpackTo;
}

/** Relative paths; links and whatever else is no plain file do not count. */
async function plainFiles(root: string, source: string): Promise<string[]> {
  const files: string[] = [];
  let bytes = 0;
  const visit = async (directory: string, depth: number): Promise<void> => {
    if (depth > MAX_DEPTH) throw unusable(source, `has folders more than ${MAX_DEPTH} deep`);
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) await visit(path, depth + 1);
      else if (entry.isFile()) {
        bytes += (await lstat(path)).size;
        files.push(relative(root, path).split(sep).join('/'));
        if (files.length > MAX_FILES || bytes > MAX_BYTES)
          throw unusable(source, `holds more than ${MAX_FILES} files or ${MAX_BYTES} bytes`);
      }
    }
  };
  await visit(root, 0);
  return files.toSorted();
}

async function describe(directory: string, path: string, files: readonly string[]): Promise<PackagedDriver> {
  const inf = await readInf(directory, path);
  const { provider, className, classGuid, driverVersion, catalogues } = readHeader(inf);
  const models = readAllModels(inf);
  const there = new Map(files.map((file) => [file.toLowerCase(), file]));
  const beside = dirname(path) === '.' ? '' : `${dirname(path)}/`;
  const catalogueFile = Object.values(catalogues)
    .map((name) => there.get(`${beside}${name}`.toLowerCase()))
    .find((name) => name !== undefined);
  return {
    inf: path,
    provider,
    className,
    classGuid,
    date: driverVersion.date.map((part, i) => String(part).padStart(i === 0 ? 4 : 2, '0')).join('-'),
    version: driverVersion.version.join('.'),
    ...(catalogueFile === undefined ? {} : { catalogueFile }),
    targets: [...new Set(models.map(({ target }) => targetText(target)))].toSorted(),
    ids: [...new Set(models.flatMap(({ model }) => model.ids.filter((id) => id !== '')))].toSorted(),
  };
}

function targetText({ architecture = 'x86', major, minor = 0, build, productType }: TargetVersion): string {
  const from = major === undefined ? '' : ` from ${major}.${minor}${build === undefined ? '' : `.${build}`}`;
  return `${architecture}${from}${productType === undefined ? '' : `, ${productType}`}`;
}

function idOf(files: readonly PackagedFile[]): string {
  const hash = createHash('sha256');
  for (const { path, sha256 } of files) hash.update(`${path}\0${sha256}\n`);
  return hash.digest('hex');
}

function isInf(path: string): boolean {
  return path.toLowerCase().endsWith('.inf');
}

function unusable(path: string, problem: string, cause?: unknown): LifeboatError {
  return new LifeboatError('guest.driver-package-unusable', `${path} ${problem}`, { cause, context: { path } });
}
