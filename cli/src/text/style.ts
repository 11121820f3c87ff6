/** What a stream can show: colour, and characters beyond ASCII. */
export interface Style {
  readonly colour: boolean;
  readonly marks: Marks;
  readonly ellipsis: string;
  readonly bold: Paint;
  readonly dim: Paint;
  readonly good: Paint;
  readonly bad: Paint;
  readonly warn: Paint;
}

type Paint = (text: string) => string;

export interface Marks {
  readonly done: string;
  readonly failed: string;
  readonly skipped: string;
  readonly running: string;
  readonly waiting: string;
}

const UNICODE: Marks = { done: '✓', failed: '✗', skipped: '–', running: '▸', waiting: '·' };
const ASCII: Marks = { done: 'ok', failed: 'FAILED', skipped: '-', running: '>', waiting: '.' };

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Colour only on a terminal, and never with NO_COLOR set to anything (no-color.org) or TERM=dumb. Marks beyond ASCII need
 * a UTF-8 locale; a pipe gets them by the same rule, since its reader has the same locale as a rule.
 */
export function styleFor(stream: { readonly isTTY?: boolean }, environment: Environment): Style {
  const colour = stream.isTTY === true && !environment['NO_COLOR'] && environment['TERM'] !== 'dumb';
  const locale = environment['LC_ALL'] || environment['LC_CTYPE'] || environment['LANG'] || '';
  const unicode = /utf-?8/i.test(locale);
  const paint =
    (on: number, off: number): Paint =>
    (text) =>
      colour && text ? `\u001b[${on}m${text}\u001b[${off}m` : text;
  return {
    colour,
    marks: unicode ? UNICODE : ASCII,
    ellipsis: unicode ? '…' : '...',
    bold: paint(1, 22),
    dim: paint(2, 22),
    good: paint(32, 39),
    bad: paint(31, 39),
    warn: paint(33, 39),
  };
}
