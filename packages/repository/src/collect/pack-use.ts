/**
 * Which blobs of which packs are needed: a bit for each slot, and for each pack what is known of it.
 *
 * 32 bytes for every 64 slots of a pack, at a load of 0.6 to 0.75: 100 million chunks in 3.3 million packs are 180 MB at most. A pack is
 * known by the first 15 bytes of its name; two that share those are not to be had.
 */
import type { BlobRef } from '../format/blob-ref.ts';
import { hashBytes, type PackName } from '../format/names.ts';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { NameTable, type Entry } from '../write/name-table.ts';

/** 268 MB, in packs of up to 64 blobs; 512 TiB at 32 MiB a pack. More is refused. */
const MAX_ENTRIES = 16_777_216;

/** Words of an entry. */
const SLOTS_LOW = 0;
const SLOTS_HIGH = 1;
const BYTES = 2;
/** Flags, highest group and number of blobs, in 8, 8 and 16 bits; 0 in what is no entry. */
const INFO = 3;

const FLAGS = {
  known: 1,
  /** The pack set, or the map, of a valid point names it. */
  hinted: 2,
  /** A relocation that counts leads to it. */
  target: 4,
  /** All its blobs are found elsewhere. */
  moved: 8,
  /** Not known what of it is needed, so all of it is. */
  whole: 16,
  /** Something was healed in it or into it: it stays as it is. */
  healed: 32,
} as const;
export type PackFlag = Exclude<keyof typeof FLAGS, 'known'>;

const GROUP_SLOTS = 64;
const GROUP_AT = 15;

export class PackUse {
  readonly #table = new NameTable(4);

  get bytes(): number {
    return this.#table.bytes;
  }

  /** Notes that a blob is needed, and why. False: it was noted before. */
  add({ pack, slot, lengthBytes }: Pick<BlobRef, 'pack' | 'slot' | 'lengthBytes'>, why: 'hinted' | 'target'): boolean {
    this.flag(pack, why);
    const group = Math.floor(slot / GROUP_SLOTS);
    const entry = this.#entry(pack, group);
    const word = entry.at + (slot % GROUP_SLOTS < 32 ? SLOTS_LOW : SLOTS_HIGH);
    const bit = 1 << (slot % 32);
    const bits = entry.words[word] ?? 0;
    if ((bits & bit) !== 0) return false;
    entry.words[word] = bits | bit;
    const { words, at } = this.#entry(pack, 0);
    words[at + BYTES] = (words[at + BYTES] ?? 0) + lengthBytes;
    const info = words[at + INFO] ?? 0;
    const highest = Math.max((info >>> 8) & 0xff, group);
    words[at + INFO] = ((info & 0xff) | (highest << 8) | ((info >>> 16) << 16)) + 0x1_0000;
    return true;
  }

  flag(pack: PackName, flag: PackFlag): void {
    const { words, at } = this.#entry(pack, 0);
    words[at + INFO] = (words[at + INFO] ?? 0) | FLAGS[flag];
  }

  unflag(pack: PackName, flag: PackFlag): void {
    const { words, at } = this.#entry(pack, 0);
    words[at + INFO] = (words[at + INFO] ?? 0) & ~FLAGS[flag];
  }

  is(pack: PackName, ...flags: readonly PackFlag[]): boolean {
    const entry = this.#table.find(keyOf(pack, 0));
    const info = entry?.words[entry.at + INFO] ?? 0;
    return flags.some((flag) => (info & FLAGS[flag]) !== 0);
  }

  /** Whether a point needs the object: it is named, and not emptied; or what was moved lies in it. */
  needs(pack: PackName): boolean {
    return this.is(pack, 'target') || (this.is(pack, 'hinted') && !this.is(pack, 'moved'));
  }

  isUsed({ pack, slot }: Pick<BlobRef, 'pack' | 'slot'>): boolean {
    const entry = this.#table.find(keyOf(pack, Math.floor(slot / GROUP_SLOTS)));
    if (!entry) return false;
    const word = entry.words[entry.at + (slot % GROUP_SLOTS < 32 ? SLOTS_LOW : SLOTS_HIGH)] ?? 0;
    return (word & (1 << (slot % 32))) !== 0;
  }

  /** How many blobs of the pack are needed, and their sealed bytes. */
  used(pack: PackName): { readonly blobs: number; readonly bytes: number } {
    const entry = this.#table.find(keyOf(pack, 0));
    if (!entry) return { blobs: 0, bytes: 0 };
    return { blobs: (entry.words[entry.at + INFO] ?? 0) >>> 16, bytes: entry.words[entry.at + BYTES] ?? 0 };
  }

  #entry(pack: PackName, group: number): Entry {
    const entry = this.#table.entry(keyOf(pack, group));
    const info = entry.words[entry.at + INFO] ?? 0;
    if (info !== 0) return entry;
    if (this.#table.count > MAX_ENTRIES) {
      throw new LifeboatError(
        'repository.limit-exceeded',
        `more than ${MAX_ENTRIES} packs are more than a collection holds in memory`,
      );
    }
    entry.words[entry.at + INFO] = FLAGS.known;
    return entry;
  }
}

function keyOf(pack: PackName, group: number): Buffer {
  const key = hashBytes(pack);
  key[GROUP_AT] = group;
  return key;
}
