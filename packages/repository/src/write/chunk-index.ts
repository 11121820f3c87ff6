/**
 * Which chunks a session stored lately, and in a repository without a local index (`index-cache.ts`) all that are stored: an
 * open-addressing table in flat arrays, 48 bytes an entry at a load of one half to three quarters, so about 80 MB for a terabyte of
 * chunks of 1 MiB. A JavaScript Map of strings needs five times that.
 *
 * It answers deduplication only. A chunk it has forgotten is stored twice; a wrong answer would be noticed by the reader
 * (ids are checked) but not repaired, so entries come only from what was sealed by this session or opened under the index key.
 */
import type { BlobRef } from '../format/blob-ref.ts';
import { hashBytes, type ChunkId, type PackName } from '../format/names.ts';

const ID_BYTES = 32;
/** Index of the pack, slot, offset, length. */
const FIELDS = 4;
const FREE = 0xffff_ffff;

export class ChunkIndex {
  readonly #packs: PackName[] = [];
  readonly #packNumbers = new Map<PackName, number>();
  #capacity = 1024;
  #count = 0;
  #ids = new Uint8Array(this.#capacity * ID_BYTES);
  #fields = new Uint32Array(this.#capacity * FIELDS).fill(FREE);

  get size(): number {
    return this.#count;
  }

  get(id: ChunkId): BlobRef | undefined {
    const at = this.#find(hashBytes(id)) * FIELDS;
    const pack = this.#packs[this.#fields[at] ?? FREE];
    if (pack === undefined) return undefined;
    const [, slot = 0, offsetBytes = 0, lengthBytes = 0] = this.#fields.subarray(at, at + FIELDS);
    return { id, pack, slot, offsetBytes, lengthBytes };
  }

  /** Keeps what it has where the id is known already: the first place found is as good as any. */
  add(ref: BlobRef): void {
    if ((this.#count + 1) * 4 > this.#capacity * 3) this.#grow();
    const id = hashBytes(ref.id);
    const entry = this.#find(id);
    if (this.#fields[entry * FIELDS] !== FREE) return;
    this.#ids.set(id, entry * ID_BYTES);
    this.#fields.set([this.#packNumber(ref.pack), ref.slot, ref.offsetBytes, ref.lengthBytes], entry * FIELDS);
    this.#count++;
  }

  /** The entry that holds the id, or the free one where it belongs. Ids are keyed hashes: their first bytes are random. */
  #find(id: Buffer): number {
    let entry = id.readUInt32LE(0) % this.#capacity;
    while (this.#fields[entry * FIELDS] !== FREE) {
      const stored = this.#ids.subarray(entry * ID_BYTES, (entry + 1) * ID_BYTES);
      if (Buffer.compare(stored, id) === 0) return entry;
      entry = (entry + 1) % this.#capacity;
    }
    return entry;
  }

  #grow(): void {
    const ids = this.#ids;
    const fields = this.#fields;
    this.#capacity *= 2;
    this.#ids = new Uint8Array(this.#capacity * ID_BYTES);
    this.#fields = new Uint32Array(this.#capacity * FIELDS).fill(FREE);
    for (let entry = 0; entry * FIELDS < fields.length; entry++) {
      if (fields[entry * FIELDS] === FREE) continue;
      const id = Buffer.from(ids.buffer, entry * ID_BYTES, ID_BYTES);
      const target = this.#find(id);
      this.#ids.set(id, target * ID_BYTES);
      this.#fields.set(fields.subarray(entry * FIELDS, (entry + 1) * FIELDS), target * FIELDS);
    }
  }

  #packNumber(pack: PackName): number {
    const known = this.#packNumbers.get(pack);
    if (known !== undefined) return known;
    this.#packNumbers.set(pack, this.#packs.length);
    return this.#packs.push(pack) - 1;
  }
}
