/**
 * Which packs a check looked at and found whole, and when: so that the next check within a budget takes others first. A record that is
 * lost costs a second look, and one that is forged is none: it is signed, and its name carries a tag.
 */
import { damaged } from './frame.ts';
import { MAX_VERIFIED_PACKS } from './limits.ts';
import { bytes, message, uint } from './wire.ts';

/** Each finds what those before it find, and more. */
export const CHECK_LEVELS = ['present', 'ciphertext', 'content'] as const;
export type CheckLevel = (typeof CHECK_LEVELS)[number];

/** Of a pack's name: 2^128 tell packs apart, also against who makes them. */
export const VERIFIED_NAME_BYTES = 16;

const schema = message({
  /** Unix ms by the clock of who looked: before the first of these packs was read. */
  sinceMs: uint(1),
  /** Place in `CHECK_LEVELS`, from 1. */
  level: uint(2, CHECK_LEVELS.length),
  /** First 16 bytes of each name, ascending. */
  packs: bytes(3, { max: MAX_VERIFIED_PACKS * VERIFIED_NAME_BYTES }),
});

export interface Verification {
  readonly sinceMs: number;
  readonly level: CheckLevel;
  /** First 16 bytes of the names of the packs, one behind the other, ascending. */
  readonly packs: Uint8Array;
}

export const encodeVerification = ({ level, ...record }: Verification): Uint8Array =>
  schema.encode({ ...record, level: CHECK_LEVELS.indexOf(level) + 1 });

/** Throws `repository.object-damaged`. */
export function decodeVerification(body: Uint8Array, what: string): Verification {
  const { level: number, ...record } = schema.decode(body, what);
  const level = CHECK_LEVELS[number - 1];
  if (!level) throw damaged(what, `it tells of level ${number}`);
  const { packs } = record;
  if (packs.length === 0 || packs.length % VERIFIED_NAME_BYTES !== 0)
    throw damaged(what, `${packs.length} bytes of pack names`);
  const name = (i: number): Uint8Array => packs.subarray(i * VERIFIED_NAME_BYTES, (i + 1) * VERIFIED_NAME_BYTES);
  for (let i = 1; i < packs.length / VERIFIED_NAME_BYTES; i++)
    if (Buffer.compare(name(i - 1), name(i)) >= 0) throw damaged(what, `pack ${i} is out of order`);
  return { ...record, level };
}
