import type { StoreOptions } from '../store/object-store.ts';

/**
 * A key management service: it wraps 32 bytes under a key that never leaves it. Destroying that key there is what makes a
 * tenant's data unreadable for good (crypto-shred), wherever copies of the repository lie.
 *
 * Errors: `repository.kms-refused` (destroyed, disabled, not allowed, not wrapped by this key) and `repository.kms-unreachable`
 * (no answer; it may be asked again).
 */
export interface Kms {
  /** Stands in the key slot: a slot is only offered to the implementation that wrapped it. */
  readonly provider: string;
  /** At most 4096 bytes. */
  wrap(keyRef: string, plain: Uint8Array, options?: StoreOptions): Promise<Uint8Array>;
  unwrap(keyRef: string, wrapped: Uint8Array, options?: StoreOptions): Promise<Uint8Array>;
  /** For good. Resolves also when the key is gone already. */
  destroy(keyRef: string, options?: StoreOptions): Promise<void>;
}
