/**
 * A key set: everything that opens one tenant, in one object.
 *
 * ```
 *   secret of a slot ─► slot key ─┬─► anchor: the tenant's signing key, as whoever made the slot saw it
 *                                 └─► set key ─► key bundle
 * ```
 * Every change (a slot more or less, a new epoch) is a new set under the next generation. A slot has a key pair of its own, so
 * a set can be made for slots whose secrets are not at hand. The anchor is why nobody else can: what opens must be signed by
 * the key the anchor names, and only who knew the secret can have written the anchor.
 */
import { KiB, MiB } from '@lifeboat/foundation/units';

import { damaged, decodeFrame, encodeFrame } from './frame.ts';
import { MAX_KEY_SET_BYTES, MAX_KEY_SLOTS } from './limits.ts';
import { bytes, list, message, nested, optional, text, uint, type MessageOf } from './wire.ts';

/** Memory a slot may ask for. */
const MAX_SCRYPT_BYTES = 512 * MiB;

const scryptSchema = message({
  salt: bytes(1, { length: 32 }),
  /** CPU and memory cost N, a power of two. */
  cost: uint(2, 2 ** 20),
  blockSize: uint(3, 32),
  parallelization: uint(4, 16),
});

const kmsSchema = message({
  /** Which implementation of the port wrapped it: `command`, `directory`. */
  provider: text(1, 64),
  /** The key there, by the name that service has for it. */
  keyRef: text(2, 1024),
  /** What the service made of 32 random bytes. */
  wrapped: bytes(3, { max: 4 * KiB }),
});

const slotSchema = message({
  slotId: bytes(1, { length: 8 }),
  /** For people: whose way in this is. */
  label: text(2, 128),
  createdMs: uint(3),
  /** Present: the secret is a passphrase stretched by scrypt. */
  scrypt: optional(nested(4, scryptSchema)),
  /** Present: the secret is what a key management service unwraps. */
  kms: optional(nested(5, kmsSchema)),
  /** The slot's keys are derived with it. */
  salt: bytes(6, { length: 32 }),
  /** Tells a wrong secret from a damaged slot; gives a guesser nothing the seals do not give as well. */
  check: bytes(7, { length: 16 }),
  /** X25519, its private part derived from the secret. */
  publicKey: bytes(8, { length: 32 }),
  sealedAnchor: bytes(9, { length: 48 }),
  sealedSetKey: bytes(10, { length: 80 }),
  /** Present: the secret is 32 bytes on a printed page. None of the three: 32 bytes from a key file. */
  paper: optional(nested(11, message({}))),
});

const bodySchema = message({
  tenantId: bytes(1, { length: 16 }),
  tenantName: text(2, 64),
  generation: uint(3, 999_999),
  createdMs: uint(4),
  /** The newest epoch, and the public part of its key: what a writer that holds no bundle seals session keys to. */
  epoch: uint(5, 0xffff_ffff),
  sessionPublicKey: bytes(6, { length: 32 }),
  slots: list(7, slotSchema, MAX_KEY_SLOTS),
  sealedBundle: bytes(8, { max: 64 * KiB }),
});

const envelopeSchema = message({
  body: bytes(1, { max: MAX_KEY_SET_BYTES }),
  /** Ed25519 by the tenant's signing key. */
  signature: bytes(2, { length: 64 }),
});

export type ScryptCost = MessageOf<typeof scryptSchema>;
export type KeySlot = MessageOf<typeof slotSchema>;
export type KeySetBody = MessageOf<typeof bodySchema>;

/** A set as it was read: the signature is still to be checked. */
export interface KeySet extends KeySetBody {
  readonly bodyBytes: Uint8Array;
  readonly signature: Uint8Array;
}

export const encodeKeySetBody = (body: KeySetBody): Uint8Array => bodySchema.encode(body);

export function encodeKeySet(envelope: MessageOf<typeof envelopeSchema>): Uint8Array {
  return encodeFrame('KEYS', envelopeSchema.encode(envelope));
}

/** Throws `repository.object-damaged` or `repository.newer-version`. */
export function decodeKeySet(object: Uint8Array, what: string): KeySet {
  const { body: bodyBytes, signature } = envelopeSchema.decode(decodeFrame('KEYS', object, what), what);
  const body = bodySchema.decode(bodyBytes, what);
  for (const slot of body.slots) assertSane(slot, what);
  return { ...body, bodyBytes, signature };
}

/** Whoever can write to the store must not make us allocate what he likes before we know the secret is right. */
function assertSane({ scrypt, kms, paper }: KeySlot, what: string): void {
  if ([scrypt, kms, paper].filter(Boolean).length > 1) throw damaged(what, 'a slot for two kinds of secrets');
  const { cost, blockSize, parallelization } = scrypt ?? { cost: 2, blockSize: 1, parallelization: 1 };
  const isSane = cost >= 2 && (cost & (cost - 1)) === 0 && blockSize >= 1 && parallelization >= 1;
  if (!isSane || 128 * cost * blockSize > MAX_SCRYPT_BYTES) {
    throw damaged(what, `scrypt parameters N ${cost}, r ${blockSize}, p ${parallelization}`);
  }
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
  /** Ed25519 seed that signs points, key sets and certificates. */
  signingSeed: bytes(5, { length: 32 }),
});

/** Everything a tenant's secret opens. */
export type KeyBundle = MessageOf<typeof bundleSchema>;

export const encodeKeyBundle = (bundle: KeyBundle): Uint8Array => bundleSchema.encode(bundle);

/** Throws `repository.object-damaged`. */
export function decodeKeyBundle(plain: Uint8Array, what: string): KeyBundle {
  const bundle = bundleSchema.decode(plain, what);
  const rising = bundle.epochs.every(({ epoch }, i) => epoch > (bundle.epochs[i - 1]?.epoch ?? 0));
  if (bundle.epochs.length === 0 || !rising) throw damaged(what, 'its epochs do not rise');
  return bundle;
}
