import { damaged } from './frame.ts';
import { MAX_PACK_BYTES, MAX_PACK_ENTRIES, MAX_PAGE_ENTRIES } from './limits.ts';
import { chunkIdOf, hashBytes, packNameOf, type ChunkId, type PackName } from './names.ts';
import { bytes, message, uints, type MessageOf } from './wire.ts';

/** Where one sealed blob (a chunk of a disk, or a page) lies, and what its plaintext hashes to. Plain JSON. */
export interface BlobRef {
  readonly id: ChunkId;
  readonly pack: PackName;
  /** Number of the blob in its pack: its nonce, and bound by its seal. */
  readonly slot: number;
  readonly offsetBytes: number;
  /** Sealed length, tag included. */
  readonly lengthBytes: number;
}

/** A place in a map: nothing was ever allocated here; all zeros; or a blob. */
export type Place = 'hole' | 'zero' | BlobRef;

/** While a pack is being filled its name is not known: blobs in it refer to each other by this. */
export const SELF = 'self' as PackName;

export function sameRef(a: BlobRef, b: BlobRef): boolean {
  return a.id === b.id && a.pack === b.pack && a.slot === b.slot;
}

export function samePlace(a: Place, b: Place): boolean {
  if (typeof a === 'string' || typeof b === 'string') return a === b;
  return sameRef(a, b);
}

const KINDS = ['hole', 'zero'] as const;
const BLOB = 2;

/** Columns rather than rows: offsets and slots of neighbours compress well, ids not at all. */
export const placesSchema = message({
  /** One byte a place: 0 hole, 1 zero, 2 blob. The rest of the columns has one entry per blob. */
  kinds: bytes(1, { max: MAX_PAGE_ENTRIES }),
  ids: bytes(2, { max: MAX_PAGE_ENTRIES * 32 }),
  /** Names of the packs that are referred to, 32 bytes each, in order of first use. */
  packs: bytes(3, { max: MAX_PAGE_ENTRIES * 32 }),
  /** 0: the pack this page itself is in; n: the nth of `packs`. */
  packIndexes: uints(4, MAX_PAGE_ENTRIES),
  slots: uints(5, MAX_PAGE_ENTRIES),
  offsets: uints(6, MAX_PAGE_ENTRIES),
  lengths: uints(7, MAX_PAGE_ENTRIES),
});

export type PlacesColumns = MessageOf<typeof placesSchema>;

export function toColumns(places: readonly Place[]): PlacesColumns {
  const blobs = places.filter((place) => typeof place !== 'string');
  const packIndex = new Map<PackName, number>([[SELF, 0]]);
  for (const { pack } of blobs) if (!packIndex.has(pack)) packIndex.set(pack, packIndex.size);
  return {
    kinds: Uint8Array.from(places, (place) => (typeof place === 'string' ? KINDS.indexOf(place) : BLOB)),
    ids: Buffer.concat(blobs.map((blob) => hashBytes(blob.id))),
    packs: Buffer.concat([...packIndex.keys()].slice(1).map(hashBytes)),
    packIndexes: blobs.map((blob) => packIndex.get(blob.pack) ?? 0),
    slots: blobs.map((blob) => blob.slot),
    offsets: blobs.map((blob) => blob.offsetBytes),
    lengths: blobs.map((blob) => blob.lengthBytes),
  };
}

/** `self` is the pack the columns were read from; undefined where such a reference makes no sense. */
export function fromColumns(columns: PlacesColumns, self: PackName | undefined, what: string): Place[] {
  const { kinds, ids, packs, packIndexes, slots, offsets, lengths } = columns;
  const count = kinds.reduce((sum, kind) => sum + (kind === BLOB ? 1 : 0), 0);
  const columnsAgree =
    ids.length === count * 32 &&
    packs.length % 32 === 0 &&
    [packIndexes, slots, offsets, lengths].every((column) => column.length === count);
  if (!columnsAgree) throw damaged(what, `its columns do not agree on ${count} blobs`);
  const names = Array.from({ length: packs.length / 32 }, (_, i) => packNameOf(packs.subarray(i * 32, i * 32 + 32)));
  let n = 0;
  return Array.from(kinds, (kind) => {
    if (kind !== BLOB) {
      const place = KINDS[kind];
      if (place === undefined) throw damaged(what, `a place of kind ${kind}`);
      return place;
    }
    const i = n++;
    const index = packIndexes[i] ?? 0;
    const pack = index === 0 ? self : names[index - 1];
    if (pack === undefined) throw damaged(what, `a reference to pack ${index} of ${names.length}`);
    const slot = slots[i] ?? 0;
    const offsetBytes = offsets[i] ?? 0;
    const lengthBytes = lengths[i] ?? 0;
    if (slot >= MAX_PACK_ENTRIES || offsetBytes + lengthBytes > MAX_PACK_BYTES || lengthBytes < 17) {
      throw damaged(what, `a reference to slot ${slot}, ${lengthBytes} bytes at ${offsetBytes}`);
    }
    return { id: chunkIdOf(ids.subarray(i * 32, i * 32 + 32)), pack, slot, offsetBytes, lengthBytes };
  });
}

/** For messages: `9f86d081… in pack 2c26b46b… at 4096`. */
export function describeRef(ref: BlobRef): string {
  return `chunk ${ref.id.slice(0, 12)} in pack ${ref.pack.slice(0, 12)} at ${ref.offsetBytes}`;
}

/** The columns' bytes, for objects that hold a single reference. */
export function refToBytes(ref: BlobRef): Uint8Array {
  return placesSchema.encode(toColumns([ref]));
}

export function refFromBytes(encoded: Uint8Array, what: string): BlobRef {
  const [place, ...more] = fromColumns(placesSchema.decode(encoded, what), undefined, what);
  if (place === undefined || typeof place === 'string' || more.length > 0) throw damaged(what, 'not one reference');
  return place;
}
