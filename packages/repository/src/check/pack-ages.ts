/**
 * The packs that points need, and when each was looked at last, at which level.
 *
 * ```
 *   name ─► place in a table of row numbers (open addressing) ─► row: name (32 bytes), size, seconds by level
 * ```
 * 60 to 70 bytes a pack: 200 MB for the 3.3 million of 100 TiB in packs of 32 MiB. Rows lie in segments, which are never copied.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

import { hashBytes, packNameOf, type PackName } from '../format/names.ts';
import { CHECK_LEVELS, VERIFIED_NAME_BYTES, type CheckLevel } from '../format/verification.ts';

const SEGMENT_ROWS = 65_536;
const NAME_BYTES = 32;
/** 24 bits of a sort key are the row. 512 TiB at 32 MiB a pack. */
const MAX_ROWS = 2 ** 24;
/** The other 29 bits: 17 years of seconds before now. What is older counts as that old. */
const MAX_AGE_S = 2 ** 29 - 1;
/** Pack sizes are below 2^32; this one says that no pack set names it. */
const NO_SIZE = 0xffff_ffff;

interface Segment {
  readonly names: Buffer;
  readonly sizes: Uint32Array;
  /** Unix seconds by level; 0: never. */
  readonly looked: readonly Uint32Array[];
}

export class PackAges {
  #segments: Segment[] = [];
  #count = 0;
  /** Row + 1 by hash; 0: free. */
  #table = new Uint32Array(1024);

  get count(): number {
    return this.#count;
  }

  /** Throws `repository.limit-exceeded` beyond 16,777,216 packs. */
  add(pack: PackName, sizeBytes: number | undefined): void {
    const name = hashBytes(pack);
    const known = this.#find(name, NAME_BYTES);
    if (known !== undefined) {
      const [segment, at] = this.#at(known);
      if (sizeBytes !== undefined) segment.sizes[at] = sizeBytes;
      return;
    }
    if (this.#count >= MAX_ROWS)
      throw new LifeboatError(
        'repository.limit-exceeded',
        `more than ${MAX_ROWS} packs are more than a check remembers`,
      );
    if (this.#count % SEGMENT_ROWS === 0) {
      const numbers = (): Uint32Array => new Uint32Array(SEGMENT_ROWS);
      this.#segments.push({
        names: Buffer.alloc(SEGMENT_ROWS * NAME_BYTES),
        sizes: numbers(),
        looked: CHECK_LEVELS.map(numbers),
      });
    }
    const row = this.#count++;
    const [segment, at] = this.#at(row);
    name.copy(segment.names, at * NAME_BYTES);
    segment.sizes[at] = sizeBytes ?? NO_SIZE;
    if (this.#count * 2 > this.#table.length) this.#grow();
    else this.#enter(row);
  }

  has(pack: PackName): boolean {
    return this.#find(hashBytes(pack), NAME_BYTES) !== undefined;
  }

  /**
   * Takes over what a record says. Returns how many of its packs are here and were not known to be looked at since, at that level or a
   * higher one. `names`: the first 16 bytes of each, one behind the other.
   */
  learn(names: Uint8Array, level: CheckLevel, lookedMs: number): number {
    const seconds = Math.floor(lookedMs / 1000);
    let news = 0;
    for (let from = 0; from < names.length; from += VERIFIED_NAME_BYTES) {
      const row = this.#find(names.subarray(from, from + VERIFIED_NAME_BYTES), VERIFIED_NAME_BYTES);
      if (row === undefined || this.#seconds(row, level) >= seconds) continue;
      const [segment, at] = this.#at(row);
      const looked = segment.looked[CHECK_LEVELS.indexOf(level)];
      if (looked) looked[at] = seconds;
      news++;
    }
    return news;
  }

  pack(row: number): PackName {
    const [{ names }, at] = this.#at(row);
    return packNameOf(names.subarray(at * NAME_BYTES, (at + 1) * NAME_BYTES));
  }

  /** Undefined: a pack that holds pages of sets, of which no set says a size. */
  sizeBytes(row: number): number | undefined {
    const [{ sizes }, at] = this.#at(row);
    return sizes[at] === NO_SIZE ? undefined : sizes[at];
  }

  /** When it was looked at last, at this level or a higher one, Unix ms; undefined: never. */
  lookedMs(row: number, level: CheckLevel): number | undefined {
    const seconds = this.#seconds(row, level);
    return seconds === 0 ? undefined : seconds * 1000;
  }

  /**
   * Rows, least recently looked at first. `salt` orders those of one second: checkers that run at once then begin at different packs.
   * 8 bytes a pack while it goes on.
   */
  *leastRecent(level: CheckLevel, by: { readonly nowMs: number; readonly salt: number }): Generator<number> {
    const mask = 2 ** Math.ceil(Math.log2(Math.max(2, this.#count))) - 1;
    const salt = by.salt & mask;
    const originS = Math.floor(by.nowMs / 1000) - MAX_AGE_S;
    const keys = new Float64Array(this.#count);
    for (let row = 0; row < this.#count; row++) {
      const seconds = this.#seconds(row, level);
      const age = seconds === 0 ? 0 : Math.min(MAX_AGE_S, Math.max(1, seconds - originS));
      keys[row] = age * MAX_ROWS + (row ^ salt);
    }
    keys.sort();
    for (const key of keys) yield (key % MAX_ROWS) ^ salt;
  }

  #seconds(row: number, level: CheckLevel): number {
    const [{ looked }, at] = this.#at(row);
    let newest = 0;
    for (let i = CHECK_LEVELS.indexOf(level); i < looked.length; i++) newest = Math.max(newest, looked[i]?.[at] ?? 0);
    return newest;
  }

  #at(row: number): [Segment, number] {
    const segment = this.#segments[Math.floor(row / SEGMENT_ROWS)];
    if (!segment) throw new LifeboatError('internal.bug', `there is no row ${row} of ${this.#count}`);
    return [segment, row % SEGMENT_ROWS];
  }

  /** Names are hashes: their bits are random. */
  #find(name: Buffer | Uint8Array, lengthBytes: number): number | undefined {
    const bytes = Buffer.from(name.buffer, name.byteOffset, lengthBytes);
    for (let place = bytes.readUInt32BE(0) % this.#table.length; ; place = (place + 1) % this.#table.length) {
      const row = (this.#table[place] ?? 0) - 1;
      if (row < 0) return undefined;
      const [{ names }, at] = this.#at(row);
      const from = at * NAME_BYTES;
      if (bytes.compare(names, from, from + lengthBytes, 0, lengthBytes) === 0) return row;
    }
  }

  #enter(row: number): void {
    const [{ names }, at] = this.#at(row);
    let place = names.readUInt32BE(at * NAME_BYTES) % this.#table.length;
    while (this.#table[place] !== 0) place = (place + 1) % this.#table.length;
    this.#table[place] = row + 1;
  }

  #grow(): void {
    this.#table = new Uint32Array(this.#table.length * 2);
    for (let row = 0; row < this.#count; row++) this.#enter(row);
  }
}
