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

import { hasCode, systemCode } from '@lifeboat/foundation/errors';
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
  #runs: { readonly run: IndexRun; readonly segments: readonly string[] }[] = [];

  static async open(deps: IndexCacheDeps): Promise<IndexCache> {
    await mkdir(deps.directory, { recursive: true, mode: 0o700 });
    const cache = new IndexCache(deps);
    for (const { file, segments } of await readManifest(deps)) {
      try {
        const run = await IndexRun.open(join(deps.directory, file), deps.key);
        if (run) cache.#runs.push({ run, segments });
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
    const held = new Set(this.#runs.flatMap((entry) => entry.segments));
    let records: Buffer[] = [];
    let names: string[] = [];
    const write = async (): Promise<void> => {
      if (names.length > 0) {
        await this.add(records, names);
        if (this.#runs.length > MAX_RUNS) await this.#merge(isThere);
      }
      records = [];
      names = [];
    };
    for await (const segment of segments) {
      if (held.has(segment)) continue;
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
    for (const entry of this.#runs) {
      try {
        const ref = await entry.run.find(id);
        if (ref && isUsable(ref)) return ref;
      } catch (error) {
        this.#forgetting(error);
        this.#runs = this.#runs.filter((other) => other !== entry);
        await rm(entry.run.path, { force: true });
      }
    }
    return undefined;
  }

  /** Makes a run of what these segments hold. Look-ups may go on meanwhile. */
  async add(records: readonly Buffer[], segments: readonly string[]): Promise<void> {
    const run = await this.#write(records.toSorted(byId));
    this.#runs = [...this.#runs, { run, segments }];
    await this.#writeManifest();
  }

  async close(): Promise<void> {
    const runs = this.#runs;
    this.#runs = [];
    await Promise.all(runs.map(({ run }) => run.close()));
  }

  /** The shorter half becomes one run: every entry is rewritten a number of times that grows with the logarithm of all. */
  async #merge(isThere: (pack: PackName) => boolean): Promise<void> {
    const sorted = this.#runs.toSorted((a, b) => a.run.count - b.run.count);
    const short = sorted.slice(0, MAX_RUNS);
    const isKept = (record: Buffer): boolean => isThere(packNameOf(record.subarray(32, 64)));
    const merged = await this.#write(
      mergeRuns(
        short.map(({ run }) => run),
        isKept,
      ),
    );
    this.#runs = [...sorted.slice(MAX_RUNS), { run: merged, segments: short.flatMap((entry) => entry.segments) }];
    await this.#writeManifest();
    for (const { run } of short) {
      await run.close();
      await rm(run.path, { force: true });
    }
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
