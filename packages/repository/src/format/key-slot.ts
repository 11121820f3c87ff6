/**
 * A key slot: the tenant's key bundle, wrapped by one secret. A repository has one slot per way in (passphrase, key file);
 * any of them opens it.
 *
 * `check` tells a wrong secret from a damaged slot: it is derived from the wrapping key, so it gives an attacker nothing
 * that the sealed bundle does not give as well.
 */
import { MiB } from '@lifeboat/foundation/units';

import { damaged, decodeFrame, encodeFrame } from './frame.ts';
import { bytes, list, message, nested, optional, uint, type MessageOf } from './wire.ts';

/** Memory a slot may ask for. */
const MAX_SCRYPT_BYTES = 512 * MiB;

const scryptSchema = message({
  salt: bytes(1, { length: 32 }),
  /** CPU and memory cost N, a power of two. */
  cost: uint(2, 2 ** 20),
  blockSize: uint(3, 32),
  parallelization: uint(4, 16),
});

const slotSchema = message({
  /** Present: the secret is a passphrase stretched by scrypt. Absent: 32 bytes from a key file. */
  scrypt: optional(nested(1, scryptSchema)),
  check: bytes(2, { length: 16 }),
  /** The wrapping key is used for this one seal; the salt makes it unique. */
  salt: bytes(3, { length: 32 }),
  sealedBundle: bytes(4, { max: 8192 }),
});

export type ScryptCost = MessageOf<typeof scryptSchema>;
export type KeySlot = MessageOf<typeof slotSchema>;

export function encodeKeySlot(slot: KeySlot): Uint8Array {
  return encodeFrame('KEYS', slotSchema.encode(slot));
}

export function decodeKeySlot(object: Uint8Array, what: string): KeySlot {
  const slot = slotSchema.decode(decodeFrame('KEYS', object, what), what);
  const { cost, blockSize, parallelization } = slot.scrypt ?? { cost: 2, blockSize: 1, parallelization: 1 };
  const isSane = cost >= 2 && (cost & (cost - 1)) === 0 && blockSize >= 1 && parallelization >= 1;
  // Whoever can write to the store must not make us allocate what he likes before we know the secret is right.
  if (!isSane || 128 * cost * blockSize > MAX_SCRYPT_BYTES) {
    throw damaged(what, `scrypt parameters N ${cost}, r ${blockSize}, p ${parallelization}`);
  }
  return slot;
}

const epochSchema = message({
  epoch: uint(1, 0xffff_ffff),
  /** X25519. Its public part is derived. Writer sessions are sealed to it. */
  sessionPrivateKey: bytes(2, { length: 32 }),
});

const bundleSchema = message({
  tenantId: bytes(1, { length: 16 }),
  /** Newest last. Rotation adds one. */
  epochs: list(2, epochSchema, 1024),
  /** Keyed BLAKE3 of plaintexts; lives as long as deduplication shall reach back. */
  chunkIdKey: bytes(3, { length: 32 }),
  /** Root of the machines' keys, which seal maps and points. */
  machineRootKey: bytes(4, { length: 32 }),
  /** Ed25519 seed that signs points. */
  signingSeed: bytes(5, { length: 32 }),
});

/** Everything a tenant's secret opens. */
export type KeyBundle = MessageOf<typeof bundleSchema>;

export const encodeKeyBundle = (bundle: KeyBundle): Uint8Array => bundleSchema.encode(bundle);
export const decodeKeyBundle = (plain: Uint8Array, what: string): KeyBundle => bundleSchema.decode(plain, what);
