/**
 * The deduplication index on a local disk: larger than memory, shared by the sessions of a host, and worth nothing but time.
 *
 * ```
 *   index segments of the store ──► sorted runs ──(too many: merge)──► fewer, longer runs
 *                                     │
 *   manifest.json: which runs there are, and which segments each holds
 * ```
 * 1. `sync` compares the segments the store lists with those the manifest names and reads only the new ones.
 * 2. A run is written once, under a random name; the manifest that names it replaces the one before by a rename.
 * 3. A run that is gone or damaged is forgotten, and its segments are read again. Without a manifest all of them are.
 *
 * Several processes may use one directory: runs never change, and the manifest that is renamed last counts. The other's runs then
 * are read again from the store: that is the price of having no lock.
 *
 * Not guaranteed: that an entry's pack still exists. The caller asks the listing of the store.
 */
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { hasCode, LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import type { Log } from '@lifeboat/foundation/log';
import type { Random } from '@lifeboat/foundation/random';

import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { hex, packNameOf, type ChunkId, type PackName } from '../format/names.ts';
import { deriveKey } from '../seal/derive.ts';
import { byId, encodeRecord, IndexRun, mergeRuns, writeRun } from './index-run.ts';

/** More are merged: a look-up that finds nothing reads a page of each. */
const MAX_RUNS = 8;
/** Entries held in memory before they become a run: 30 MB. */
const RUN_ENTRIES = 131_072;
/** Files that no manifest names, of a process that died or is still writing. */
const STRAY_AGE_MS = 24 * 3_600_000;
const MANIFEST = 'manifest.json';
const RUN_NAME = /^run-[0-9a-f]{32}$/;

interface ManifestRun {
  readonly file: string;
  readonly segments: readonly string[];
}

interface HeldRun {
  readonly run: IndexRun;
  readonly segments: readonly string[];
  /** Look-ups that may still read it. */
  users: number;
  isDropped: boolean;
}

const held = (run: IndexRun, segments: readonly string[]): HeldRun => ({ run, segments, users: 0, isDropped: false });

export interface IndexCacheDeps {
  /** Of this repository alone; made when it is missing. */
  readonly directory: string;
  /** Authenticates the pages. */
  readonly key: Uint8Array;
  readonly random: Random;
  readonly log: Log;
}

/** The local index of one tenant of one repository, among those of a host. */
export function localIndex(core: Core, hostDirectory: string): IndexCacheDeps {
  const { superblock, keyring, random, log } = core;
  return {
    directory: join(hostDirectory, `${hex(superblock.repositoryId)}-${hex(keyring.tenantId)}`),
    key: deriveKey(keyring.indexKey, 'local index'),
    random,
    log,
  };
}

export class IndexCache {
  readonly #deps: IndexCacheDeps;
  #runs: HeldRun[] = [];

  static async open(deps: IndexCacheDeps): Promise<IndexCache> {
    await mkdir(deps.directory, { recursive: true, mode: 0o700 });
    const cache = new IndexCache(deps);
    for (const { file, segments } of await readManifest(deps)) {
      try {
        const run = await IndexRun.open(join(deps.directory, file), deps.key);
        if (run) cache.#runs.push(held(run, segments));
      } catch (error) {
        cache.#forgetting(error);
      }
    }
    return cache;
  }

  private constructor(deps: IndexCacheDeps) {
    this.#deps = deps;
  }

  get count(): number {
    return this.#runs.reduce((sum, { run }) => sum + run.count, 0);
  }

  /**
   * Takes up the segments it does not hold yet. `read` gives what one names; undefined: it cannot be used, and is tried again next
   * time. `isThere`: packs of which entries are worth keeping.
   */
  async sync(
    segments: AsyncIterable<string>,
    read: (segment: string) => Promise<readonly BlobRef[] | undefined>,
    isThere: (pack: PackName) => boolean,
  ): Promise<void> {
    const known = new Set(this.#runs.flatMap((entry) => entry.segments));
    let records: Buffer[] = [];
    let names: string[] = [];
    const write = async (): Promise<void> => {
      if (names.length > 0) await this.add(records, names, isThere);
      records = [];
      names = [];
    };
    for await (const segment of segments) {
      if (known.has(segment)) continue;
      const refs = await read(segment);
      if (!refs) continue;
      names.push(segment);
      for (const ref of refs) records.push(encodeRecord(ref));
      if (records.length >= RUN_ENTRIES) await write();
    }
    await write();
  }

  /** Where the chunk is stored, if any run knows and `isUsable` agrees. A damaged run is forgotten on the way. */
  async find(id: ChunkId, isUsable: (ref: BlobRef) => boolean): Promise<BlobRef | undefined> {
    const runs = this.#runs;
    for (const entry of runs) entry.users++;
    try {
      for (const entry of runs) {
        try {
          const ref = await entry.run.find(id, isUsable);
          if (ref) return ref;
        } catch (error) {
          this.#forgetting(error);
          await this.#drop(entry);
        }
      }
      return undefined;
    } finally {
      for (const entry of runs) if (--entry.users === 0 && entry.isDropped) await entry.run.close();
    }
  }

  /**
   * Makes a run of what these segments hold, and one of several when there are too many. Look-ups may go on meanwhile; other calls wait for
   * each other. `isThere`: packs of which entries are worth keeping; all, unless the caller knows.
   */
  async add(
    records: readonly Buffer[],
    segments: readonly string[],
    isThere: (pack: PackName) => boolean = () => true,
  ): Promise<void> {
    const run = await this.#write(records.toSorted(byId));
    this.#runs = [...this.#runs, held(run, segments)];
    await this.#writeManifest();
    if (this.#runs.length > MAX_RUNS) await this.#merge(isThere);
  }

  async close(): Promise<void> {
    const runs = this.#runs;
    this.#runs = [];
    await Promise.all(runs.map(({ run }) => run.close()));
  }

  /**
   * The shortest runs become one: two at least, and each that is no longer than those before it together. So every entry is rewritten a
   * number of times that grows with the logarithm of all: 5 times for 100 million chunks in segments of 65,536.
   */
  async #merge(isThere: (pack: PackName) => boolean): Promise<void> {
    const short: HeldRun[] = [];
    let entries = 0;
    for (const entry of this.#runs.toSorted((a, b) => a.run.count - b.run.count)) {
      if (short.length >= 2 && entry.run.count > entries) break;
      short.push(entry);
      entries += entry.run.count;
    }
    const isKept = (record: Buffer): boolean => isThere(packNameOf(record.subarray(32, 64)));
    let merged: IndexRun;
    try {
      merged = await this.#write(
        mergeRuns(
          short.map(({ run }) => run),
          isKept,
        ),
      );
    } catch (error) {
      const damaged = short.find(({ run }) => error instanceof LifeboatError && run.path === error.context['path']);
      if (!damaged) throw error;
      this.#forgetting(error);
      return this.#drop(damaged);
    }
    const others = this.#runs.filter((entry) => !short.includes(entry));
    const segments = short.flatMap((entry) => entry.segments);
    this.#runs = [...others, held(merged, segments)];
    await this.#writeManifest();
    for (const entry of short) await this.#drop(entry);
  }

  /** Look-ups that hold it go on; the last of them closes it. */
  async #drop(entry: HeldRun): Promise<void> {
    this.#runs = this.#runs.filter((other) => other !== entry);
    if (entry.isDropped) return;
    entry.isDropped = true;
    await rm(entry.run.path, { force: true });
    if (entry.users === 0) await entry.run.close();
  }

  async #write(records: Iterable<Buffer> | AsyncIterable<Buffer>): Promise<IndexRun> {
    const { directory, key, random } = this.#deps;
    const path = join(directory, `run-${hex(random.bytes(16))}`);
    await writeRun(path, key, records);
    const run = await IndexRun.open(path, key);
    // Between the two lines only somebody who removes caches could come.
    if (!run) throw new Error(`${path} was removed while it was being written`);
    return run;
  }

  async #writeManifest(): Promise<void> {
    const { directory, random } = this.#deps;
    const runs = this.#runs.map(({ run, segments }) => ({ file: run.path.slice(directory.length + 1), segments }));
    const fresh = join(directory, `manifest-${hex(random.bytes(16))}`);
    await writeFile(fresh, JSON.stringify({ runs }), { mode: 0o600 });
    await rename(fresh, join(directory, MANIFEST));
    await this.#removeStrays(new Set(runs.map(({ file }) => file)));
  }

  /** By the file system's own clock, which set the times that are compared. */
  async #removeStrays(named: ReadonlySet<string>): Promise<void> {
    const { directory } = this.#deps;
    const nowMs = (await stat(join(directory, MANIFEST))).mtimeMs;
    for (const file of await readdir(directory)) {
      if (named.has(file) || file === MANIFEST) continue;
      try {
        const path = join(directory, file);
        if (nowMs - (await stat(path)).mtimeMs > STRAY_AGE_MS) await rm(path, { force: true });
      } catch (error) {
        // Another process removed it first.
        if (systemCode(error) !== 'ENOENT') throw error;
      }
    }
  }

  #forgetting(error: unknown): void {
    if (!hasCode(error, 'repository.object-damaged')) throw error;
    this.#deps.log.warn('a part of the local index cannot be used and is built again', { why: error.message });
  }
}

/** Anything but a manifest of ours is none. */
async function readManifest({ directory, log }: IndexCacheDeps): Promise<ManifestRun[]> {
  let text: string;
  try {
    text = await readFile(join(directory, MANIFEST), 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
  try {
    const { runs } = JSON.parse(text) as { runs: ManifestRun[] };
    const isRun = ({ file, segments }: ManifestRun): boolean =>
      RUN_NAME.test(file) && segments.every((name) => typeof name === 'string');
    if (runs.every(isRun)) return runs;
  } catch {
    // Falls through: text that is not JSON, or JSON of another shape.
  }
  log.warn('the manifest of the local index cannot be used; the index is built again', { directory });
  return [];
}
