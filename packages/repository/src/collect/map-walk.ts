/** Goes through the maps of disks, for whoever wants to know every blob they need. */
import { hasCode } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { rootLevel, type MapPage } from '../format/map-page.ts';
import type { DiskRoot } from '../format/point.ts';
import { BlobDamage } from '../read/blob-reader.ts';
import type { StoreOptions } from '../store/object-store.ts';

/** Pages of one map that are read at a time. */
const LANES = 8;

interface PageAt {
  readonly ref: BlobRef;
  readonly level: number;
  readonly index: number;
}

/**
 * Notes every page and every chunk of a disk's map. What is under a page that `note` says was noted before is left out: pages that
 * points share are read once. Returns the pages that cannot be read; what is under them is not known then.
 * Memory: the references of a few pages of each level.
 */
export async function walkMap(
  core: Core,
  root: DiskRoot,
  note: (ref: BlobRef) => boolean,
  options: StoreOptions = {},
): Promise<BlobRef[]> {
  const unreadable: BlobRef[] = [];
  if (typeof root.map === 'string') return unreadable;
  const { superblock } = core;
  const level = rootLevel(superblock, Math.ceil(root.sizeBytes / root.chunkSizeBytes));
  const pending: PageAt[] = note(root.map) ? [{ ref: root.map, level, index: 0 }] : [];
  while (pending.length > 0) {
    options.signal?.throwIfAborted();
    const pages = await Promise.all(pending.splice(-LANES).map((at) => readPage(core, at, options)));
    for (const { at, page } of pages) {
      if (!page) unreadable.push(at.ref);
      for (const [i, place] of page?.places.entries() ?? []) {
        if (typeof place === 'string' || !note(place) || at.level === 0) continue;
        pending.push({ ref: place, level: at.level - 1, index: at.index * superblock.branchEntries + i });
      }
    }
  }
  return unreadable;
}

async function readPage(
  core: Core,
  at: PageAt,
  options: StoreOptions,
): Promise<{ at: PageAt; page: MapPage | undefined }> {
  try {
    return { at, page: await core.pages.map(at.ref, at, options) };
  } catch (error) {
    if (!(error instanceof BlobDamage) && !hasCode(error, 'repository.object-damaged')) throw error;
    return { at, page: undefined };
  }
}
