import type { Place } from '../format/blob-ref.ts';
import type { PackName } from '../format/names.ts';

/** How the number of references to each pack changes from one version of a disk to the next. */
export class PackDeltas {
  readonly #changes = new Map<PackName, number>();

  add(place: Place, count: 1 | -1): void {
    if (typeof place !== 'string') this.addPack(place.pack, count);
  }

  addPack(pack: PackName, count: number): void {
    const total = (this.#changes.get(pack) ?? 0) + count;
    if (total === 0) this.#changes.delete(pack);
    else this.#changes.set(pack, total);
  }

  /** Sorted by name; only what changed. */
  entries(): { readonly pack: PackName; readonly references: number }[] {
    return [...this.#changes]
      .map(([pack, references]) => ({ pack, references }))
      .toSorted((a, b) => (a.pack < b.pack ? -1 : 1));
  }
}
