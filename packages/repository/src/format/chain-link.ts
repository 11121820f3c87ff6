/**
 * A link of a machine's chain: which points were committed, so that one that goes without a tombstone is missed.
 *
 * ```
 *   1 {a}   2 {a b}   3 {a b c}   │   4 {d}   5 {d e} …          a block: each link repeats the points of those before it
 *   first 1 first 1   first 1     │   first 4 first 4
 * ```
 * So a reader needs the last link of each block only, and a link that is lost inside of one takes nothing along.
 */
import { damaged } from './frame.ts';
import { MAX_LINK_POINTS } from './limits.ts';
import { bytes, list, message, nested, optional, text, uint, type MessageOf } from './wire.ts';

const MAX_NUMBER = 99_999_999;

const pointSchema = message({
  pointId: text(1, 64),
  /** SHA-256 of the whole object of the point. */
  hash: bytes(2, { length: 32 }),
});

const schema = message({
  machineId: text(1, 64),
  number: uint(2, MAX_NUMBER),
  /** The newest link that could be read when this one was made: the one before it, unless that was lost. */
  previous: optional(nested(3, message({ number: uint(1, MAX_NUMBER), hash: bytes(2, { length: 32 }) }))),
  /** Where its block begins. */
  first: uint(4, MAX_NUMBER),
  /** Those of the links of its block before it, then its own. */
  points: list(5, pointSchema, MAX_LINK_POINTS),
  /** Unix ms by the clock of who linked. */
  linkedMs: uint(6),
});
export type ChainLink = MessageOf<typeof schema>;

export const encodeChainLink = (link: ChainLink): Uint8Array => schema.encode(link);

/** Throws `repository.object-damaged`. */
export function decodeChainLink(body: Uint8Array, what: string): ChainLink {
  const link = schema.decode(body, what);
  const { number, first, previous, points } = link;
  if (number === 0 || first === 0 || first > number) throw damaged(what, `it is link ${number} of block ${first}`);
  if ((previous?.number ?? 0) >= number) throw damaged(what, `link ${number} follows ${previous?.number}`);
  if (first < number && previous?.number !== number - 1)
    throw damaged(what, `it goes on with block ${first} behind link ${previous?.number ?? 0}`);
  if (points.length === 0) throw damaged(what, 'it names no point');
  return link;
}
