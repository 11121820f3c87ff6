/** An image file as the source of a backup; each sealing thread opens it for itself. */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { openFileDevice } from '@lifeboat/disk/file-device';
import type { JsonValue } from '@lifeboat/repository/json';
import type { SourceSpec } from '@lifeboat/repository/write/source';

export function imageSource(path: string): SourceSpec {
  return { module: import.meta.url, options: { path } };
}

/** @public Sealing threads import it by its name. */
export function openSource(options: JsonValue): Promise<BlockDevice> {
  return openFileDevice((options as { path: string }).path);
}
