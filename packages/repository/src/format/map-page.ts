/**
 * A page of an image map. Level 0 (leaf) maps chunks of the disk; level n maps pages of level n - 1:
 *
 * ```
 *   level 1        [ page 0 | page 1 | hole | … ]         branchEntries places
 *                      │        └─────────┐
 *   level 0        [ chunk 0 | zero | … ] [ chunk 64 | … ]   leafEntries places
 * ```
 * Page `index` of level n covers places index x size .. (index + 1) x size of the level below, so its position in the tree
 * says what it maps; the page holds level and index as well, so that a page in the wrong place is noticed.
 */
import { damaged } from './frame.ts';
import { fromColumns, placesSchema, toColumns, type Place } from './blob-ref.ts';
import { MAX_MAP_LEVEL } from './limits.ts';
import type { PackName } from './names.ts';
import type { Geometry } from './superblock.ts';
import { message, nested, uint } from './wire.ts';

export interface MapPage {
  readonly level: number;
  readonly index: number;
  readonly places: readonly Place[];
}

const schema = message({
  level: uint(1, MAX_MAP_LEVEL),
  index: uint(2),
  places: nested(3, placesSchema),
});

export function encodeMapPage(page: MapPage): Uint8Array {
  return schema.encode({ level: page.level, index: page.index, places: toColumns(page.places) });
}

/** `self` is the pack the page was read from. Throws `repository.object-damaged`. */
export function decodeMapPage(
  plain: Uint8Array,
  expected: { level: number; index: number; self: PackName; geometry: Geometry; what: string },
): MapPage {
  const { level, index, self, geometry, what } = expected;
  const page = schema.decode(plain, what);
  if (page.level !== level || page.index !== index) {
    throw damaged(what, `expected page ${index} of level ${level}, found page ${page.index} of level ${page.level}`);
  }
  const places = fromColumns(page.places, self, what);
  const capacity = entriesAt(geometry, level);
  if (places.length !== capacity) throw damaged(what, `${places.length} places instead of ${capacity}`);
  return { level, index, places };
}

/** Places a page of this level holds. */
export function entriesAt(geometry: Geometry, level: number): number {
  return level === 0 ? geometry.leafEntries : geometry.branchEntries;
}

/** Level of the root for a disk of so many chunks. */
export function rootLevel(geometry: Geometry, chunkCount: number): number {
  let level = 0;
  for (let covered = geometry.leafEntries; covered < chunkCount; covered *= geometry.branchEntries) level++;
  return level;
}

/** Chunks under one page of this level. */
export function chunksUnder(geometry: Geometry, level: number): number {
  return geometry.leafEntries * geometry.branchEntries ** level;
}
