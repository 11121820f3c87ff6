/** What rows of the matrix came to: a line of JSON each, written when the row is done; the last line of a row counts. */
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface RowResult {
  readonly row: string;
  /** `passed`: it started after the redeploy, and where that was tried, not before. */
  readonly outcome: 'passed' | 'failed';
  /** What the boot test found before the redeploy; absent: another row showed it for this class of targets. */
  readonly before?: string;
  readonly after?: string;
  /** Modules that the initial RAM disk got. */
  readonly added: number;
  readonly seconds: number;
  readonly date: string;
  /** `a1b2c3d`, with a `+` where files were changed since. */
  readonly commit: string;
  readonly problem?: string;
}

const RESULTS = join(import.meta.dirname, 'results.jsonl');

/** By row. A line that was cut by a crash is none. */
export function readResults(path = RESULTS): Map<string, RowResult> {
  const results = new Map<string, RowResult>();
  for (const line of readFileSync(path, { encoding: 'utf8', flag: 'a+' }).split('\n')) {
    try {
      const result = JSON.parse(line) as RowResult;
      results.set(result.row, result);
    } catch {
      // Empty, or cut: the row is run again.
    }
  }
  return results;
}

export function addResult(result: RowResult, path = RESULTS): void {
  // Begins a line of its own, also after one that was cut.
  appendFileSync(path, `\n${JSON.stringify(result)}`);
}
