/** Opened by each sealing thread of the repository: its own connection to the export of one disk. */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { NbdClient } from '@lifeboat/nbd/client';

export interface NbdSourceOptions {
  readonly socketPath: string;
  readonly exportName: string;
}

export const nbdSourceModule = new URL('./nbd-source.ts', import.meta.url).href;

/** @public Called by the sealing threads, which find this module by its URL. */
export async function openSource(options: NbdSourceOptions): Promise<BlockDevice> {
  return NbdClient.connect(options);
}
