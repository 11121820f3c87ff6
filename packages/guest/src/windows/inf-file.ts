/**
 * An INF file as sections of lines, after "General Syntax Rules for INF Files" of the Windows Driver Kit.
 *
 *   [Section]                        names do not depend on case; sections of one name are one
 *   key = value, "value, ""x""", %token%, \      ; comment
 *         value                      a backslash at the end goes on in the next line
 *
 * Tokens are replaced from [Strings], `%%` is a percent sign; a token that is not there stays as it is written, as Windows leaves it. Values of
 * [Strings] are not looked into again, so a file cannot grow by it.
 */
import { infInvalid } from './inf-text.ts';

export interface InfLine {
  /** What stands before the equals sign; absent where there is none. */
  readonly key?: string;
  /** As they stand between commas, without quotes; an empty one is `''`. */
  readonly values: readonly string[];
  /** Counted from 1. */
  readonly lineNumber: number;
}

/** A real one has some tens of thousands. */
const MAX_LINES = 400_000;
const MAX_SECTIONS = 50_000;
/** A line that goes on and on. */
const MAX_LINE_CHARACTERS = 1 << 20;
/** US English, the language of every driver that has more than one. */
const PREFERRED_STRINGS = ['strings.0409', 'strings'];

interface RawLine {
  readonly text: string;
  readonly lineNumber: number;
}

export class InfFile {
  readonly source: string;
  readonly #sections: ReadonlyMap<string, readonly RawLine[]>;
  readonly #strings = new Map<string, string>();
  /** Split once: a driver with a thousand files asks the same sections a thousand times. */
  readonly #lines = new Map<string, readonly InfLine[]>();

  private constructor(source: string, sections: ReadonlyMap<string, readonly RawLine[]>) {
    this.source = source;
    this.#sections = sections;
    for (const name of [...PREFERRED_STRINGS, ...[...sections.keys()].filter((name) => name.startsWith('strings.'))]) {
      for (const { text, lineNumber } of sections.get(name) ?? []) {
        const { key, values } = splitLine(text, lineNumber, String);
        if (key === undefined || this.#strings.has(key.toLowerCase())) continue;
        this.#strings.set(key.toLowerCase(), values.join(','));
      }
    }
  }

  /** `source` names the file in errors. Errors: `guest.inf-invalid`. */
  static parse(text: string, source: string): InfFile {
    const sections = new Map<string, RawLine[]>();
    let section: RawLine[] | undefined;
    for (const line of logicalLines(text, source)) {
      const name = /^\[([^\]]*)\]/.exec(line.text)?.[1];
      if (name === undefined) {
        // What stands before the first section belongs to none.
        section?.push(line);
        continue;
      }
      const key = unquote(name).toLowerCase();
      section = sections.get(key);
      if (section === undefined) sections.set(key, (section = []));
      if (sections.size > MAX_SECTIONS) throw infInvalid(source, `it has more than ${MAX_SECTIONS} sections`);
    }
    return new InfFile(source, sections);
  }

  has(section: string): boolean {
    return this.#sections.has(section.toLowerCase());
  }

  /** Names as they are compared: in lower case. */
  sectionNames(): readonly string[] {
    return [...this.#sections.keys()];
  }

  /** Of a section that is not there: none. */
  lines(section: string): readonly InfLine[] {
    const name = section.toLowerCase();
    let lines = this.#lines.get(name);
    if (lines === undefined) {
      const expand = (value: string): string => this.#expand(value);
      lines = (this.#sections.get(name) ?? []).map(({ text, lineNumber }) => splitLine(text, lineNumber, expand));
      this.#lines.set(name, lines);
    }
    return lines;
  }

  /** Of the first line with that key. */
  values(section: string, key: string): readonly string[] | undefined {
    const wanted = key.toLowerCase();
    return this.lines(section).find((line) => line.key?.toLowerCase() === wanted)?.values;
  }

  value(section: string, key: string): string | undefined {
    return this.values(section, key)?.[0];
  }

  #expand(value: string): string {
    return value.replaceAll(/%([^%]*)%/g, (whole, name: string) =>
      name === '' ? '%' : (this.#strings.get(name.toLowerCase()) ?? whole),
    );
  }
}

/** Lines without comments and without those that are empty; what goes on in the next line is one. */
function* logicalLines(text: string, source: string): Generator<RawLine> {
  let held = '';
  let heldFrom = 0;
  let lineNumber = 0;
  for (const physical of text.split(/\r\n|\n|\r/)) {
    if (++lineNumber > MAX_LINES) throw infInvalid(source, `it has more than ${MAX_LINES} lines`);
    const stripped = withoutComment(physical).trim();
    if (held === '') heldFrom = lineNumber;
    // A path may end in a backslash, too; Windows takes that for a continuation as well, and such a value is quoted.
    if (stripped.endsWith('\\') && !stripped.startsWith('[')) {
      held += stripped.slice(0, -1);
      if (held.length > MAX_LINE_CHARACTERS) {
        throw infInvalid(source, `line ${heldFrom} goes on for more than ${MAX_LINE_CHARACTERS} characters`);
      }
      continue;
    }
    const whole = held + stripped;
    held = '';
    if (whole !== '') yield { text: whole, lineNumber: heldFrom };
  }
  if (held.trim() !== '') yield { text: held.trim(), lineNumber: heldFrom };
}

function withoutComment(line: string): string {
  let quoted = false;
  for (let i = 0; i < line.length; i++) {
    if (line[i] === '"') quoted = !quoted;
    else if (line[i] === ';' && !quoted) return line.slice(0, i);
  }
  // A quotation that is never closed ends with its line; a comment after it cannot be told from it.
  return line;
}

function splitLine(text: string, lineNumber: number, expand: (value: string) => string): InfLine {
  const parts: string[] = [];
  let key: string | undefined;
  let part = '';
  let quoted = false;
  const end = (): void => {
    parts.push(expand(unquote(part)));
    part = '';
  };
  for (const character of text) {
    if (character === '"') quoted = !quoted;
    if (!quoted && character === ',') {
      end();
      continue;
    }
    if (!quoted && character === '=' && key === undefined && parts.length === 0) {
      key = expand(unquote(part));
      part = '';
      continue;
    }
    part += character;
  }
  end();
  return { ...(key === undefined ? {} : { key }), values: parts, lineNumber };
}

/** `"a ""b"" c"` is `a "b" c`, and `""` is empty; blanks around it do not count. */
function unquote(text: string): string {
  const trimmed = text.trim();
  if (!trimmed.includes('"')) return trimmed;
  let result = '';
  let quoted = false;
  for (let i = 0; i < trimmed.length; i++) {
    if (trimmed[i] !== '"') result += trimmed[i];
    else if (quoted && trimmed[i + 1] === '"') {
      result += '"';
      i++;
    } else quoted = !quoted;
  }
  return result;
}
