/**
 * Keeps the keys of an open repository up to date: another process may have begun a new epoch since they were opened. Asked when a
 * session begins, which costs a listing of the key sets, and when a pack is met whose epoch is not known.
 */
import { hex } from '../format/names.ts';
import type { ObjectStore, StoreOptions } from '../store/object-store.ts';
import { newestGeneration, type Unlocked } from './key-store.ts';
import type { Keyring } from './keyring.ts';

export class CurrentKeys {
  readonly #store: ObjectStore;
  readonly #keyring: Keyring;
  readonly #unlock: (options: StoreOptions) => Promise<Unlocked>;
  #generation: number;

  /** `store` as it is for all tenants; `generation`: of the set that `keyring` was opened from. */
  constructor(input: {
    store: ObjectStore;
    keyring: Keyring;
    generation: number;
    unlock: (options: StoreOptions) => Promise<Unlocked>;
  }) {
    this.#store = input.store;
    this.#keyring = input.keyring;
    this.#unlock = input.unlock;
    this.#generation = input.generation;
  }

  /** Errors: those of `unlock`, also where the secret this process holds is no way in any more; those of the store. */
  async refresh(options: StoreOptions = {}): Promise<void> {
    const tenant = hex(this.#keyring.tenantId);
    if ((await newestGeneration(this.#store, tenant, options)) <= this.#generation) return;
    const { bundle, set } = await this.#unlock(options);
    // An older set, where the newest cannot be read, tells nothing new.
    if (set.generation <= this.#generation) return;
    this.#keyring.adopt(bundle);
    this.#generation = set.generation;
  }
}
