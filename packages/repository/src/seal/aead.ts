/** AES-256-GCM, 12-byte nonce, 16-byte tag behind the ciphertext. A key is used for one object; the nonce counts within it. */
import { createCipheriv, createDecipheriv, createSecretKey } from 'node:crypto';

import { discard } from './discard.ts';

export const TAG_BYTES = 16;
/** Nonce counter of what is not a numbered blob: the table of contents of a pack. */
export const TOC_COUNTER = 0xffff_ffff;

export interface Seal {
  readonly key: Uint8Array;
  /** Unique under the key. */
  readonly counter: number;
  readonly additionalData: Uint8Array;
}

// A key in bytes costs Node 24 an exception inside before it takes it for what it is: 39 us a cipher against 12 with a key object.
function nonce(counter: number): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt32BE(counter, 8);
  return bytes;
}

export function seal({ key, counter, additionalData }: Seal, plain: Uint8Array): Buffer {
  const cipher = createCipheriv('aes-256-gcm', createSecretKey(key), nonce(counter));
  cipher.setAAD(additionalData);
  const body = cipher.update(plain);
  cipher.final();
  return Buffer.concat([body, cipher.getAuthTag()]);
}

/** Seals `region` in place: its last 16 bytes are room for the tag. */
export function sealInPlace({ key, counter, additionalData }: Seal, region: Uint8Array): void {
  const cipher = createCipheriv('aes-256-gcm', createSecretKey(key), nonce(counter));
  cipher.setAAD(additionalData);
  const plainBytes = region.length - TAG_BYTES;
  const body = cipher.update(region.subarray(0, plainBytes));
  region.set(body);
  discard(body);
  cipher.final();
  region.set(cipher.getAuthTag(), plainBytes);
}

/** The plaintext, or undefined when key, data or additional data are not what was sealed. */
export function open({ key, counter, additionalData }: Seal, sealed: Uint8Array): Buffer | undefined {
  if (sealed.length < TAG_BYTES) return undefined;
  const decipher = createDecipheriv('aes-256-gcm', createSecretKey(key), nonce(counter));
  decipher.setAAD(additionalData);
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  const plain = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES));
  try {
    decipher.final();
  } catch {
    // Node says "Unsupported state or unable to authenticate data", and nothing more: the caller knows which object it was.
    return undefined;
  }
  return plain;
}
