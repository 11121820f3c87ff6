/** Disks of an open repository as sources of a writer in the same process. */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { JsonValue } from '../json.ts';
import type { SourceSpec } from '../write/source.ts';

const MODULE = new URL('./point-source.ts', import.meta.url).href;
const lent = new Map<string, BlockDevice>();
let next = 0;

/** Lends a device to a writer whose lanes run in this thread. `takeBack` when the writer is done. */
export function lendDevice(device: BlockDevice): { source: SourceSpec; takeBack: () => void } {
  const id = String(next++);
  lent.set(id, device);
  return { source: { module: MODULE, options: id }, takeBack: () => void lent.delete(id) };
}

/** @public Lanes import it by its name. */
export async function openSource(options: JsonValue): Promise<BlockDevice> {
  const device = typeof options === 'string' ? lent.get(options) : undefined;
  if (!device) throw new LifeboatError('internal.bug', 'a disk was asked for in a thread that does not have it');
  // Each lane closes what it opened; the disk goes on serving the others.
  return {
    sizeBytes: device.sizeBytes,
    read: (offsetBytes, target, readOptions) => device.read(offsetBytes, target, readOptions),
    extents: (range, readOptions) => device.extents(range, readOptions),
    close: () => Promise.resolve(),
  };
}
