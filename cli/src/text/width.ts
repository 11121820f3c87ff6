/**
 * How wide text is on a terminal. Names of machines, files and console lines come from outside, so everything that is shown
 * passes `printable` first: an escape sequence in a guest's host name must not steer the terminal of the person who reads it.
 */
import { stripVTControlCharacters } from 'node:util';

// C0 and C1 controls, and the bidirectional overrides that can make a line read as another one.
// oxlint-disable-next-line no-control-regex -- removing control characters is the purpose
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
// Wide in every terminal that follows Unicode's East Asian Width: CJK, Hangul, full-width forms, emoji.
const WIDE =
  /^(?:[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|[\u{20000}-\u{3fffd}])/u;

const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });

/** Text from outside, made harmless: one line, no escape sequences, no control characters. */
export function printable(text: string): string {
  return stripVTControlCharacters(text.replaceAll(/[\r\n\t]+/g, ' ')).replaceAll(UNPRINTABLE, '');
}

/** Columns that `text` takes; colour sequences take none. */
export function columns(text: string): number {
  let count = 0;
  for (const { segment } of graphemes.segment(stripVTControlCharacters(text))) count += WIDE.test(segment) ? 2 : 1;
  return count;
}

/** `text` without colours, cut to `width` columns with `ellipsis` at the end where something was lost. */
export function fit(text: string, width: number, ellipsis = '…'): string {
  const plain = stripVTControlCharacters(text);
  if (columns(plain) <= width) return plain;
  const room = width - columns(ellipsis);
  if (room < 0) return '';
  let used = 0;
  let kept = '';
  for (const { segment } of graphemes.segment(plain)) {
    const wide = WIDE.test(segment) ? 2 : 1;
    if (used + wide > room) break;
    used += wide;
    kept += segment;
  }
  return kept + ellipsis;
}

/** `text` followed by spaces up to `width` columns. */
export function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - columns(text)));
}

/** `text` broken at spaces into lines of at most `width` columns; a word longer than a line is left whole. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/).filter(Boolean)) {
    if (line && columns(line) + 1 + columns(word) > width) {
      lines.push(line);
      line = word;
    } else {
      line = line ? `${line} ${word}` : word;
    }
  }
  if (line) lines.push(line);
  return lines;
}
