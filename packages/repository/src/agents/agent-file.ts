/** The file an agent opens a repository with, and what it opens. */
import { constants, open } from 'node:fs/promises';

import { hasCode, LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';

import { decodeAgentCredential, type AgentCredential } from '../format/agent-credential.ts';
import type { KeySet } from '../format/key-set.ts';
import { MAX_AGENT_FILE_BYTES } from '../format/limits.ts';
import { hex } from '../format/names.ts';
import { AgentKeyring } from '../seal/agent-keyring.ts';
import { readSignedSet } from '../seal/key-store.ts';
import type { Keyring } from '../seal/keyring.ts';
import type { ObjectStore, StoreOptions } from '../store/object-store.ts';

/** Path of a file that `Agents.enrol` made. */
export interface AgentSecret {
  readonly agentFile: string;
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

async function readAgentFile(path: string): Promise<{ credential: AgentCredential; keyring: AgentKeyring }> {
  const content = await readPrivateFile(path);
  try {
    const credential = decodeAgentCredential(content, path);
    return { credential, keyring: new AgentKeyring(credential, path) };
  } catch (error) {
    if (!hasCode(error, 'repository.object-damaged')) throw error;
    throw unusable(path, `is no agent's file, or damaged: ${error.message}`, error);
  }
}

async function readPrivateFile(path: string): Promise<Uint8Array> {
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
    if (size > MAX_AGENT_FILE_BYTES) throw unusable(path, `has ${size} bytes, and no agent's file is so large`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

function unusable(path: string, why: string, cause?: unknown): LifeboatError {
  return new LifeboatError('repository.agent-file-unusable', `agent file ${path} ${why}`, { context: { path }, cause });
}
