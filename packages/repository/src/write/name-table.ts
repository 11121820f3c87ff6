/**
 * Facts about packs by their names, as words in memory: 16 bytes for the name and four for each word, at a load of 0.6 to 0.75. A Map of
 * strings needs five times that.
 *
 * It is 256 tables, by the first byte of the name, so that what grows is a small one, and by a quarter only.
 *
 * A name is known by its first 16 bytes. Names are hashes: two that share them are not to be had.
 */
const NAME_WORDS = 4;
const TABLES = 256;
const FIRST_ENTRIES = 16;
const MAX_LOAD = 0.75;
const GROWTH = 1.25;

/** Where the words of an entry are, until the next entry is made. */
export interface Entry {
  readonly words: Uint32Array;
  /** Of the first word behind the name. */
  readonly at: number;
}

export class NameTable {
  readonly #entryWords: number;
  readonly #tables = Array.from<Table | undefined>({ length: TABLES });
  #count = 0;

  /** `words`: of an entry, beside the name. The last of them is 0 in what is no entry. */
  constructor(words: number) {
    this.#entryWords = NAME_WORDS + words;
  }

  get count(): number {
    return this.#count;
  }

  /** Of the tables, as they are now. */
  get bytes(): number {
    return this.#tables.reduce((sum, table) => sum + (table?.bytes ?? 0), 0);
  }

  /** `name`: 16 bytes or more. */
  find(name: Buffer): Entry | undefined {
    return this.#tables[name[0] ?? 0]?.get(wordsOf(name));
  }

  /** The entry; a new one is all zeros, and the caller sets its last word. */
  entry(name: Buffer): Entry {
    const table = (this.#tables[name[0] ?? 0] ??= new Table(this.#entryWords));
    const before = table.count;
    const entry = table.make(wordsOf(name));
    this.#count += table.count - before;
    return entry;
  }
}

class Table {
  count = 0;
  readonly #entryWords: number;
  #capacity = FIRST_ENTRIES;
  #words: Uint32Array;

  constructor(entryWords: number) {
    this.#entryWords = entryWords;
    this.#words = new Uint32Array(this.#capacity * entryWords);
  }

  get bytes(): number {
    return this.#words.byteLength;
  }

  get(name: Uint32Array): Entry | undefined {
    const at = this.#find(name);
    return this.#isFree(at) ? undefined : { words: this.#words, at: at + NAME_WORDS };
  }

  make(name: Uint32Array): Entry {
    if (this.count + 1 > this.#capacity * MAX_LOAD) this.#grow();
    const at = this.#find(name);
    if (this.#isFree(at)) {
      this.count++;
      this.#words.set(name, at);
    }
    return { words: this.#words, at: at + NAME_WORDS };
  }

  #isFree(at: number): boolean {
    return this.#words[at + this.#entryWords - 1] === 0;
  }

  /** By the second word: the first byte of the first one is the same for all. */
  #find(name: Uint32Array): number {
    let entry = (name[1] ?? 0) % this.#capacity;
    for (;;) {
      const at = entry * this.#entryWords;
      if (this.#isFree(at)) return at;
      let same = 0;
      while (same < NAME_WORDS && this.#words[at + same] === name[same]) same++;
      if (same === NAME_WORDS) return at;
      entry = (entry + 1) % this.#capacity;
    }
  }

  #grow(): void {
    const before = this.#words;
    this.#capacity = Math.ceil(this.#capacity * GROWTH);
    this.#words = new Uint32Array(this.#capacity * this.#entryWords);
    for (let at = 0; at < before.length; at += this.#entryWords) {
      if (before[at + this.#entryWords - 1] === 0) continue;
      const entry = before.subarray(at, at + this.#entryWords);
      this.#words.set(entry, this.#find(entry.subarray(0, NAME_WORDS)));
    }
  }
}

function wordsOf(name: Buffer): Uint32Array {
  const words = new Uint32Array(NAME_WORDS);
  for (let i = 0; i < NAME_WORDS; i++) words[i] = name.readUInt32LE(i * 4);
  return words;
}
