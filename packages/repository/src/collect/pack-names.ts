/**
 * A set of names that are hashes, in 8 bytes each: 100 TiB in packs of 32 MiB are 3.3 million names, 50 to 100 MB here. A Map of
 * strings needs ten times that.
 *
 * Two names may share their first 8 bytes (one in 2^64 for a pair). So it is asked only where "yes" is the safe answer: a pack that
 * is held to be alive, or condemned, by mistake costs space and no data.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

/** 256 MiB at a load of one half. */
const MAX_PACK_NAMES = 16_777_216;

export class PackNames {
  #capacity = 64;
  #count = 0;
  #zero = false;
  #words = new BigUint64Array(this.#capacity);

  get size(): number {
    return this.#count;
  }

  /** `name`: at least 16 hexadecimal digits. Throws `repository.limit-exceeded` beyond 16,777,216 names. */
  add(name: string): void {
    const word = wordOf(name);
    if (word === 0n) {
      if (!this.#zero) this.#count++;
      this.#zero = true;
      return;
    }
    if (this.#count * 2 >= this.#capacity) this.#grow();
    const at = this.#find(word);
    if (this.#words[at] !== 0n) return;
    this.#words[at] = word;
    this.#count++;
  }

  has(name: string): boolean {
    const word = wordOf(name);
    return word === 0n ? this.#zero : this.#words[this.#find(word)] !== 0n;
  }

  /** Where the word is, or the free place where it belongs. Names are hashes: their bits are random. */
  #find(word: bigint): number {
    let at = Number(word & 0xffff_ffffn) % this.#capacity;
    while (this.#words[at] !== 0n && this.#words[at] !== word) at = (at + 1) % this.#capacity;
    return at;
  }

  #grow(): void {
    if (this.#count >= MAX_PACK_NAMES) {
      throw new LifeboatError(
        'repository.limit-exceeded',
        `more than ${MAX_PACK_NAMES} packs are more than a collection holds in memory`,
      );
    }
    const before = this.#words;
    this.#capacity *= 2;
    this.#words = new BigUint64Array(this.#capacity);
    for (const word of before) if (word !== 0n) this.#words[this.#find(word)] = word;
  }
}

function wordOf(name: string): bigint {
  return BigInt(`0x${name.slice(0, 16)}`);
}
