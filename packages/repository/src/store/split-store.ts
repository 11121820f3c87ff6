import { CONTROL } from '../format/names.ts';
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
} from './object-store.ts';

/**
 * Two stores as one: what lies under `control/` is kept apart, because a bucket whose every object is locked by default is no place
 * for what is rewritten and collected. Locks are those of the data.
 */
export class SplitStore implements ObjectStore {
  readonly description: string;
  readonly locks: ObjectLocks | undefined;
  readonly #data: ObjectStore;
  readonly #control: ObjectStore;

  constructor(stores: { readonly data: ObjectStore; readonly control: ObjectStore }) {
    this.#data = stores.data;
    this.#control = stores.control;
    this.locks = stores.data.locks;
    this.description = `${stores.data.description} (control: ${stores.control.description})`;
  }

  putIfAbsent(name: string, parts: readonly Uint8Array[], options?: PutOptions): Promise<'created' | 'exists'> {
    return this.#of(name).putIfAbsent(name, parts, options);
  }

  get(name: string, options: StoreOptions & { readonly maxBytes: number }): Promise<Uint8Array> {
    return this.#of(name).get(name, options);
  }

  getRange(
    name: string,
    range: ByteRange & { readonly atMost?: boolean },
    options?: StoreOptions,
  ): Promise<Uint8Array> {
    return this.#of(name).getRange(name, range, options);
  }

  head(name: string, options?: StoreOptions): Promise<ObjectInfo | undefined> {
    return this.#of(name).head(name, options);
  }

  async *list(prefix: string, options?: StoreOptions): AsyncIterable<ObjectInfo> {
    if (prefix.startsWith(CONTROL)) {
      yield* this.#control.list(prefix, options);
      return;
    }
    for await (const object of this.#data.list(prefix, options)) {
      if (!object.name.startsWith(CONTROL)) yield object;
    }
    if (prefix === '') yield* this.#control.list(CONTROL, options);
  }

  delete(name: string, options?: StoreOptions): Promise<void> {
    return this.#of(name).delete(name, options);
  }

  async *names(prefix: string, options?: StoreOptions): AsyncIterable<string> {
    if (prefix.startsWith(CONTROL)) {
      yield* listNames(this.#control, prefix, options);
      return;
    }
    for await (const name of listNames(this.#data, prefix, options)) if (!name.startsWith(CONTROL)) yield name;
    if (prefix === '') yield* listNames(this.#control, CONTROL, options);
  }

  async traits(options?: StoreOptions): Promise<StoreTraits> {
    return (await this.#data.traits?.(options)) ?? { versions: false, hardLinks: false };
  }

  async versions(name: string, options?: StoreOptions): Promise<readonly ObjectVersion[]> {
    return (await this.#of(name).versions?.(name, options)) ?? [];
  }

  #of(name: string): ObjectStore {
    return name.startsWith(CONTROL) ? this.#control : this.#data;
  }
}
