/**
 * A page of a pack set: which packs a disk of a point needs, how often each is referred to, and how large it is.
 *
 * A trie over the hexadecimal digits of the names. A page holds up to `packSetEntries` packs; one more, and it becomes a
 * branch of sixteen pages by the next digit. So the pages follow from the set alone, not from its history, and equal parts of
 * two sets are equal pages.
 */
import { fromColumns, placesSchema, toColumns, type Place } from './blob-ref.ts';
import { damaged } from './frame.ts';
import { MAX_PACK_BYTES, MAX_PAGE_ENTRIES } from './limits.ts';
import { hashBytes, packNameOf, type PackName } from './names.ts';
import { bytes, list, message, nested, optional, uint } from './wire.ts';

export interface PackUse {
  readonly pack: PackName;
  /** Places in the disk's map that lie in this pack. */
  readonly references: number;
  readonly sizeBytes: number;
}

export type PackSetPage =
  /** Sorted by name. */
  | { readonly kind: 'leaf'; readonly depth: number; readonly packs: readonly PackUse[] }
  /** Sixteen places, and how many packs are under all of them. */
  | {
      readonly kind: 'branch';
      readonly depth: number;
      readonly children: readonly Place[];
      readonly packCount: number;
    };

export const FAN_OUT = 16;

const useSchema = message({
  pack: bytes(1, { length: 32 }),
  references: uint(2),
  sizeBytes: uint(3, MAX_PACK_BYTES),
});

const schema = message({
  depth: uint(1, 63),
  packs: list(2, useSchema, MAX_PAGE_ENTRIES),
  children: optional(nested(3, placesSchema)),
  packCount: uint(4),
});

export function encodePackSetPage(page: PackSetPage): Uint8Array {
  return page.kind === 'leaf'
    ? schema.encode({
        depth: page.depth,
        packs: page.packs.map((use) => ({ ...use, pack: hashBytes(use.pack) })),
        children: undefined,
        packCount: page.packs.length,
      })
    : schema.encode({
        depth: page.depth,
        packs: [],
        children: toColumns(page.children),
        packCount: page.packCount,
      });
}

/** `self` is the pack the page was read from. Throws `repository.object-damaged`. */
export function decodePackSetPage(
  plain: Uint8Array,
  expected: { depth: number; self: PackName; what: string },
): PackSetPage {
  const { depth, self, what } = expected;
  const page = schema.decode(plain, what);
  if (page.depth !== depth) throw damaged(what, `expected depth ${depth}, found ${page.depth}`);
  if (page.children) {
    const children = fromColumns(page.children, self, what);
    if (children.length !== FAN_OUT || page.packs.length > 0) throw damaged(what, 'not a branch of sixteen');
    return { kind: 'branch', depth, children, packCount: page.packCount };
  }
  const packs = page.packs.map((use) => ({ ...use, pack: packNameOf(use.pack) }));
  const sorted = packs.every((use, i) => i === 0 || (packs[i - 1]?.pack ?? '') < use.pack);
  if (!sorted || page.packCount !== packs.length) throw damaged(what, 'its packs are not sorted or not counted');
  return { kind: 'leaf', depth, packs };
}
