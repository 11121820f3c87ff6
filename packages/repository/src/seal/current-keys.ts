/**
 * Keeps the keys of an open repository up to date: another process may have begun a new epoch since they were opened. Asked when a
 * session begins, which costs a listing of the key sets, and when a pack is met whose epoch is not known.
 */
import type { ObjectStore, StoreOptions } from '../store/object-store.ts';
import { newestGeneration } from './key-store.ts';

export class CurrentKeys {
  readonly #store: ObjectStore;
  readonly #tenant: string;
  readonly #learn: (known: number, options: StoreOptions) => Promise<number>;
  #generation: number;

  /**
   * `store` as it is for all tenants; `tenant`: its id, hexadecimal; `generation`: of the set the keys were opened from. `learn` takes over
   * what is newer than the generation it is given, and returns which one that is.
   */
  constructor(input: {
    store: ObjectStore;
    tenant: string;
    generation: number;
    learn: (known: number, options: StoreOptions) => Promise<number>;
  }) {
    this.#store = input.store;
    this.#tenant = input.tenant;
    this.#learn = input.learn;
    this.#generation = input.generation;
  }

  /** Errors: those of `learn`, also where the secret this process holds is no way in any more; those of the store. */
  async refresh(options: StoreOptions = {}): Promise<void> {
    if ((await newestGeneration(this.#store, this.#tenant, options)) <= this.#generation) return;
    // An older set, where the newest cannot be read, tells nothing new.
    this.#generation = Math.max(this.#generation, await this.#learn(this.#generation, options));
  }
}
