import { LifeboatError } from '@lifeboat/foundation/errors';

import type { ByteRange, ObjectInfo, ObjectStore, StoreOptions } from './object-store.ts';

/** A store in memory, for tests and simulations. `objects` is open to them: to look, and to do harm. */
export class MemoryStore implements ObjectStore {
  readonly description = 'memory';
  readonly objects = new Map<string, Uint8Array>();

  async putIfAbsent(
    name: string,
    parts: readonly Uint8Array[],
    options: StoreOptions = {},
  ): Promise<'created' | 'exists'> {
    options.signal?.throwIfAborted();
    if (this.objects.has(name)) return 'exists';
    this.objects.set(name, Buffer.concat(parts));
    return 'created';
  }

  async get(name: string, options: StoreOptions & { readonly maxBytes: number }): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    const object = this.#object(name);
    if (object.length > options.maxBytes)
      throw this.#damaged(name, `${object.length} bytes exceed ${options.maxBytes}`);
    return Uint8Array.from(object);
  }

  async getRange(
    name: string,
    { offsetBytes, lengthBytes, atMost }: ByteRange & { readonly atMost?: boolean },
    options: StoreOptions = {},
  ): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    const object = this.#object(name);
    if (!atMost && offsetBytes + lengthBytes > object.length) throw this.#damaged(name, `it ends at ${object.length}`);
    return Uint8Array.from(object.subarray(offsetBytes, offsetBytes + lengthBytes));
  }

  async head(name: string): Promise<ObjectInfo | undefined> {
    const object = this.objects.get(name);
    return object && { name, sizeBytes: object.length };
  }

  async *list(prefix: string): AsyncIterable<ObjectInfo> {
    const names = [...this.objects.keys()].filter((name) => name.startsWith(prefix));
    for (const name of names) {
      const object = this.objects.get(name);
      if (object) yield { name, sizeBytes: object.length };
    }
  }

  async delete(name: string): Promise<void> {
    this.objects.delete(name);
  }

  #object(name: string): Uint8Array {
    const object = this.objects.get(name);
    if (!object)
      throw new LifeboatError('repository.object-missing', `${name} is not in memory`, { context: { object: name } });
    return object;
  }

  #damaged(name: string, why: string): LifeboatError {
    return new LifeboatError('repository.object-damaged', `${name} in memory: ${why}`, { context: { object: name } });
  }
}
