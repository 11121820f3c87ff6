/** A key management service in a directory, for one machine and for tests: one file a key, mode 0600, destroyed by removal. */
import { constants } from 'node:fs';
import { open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { hasCode, LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { systemRandom, type Random } from '@lifeboat/foundation/random';

import { open as openSeal, seal } from './aead.ts';
import { deriveKey, lengthPrefixed } from './derive.ts';
import { createKeyFile, readKeyFile } from './key-file.ts';
import type { Kms } from './kms.ts';

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const SALT_BYTES = 32;

export class DirectoryKms implements Kms {
  readonly provider = 'directory';
  readonly #directory: string;
  readonly #random: Random;

  /** Keep it on another disk than the repository, or destroying a key destroys nothing. */
  constructor(directory: string, random: Random = systemRandom) {
    this.#directory = directory;
    this.#random = random;
  }

  /** Errors: `input.invalid`, those of the filesystem when the key is there already. */
  async createKey(keyRef: string): Promise<void> {
    await createKeyFile(this.#path(keyRef), this.#random);
  }

  async wrap(keyRef: string, plain: Uint8Array): Promise<Uint8Array> {
    const salt = this.#random.bytes(SALT_BYTES);
    return Buffer.concat([salt, seal(await this.#seal(keyRef, salt), plain)]);
  }

  async unwrap(keyRef: string, wrapped: Uint8Array): Promise<Uint8Array> {
    const salt = wrapped.subarray(0, SALT_BYTES);
    const plain = openSeal(await this.#seal(keyRef, salt), wrapped.subarray(SALT_BYTES));
    if (!plain) throw this.#refused(keyRef, 'it did not wrap these bytes');
    return plain;
  }

  async destroy(keyRef: string): Promise<void> {
    await rm(this.#path(keyRef), { force: true });
    const directory = await open(this.#directory, constants.O_RDONLY);
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  }

  async #seal(keyRef: string, salt: Uint8Array): Promise<Parameters<typeof seal>[0]> {
    let root: Uint8Array;
    try {
      root = await readKeyFile(this.#path(keyRef));
    } catch (error) {
      if (!hasCode(error, 'repository.key-file-unusable')) throw error;
      await this.#assertThere();
      throw this.#refused(keyRef, error.message, error);
    }
    const additionalData = lengthPrefixed('lifeboat directory kms', Buffer.from(keyRef, 'utf8'));
    return { key: deriveKey(root, 'directory kms', salt), counter: 0, additionalData };
  }

  /** A directory that is not mounted must not look like a key that was destroyed. */
  async #assertThere(): Promise<void> {
    try {
      await stat(this.#directory);
    } catch (cause) {
      throw new LifeboatError('repository.kms-unreachable', `${this.#directory}: ${messageOf(cause)}`, { cause });
    }
  }

  #path(keyRef: string): string {
    if (!NAME.test(keyRef))
      throw new LifeboatError('input.invalid', `'${keyRef}' is no name of a key: ${String(NAME)}`);
    return join(this.#directory, keyRef);
  }

  #refused(keyRef: string, why: string, cause?: unknown): LifeboatError {
    return new LifeboatError('repository.kms-refused', `key ${keyRef} in ${this.#directory}: ${why}`, {
      context: { provider: this.provider, keyRef },
      cause,
    });
  }
}
