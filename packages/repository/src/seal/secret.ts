/** The ways into a repository: a passphrase, or a key file; each wraps the same bundle of keys in a slot of its own. */
import { scrypt } from 'node:crypto';
import { promisify } from 'node:util';

import type { Random } from '@lifeboat/foundation/random';
import { MiB } from '@lifeboat/foundation/units';

import { decodeKeyBundle, encodeKeyBundle, type KeyBundle, type KeySlot, type ScryptCost } from '../format/key-slot.ts';
import { open, seal } from './aead.ts';
import { deriveKey } from './derive.ts';

/** A secret that opens a repository. */
export type Secret = { readonly passphrase: string } | { readonly keyFile: string };
/** The same, with a key file already read. */
export type SecretBytes = { readonly passphrase: string } | { readonly fileKey: Uint8Array };

/** 64 MiB and 0.3 to 0.6 s: an agent with 400 MB can open it, a guesser pays for every guess. (OWASP names it as 2^17, p 1.) */
const DEFAULT_SCRYPT = { cost: 2 ** 16, blockSize: 8, parallelization: 2 } as const;

type Cost = Omit<ScryptCost, 'salt'>;

const stretch = promisify<string, Uint8Array, number, { N: number; r: number; p: number; maxmem: number }, Buffer>(
  scrypt,
);

/** `binding` ties the slot to its repository (hash of the superblock). */
export async function wrapBundle(
  bundle: KeyBundle,
  input: { secret: SecretBytes; binding: Uint8Array; random: Random; cost?: Cost },
): Promise<KeySlot> {
  const { secret, binding, random } = input;
  const salt = random.bytes(32);
  const parameters = 'passphrase' in secret ? { ...(input.cost ?? DEFAULT_SCRYPT), salt: random.bytes(32) } : undefined;
  const root = await rootKey(secret, parameters);
  const { key, check } = wrappingKeys(root, salt);
  return {
    scrypt: parameters,
    check,
    salt,
    sealedBundle: seal({ key, counter: 0, additionalData: slotBinding(binding) }, encodeKeyBundle(bundle)),
  };
}

/** The bundle; 'wrong-secret' when this is not the slot's secret; 'damaged' when it is, and the slot still does not open. */
export async function unwrapBundle(
  slot: KeySlot,
  input: { secret: SecretBytes; binding: Uint8Array; what: string },
): Promise<KeyBundle | 'wrong-secret' | 'damaged'> {
  if ('passphrase' in input.secret !== (slot.scrypt !== undefined)) return 'wrong-secret';
  const { key, check } = wrappingKeys(await rootKey(input.secret, slot.scrypt), slot.salt);
  if (Buffer.compare(check, slot.check) !== 0) return 'wrong-secret';
  const plain = open({ key, counter: 0, additionalData: slotBinding(input.binding) }, slot.sealedBundle);
  return plain ? decodeKeyBundle(plain, input.what) : 'damaged';
}

async function rootKey(secret: SecretBytes, parameters: ScryptCost | undefined): Promise<Uint8Array> {
  if ('fileKey' in secret || parameters === undefined) return 'fileKey' in secret ? secret.fileKey : new Uint8Array(0);
  const { cost: N, blockSize: r, parallelization: p, salt } = parameters;
  // One passphrase has one form, whatever keyboard or terminal composed its accents.
  return stretch(secret.passphrase.normalize('NFC'), salt, 32, { N, r, p, maxmem: 256 * N * r + MiB });
}

function wrappingKeys(root: Uint8Array, salt: Uint8Array): { key: Buffer; check: Buffer } {
  return { key: deriveKey(root, 'key slot', salt), check: deriveKey(root, 'key slot check', salt).subarray(0, 16) };
}

function slotBinding(binding: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from('lifeboat key slot', 'ascii'), binding]);
}
