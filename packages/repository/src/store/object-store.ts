/**
 * Where a repository keeps its objects. Names are `/`-separated, made by `format/names.ts`, never by a person.
 *
 * The contract every implementation keeps (`store/conformance.ts` runs it against each):
 * - An object is there whole or not at all, also after a crash or a full disk in the middle of a write.
 * - When `putIfAbsent` resolves, the object survives a power cut, and whoever asks sees it.
 * - Objects never change. Of two writers of one name one gets 'created' and the other 'exists'.
 * - A listing that cannot be completed throws; it never ends early as if it were whole.
 * - All methods may run concurrently, from any number of processes.
 *
 * - Where the store keeps versions, an object is the earliest version of its name: what is put over it, or marks it as deleted,
 *   changes nothing for who reads, lists or puts.
 *
 * Errors: `repository.object-missing`, `.object-damaged` (shorter than asked for), `.object-unreadable` (the medium below it), `.object-locked`, `.store-denied`,
 * `.store-unreachable`, `.store-unsupported`, `.store-failed`, `disk.full`, and the signal's reason.
 */
export interface ObjectStore {
  /** For messages: `directory /backup/lifeboat`. */
  readonly description: string;
  /** Locks that keep objects from being deleted; undefined where the store has none. */
  readonly locks?: ObjectLocks | undefined;
  /** Idempotent for equal content. `parts` are written one after the other. */
  putIfAbsent(name: string, parts: readonly Uint8Array[], options?: PutOptions): Promise<'created' | 'exists'>;
  /** The whole object. More than `maxBytes` is refused as damaged before it is read: the caller knows what it expects. */
  get(name: string, options: StoreOptions & { readonly maxBytes: number }): Promise<Uint8Array>;
  /**
   * Exactly the range. `atMost`: the range may end early with the object. Each call reads anew; with `fresh` also over a
   * descriptor or connection of its own: a second opinion.
   */
  getRange(name: string, range: ByteRange & { readonly atMost?: boolean }, options?: StoreOptions): Promise<Uint8Array>;
  /** Undefined when there is no such object. */
  head(name: string, options?: StoreOptions): Promise<ObjectInfo | undefined>;
  /** Every object whose name begins with `prefix` (which ends in `/` or is empty), in no particular order. */
  list(prefix: string, options?: StoreOptions): AsyncIterable<ObjectInfo>;
  /**
   * The same, names only, and maybe of what was deleted while it ran. Undefined where a size costs nothing more; a directory asks for
   * each of them. `listNames` is how it is called.
   */
  readonly names?: ((prefix: string, options?: StoreOptions) => AsyncIterable<string>) | undefined;
  /**
   * Removes the object for good, every version of it; resolves also when it is not there. `repository.object-locked` (retried later:
   * a lock ends by itself, `context.untilMs` says when where the store tells) is never mixed up with `repository.store-denied`
   * (these credentials may not delete here, which is an alarm).
   */
  delete(name: string, options?: StoreOptions): Promise<void>;
  /** What it is beside what it does, for the record of a new repository; asked by trying, where it must be. */
  readonly traits?: ((options?: StoreOptions) => Promise<StoreTraits>) | undefined;
  /** Removes what writers that were killed left half written, if it is older than `minimumAgeMs`. Undefined where that leaves nothing. */
  readonly sweepTemporary?: ((input: { nowMs: number; minimumAgeMs: number }) => Promise<number>) | undefined;
  /**
   * Every version of a name, earliest first, for who can tell a valid one by its signature: the earliest valid one wins.
   * Undefined where the store keeps none.
   */
  readonly versions?: ((name: string, options?: StoreOptions) => Promise<readonly ObjectVersion[]>) | undefined;
}

/**
 * Locks of an object store, of the kind that nobody can lift or shorten before they end (S3: COMPLIANCE). They hold the version
 * that reads use.
 */
export interface ObjectLocks {
  /** Until when the object cannot be deleted, Unix ms; undefined when nothing locks it. `repository.object-missing`. */
  lockedUntilMs(name: string, options?: StoreOptions): Promise<number | undefined>;
  /** Moves the end of the lock to a later instant; changes nothing when it is that late already. A right that no writer needs. */
  extend(name: string, untilMs: number, options?: StoreOptions): Promise<void>;
}

/** The name of every object under a prefix, as `list` gives them, by the cheapest way the store has. Fails as `list` does. */
export async function* listNames(
  store: Pick<ObjectStore, 'list' | 'names'>,
  prefix: string,
  options?: StoreOptions,
): AsyncGenerator<string> {
  if (store.names) yield* store.names(prefix, options);
  else for await (const { name } of store.list(prefix, options)) yield name;
}

export interface StoreTraits {
  readonly versions: boolean;
  readonly hardLinks: boolean;
}

export interface StoreOptions {
  readonly signal?: AbortSignal | undefined;
  readonly fresh?: boolean | undefined;
}

export interface PutOptions extends StoreOptions {
  /** Nobody may delete the object before this instant (Unix ms). A store without locks refuses: `repository.store-unsupported`. */
  readonly lockUntilMs?: number | undefined;
}

/** One version of an object. `get` reads its whole content, as `ObjectStore.get` does. */
export interface ObjectVersion {
  readonly versionId: string;
  readonly sizeBytes: number;
  get(options: StoreOptions & { readonly maxBytes: number }): Promise<Uint8Array>;
}

export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface ObjectInfo {
  readonly name: string;
  readonly sizeBytes: number;
  /** When it was stored, by the clock of the store, Unix ms. `head` says it where the store knows; listings need not. */
  readonly storedMs?: number;
}
