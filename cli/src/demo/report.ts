/**
 * What a demo run found, as data. The terminal and the HTML file draw the same thing. Findings are checks with a claim a
 * person can judge; the verdict follows from them and from nothing else.
 */

export interface Check {
  /** The claim that was put to the test, as a sentence. */
  readonly claim: string;
  readonly good: boolean;
  /** The values that decided it. */
  readonly detail: string;
}

export type Evidence =
  | { readonly kind: 'console'; readonly title: string; readonly text: string }
  | { readonly kind: 'screenshot'; readonly title: string; readonly png: Uint8Array };

export interface Step {
  readonly id: string;
  readonly title: string;
  readonly state: 'done' | 'failed' | 'skipped';
  readonly durationMs: number;
  /** What was done, in a sentence or two. */
  readonly summary: string;
  readonly facts: readonly (readonly [name: string, value: string])[];
  readonly checks: readonly Check[];
  /** Lines of a plan, as the person who would approve it reads them. */
  readonly plan?: readonly string[];
  readonly evidence: readonly Evidence[];
}

/** One row of the table of backups. */
export interface BackupRow {
  readonly title: string;
  readonly pointId: string;
  readonly instantMs: number;
  readonly method: string;
  readonly consistency: string;
  readonly readBytes: number;
  readonly changedBytes: number;
  readonly storedBytes: number;
  readonly durationMs: number;
}

/** What was measured; absent what was not reached. */
export interface Recovery {
  /** From the order to restore until the machine answered on the other hardware. */
  readonly rtoMs?: number;
  /** From the instant the point shows until the order to restore: what a loss at that moment would have cost. */
  readonly rpoMs?: number;
  /** From the instant the point shows until it was seen booting. */
  readonly provenAfterMs?: number;
}

export interface Report {
  readonly version: string;
  readonly beganMs: number;
  readonly durationMs: number;
  readonly machine: { readonly name: string; readonly description: string };
  readonly target: string;
  readonly recovery?: Recovery;
  readonly backups: readonly BackupRow[];
  readonly steps: readonly Step[];
  /** Why the run ended early: an error or Ctrl-C. */
  readonly brokenOff?: string;
  readonly host: readonly (readonly [name: string, value: string])[];
  readonly versions: readonly (readonly [name: string, value: string])[];
  readonly next: readonly { readonly purpose: string; readonly command: string }[];
}

export type Verdict = 'good' | 'bad' | 'incomplete';

/** `bad` as soon as one claim did not hold; `incomplete` when the run did not come to its end, or claimed nothing. */
export function verdictOf(report: Report): Verdict {
  const checks = report.steps.flatMap((step) => step.checks);
  if (checks.some((check) => !check.good)) return 'bad';
  if (report.brokenOff !== undefined || report.steps.some((step) => step.state === 'failed')) return 'incomplete';
  return checks.length > 0 ? 'good' : 'incomplete';
}

/** The verdict as the sentence a person takes away. */
export function headline(report: Report): string {
  const verdict = verdictOf(report);
  if (verdict === 'good') {
    // What was not put to the test must not be taken for proven.
    const leftOut = report.steps.filter((step) => step.state === 'skipped').map((step) => ` Left out: ${step.title}.`);
    return `Recovery proven: the machine came back on ${report.target}.${leftOut.join('')}`;
  }
  if (verdict === 'incomplete') return 'Not proven: the run did not come to its end.';
  const failed = report.steps.flatMap((step) => step.checks).filter((check) => !check.good);
  return `Not proven: ${failed.length === 1 ? 'one' : failed.length} of the claims did not hold.`;
}
