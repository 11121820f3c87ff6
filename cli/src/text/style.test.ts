import { describe, expect, it } from 'vitest';
import { styleFor } from './style.ts';
import { fields, table } from './table.ts';

describe('what a stream can show', () => {
  const terminal = { isTTY: true };

  it('colours a terminal, and nothing else', () => {
    expect(styleFor(terminal, { LANG: 'C.UTF-8' }).good('yes')).toBe('\u001b[32myes\u001b[39m');
    expect(styleFor({}, { LANG: 'C.UTF-8' }).good('yes')).toBe('yes');
  });

  it.each([{ NO_COLOR: '1' }, { TERM: 'dumb' }])('stays plain with %j', (environment) => {
    expect(styleFor(terminal, environment).bad('no')).toBe('no');
  });

  it('keeps to ASCII where the locale is not UTF-8', () => {
    expect(styleFor(terminal, { LANG: 'de_DE.UTF-8' }).marks.done).toBe('✓');
    expect(styleFor(terminal, { LANG: 'de_DE.UTF-8', LC_ALL: 'C' }).marks.done).toBe('ok');
    expect(styleFor(terminal, {}).marks.failed).toBe('FAILED');
  });
});

describe('tables', () => {
  it('aligns columns by what is seen', () => {
    expect(
      table(
        [{ title: 'Disk' }, { title: 'Read', align: 'right' }],
        [
          ['vda', '1.50 GiB'],
          ['日本', '17 B'],
        ],
      ),
    ).toEqual(['Disk      Read', 'vda   1.50 GiB', '日本      17 B']);
    expect(
      fields([
        ['a', '1'],
        ['long', '2'],
      ]),
    ).toEqual(['a     1', 'long  2']);
  });
});
