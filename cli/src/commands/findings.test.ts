import { expect, test } from 'vitest';
import { styleFor } from '../text/style.ts';
import { checkLines } from './findings.ts';

test('damage that is not listed is counted, and it is said what --json lists of it', () => {
  const check = (places: number, unlistedPlaces?: number): string[] =>
    checkLines(styleFor({}, {}), {
      pointId: 'p20260101T000000Z-00000001',
      level: 'content',
      checkedBytes: 0,
      durationMs: 0,
      damage: Array.from({ length: places }, (_, n) => ({ disk: 'vda', offsetBytes: n, lengthBytes: 1, what: 'gone' })),
      ...(unlistedPlaces === undefined ? {} : { unlistedPlaces }),
    });
  expect(check(20).at(-1)).toContain('at 19: gone');
  expect(check(21).at(-1)).toBe('    and 1 more; --json lists them all');
  expect(check(100, 50)[0]).toContain('damaged in 150 places');
  expect(check(100, 50).at(-1)).toBe('    and 130 more; --json lists the first 100 of 150');
});
