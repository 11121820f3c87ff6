import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { paperLines, parsePaper } from './paper.ts';

const DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const id = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
const key = Buffer.from('f0e1d2c3b4a5968778695a4b3c2d1e0ff0e1d2c3b4a5968778695a4b3c2d1e0f', 'hex');
const lines = paperLines(id, key);
const unusable = (message: string): object => ({
  code: 'repository.paper-unusable',
  message: expect.stringContaining(message) as string,
});
const refusal = (typed: string): unknown => {
  try {
    return parsePaper(typed);
  } catch (error) {
    return error;
  }
};

/** Every line with what `change` makes of its digits. */
function* changed(
  change: (digits: string, at: number) => Iterable<string>,
): Generator<{ line: number; typed: string }> {
  for (const [i, line] of lines.entries()) {
    const digits = line.slice(3).replaceAll('-', '');
    for (let at = 0; at < digits.length; at++) {
      for (const wrong of change(digits, at)) {
        if (wrong !== digits) yield { line: i + 1, typed: lines.with(i, wrong).join('\n') };
      }
    }
  }
}

describe('a key on paper', () => {
  test('is what it was when somebody typed it', () => {
    const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
    fc.assert(
      fc.property(bytes(16), bytes(32), (repositoryId, secret) => {
        const read = parsePaper(paperLines(repositoryId, secret).join('\n'));
        expect(Buffer.from(read.repository)).toEqual(Buffer.from(repositoryId.subarray(0, 8)));
        expect(Buffer.from(read.key)).toEqual(Buffer.from(secret));
      }),
    );
    // Worked out with another program, from the formula alone.
    expect(lines).toEqual([
      '1: 008J-4CT4-ANK7-FW71-QQNQ',
      '2: TB1V-99CP-GXW6-JPJB-0FJF',
      '3: 7GPH-W3ZG-W79C-7D55-4A6A',
      '4: JT3Q-GTAT-9CY2-T7GF-9WWJ',
    ]);
  });

  test('may be typed in any case, with O for 0 and I or L for 1, with other spaces, and without the numbers', () => {
    const right = parsePaper(lines.join('\n'));
    const bare = lines.map((line) => line.slice(3));
    for (const typed of [
      lines.join('\r\n').toLowerCase(),
      bare.join('\n\n'),
      bare.with(2, lines[2] ?? '').join('\n'),
      bare.map((line) => ` ${line.replaceAll('-', '  ')}\t`).join('\n'),
      lines.join('\n').replaceAll('0', 'O').replaceAll('1', 'l'),
      lines.join('\n').replaceAll('0', 'o').replaceAll('1', 'I'),
      `A page\nwith 1. words\n\n${lines.join('\n')}\n\nand more of them\n`,
    ]) {
      expect(parsePaper(typed)).toEqual(right);
    }
  });

  test('with any one wrong digit is refused, and the line is named', () => {
    let tried = 0;
    for (const { line, typed } of changed((digits, at) =>
      Array.from(DIGITS, (digit) => digits.slice(0, at) + digit + digits.slice(at + 1)),
    )) {
      expect(refusal(typed)).toMatchObject(unusable(`paper: line ${line} has a wrong digit`));
      tried++;
    }
    expect(tried).toBe(4 * 20 * 31);
  });

  test('with two neighbours exchanged is refused, and the line is named', () => {
    for (const { line, typed } of changed((digits, at) => [
      digits.slice(0, at) + (digits[at + 1] ?? '') + (digits[at] ?? '') + digits.slice(at + 2),
    ])) {
      expect(refusal(typed)).toMatchObject(unusable(`line ${line} has a wrong digit`));
    }
  });

  test('with a digit too few or too many, or with what is no digit, is refused, and every such line is named', () => {
    const [first = '', second = '', third = '', fourth = ''] = lines;
    expect(refusal([first.slice(0, -1), second, `${third}0`, fourth].join('\n'))).toMatchObject(
      unusable('line 1 has 19 digits instead of 20; line 3 has 21 digits instead of 20'),
    );
    expect(refusal([first, second, third, fourth.replace(/.$/, 'u')].join('\n'))).toMatchObject(
      unusable("line 4 holds 'U'"),
    );
    expect(refusal([second, first, third, fourth].join('\n'))).toMatchObject(
      unusable('line 1 has a wrong digit; line 2 has a wrong digit'),
    );
    expect(refusal([first, second, third].join('\n'))).toMatchObject(unusable('3 lines'));
    expect(refusal('')).toMatchObject(unusable('0 lines'));
  });
});
