import { createSecretKey, hkdfSync } from 'node:crypto';

const EMPTY = new Uint8Array(0);

/** HKDF-SHA-256 to 32 bytes. `label` separates uses of one key; docs/format.md lists them all. */
export function deriveKey(key: Uint8Array, label: string, salt: Uint8Array = EMPTY): Buffer {
  return Buffer.from(hkdfSync('sha256', createSecretKey(key), salt, `lifeboat ${label} v1`, 32));
}

/** `text || fields`, each with a u32 length in front: two different lists never give the same bytes. */
export function lengthPrefixed(label: string, ...fields: readonly Uint8Array[]): Buffer {
  return Buffer.concat([Buffer.from(label, 'ascii'), ...fields].flatMap((field) => [u32(field.length), field]));
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
