import type { Clock } from '@lifeboat/foundation/clock';

import {
  listNames,
  type ByteRange,
  type ObjectInfo,
  type ObjectLocks,
  type ObjectStore,
  type ObjectVersion,
  type PutOptions,
  type StoreOptions,
  type StoreTraits,
} from '../store/object-store.ts';
import { isLocked, lockEndMs, type LockPolicy } from './lock-policy.ts';

/** Locks what it puts, by the put itself: there is no instant at which an object lies unlocked. */
export class LockingStore implements ObjectStore {
  readonly description: string;
  readonly locks: ObjectLocks | undefined;
  readonly #store: ObjectStore;
  readonly #policy: LockPolicy;
  readonly #clock: Clock;

  constructor(store: ObjectStore, deps: { readonly policy: LockPolicy; readonly clock: Clock }) {
    this.#store = store;
    this.#policy = deps.policy;
    this.#clock = deps.clock;
    this.locks = store.locks;
    this.description = store.description;
  }

  putIfAbsent(name: string, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<'created' | 'exists'> {
    if (!isLocked(name)) return this.#store.putIfAbsent(name, parts, options);
    return this.#store.putIfAbsent(name, parts, {
      ...options,
      lockUntilMs: options.lockUntilMs ?? lockEndMs(this.#policy, this.#clock.nowMs()),
    });
  }

  get(name: string, options: StoreOptions & { readonly maxBytes: number }): Promise<Uint8Array> {
    return this.#store.get(name, options);
  }

  getRange(
    name: string,
    range: ByteRange & { readonly atMost?: boolean },
    options?: StoreOptions,
  ): Promise<Uint8Array> {
    return this.#store.getRange(name, range, options);
  }

  head(name: string, options?: StoreOptions): Promise<ObjectInfo | undefined> {
    return this.#store.head(name, options);
  }

  list(prefix: string, options?: StoreOptions): AsyncIterable<ObjectInfo> {
    return this.#store.list(prefix, options);
  }

  names(prefix: string, options?: StoreOptions): AsyncIterable<string> {
    return listNames(this.#store, prefix, options);
  }

  delete(name: string, options?: StoreOptions): Promise<void> {
    return this.#store.delete(name, options);
  }

  async traits(options?: StoreOptions): Promise<StoreTraits> {
    return (await this.#store.traits?.(options)) ?? { versions: false, hardLinks: false };
  }

  async versions(name: string, options?: StoreOptions): Promise<readonly ObjectVersion[]> {
    return (await this.#store.versions?.(name, options)) ?? [];
  }
}
