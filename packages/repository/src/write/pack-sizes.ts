/**
 * Sizes of packs by name, and whether this session stored them, 20 bytes an entry at a load of 0.6 to 0.75: 100 TiB in packs of 32 MiB are 3.3 million, at most 110 MB
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
/** Beside the size. No pack is larger than 128 MiB; what is listed as larger than this is none. */
const OWN = 0x8000_0000;
const MAX_SIZE = OWN - 1;

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

  /** `sizeBytes`: more than 0, and less than 2 GiB. Anything else is no pack, and is not kept. */
  set(pack: PackName, sizeBytes: number): void {
    if (sizeBytes === 0 || sizeBytes > MAX_SIZE) return;
    this.#tableOf(pack).set(wordsOf(hashBytes(pack)), sizeBytes);
  }

  /** As `set`, of a pack this session stored. It stays its own, whatever a listing says of it later. */
  setOwn(pack: PackName, sizeBytes: number): void {
    this.set(pack, sizeBytes);
    this.#tableOf(pack).own(wordsOf(hashBytes(pack)));
  }

  isOwn(pack: PackName): boolean {
    const name = hashBytes(pack);
    return this.#tables[name[0] ?? 0]?.isOwn(wordsOf(name)) ?? false;
  }

  #tableOf(pack: PackName): SizeTable {
    return (this.#tables[Number.parseInt(pack.slice(0, 2), 16)] ??= new SizeTable());
  }
}

class SizeTable {
  count = 0;
  #capacity = FIRST_ENTRIES;
  /** Four words of the name, then the size with its flag; 0 is a free entry. */
  #words = new Uint32Array(this.#capacity * WORDS);

  get bytes(): number {
    return this.#words.byteLength;
  }

  get(name: Uint32Array): number | undefined {
    const sizeBytes = this.#entry(name) & MAX_SIZE;
    return sizeBytes === 0 ? undefined : sizeBytes;
  }

  isOwn(name: Uint32Array): boolean {
    return this.#entry(name) >= OWN;
  }

  /** Of a pack whose size is known. */
  own(name: Uint32Array): void {
    const at = this.#find(name) * WORDS + NAME_WORDS;
    const sizeBytes = this.#words[at] ?? 0;
    if (sizeBytes !== 0 && sizeBytes < OWN) this.#words[at] = sizeBytes + OWN;
  }

  #entry(name: Uint32Array): number {
    return this.#words[this.#find(name) * WORDS + NAME_WORDS] ?? 0;
  }

  set(name: Uint32Array, sizeBytes: number): void {
    if (this.count + 1 > this.#capacity * MAX_LOAD) this.#grow();
    const at = this.#find(name) * WORDS;
    const before = this.#words[at + NAME_WORDS] ?? 0;
    if (before === 0) this.count++;
    this.#words.set(name, at);
    this.#words[at + NAME_WORDS] = before >= OWN ? sizeBytes + OWN : sizeBytes;
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
