import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { JsonValue } from '../json.ts';

/**
 * How a sealing thread opens the disk for itself: it imports `module` and calls its `openSource(options)` once. The repository
 * knows nothing of NBD or files; the module belongs to whoever backs up.
 */
export interface SourceSpec {
  /** File URL of a module that exports `openSource(options: JsonValue): Promise<BlockDevice>`. */
  readonly module: string;
  readonly options: JsonValue;
}

/** Throws what the module throws, or `internal.bug` when it exports no `openSource`. */
export async function openSource(spec: SourceSpec): Promise<BlockDevice> {
  const loaded = (await import(spec.module)) as { openSource?: unknown };
  if (typeof loaded.openSource !== 'function') {
    throw new LifeboatError('internal.bug', `${spec.module} does not export openSource()`);
  }
  return (loaded.openSource as (options: JsonValue) => Promise<BlockDevice>)(spec.options);
}
