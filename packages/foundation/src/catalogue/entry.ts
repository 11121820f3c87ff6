/** What the catalogue knows about one error code. Whole sentences, for a person who is woken at night. */
export interface CatalogueEntry {
  /** 'transient': the same call may succeed later, unchanged. 'permanent': somebody must change something first. */
  readonly retry: 'transient' | 'permanent';
  /** The usual cause. */
  readonly cause: string;
  /** What does not work now, and what is not affected. */
  readonly impact: string;
  /** What to do next. */
  readonly next: string;
}

export type Catalogue = Readonly<Record<`${string}.${string}`, CatalogueEntry>>;
