/** Files that open a part of what a tenant has: an agent's, and those with the keys of some points. */
import { constants, open } from 'node:fs/promises';

import { hasCode, LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';

import { decodeAgentCredential, type AgentCredential } from '../format/agent-credential.ts';
import type { KeySet } from '../format/key-set.ts';
import { MAX_AGENT_FILE_BYTES, MAX_POINT_KEYS_BYTES } from '../format/limits.ts';
import { hex } from '../format/names.ts';
import { decodePointKeys } from '../format/point-keys.ts';
import { AgentKeyring } from '../seal/agent-keyring.ts';
import { readSignedSet } from '../seal/key-store.ts';
import type { Keyring } from '../seal/keyring.ts';
import { ReaderKeyring } from '../seal/reader-keyring.ts';
import type { ObjectStore, StoreOptions } from '../store/object-store.ts';

/** Path of a file that `Agents.enrol` made. */
export interface AgentSecret {
  readonly agentFile: string;
}

/** Path of a file with what `Repository.grant` returned. */
export interface PointKeysSecret {
  readonly pointKeysFile: string;
}

export interface AgentAccess {
  readonly keyring: Keyring;
  readonly set: KeySet;
  /** Takes over an epoch that is newer than the generation; returns the generation it read. */
  readonly learn: (known: number, options: StoreOptions) => Promise<number>;
}

/**
 * Errors: `repository.agent-file-unusable` also for a file of another repository or tenant, `repository.object-damaged` where no key set of
 * the tenant can be read, those of the store.
 */
export async function openAgent(
  store: ObjectStore,
  input: { readonly path: string; readonly superblockHash: Uint8Array; readonly tenant: string | undefined },
  options: StoreOptions = {},
): Promise<AgentAccess> {
  const { path, superblockHash, tenant } = input;
  const { credential, keyring } = await readAgentFile(path);
  if (Buffer.compare(credential.superblockHash, superblockHash) !== 0)
    throw unusable(path, `is for another repository than ${store.description}`);
  const by = { tenant: hex(credential.tenantId), signer: credential.signer, superblockHash };
  const read = async (at: StoreOptions): Promise<KeySet> => {
    const set = await readSignedSet(store, by, at);
    keyring.adopt(set);
    return set;
  };
  const set = await read(options);
  if (tenant !== undefined && tenant !== by.tenant && tenant !== set.tenantName)
    throw unusable(path, `is for tenant ${set.tenantName}, not ${tenant}`);
  return { keyring, set, learn: async (_, at) => (await read(at)).generation };
}

/** Errors: `repository.agent-file-unusable`, those of the store. */
export async function openWithPointKeys(
  store: ObjectStore,
  input: { readonly path: string; readonly superblockHash: Uint8Array },
  options: StoreOptions = {},
): Promise<AgentAccess> {
  const { path, superblockHash } = input;
  const content = await readPrivateFile(path, MAX_POINT_KEYS_BYTES);
  const keys = decoding(path, () => decodePointKeys(content, path));
  if (Buffer.compare(keys.superblockHash, superblockHash) !== 0)
    throw unusable(path, `is for another repository than ${store.description}`);
  const by = { tenant: hex(keys.tenantId), signer: keys.signer, superblockHash };
  const set = await readSignedSet(store, by, options);
  return { keyring: new ReaderKeyring(keys), set, learn: async (known) => known };
}

async function readAgentFile(path: string): Promise<{ credential: AgentCredential; keyring: AgentKeyring }> {
  const content = await readPrivateFile(path, MAX_AGENT_FILE_BYTES);
  return decoding(path, () => {
    const credential = decodeAgentCredential(content, path);
    return { credential, keyring: new AgentKeyring(credential, path) };
  });
}

function decoding<T>(path: string, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    if (!hasCode(error, 'repository.object-damaged')) throw error;
    throw unusable(path, `holds no such keys, or is damaged: ${error.message}`, error);
  }
}

async function readPrivateFile(path: string, maxBytes: number): Promise<Uint8Array> {
  let file;
  try {
    file = await open(path, constants.O_RDONLY);
  } catch (error) {
    throw unusable(
      path,
      systemCode(error) === 'ENOENT' ? 'does not exist' : `cannot be read: ${messageOf(error)}`,
      error,
    );
  }
  try {
    const { mode, size } = await file.stat();
    if ((mode & 0o077) !== 0)
      throw unusable(path, `has mode ${(mode & 0o777).toString(8)}: other users can read it; set 600`);
    if (size > maxBytes) throw unusable(path, `has ${size} bytes, and no file with such keys is so large`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

function unusable(path: string, why: string, cause?: unknown): LifeboatError {
  return new LifeboatError('repository.agent-file-unusable', `key file ${path} ${why}`, { context: { path }, cause });
}
