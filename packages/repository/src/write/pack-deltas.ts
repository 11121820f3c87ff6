/**
 * How the number of references to each pack changes from one version of a disk to the next: a sort on disk, since a first backup of
 * 100 TiB changes 3.3 million of them.
 *
 * ```
 *   add … add ─► changes in memory ──(too many: sorted)──► run ─┐
 *                                                          run ─┼─(too many: merged)─► one run
 *                        `sorted`: runs and memory, merged ◄────┘
 * ```
 * In memory are at most `maxPacks` changes and a page of each run. Runs are files without a name: they are gone with the process.
 */
import { open, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';
import type { Random } from '@lifeboat/foundation/random';

import type { Place } from '../format/blob-ref.ts';
import { hashBytes, hex, packNameOf, type PackName } from '../format/names.ts';

export interface PackChange {
  readonly pack: PackName;
  /** More references than before, or fewer; never 0. */
  readonly references: number;
}

/** Name and change: a pack may be referred to as often as a disk has chunks, so the change has eight bytes. */
const RECORD_BYTES = 32 + 8;
/** Read or written at once. */
const PAGE_RECORDS = 4096;
/** A merge holds a page of each. */
const MAX_RUNS = 16;

export class PackDeltas {
  readonly #directory: string;
  readonly #maxPacks: number;
  readonly #random: Random;
  readonly #changes = new Map<PackName, number>();
  #runs: FileHandle[] = [];
  #spills = 0;

  /** `directory`: for runs, if any are needed. `maxPacks`: changes held in memory, about 200 bytes each. */
  constructor(input: { directory: string; maxPacks: number; random: Random }) {
    this.#directory = input.directory;
    this.#maxPacks = input.maxPacks;
    this.#random = input.random;
  }

  add(place: Place, count: 1 | -1): void {
    if (typeof place !== 'string') this.addPack(place.pack, count);
  }

  addPack(pack: PackName, count: number): void {
    const total = (this.#changes.get(pack) ?? 0) + count;
    if (total === 0) this.#changes.delete(pack);
    else this.#changes.set(pack, total);
  }

  /** No change that would matter was added, as far as memory can tell. */
  get isEmpty(): boolean {
    return this.#changes.size === 0 && this.#runs.length === 0;
  }

  /** Whether `spill` should be called before more is added. */
  get isFull(): boolean {
    return this.#changes.size >= this.#maxPacks;
  }

  /** How often memory was not enough. */
  get spills(): number {
    return this.#spills;
  }

  /** Runs on the disk, each an open file. */
  get runs(): number {
    return this.#runs.length;
  }

  /** Moves what is in memory to the disk. Errors: `disk.full`. Nothing may be added meanwhile. */
  async spill(): Promise<void> {
    if (this.#runs.length >= MAX_RUNS) {
      const merged = await this.#write(mergeSorted(this.#runs.map(readRun)));
      const before = this.#runs;
      this.#runs = [merged];
      await Promise.all(before.map((run) => run.close()));
    }
    this.#runs.push(await this.#write(this.#inMemory()));
    this.#changes.clear();
    this.#spills++;
  }

  /** Sorted by name, each pack once; only what changed. May be asked for again while nothing is added. */
  async *sorted(): AsyncGenerator<PackChange> {
    for await (const { pack, references } of mergeSorted([...this.#runs.map(readRun), this.#inMemory()]))
      if (references !== 0) yield { pack, references };
  }

  async close(): Promise<void> {
    const runs = this.#runs;
    this.#runs = [];
    this.#changes.clear();
    await Promise.all(runs.map((run) => run.close()));
  }

  async *#inMemory(): AsyncGenerator<PackChange> {
    const sorted = [...this.#changes].toSorted(([a], [b]) => (a < b ? -1 : 1));
    for (const [pack, references] of sorted) yield { pack, references };
  }

  async #write(changes: AsyncIterable<PackChange>): Promise<FileHandle> {
    const path = join(this.#directory, `deltas-${hex(this.#random.bytes(16))}`);
    let file: FileHandle | undefined;
    try {
      file = await open(path, 'wx+', 0o600);
      await rm(path);
      const page = Buffer.alloc(PAGE_RECORDS * RECORD_BYTES);
      let filled = 0;
      for await (const { pack, references } of changes) {
        page.set(hashBytes(pack), filled);
        page.writeDoubleBE(references, filled + 32);
        filled += RECORD_BYTES;
        if (filled < page.length) continue;
        await file.appendFile(page);
        filled = 0;
      }
      await file.appendFile(page.subarray(0, filled));
      return file;
    } catch (error) {
      await file?.close();
      const code = systemCode(error);
      if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error;
      throw new LifeboatError('disk.full', `could not write ${path}: ${messageOf(error)}`, {
        context: { path },
        cause: error,
      });
    }
  }
}

async function* readRun(file: FileHandle): AsyncGenerator<PackChange> {
  const page = Buffer.alloc(PAGE_RECORDS * RECORD_BYTES);
  const { size } = await file.stat();
  for (let position = 0; position < size;) {
    const wanted = Math.min(page.length, size - position);
    let filled = 0;
    while (filled < wanted) {
      const { bytesRead } = await file.read(page, filled, wanted - filled, position + filled);
      if (bytesRead === 0) throw new LifeboatError('internal.bug', 'a run of reference counts was cut short');
      filled += bytesRead;
    }
    for (let at = 0; at < filled; at += RECORD_BYTES)
      yield { pack: packNameOf(page.subarray(at, at + 32)), references: page.readDoubleBE(at + 32) };
    position += filled;
  }
}

/** Of several sorted runs one; changes of one pack are added up, and may come to 0. */
async function* mergeSorted(runs: readonly AsyncGenerator<PackChange>[]): AsyncGenerator<PackChange> {
  const next = async (run: AsyncGenerator<PackChange>): Promise<PackChange | undefined> => {
    const { value, done } = await run.next();
    return done ? undefined : value;
  };
  const heads = await Promise.all(runs.map(async (run) => ({ run, change: await next(run) })));
  for (;;) {
    let least: PackName | undefined;
    for (const { change } of heads) if (change && (least === undefined || change.pack < least)) least = change.pack;
    if (least === undefined) return;
    let references = 0;
    for (const head of heads) {
      if (head.change?.pack !== least) continue;
      references += head.change.references;
      head.change = await next(head.run);
    }
    yield { pack: least, references };
  }
}
