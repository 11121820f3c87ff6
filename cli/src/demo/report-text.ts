/** The report on the terminal: the verdict, the recovery numbers, the claims, and how to go on. The rest is in the file. */
import { formatBytes, formatDuration } from '@lifeboat/foundation/units';
import type { Style } from '../text/style.ts';
import { fields, table } from '../text/table.ts';
import { printable, wrap } from '../text/width.ts';
import { headline, verdictOf, type Check, type Recovery, type Report } from './report.ts';

export function reportText(report: Report, options: { style: Style; width: number; htmlPath?: string }): string[] {
  const { style, width } = options;
  const verdict = verdictOf(report);
  const colour = verdict === 'good' ? style.good : verdict === 'bad' ? style.bad : style.warn;
  const lines = ['', style.bold(colour(printable(headline(report))))];
  if (report.brokenOff !== undefined) lines.push(...wrap(printable(`Broken off: ${report.brokenOff}`), width));

  const measured = recoveryFields(report.recovery ?? {});
  if (measured.length > 0) lines.push('', ...fields(measured).map((line) => `  ${line}`));
  if (report.backups.length > 0) {
    lines.push(
      '',
      ...table(
        [
          { title: 'Backup' },
          { title: 'Point' },
          { title: 'Read', align: 'right' },
          { title: 'Changed', align: 'right' },
          { title: 'Stored', align: 'right' },
          { title: 'Took', align: 'right' },
        ],
        report.backups.map((row) => [
          row.method,
          row.pointId,
          formatBytes(row.readBytes),
          formatBytes(row.changedBytes),
          formatBytes(row.storedBytes),
          formatDuration(row.durationMs),
        ]),
      ).map((line) => `  ${line}`),
    );
  }
  const checks = report.steps.flatMap((step) => step.checks);
  if (checks.length > 0) lines.push('', ...checks.flatMap((check) => checkLines(check, style, width)));
  if (options.htmlPath !== undefined) lines.push('', `Report: ${options.htmlPath}`);
  for (const item of report.next) lines.push('', ...wrap(item.purpose, width), `  ${style.bold(item.command)}`);
  return lines;
}

function checkLines(check: Check, style: Style, width: number): string[] {
  const mark = check.good ? style.good(style.marks.done) : style.bad(style.marks.failed);
  const indent = ' '.repeat(4);
  return [
    ...wrap(printable(check.good ? check.claim : `Did not hold: ${check.claim}`), width - 4).map((line, i) =>
      i === 0 ? `  ${mark} ${line}` : indent + line,
    ),
    ...wrap(printable(check.detail), width - 4).map((line) => indent + style.dim(line)),
  ];
}

function recoveryFields({ rtoMs, rpoMs, provenAfterMs }: Recovery): (readonly [string, string])[] {
  const rows = [
    ['RTO measured', rtoMs, 'from the order to restore to the machine answering'],
    ['RPO measured', rpoMs, 'age of the point when the machine went'],
    ['Proven bootable', provenAfterMs, 'after the instant the point shows'],
  ] as const;
  return rows.flatMap(([name, ms, meaning]) =>
    ms === undefined ? [] : [[name, `${formatDuration(ms)}  ${meaning}`] as const],
  );
}
