/**
 * Sizes of packs by name, and whether this session stored them, 20 bytes an entry: 100 TiB in packs of 32 MiB are 3.3 million, at most
 * 110 MB, also while it grows.
 */
import { hashBytes, type PackName } from '../format/names.ts';
import { NameTable } from './name-table.ts';

/** Beside the size. No pack is larger than 128 MiB; what is listed as larger than this is none. */
const OWN = 0x8000_0000;
const MAX_SIZE = OWN - 1;

export class PackSizes {
  readonly #table = new NameTable(1);

  get count(): number {
    return this.#table.count;
  }

  /** Of the tables, as they are now. */
  get bytes(): number {
    return this.#table.bytes;
  }

  get(pack: PackName): number | undefined {
    const sizeBytes = this.#word(pack) & MAX_SIZE;
    return sizeBytes === 0 ? undefined : sizeBytes;
  }

  /** `sizeBytes`: more than 0, and less than 2 GiB. Anything else is no pack, and is not kept. */
  set(pack: PackName, sizeBytes: number): void {
    if (sizeBytes === 0 || sizeBytes > MAX_SIZE) return;
    const { words, at } = this.#table.entry(hashBytes(pack));
    words[at] = (words[at] ?? 0) >= OWN ? sizeBytes + OWN : sizeBytes;
  }

  /** As `set`, of a pack this session stored. It stays its own, whatever a listing says of it later. */
  setOwn(pack: PackName, sizeBytes: number): void {
    this.set(pack, sizeBytes);
    const entry = this.#table.find(hashBytes(pack));
    if (!entry) return;
    const { words, at } = entry;
    const word = words[at] ?? 0;
    if (word < OWN) words[at] = word + OWN;
  }

  isOwn(pack: PackName): boolean {
    return this.#word(pack) >= OWN;
  }

  #word(pack: PackName): number {
    const entry = this.#table.find(hashBytes(pack));
    return entry?.words[entry.at] ?? 0;
  }
}
