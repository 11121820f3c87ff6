/** A figure as it is printed, and as it stands in docs/performance.md. */
import { type Figure, median, type Series, type Verdict } from './series.ts';

export interface Circumstances {
  readonly command: string;
  readonly beganAt: Date;
  readonly machine: string;
  readonly loadBefore: string;
  readonly loadAfter: string;
}

export function renderFigure(figure: Figure, circumstances: Circumstances): string {
  const { command, beganAt, machine, loadBefore, loadAfter } = circumstances;
  return [
    `### ${figure.title}`,
    '',
    `- Command: \`${command}\`, ${beganAt.toISOString().slice(0, 16).replace('T', ' ')} UTC`,
    `- Machine: ${machine}`,
    `- Load average (1, 5, 15 min): ${loadBefore} before, ${loadAfter} after`,
    ...figure.method.map((sentence) => `- ${sentence}`),
    '',
    ...(figure.tables ?? []).flatMap(({ head, rows }) => [row(head), row(head.map(() => '---')), ...rows.map(row), '']),
    ...(figure.series.length > 0
      ? ['| measured | median | all values, in order |', '|---|---|---|', ...figure.series.map(seriesRow), '']
      : []),
    ...(figure.verdicts.length > 0
      ? ['| result | value | goal | |', '|---|---|---|---|', ...figure.verdicts.map(verdictRow), '']
      : []),
  ].join('\n');
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

function seriesRow({ label, unit, digits, values }: Series): string {
  const all = values.map((value) => value.toFixed(digits)).join(', ');
  return `| ${label} | ${median(values).toFixed(digits)}${suffix(unit)} | ${all} |`;
}

function verdictRow({ label, value, unit, digits, below }: Verdict): string {
  const goal = below === undefined ? 'none' : `< ${Number(below.toFixed(3))}${suffix(unit)}`;
  const word = below === undefined ? '' : value < below ? 'met' : `missed by ${(value - below).toFixed(digits)}`;
  return `| ${label} | ${value.toFixed(digits)}${suffix(unit)} | ${goal} | ${word} |`;
}

function suffix(unit: string): string {
  return unit === '' ? '' : ` ${unit}`;
}
