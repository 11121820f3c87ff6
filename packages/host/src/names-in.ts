import { readdir } from 'node:fs/promises';
import { systemCode } from '@lifeboat/foundation/errors';

/** Names in a directory; none where there is no directory. */
export async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}
