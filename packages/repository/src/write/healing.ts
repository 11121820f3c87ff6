/** What a writer does about damage it meets, or was told of: it looks, and leads who comes to the damaged place to a whole one. */
import { hasCode } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { sha256 } from '../format/frame.ts';
import { hex, packObject, type PackName } from '../format/names.ts';
import { encodeMoved } from '../format/relocation.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { writeRelocation } from './relocation-writer.ts';

/** Whether the pack in the store has exactly these bytes; what has not is read once more, over another connection. */
export async function holds(
  core: Core,
  pack: PackName,
  bytes: Uint8Array,
  options: StoreOptions = {},
): Promise<boolean> {
  for (const fresh of [false, true]) {
    try {
      const there = await core.store.get(packObject(pack), { ...options, fresh, maxBytes: bytes.length });
      if (Buffer.compare(there, bytes) === 0) return true;
    } catch (error) {
      // Gone since it was found there, of another length, or on bad sectors: nothing to refer to.
      const isDamage = hasCode(
        error,
        'repository.object-missing',
        'repository.object-damaged',
        'repository.object-unreadable',
      );
      if (!isDamage) throw error;
    }
  }
  return false;
}

/**
 * Leads from a damaged pack to whole places of its blobs, durable in the store. The relocation is named by what it says, so that a
 * repetition finds it. `moved`: an id that comes twice is taken once.
 */
export async function heal(
  core: Core,
  input: { readonly pack: PackName; readonly moved: readonly BlobRef[]; readonly sizes: ReadonlyMap<PackName, number> },
  options: StoreOptions = {},
): Promise<void> {
  const moved = [...new Map(input.moved.map((ref) => [ref.id, ref])).values()];
  const relocationId = `healed-${hex(sha256(encodeMoved(moved))).slice(0, 32)}`;
  await writeRelocation(core, { ...input, moved, relocationId, reason: 'healed' }, options);
}
