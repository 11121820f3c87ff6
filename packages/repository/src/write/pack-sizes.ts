/**
 * Sizes of packs by name, 20 bytes an entry at a load of one half to three quarters: 100 TiB in packs of 32 MiB are 3.3 million, at
 * most 130 MB here. A Map of strings needs five times that.
 *
 * A name is known by its first 16 bytes. Names are hashes: two that share them are not to be had.
 */
import { hashBytes, type PackName } from '../format/names.ts';

const WORDS = 5;
const NAME_WORDS = 4;

export class PackSizes {
  #capacity = 1024;
  #count = 0;
  /** Four words of the name, then the size; a size of 0 is a free entry. */
  #words = new Uint32Array(this.#capacity * WORDS);

  get count(): number {
    return this.#count;
  }

  get(pack: PackName): number | undefined {
    const sizeBytes = this.#words[this.#find(wordsOf(pack)) * WORDS + NAME_WORDS];
    return sizeBytes === 0 ? undefined : sizeBytes;
  }

  /** `sizeBytes`: more than 0. An empty pack is not one, and is not kept. */
  set(pack: PackName, sizeBytes: number): void {
    if (sizeBytes === 0) return;
    if ((this.#count + 1) * 4 > this.#capacity * 3) this.#grow();
    const words = wordsOf(pack);
    const at = this.#find(words) * WORDS;
    if (this.#words[at + NAME_WORDS] === 0) this.#count++;
    this.#words.set(words, at);
    this.#words[at + NAME_WORDS] = sizeBytes;
  }

  #find(words: Uint32Array): number {
    let entry = (words[0] ?? 0) % this.#capacity;
    for (;;) {
      const at = entry * WORDS;
      if (this.#words[at + NAME_WORDS] === 0) return entry;
      let same = 0;
      while (same < NAME_WORDS && this.#words[at + same] === words[same]) same++;
      if (same === NAME_WORDS) return entry;
      entry = (entry + 1) % this.#capacity;
    }
  }

  #grow(): void {
    const before = this.#words;
    this.#capacity *= 2;
    this.#words = new Uint32Array(this.#capacity * WORDS);
    for (let at = 0; at < before.length; at += WORDS) {
      if (before[at + NAME_WORDS] === 0) continue;
      const entry = before.subarray(at, at + WORDS);
      this.#words.set(entry, this.#find(entry.subarray(0, NAME_WORDS)) * WORDS);
    }
  }
}

function wordsOf(pack: PackName): Uint32Array {
  const bytes = hashBytes(pack);
  return Uint32Array.from({ length: NAME_WORDS }, (_, i) => bytes.readUInt32LE(i * 4));
}
