import { hasCode, type LifeboatError } from '@lifeboat/foundation/errors';

import type { BlobRef } from '../format/blob-ref.ts';
import type { PackName } from '../format/names.ts';
import type { PackSetPage } from '../format/pack-set-page.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { BlobDamage } from './blob-reader.ts';
import type { PageReader } from './page-reader.ts';

/** A pack something needs. Packs that hold the set's own pages have no size in it. */
export interface NeededPack {
  readonly pack: PackName;
  readonly sizeBytes?: number;
}

/**
 * Every pack of a set, and the packs of its own pages; a pack may come more than once. A page that cannot be read comes as its
 * error, so that the rest is still found. What is under a page the caller has `seen` is left out.
 */
export async function* readPackSet(
  pages: PageReader,
  root: BlobRef | null,
  options: StoreOptions & { readonly seen?: (ref: BlobRef) => boolean } = {},
): AsyncIterable<NeededPack | BlobDamage | LifeboatError> {
  const pending: { ref: BlobRef; depth: number }[] = root ? [{ ref: root, depth: 0 }] : [];
  for (let next = pending.pop(); next; next = pending.pop()) {
    yield { pack: next.ref.pack };
    if (options.seen?.(next.ref)) continue;
    let page: PackSetPage;
    try {
      page = await pages.packSet(next.ref, next.depth, options);
    } catch (error) {
      if (!(error instanceof BlobDamage) && !hasCode(error, 'repository.object-damaged')) throw error;
      yield error;
      continue;
    }
    if (page.kind === 'leaf') yield* page.packs;
    else
      for (const place of page.children)
        if (typeof place !== 'string') pending.push({ ref: place, depth: next.depth + 1 });
  }
}
