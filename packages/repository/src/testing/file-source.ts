/** A file as the source of a backup, for tests: opened by each sealing thread for itself. */
import { open } from 'node:fs/promises';

import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { JsonValue } from '../json.ts';
import type { SourceSpec } from '../write/source.ts';

export function fileSource(path: string): SourceSpec {
  return { module: import.meta.url, options: { path } };
}

/** @public Sealing threads import it by its name. */
export async function openSource(options: JsonValue): Promise<BlockDevice> {
  const { path } = options as { path: string };
  const file = await open(path, 'r');
  const sizeBytes = (await file.stat()).size;
  return {
    sizeBytes,
    async read(offsetBytes, target) {
      for (let at = 0; at < target.length;) {
        const { bytesRead } = await file.read(target, at, target.length - at, offsetBytes + at);
        if (bytesRead === 0) throw new LifeboatError('device.read-failed', `${path} ends at ${offsetBytes + at}`);
        at += bytesRead;
      }
    },
    extents: (range) => Promise.resolve([{ ...range, kind: 'data' as const }]),
    close: () => file.close(),
  };
}
