/**
 * Raw 32-byte X25519 and Ed25519 keys, as the format stores them, in and out of Node's key objects. A key is made from bytes
 * of our own randomness port, so that a test or simulation can own it.
 */
import { createPrivateKey, createPublicKey, diffieHellman, sign, verify, type KeyObject } from 'node:crypto';

import { open, seal } from './aead.ts';
import { deriveKey } from './derive.ts';

// DER up to the key's bytes: RFC 8410, sections 4 and 7.
const OID = { x25519: '6e', ed25519: '70' } as const;
type Curve = keyof typeof OID;

function privateKey(curve: Curve, raw: Uint8Array): KeyObject {
  const der = Buffer.concat([Buffer.from(`302e020100300506032b65${OID[curve]}04220420`, 'hex'), raw]);
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
}

function publicKey(curve: Curve, raw: Uint8Array): KeyObject {
  const der = Buffer.concat([Buffer.from(`302a300506032b65${OID[curve]}032100`, 'hex'), raw]);
  return createPublicKey({ key: der, format: 'der', type: 'spki' });
}

/** The public part of a raw private key. */
export function publicPart(curve: Curve, rawPrivate: Uint8Array): Buffer {
  return createPublicKey(privateKey(curve, rawPrivate)).export({ format: 'der', type: 'spki' }).subarray(-32);
}

/** What is sealed to a public key: a session key to a tenant, or the key of a key set to a slot. */
export type SealLabel = 'session seal' | 'key set seal';

/**
 * Seals 32 bytes to an X25519 public key: `ephemeral public || AES-256-GCM(HKDF(shared secret), plain)`, 80 bytes.
 * `ephemeral` is 32 fresh random bytes, used once.
 */
export function sealToPublicKey(
  label: SealLabel,
  input: { readonly recipient: Uint8Array; readonly plain: Uint8Array; readonly ephemeral: Uint8Array },
): Buffer {
  const { recipient, plain, ephemeral } = input;
  const ephemeralPublic = publicPart('x25519', ephemeral);
  const shared = diffieHellman({
    privateKey: privateKey('x25519', ephemeral),
    publicKey: publicKey('x25519', recipient),
  });
  const salt = Buffer.concat([ephemeralPublic, recipient]);
  const key = deriveKey(shared, label, salt);
  return Buffer.concat([ephemeralPublic, seal({ key, counter: 0, additionalData: salt }, plain)]);
}

/** The reverse; undefined when it was sealed to another key or changed. */
export function openWithPrivateKey(
  label: SealLabel,
  input: { readonly rawPrivate: Uint8Array; readonly sealed: Uint8Array },
): Buffer | undefined {
  const { rawPrivate, sealed } = input;
  const ephemeralPublic = sealed.subarray(0, 32);
  const salt = Buffer.concat([ephemeralPublic, publicPart('x25519', rawPrivate)]);
  let shared: Buffer;
  try {
    shared = diffieHellman({
      privateKey: privateKey('x25519', rawPrivate),
      publicKey: publicKey('x25519', ephemeralPublic),
    });
  } catch {
    // A point of low order, which nobody's key has: the bytes were changed.
    return undefined;
  }
  return open({ key: deriveKey(shared, label, salt), counter: 0, additionalData: salt }, sealed.subarray(32));
}

export function signEd25519(seed: Uint8Array, bytes: Uint8Array): Buffer {
  return sign(null, bytes, privateKey('ed25519', seed));
}

/** The key that was asked for last: nearly all signatures are by one, and to make it an object takes a third as long as the check. */
let lastVerifier: { readonly raw: Buffer; readonly key: KeyObject } | undefined;

export function verifyEd25519(rawPublic: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  if (!lastVerifier?.raw.equals(rawPublic))
    lastVerifier = { raw: Buffer.from(rawPublic), key: publicKey('ed25519', rawPublic) };
  return verify(null, bytes, lastVerifier.key, signature);
}
