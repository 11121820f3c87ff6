import { systemClock, type Clock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { ByteRange, ObjectInfo, ObjectLocks, ObjectStore, PutOptions, StoreOptions } from './object-store.ts';

/** A store in memory, for tests and simulations. `objects` is open to them: to look, and to do harm. */
export class MemoryStore implements ObjectStore {
  readonly description = 'memory';
  readonly objects = new Map<string, Uint8Array>();
  readonly locks: ObjectLocks;
  readonly #lockedUntilMs = new Map<string, number>();
  readonly #storedMs = new Map<string, number>();
  readonly #clock: Clock;

  constructor(deps: { clock?: Clock } = {}) {
    this.#clock = deps.clock ?? systemClock;
    this.locks = {
      lockedUntilMs: async (name) => {
        this.#object(name);
        return this.#lock(name);
      },
      extend: async (name, untilMs) => {
        this.#object(name);
        this.#lockedUntilMs.set(name, Math.max(untilMs, this.#lockedUntilMs.get(name) ?? 0));
      },
    };
  }

  async putIfAbsent(
    name: string,
    parts: readonly Uint8Array[],
    options: PutOptions = {},
  ): Promise<'created' | 'exists'> {
    options.signal?.throwIfAborted();
    if (this.objects.has(name)) return 'exists';
    this.objects.set(name, Buffer.concat(parts));
    this.#storedMs.set(name, this.#clock.nowMs());
    if (options.lockUntilMs !== undefined) this.#lockedUntilMs.set(name, options.lockUntilMs);
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
    const storedMs = this.#storedMs.get(name);
    return object && { name, sizeBytes: object.length, ...(storedMs === undefined ? {} : { storedMs }) };
  }

  async *list(prefix: string): AsyncIterable<ObjectInfo> {
    const names = [...this.objects.keys()].filter((name) => name.startsWith(prefix));
    for (const name of names) {
      const object = this.objects.get(name);
      if (object) yield { name, sizeBytes: object.length };
    }
  }

  async delete(name: string): Promise<void> {
    const untilMs = this.objects.has(name) ? this.#lock(name) : undefined;
    if (untilMs !== undefined) {
      throw new LifeboatError('repository.object-locked', `${name} in memory is locked until ${untilMs}`, {
        context: { object: name, untilMs },
      });
    }
    this.objects.delete(name);
    this.#lockedUntilMs.delete(name);
  }

  #lock(name: string): number | undefined {
    const untilMs = this.#lockedUntilMs.get(name);
    return untilMs !== undefined && untilMs > this.#clock.nowMs() ? untilMs : undefined;
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
