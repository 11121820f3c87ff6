import { createHash } from 'node:crypto';

import { GiB, MiB } from '@lifeboat/foundation/units';
import { expect, test } from 'vitest';

import { packNameOf, type PackName } from '../format/names.ts';
import { PackSizes } from './pack-sizes.ts';

const name = (n: number): PackName => packNameOf(createHash('sha256').update(String(n)).digest());

test('sizes of packs are what was set last, and unknown ones have none, however many there are', () => {
  const sizes = new PackSizes();
  for (let n = 0; n < 5000; n++) sizes.set(name(n), n + 1);
  for (let n = 0; n < 5000; n += 2) sizes.set(name(n), n + 7);
  sizes.set(name(5000), 0);
  expect(sizes.count).toBe(5000);
  for (let n = 0; n < 5000; n++) expect(sizes.get(name(n))).toBe(n % 2 === 0 ? n + 7 : n + 1);
  for (let n = 5000; n < 6000; n++) expect(sizes.get(name(n))).toBeUndefined();
});

test('what this session stored stays its own, beside its size', () => {
  const sizes = new PackSizes();
  for (let n = 0; n < 3000; n++) {
    if (n % 3 === 0) sizes.setOwn(name(n), n + 1);
    else sizes.set(name(n), n + 1);
  }
  for (let n = 0; n < 3000; n += 2) sizes.set(name(n), 128 * MiB);
  expect(sizes.count).toBe(3000);
  for (let n = 0; n < 3000; n++) {
    expect(sizes.isOwn(name(n))).toBe(n % 3 === 0);
    expect(sizes.get(name(n))).toBe(n % 2 === 0 ? 128 * MiB : n + 1);
  }
  sizes.set(name(1), 3 * GiB);
  expect([sizes.get(name(1)), sizes.isOwn(name(1)), sizes.isOwn(name(3001))]).toEqual([2, false, false]);
});

test('a pack takes less than 35 bytes, at any number of them', () => {
  const sizes = new PackSizes();
  let most = 0;
  for (let n = 1; n <= 60_000; n++) {
    sizes.set(name(n), n);
    if (n % 1000 === 0 && n >= 20_000) most = Math.max(most, sizes.bytes / n);
  }
  expect(most).toBeLessThan(35);
});
