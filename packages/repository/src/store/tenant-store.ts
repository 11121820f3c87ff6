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

/** What every tenant has for itself. Superblock and keys are where they are for everybody. */
const OWN = ['data/', 'control/'] as const;

/**
 * The part of a store that belongs to one tenant beside the first: `data/x` lies at `data/tenants/<tenant>/x`, `control/` in the
 * same way. So no listing, session, point or pack of one tenant is ever seen by another, and a store's access rules can tell them
 * apart. `data/` and `control/` stay in front, because locks and buckets are chosen by them.
 */
export class TenantStore implements ObjectStore {
  readonly description: string;
  readonly locks: ObjectLocks | undefined;
  readonly versions: ((name: string, options?: StoreOptions) => Promise<readonly ObjectVersion[]>) | undefined;
  readonly sweepTemporary: ObjectStore['sweepTemporary'];
  readonly names: ObjectStore['names'];
  readonly #store: ObjectStore;
  readonly #infix: string;

  constructor(store: ObjectStore, tenant: string) {
    this.#store = store;
    this.#infix = `tenants/${tenant}/`;
    this.description = `${store.description} (tenant ${tenant})`;
    const { locks } = store;
    this.sweepTemporary = store.sweepTemporary && ((input) => store.sweepTemporary?.(input) ?? Promise.resolve(0));
    this.names = store.names && ((prefix, options) => this.#names(prefix, options));
    this.locks = locks && {
      lockedUntilMs: (name, options) => locks.lockedUntilMs(this.#outer(name), options),
      extend: (name, untilMs, options) => locks.extend(this.#outer(name), untilMs, options),
    };
    this.versions =
      store.versions && ((name, options) => store.versions?.(this.#outer(name), options) ?? Promise.resolve([]));
  }

  putIfAbsent(name: string, parts: readonly Uint8Array[], options?: PutOptions): Promise<'created' | 'exists'> {
    return this.#store.putIfAbsent(this.#outer(name), parts, options);
  }

  get(name: string, options: StoreOptions & { readonly maxBytes: number }): Promise<Uint8Array> {
    return this.#store.get(this.#outer(name), options);
  }

  getRange(
    name: string,
    range: ByteRange & { readonly atMost?: boolean },
    options?: StoreOptions,
  ): Promise<Uint8Array> {
    return this.#store.getRange(this.#outer(name), range, options);
  }

  async head(name: string, options?: StoreOptions): Promise<ObjectInfo | undefined> {
    const found = await this.#store.head(this.#outer(name), options);
    return found && { ...found, name };
  }

  async *list(prefix: string, options?: StoreOptions): AsyncIterable<ObjectInfo> {
    const outer = this.#outer(prefix);
    for await (const info of this.#store.list(outer, options)) {
      yield { ...info, name: prefix + info.name.slice(outer.length) };
    }
  }

  async *#names(prefix: string, options?: StoreOptions): AsyncIterable<string> {
    const outer = this.#outer(prefix);
    for await (const name of listNames(this.#store, outer, options)) yield prefix + name.slice(outer.length);
  }

  delete(name: string, options?: StoreOptions): Promise<void> {
    return this.#store.delete(this.#outer(name), options);
  }

  #outer(name: string): string {
    const own = OWN.find((prefix) => name.startsWith(prefix));
    return own ? own + this.#infix + name.slice(own.length) : name;
  }
}
