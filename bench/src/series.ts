/** What a figure measured: values in the order they were taken, and what follows from them. */

export interface Series {
  readonly label: string;
  /** As printed behind the values; empty for a plain number. */
  readonly unit: string;
  readonly digits: number;
  readonly values: readonly number[];
}

export interface Verdict {
  readonly label: string;
  readonly value: number;
  readonly unit: string;
  readonly digits: number;
  /** The value must be below it; absent where nothing is promised. */
  readonly below?: number;
}

export interface Figure {
  readonly title: string;
  /** Exactly what was run, a sentence each. */
  readonly method: readonly string[];
  /** Where rows and columns say it better than series. */
  readonly tables?: readonly { readonly head: readonly string[]; readonly rows: readonly (readonly string[])[] }[];
  readonly series: readonly Series[];
  readonly verdicts: readonly Verdict[];
}

/** The middle value; the mean of the two middle ones where the count is even. NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  const lower = sorted[Math.ceil(sorted.length / 2) - 1] ?? Number.NaN;
  return (lower + upper) / 2;
}

/** Of two series that were taken interleaved: the quotient of each pair. */
export function pairRatios(ours: readonly number[], theirs: readonly number[]): number[] {
  return ours.map((value, index) => value / (theirs[index] ?? Number.NaN));
}
