/** A key of its own for the SSH server of a copied guest, made here: nothing of the guest's is run. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { runTool } from '@lifeboat/host/children';
import type { FileEdit, GuestTree } from '../access/guest-tree.ts';
import type { HostKeyType } from '../linux/identity.ts';

/** RSA takes seconds on a busy host. */
const KEYGEN_TIMEOUT_MS = 120_000;

/** Replaces the key at `path` and, where it is there, `path`.pub. `directory`: of the operation, closed to others. */
export async function replaceHostKey(
  tree: GuestTree,
  key: { readonly path: string; readonly keyType: HostKeyType },
  { directory, signal }: { readonly directory: string; readonly signal: AbortSignal },
): Promise<FileEdit[]> {
  const scratch = await mkdtemp(join(directory, 'host-key-'));
  try {
    const file = join(scratch, 'key');
    await runTool('ssh-keygen', ['-q', '-t', key.keyType, '-N', '', '-C', '', '-f', file], {
      timeoutMs: KEYGEN_TIMEOUT_MS,
      signal,
    });
    const edits = [await tree.replace(key.path, [await readFile(file)])];
    const publicPath = `${key.path}.pub`;
    if (await tree.isFile(publicPath)) edits.push(await tree.replace(publicPath, [await readFile(`${file}.pub`)]));
    return edits;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
