import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { columns, fit, printable, wrap } from './width.ts';

describe('text on a terminal', () => {
  it('takes the teeth out of text from outside', () => {
    expect(printable('\u001b[2J\u001b]0;title\u0007web\n1\u009b31m\u202ereversed')).toBe('web 1reversed');
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        // oxlint-disable-next-line no-control-regex -- looking for control characters is the purpose
        expect(printable(text)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/);
      }),
    );
  });

  it('counts what a terminal shows', () => {
    expect(columns('plain')).toBe(5);
    expect(columns('\u001b[31mred\u001b[39m')).toBe(3);
    expect(columns('日本')).toBe(4);
    expect(columns('e\u0301')).toBe(1);
    expect(columns('🚑')).toBe(2);
  });

  it('never makes a line wider than asked', () => {
    expect(fit('abcdef', 4)).toBe('abc…');
    expect(fit('日本語', 4)).toBe('日…');
    expect(fit('abcdef', 6)).toBe('abcdef');
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.nat(40), (text, width) => {
        expect(columns(fit(printable(text), width))).toBeLessThanOrEqual(width);
      }),
    );
  });

  it('wraps at spaces and keeps every word', () => {
    expect(wrap('one two three', 7)).toEqual(['one two', 'three']);
    expect(wrap('unbreakable', 4)).toEqual(['unbreakable']);
    expect(wrap('', 10)).toEqual([]);
  });
});
