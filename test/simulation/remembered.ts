/** What was worked out before: a schedule asks for the same few hundred times over, and most of its time went into ciphers and hashes. */
const MAX_REMEMBERED = 20_000;

export class Remembered<K, V> {
  readonly #values = new Map<K, V>();

  of(key: K, work: () => V): V {
    const known = this.#values.get(key);
    if (known !== undefined) return known;
    if (this.#values.size >= MAX_REMEMBERED) this.#values.clear();
    const value = work();
    this.#values.set(key, value);
    return value;
  }

  /** As `of`, where the key does not say everything: what is remembered counts only if it still holds. */
  ofSame(key: K, holds: (known: V) => boolean, work: () => V): V {
    const known = this.#values.get(key);
    if (known !== undefined && !holds(known)) this.#values.delete(key);
    return this.of(key, work);
  }
}
