import { hasCode, type LifeboatError } from '@lifeboat/foundation/errors';

import { describeRef, type BlobRef } from '../format/blob-ref.ts';
import { damaged } from '../format/frame.ts';
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
 * Every pack of a set in the order of the names, and the packs of its own pages in between; a pack may come more than once. A page
 * that cannot be read comes as its error, so that the rest is still found. What is under a page the caller has `seen` is left out.
 *
 * Each page holds the packs of other digits, so none stands in two places of a set. One that does was made to keep readers busy for ever, by
 * who holds a machine's key; it is read once. Memory holds the pages' names: 100 bytes for each 128 packs.
 */
export async function* readPackSet(
  pages: PageReader,
  root: BlobRef | null,
  options: StoreOptions & { readonly seen?: (ref: BlobRef) => boolean } = {},
): AsyncIterable<NeededPack | BlobDamage | LifeboatError> {
  const pending: { ref: BlobRef; depth: number }[] = root ? [{ ref: root, depth: 0 }] : [];
  const walked = new Set<string>();
  for (let next = pending.pop(); next; next = pending.pop()) {
    yield { pack: next.ref.pack };
    const page = `${next.ref.pack} ${next.ref.slot}`;
    if (walked.has(page)) {
      yield damaged(describeRef(next.ref), 'it stands in a pack set twice');
      continue;
    }
    walked.add(page);
    if (options.seen?.(next.ref)) continue;
    let read: PackSetPage;
    try {
      read = await pages.packSet(next.ref, next.depth, options);
    } catch (error) {
      if (!(error instanceof BlobDamage) && !hasCode(error, 'repository.object-damaged')) throw error;
      yield error;
      continue;
    }
    if (read.kind === 'leaf') yield* read.packs;
    else
      for (const place of read.children.toReversed())
        if (typeof place !== 'string') pending.push({ ref: place, depth: next.depth + 1 });
  }
}

export interface NamedPackSet {
  /** For messages: the disk's. */
  readonly name: string;
  readonly root: BlobRef | null;
}

/**
 * What `readPackSet` gives for each of several sets, and every pack once: the sets are sorted, so they are merged as they are read. Memory
 * holds, beside what each walk does, the names of the packs that hold pages of sets.
 */
export async function* readPackSets(
  pages: PageReader,
  sets: readonly NamedPackSet[],
  options: StoreOptions = {},
): AsyncGenerator<NeededPack | { readonly set: string; readonly error: BlobDamage | LifeboatError }> {
  const ofPages = new Set<PackName>();
  const walks = sets.map(({ name, root }) => ({
    name,
    needs: readPackSet(pages, root, options)[Symbol.asyncIterator](),
    sized: undefined as NeededPack | undefined,
  }));
  /** Goes on to the next pack of the set itself; what comes before it is given at once. */
  const advance = async function* (walk: (typeof walks)[number]): ReturnType<typeof readPackSets> {
    walk.sized = undefined;
    for (let next = await walk.needs.next(); !next.done; next = await walk.needs.next()) {
      const need = next.value;
      if (need instanceof Error) yield { set: walk.name, error: need };
      else if (need.sizeBytes !== undefined) {
        walk.sized = need;
        return;
      } else if (!ofPages.has(need.pack)) {
        ofPages.add(need.pack);
        yield need;
      }
    }
  };
  for (const walk of walks) yield* advance(walk);
  for (;;) {
    let least: NeededPack | undefined;
    for (const { sized } of walks) if (sized && (!least || sized.pack < least.pack)) least = sized;
    if (!least) return;
    yield least;
    for (const walk of walks) if (walk.sized?.pack === least.pack) yield* advance(walk);
  }
}
