/**
 * Sizes of packs by name, 20 bytes an entry at a load of 0.6 to 0.75: 100 TiB in packs of 32 MiB are 3.3 million, at most 110 MB
 * here, also while it grows. A Map of strings needs five times that.
 *
 * It is 256 tables, by the first byte of the name, so that what grows is a small one, and by a quarter only.
 *
 * A name is known by its first 16 bytes. Names are hashes: two that share them are not to be had.
 */
import { hashBytes, type PackName } from '../format/names.ts';

const WORDS = 5;
const NAME_WORDS = 4;
const TABLES = 256;
const FIRST_ENTRIES = 16;
const MAX_LOAD = 0.75;
const GROWTH = 1.25;

export class PackSizes {
  readonly #tables: (SizeTable | undefined)[] = Array.from({ length: TABLES });

  get count(): number {
    return this.#tables.reduce((sum, table) => sum + (table?.count ?? 0), 0);
  }

  /** Of the tables, as they are now. */
  get bytes(): number {
    return this.#tables.reduce((sum, table) => sum + (table?.bytes ?? 0), 0);
  }

  get(pack: PackName): number | undefined {
    const name = hashBytes(pack);
    return this.#tables[name[0] ?? 0]?.get(wordsOf(name));
  }

  /** `sizeBytes`: more than 0. An empty pack is not one, and is not kept. */
  set(pack: PackName, sizeBytes: number): void {
    if (sizeBytes === 0) return;
    const name = hashBytes(pack);
    const table = (this.#tables[name[0] ?? 0] ??= new SizeTable());
    table.set(wordsOf(name), sizeBytes);
  }
}

class SizeTable {
  count = 0;
  #capacity = FIRST_ENTRIES;
  /** Four words of the name, then the size; a size of 0 is a free entry. */
  #words = new Uint32Array(this.#capacity * WORDS);

  get bytes(): number {
    return this.#words.byteLength;
  }

  get(name: Uint32Array): number | undefined {
    const sizeBytes = this.#words[this.#find(name) * WORDS + NAME_WORDS];
    return sizeBytes === 0 ? undefined : sizeBytes;
  }

  set(name: Uint32Array, sizeBytes: number): void {
    if (this.count + 1 > this.#capacity * MAX_LOAD) this.#grow();
    const at = this.#find(name) * WORDS;
    if (this.#words[at + NAME_WORDS] === 0) this.count++;
    this.#words.set(name, at);
    this.#words[at + NAME_WORDS] = sizeBytes;
  }

  /** By the second word: the first byte of the first one is the same for all. */
  #find(name: Uint32Array): number {
    let entry = (name[1] ?? 0) % this.#capacity;
    for (;;) {
      const at = entry * WORDS;
      if (this.#words[at + NAME_WORDS] === 0) return entry;
      let same = 0;
      while (same < NAME_WORDS && this.#words[at + same] === name[same]) same++;
      if (same === NAME_WORDS) return entry;
      entry = (entry + 1) % this.#capacity;
    }
  }

  #grow(): void {
    const before = this.#words;
    this.#capacity = Math.ceil(this.#capacity * GROWTH);
    this.#words = new Uint32Array(this.#capacity * WORDS);
    for (let at = 0; at < before.length; at += WORDS) {
      if (before[at + NAME_WORDS] === 0) continue;
      const entry = before.subarray(at, at + WORDS);
      this.#words.set(entry, this.#find(entry.subarray(0, NAME_WORDS)) * WORDS);
    }
  }
}

function wordsOf(name: Buffer): Uint32Array {
  return Uint32Array.from({ length: NAME_WORDS }, (_, i) => name.readUInt32LE(i * 4));
}
