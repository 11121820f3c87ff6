import { describe, expect, it } from 'vitest';
import { compareRanks, matchIds, type Ranked } from './driver-rank.ts';

describe('the rank of a match', () => {
  // The table "Driver Rank Example (Windows Vista and Later)" of the Windows Driver Kit.
  const device = { hardware: ['HW1', 'HW2'], compatible: ['C1', 'C2'] };
  it.each([
    ['HW1', 0, 0x0000],
    ['HW1', 1, 0x1000],
    ['HW1', 2, 0x1000],
    ['HW2', 0, 0x0001],
    ['HW2', 1, 0x1001],
    ['HW2', 2, 0x1001],
    ['C1', 0, 0x2000],
    ['C1', 1, 0x3000],
    ['C1', 2, 0x3100],
    ['C2', 0, 0x2001],
    ['C2', 1, 0x3001],
    ['C2', 2, 0x3101],
  ])('of %s at place %i of the model is the documented one', (id, place, score) => {
    const ids = ['X', 'Y', 'Z'];
    ids[place] = id;
    expect(matchIds(device, ids)).toEqual({ id, score });
  });

  it('is the best of several, and none where nothing meets', () => {
    expect(matchIds(device, ['C2', 'HW2', 'C1'])).toEqual({ id: 'HW2', score: 0x1001 });
    expect(matchIds(device, ['', 'X'])).toBeUndefined();
  });
});

describe('the order of drivers', () => {
  const ranked = (score: number, more: Partial<Ranked> = {}): Ranked => ({
    match: { id: 'X', score },
    featureScore: 0xff,
    driverVersion: { date: [2020, 1, 1], version: [1, 0, 0, 0] },
    ...more,
  });
  it.each([
    ['a better match', ranked(0), ranked(1)],
    ['a better feature score before a better match', ranked(0x2000, { featureScore: 1 }), ranked(0)],
    ['a newer date', ranked(0, { driverVersion: { date: [2021, 1, 1], version: [0] } }), ranked(0)],
    [
      'a higher version of one date',
      ranked(0, { driverVersion: { date: [2020, 1, 1], version: [1, 0, 0, 1] } }),
      ranked(0),
    ],
  ])('puts %s first', (_, first, second) => {
    expect(compareRanks(first, second)).toBeLessThan(0);
    expect(compareRanks(second, first)).toBeGreaterThan(0);
  });
});
