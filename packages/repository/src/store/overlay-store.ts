import { LifeboatError } from '@lifeboat/foundation/errors';

import {
  listNames,
  type ByteRange,
  type ObjectInfo,
  type ObjectLocks,
  type ObjectStore,
  type ObjectVersion,
  type PutOptions,
  type StoreOptions,
} from './object-store.ts';

/**
 * What would be, over what is: what is put stays in memory, and the store below is only read. So a simulation runs the very code that
 * would do it. For small records; nothing is ever deleted.
 */
export class OverlayStore implements ObjectStore {
  readonly description: string;
  readonly locks: ObjectLocks | undefined;
  readonly #below: ObjectStore;
  readonly #objects = new Map<string, Uint8Array>();

  constructor(below: ObjectStore) {
    this.#below = below;
    this.description = `${below.description} (simulated)`;
    this.locks = below.locks;
  }

  async putIfAbsent(
    name: string,
    parts: readonly Uint8Array[],
    options: PutOptions = {},
  ): Promise<'created' | 'exists'> {
    if (this.#objects.has(name) || (await this.#below.head(name, options))) return 'exists';
    this.#objects.set(name, Buffer.concat(parts));
    return 'created';
  }

  async get(name: string, options: StoreOptions & { readonly maxBytes: number }): Promise<Uint8Array> {
    return this.#objects.get(name) ?? this.#below.get(name, options);
  }

  async getRange(
    name: string,
    range: ByteRange & { readonly atMost?: boolean },
    options?: StoreOptions,
  ): Promise<Uint8Array> {
    const object = this.#objects.get(name);
    if (!object) return this.#below.getRange(name, range, options);
    return object.subarray(range.offsetBytes, range.offsetBytes + range.lengthBytes);
  }

  async head(name: string, options?: StoreOptions): Promise<ObjectInfo | undefined> {
    const object = this.#objects.get(name);
    return object ? { name, sizeBytes: object.length } : this.#below.head(name, options);
  }

  async *list(prefix: string, options?: StoreOptions): AsyncIterable<ObjectInfo> {
    yield* this.#below.list(prefix, options);
    for (const [name, { length }] of this.#objects) if (name.startsWith(prefix)) yield { name, sizeBytes: length };
  }

  async *names(prefix: string, options?: StoreOptions): AsyncIterable<string> {
    yield* listNames(this.#below, prefix, options);
    for (const name of this.#objects.keys()) if (name.startsWith(prefix)) yield name;
  }

  delete(name: string): Promise<void> {
    return Promise.reject(new LifeboatError('internal.bug', `a simulation wanted to delete ${name}`));
  }

  async versions(name: string, options?: StoreOptions): Promise<readonly ObjectVersion[]> {
    return (await this.#below.versions?.(name, options)) ?? [];
  }
}
