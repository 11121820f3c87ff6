import { stripVTControlCharacters } from 'node:util';

const MAX_LINE = 200;

/**
 * The lines of a serial console that a person needs: the last `count` that are not empty, without escape sequences, a
 * carriage return redrawing its line as on a screen, over-long lines cut.
 */
export function consoleExcerpt(log: string, count: number): string {
  return stripVTControlCharacters(log)
    .split('\n')
    .map((line) => (line.split('\r').findLast((part) => part.trim() !== '') ?? '').trimEnd())
    .filter((line) => line !== '')
    .slice(-count)
    .map((line) => (line.length > MAX_LINE ? `${line.slice(0, MAX_LINE)}…` : line))
    .join('\n');
}
