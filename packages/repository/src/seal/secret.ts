/** What opens a key slot: a passphrase, a key file, a printed page, or a key management service. */
import { scrypt } from 'node:crypto';
import { promisify } from 'node:util';

import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { Random } from '@lifeboat/foundation/random';
import { MiB } from '@lifeboat/foundation/units';

import type { KeySlot, ScryptCost } from '../format/key-set.ts';
import { createKeyFile, readKeyFile, readPaperFile } from './key-file.ts';
import type { Kms } from './kms.ts';
import type { Paper } from './paper.ts';

/** A secret that opens a repository. `keyRef` names the service's key for a new slot; opening needs only the service. */
export type Secret =
  | { readonly passphrase: string }
  | { readonly keyFile: string }
  /** A file with what somebody typed from a printed page. */
  | { readonly paperFile: string }
  | { readonly kms: Kms; readonly keyRef?: string };
/** The same, with files already read. */
export type SecretBytes =
  | Exclude<Secret, { keyFile: string } | { paperFile: string }>
  | { readonly fileKey: Uint8Array }
  | { readonly paper: Paper };

export type SecretKind = 'passphrase' | 'key file' | 'paper' | 'key service';

/** 64 MiB and 0.3 to 0.6 s: an agent with 400 MB can open it, a guesser pays for every guess. (OWASP names it as 2^17, p 1.) */
const DEFAULT_SCRYPT = { cost: 2 ** 16, blockSize: 8, parallelization: 2 } as const;

export type Cost = Omit<ScryptCost, 'salt'>;

const stretch = promisify<string, Uint8Array, number, { N: number; r: number; p: number; maxmem: number }, Buffer>(
  scrypt,
);

/** With `random`, a key file that does not exist is made. Throws `input.invalid`, `repository.key-file-unusable`, `.paper-unusable`. */
export async function secretBytes(secret: Secret, random?: Random): Promise<SecretBytes> {
  if ('kms' in secret) return secret;
  if ('passphrase' in secret) {
    if (secret.passphrase === '') throw new LifeboatError('input.invalid', 'the passphrase is empty');
    return secret;
  }
  if ('paperFile' in secret) return { paper: await readPaperFile(secret.paperFile) };
  try {
    return { fileKey: await readKeyFile(secret.keyFile) };
  } catch (error) {
    const missing = hasCode(error, 'repository.key-file-unusable') && error.context['missing'] === true;
    if (!random || !missing) throw error;
    return { fileKey: await createKeyFile(secret.keyFile, random) };
  }
}

export function kindOfSecret(secret: Secret | SecretBytes): SecretKind {
  if ('passphrase' in secret) return 'passphrase';
  if ('paper' in secret || 'paperFile' in secret) return 'paper';
  return 'kms' in secret ? 'key service' : 'key file';
}

export function kindOfSlot(slot: Pick<KeySlot, 'scrypt' | 'kms' | 'paper'>): SecretKind {
  if (slot.scrypt) return 'passphrase';
  if (slot.paper) return 'paper';
  return slot.kms ? 'key service' : 'key file';
}

/** What a new slot stores about its secret, and the 32 bytes the slot's keys come from. */
export async function newRoot(
  secret: SecretBytes,
  input: { random: Random; cost?: Cost | undefined; signal?: AbortSignal | undefined },
): Promise<{ root: Uint8Array } & Pick<KeySlot, 'scrypt' | 'kms' | 'paper'>> {
  const { random, signal } = input;
  const none = { scrypt: undefined, kms: undefined, paper: undefined };
  if ('passphrase' in secret) {
    const parameters = { ...(input.cost ?? DEFAULT_SCRYPT), salt: random.bytes(32) };
    return { ...none, root: await stretched(secret.passphrase, parameters), scrypt: parameters };
  }
  if ('fileKey' in secret) return { ...none, root: secret.fileKey };
  if ('paper' in secret) return { ...none, root: secret.paper.key, paper: {} };
  const { kms, keyRef } = secret;
  if (keyRef === undefined) throw new LifeboatError('input.invalid', 'no key of the key service was named');
  const root = random.bytes(32);
  const wrapped = await kms.wrap(keyRef, root, { signal });
  return { ...none, root, kms: { provider: kms.provider, keyRef, wrapped } };
}

/** The 32 bytes a slot's keys come from, if the secret is of the slot's kind. Throws what a key service throws. */
export async function rootOf(
  slot: KeySlot,
  secret: SecretBytes,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<Uint8Array | undefined> {
  if (kindOfSlot(slot) !== kindOfSecret(secret)) return undefined;
  if ('passphrase' in secret) return slot.scrypt && stretched(secret.passphrase, slot.scrypt);
  if ('fileKey' in secret) return secret.fileKey;
  if ('paper' in secret) return secret.paper.key;
  if (slot.kms?.provider !== secret.kms.provider) return undefined;
  const root = await secret.kms.unwrap(slot.kms.keyRef, slot.kms.wrapped, options);
  if (root.length !== 32) {
    throw new LifeboatError(
      'repository.kms-refused',
      `the key service returned ${root.length} bytes for key ${slot.kms.keyRef} instead of 32`,
    );
  }
  return root;
}

async function stretched(passphrase: string, parameters: ScryptCost): Promise<Uint8Array> {
  const { cost: N, blockSize: r, parallelization: p, salt } = parameters;
  // One passphrase has one form, whatever keyboard or terminal composed its accents.
  return stretch(passphrase.normalize('NFC'), salt, 32, { N, r, p, maxmem: 256 * N * r + MiB });
}
