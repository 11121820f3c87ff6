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
 * Errors: `repository.object-missing`, `.object-damaged` (shorter than asked for), `.store-denied`, `.store-unreachable`,
 * `.store-unsupported`, `.store-failed`, `disk.full`, and the signal's reason.
 */
export interface ObjectStore {
  /** For messages: `directory /backup/lifeboat`. */
  readonly description: string;
  /** Idempotent for equal content. `parts` are written one after the other. */
  putIfAbsent(name: string, parts: readonly Uint8Array[], options?: StoreOptions): Promise<'created' | 'exists'>;
  /** The whole object. More than `maxBytes` is refused as damaged before it is read: the caller knows what it expects. */
  get(name: string, options: StoreOptions & { readonly maxBytes: number }): Promise<Uint8Array>;
  /**
   * Exactly the range. `atMost`: the range may end early with the object.
   * Each call reads anew, over its own descriptor or connection: a repeated read is a second opinion.
   */
  getRange(name: string, range: ByteRange & { readonly atMost?: boolean }, options?: StoreOptions): Promise<Uint8Array>;
  /** Undefined when there is no such object. */
  head(name: string, options?: StoreOptions): Promise<ObjectInfo | undefined>;
  /** Every object whose name begins with `prefix` (which ends in `/` or is empty), in no particular order. */
  list(prefix: string, options?: StoreOptions): AsyncIterable<ObjectInfo>;
  /** Resolves also when the object is not there. */
  delete(name: string, options?: StoreOptions): Promise<void>;
}

export interface StoreOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface ObjectInfo {
  readonly name: string;
  readonly sizeBytes: number;
}
