/** Keeps what was used last, up to a cost. Not shared between repositories. */
export class LruCache<K, V> {
  readonly #limit: number;
  readonly #costOf: (value: V) => number;
  // A Map iterates in order of insertion: the first key is the one not used for longest.
  readonly #entries = new Map<K, V>();
  #cost = 0;

  constructor(limit: number, costOf: (value: V) => number = () => 1) {
    this.#limit = limit;
    this.#costOf = costOf;
  }

  get(key: K): V | undefined {
    const value = this.#entries.get(key);
    if (value === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, value);
    return value;
  }

  set(key: K, value: V): void {
    this.delete(key);
    this.#entries.set(key, value);
    this.#cost += this.#costOf(value);
    for (const oldest of this.#entries.keys()) {
      if (this.#cost <= this.#limit) break;
      this.delete(oldest);
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#cost = 0;
  }

  delete(key: K): void {
    const value = this.#entries.get(key);
    if (value === undefined) return;
    this.#entries.delete(key);
    this.#cost -= this.#costOf(value);
  }
}

/** Loads a key once, however many ask for it at the same time; failures are not kept. */
export class SharedLoads<K, V> {
  readonly #running = new Map<K, Promise<V>>();

  load(key: K, action: () => Promise<V>): Promise<V> {
    const running = this.#running.get(key);
    if (running) return running;
    const fresh = action().finally(() => this.#running.delete(key));
    this.#running.set(key, fresh);
    return fresh;
  }
}
