/**
 * A condemn list: packs that no valid point needed when it was made. Published before any of them is deleted.
 *
 * ```
 *   parts/<id>/packs-000000 …   names of packs
 *   parts/<id>/points-000000 …  points that were valid: they must be there, or have a tombstone, next time
 *   parts/<id>/pruned-000000 …  points with a tombstone whose objects go with this list
 *   lists/<number>              the head, create-only, last: this is the publication
 *   swept/<number>              everything that was to be deleted is gone
 * ```
 * Numbers rise by one. Of two collectors that prepare the same number one is told so and stops.
 */
import { damaged } from './frame.ts';
import { MAX_CONDEMN_PART_PACKS, MAX_CONDEMN_PART_POINTS, MAX_CONDEMN_PARTS } from './limits.ts';
import { packNameOf, type PackName } from './names.ts';
import { bytes, list, message, text, uint, type MessageOf } from './wire.ts';

const headSchema = message({
  tenantId: bytes(1, { length: 16 }),
  number: uint(2, 99_999_999),
  /** Random. Writers put it into the generation of the packs they seal after it was published. */
  listId: bytes(3, { length: 16 }),
  /** Unix ms by the collector's clock: the grace for open sessions is counted from here. */
  publishedMs: uint(4),
  packCount: uint(5),
  packBytes: uint(6),
  packParts: uint(7, MAX_CONDEMN_PARTS),
  pointParts: uint(8, MAX_CONDEMN_PARTS),
  prunedParts: uint(9, MAX_CONDEMN_PARTS),
});
export type CondemnHead = MessageOf<typeof headSchema>;

/** All of these are bodies of signed records. */
export const encodeCondemnHead = (head: CondemnHead): Uint8Array => headSchema.encode(head);
export const decodeCondemnHead = (body: Uint8Array, what: string): CondemnHead => headSchema.decode(body, what);

const sweptSchema = message({
  listId: bytes(1, { length: 16 }),
  sweptMs: uint(2),
  deletedPacks: uint(3),
});
export type CondemnSwept = MessageOf<typeof sweptSchema>;

export const encodeCondemnSwept = (swept: CondemnSwept): Uint8Array => sweptSchema.encode(swept);
export const decodeCondemnSwept = (body: Uint8Array, what: string): CondemnSwept => sweptSchema.decode(body, what);

/** A point by its name alone. */
export interface PointName {
  readonly machineId: string;
  readonly pointId: string;
}

const pointNameSchema = message({ machineId: text(1, 64), pointId: text(2, 64) });
const partSchema = message({
  packs: bytes(1, { max: MAX_CONDEMN_PART_PACKS * 32 }),
  points: list(2, pointNameSchema, MAX_CONDEMN_PART_POINTS),
});

/** `packs`: names of 32 bytes, one after the other. */
export const encodeCondemnPart = (part: { packs: Uint8Array; points: readonly PointName[] }): Uint8Array =>
  partSchema.encode(part);

export function decodeCondemnPart(
  body: Uint8Array,
  what: string,
): { readonly packs: readonly PackName[]; readonly points: readonly PointName[] } {
  const { packs, points } = partSchema.decode(body, what);
  if (packs.length % 32 !== 0) throw damaged(what, `${packs.length} bytes of names`);
  const names = Array.from({ length: packs.length / 32 }, (_, i) => packNameOf(packs.subarray(i * 32, i * 32 + 32)));
  return { packs: names, points };
}
