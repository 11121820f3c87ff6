import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { InfFile } from './inf-file.ts';
import { decodeInfText, MAX_INF_BYTES } from './inf-text.ts';

const parse = (text: string): InfFile => InfFile.parse(text, 'x.inf');
const invalid = (message: string): object => ({
  code: 'guest.inf-invalid',
  message: expect.stringContaining(message) as string,
});

describe('the bytes of an INF', () => {
  const text = '[Version]\r\nProvider=%M%\r\n[Strings]\r\nM="Gerät"\r\n';
  const utf16 = (marked: boolean): Buffer => Buffer.from((marked ? '\uFEFF' : '') + text, 'utf16le');

  it.each([
    ['UTF-16 with a mark', utf16(true)],
    ['UTF-16 without one', utf16(false)],
    ['big-endian UTF-16 with a mark', utf16(true).swap16()],
    ['big-endian UTF-16 without one', utf16(false).swap16()],
    ['UTF-8', Buffer.from(text)],
    ['UTF-8 with a mark', Buffer.from(`\uFEFF${text}`)],
    ['windows-1252', Buffer.from(text, 'latin1')],
  ])('are read in %s', (_, bytes) => {
    expect(parse(decodeInfText(bytes, 'x.inf')).value('Version', 'Provider')).toBe('Gerät');
  });

  it('are read in the code page that is named', () => {
    const bytes = Buffer.from([...Buffer.from('[Strings]\nA="'), 0x8e, 0xa9, ...Buffer.from('"')]);
    expect(parse(decodeInfText(bytes, 'x.inf', 'shift_jis')).value('Strings', 'A')).toBe('自');
  });

  it('are refused where they are no text, or too many', () => {
    expect(() => decodeInfText(Buffer.from([0x4d, 0x5a, 0x90, 0, 3, 0, 0, 0]), 'x.inf')).toThrow(
      expect.objectContaining(invalid('zero bytes')),
    );
    expect(() => decodeInfText(Buffer.alloc(MAX_INF_BYTES + 1, 0x20), 'x.inf')).toThrow(
      expect.objectContaining(invalid(`at most ${MAX_INF_BYTES}`)),
    );
  });
});

describe('an INF', () => {
  it('has sections whose names do not depend on case, and that go on where their name comes again', () => {
    const inf = parse('ignored = 1\n[A]\nx = 1\n[B]\ny = 2\n[a] ; again\nX = 3\nz\n');
    expect(inf.lines('A')).toEqual([
      { key: 'x', values: ['1'], lineNumber: 3 },
      { key: 'X', values: ['3'], lineNumber: 7 },
      { values: ['z'], lineNumber: 8 },
    ]);
    expect(inf.value('a', 'X')).toBe('1');
    expect(inf.lines('C')).toEqual([]);
    expect(inf.sectionNames()).toEqual(['a', 'b']);
  });

  it.each<[string, readonly string[]]>([
    ['a, b ,c', ['a', 'b', 'c']],
    ['a,,', ['a', '', '']],
    ['"a, b", c', ['a, b', 'c']],
    ['" a ""quoted"" word "', [' a "quoted" word ']],
    ['""', ['']],
    ['"a;b" ; comment', ['a;b']],
    ['a;comment, with "quotes', ['a']],
    ['100%%', ['100%']],
    ['%Known%\\x', ['word\\x']],
    ['%KNOWN%, %unknown%, %', ['word', '%unknown%', '%']],
    ['%Nested%', ['%Known%']],
    ['a, \\\n  b, \\ ; comment\n  c', ['a', 'b', 'c']],
    ['x = y', ['x = y']],
  ])('splits %j', (line, values) => {
    const inf = parse(`[S]\nkey = ${line}\n[Strings]\nKnown = "word"\nNested = "%Known%"\n`);
    expect(inf.values('S', 'key')).toEqual(values);
  });

  it('takes the strings of US English before those without a language, and any other before none', () => {
    const inf = parse(
      '[S]\na=%A%,%B%,%C%\n[Strings.0407]\nA=de\nC=de\n[Strings]\nA=none\nB=none\n[Strings.0409]\nA=en\n',
    );
    expect(inf.values('S', 'a')).toEqual(['en', 'none', 'de']);
  });

  it('is refused where lines or sections have no end', () => {
    expect(() => parse('\n'.repeat(400_001))).toThrow(expect.objectContaining(invalid('lines')));
    expect(() => parse(Array.from({ length: 50_001 }, (_, i) => `[${i}]`).join('\n'))).toThrow(
      expect.objectContaining(invalid('sections')),
    );
    expect(() => parse(`[S]\n${'aaaaaaaaa,\\\n'.repeat(200_000)}`)).toThrow(
      expect.objectContaining({ code: 'guest.inf-invalid' }),
    );
  });

  it('gives back what was written, whatever it is', () => {
    const word = fc.string({ unit: 'grapheme', maxLength: 12 }).filter((text) => !/[\r\n%\0\\]/.test(text));
    fc.assert(
      fc.property(fc.array(fc.array(word, { minLength: 1, maxLength: 4 }), { maxLength: 6 }), (lines) => {
        const quoted = lines.map((values) => values.map((value) => `"${value.replaceAll('"', '""')}"`).join(', '));
        const inf = parse(`[S]\n${quoted.map((line, i) => `k${i} = ${line}`).join('\n')}\n`);
        expect(inf.lines('S').map(({ values }) => values)).toEqual(lines);
      }),
    );
  });

  it('reads any text, or refuses it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(['read', 'guest.inf-invalid']).toContain(outcomeOf(bytes));
      }),
    );
  });
});

function outcomeOf(bytes: Uint8Array): string {
  try {
    const inf = parse(decodeInfText(bytes, 'x.inf'));
    for (const section of inf.sectionNames()) inf.lines(section);
    return 'read';
  } catch (error) {
    return error instanceof LifeboatError ? error.code : messageOf(error);
  }
}
