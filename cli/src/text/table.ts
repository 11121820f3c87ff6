import { columns, padEnd } from './width.ts';

export interface Column {
  readonly title: string;
  readonly align?: 'right';
}

/** Rows under titles, two spaces apart, columns as wide as their widest cell, no trailing spaces. */
export function table(header: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  const widths = header.map((column, i) =>
    Math.max(columns(column.title), ...rows.map((row) => columns(row[i] ?? ''))),
  );
  const line = (cells: readonly string[]): string =>
    header
      .map((column, i) => {
        const cell = cells[i] ?? '';
        const width = widths[i] ?? 0;
        return column.align === 'right' ? ' '.repeat(Math.max(0, width - columns(cell))) + cell : padEnd(cell, width);
      })
      .join('  ')
      .trimEnd();
  return [line(header.map((column) => column.title)), ...rows.map(line)];
}

/** `name  value` lines with the values in one column. */
export function fields(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(0, ...rows.map(([name]) => columns(name)));
  return rows.map(([name, value]) => `${padEnd(name, width)}  ${value}`.trimEnd());
}
