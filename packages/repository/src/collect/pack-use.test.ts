import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';

import { packNameOf, type PackName } from '../format/names.ts';
import { PackUse } from './pack-use.ts';

const name = (n: number): PackName => packNameOf(createHash('sha256').update(String(n)).digest());
const blob = (n: number, slot: number) => ({ pack: name(n), slot, lengthBytes: slot + 17 });

test('blobs are counted once, in packs of any number of slots, however many packs there are', () => {
  const use = new PackUse();
  const slots = [0, 31, 32, 63, 64, 127, 4000, 16_383];
  for (let n = 0; n < 3000; n++) for (const slot of slots) expect(use.add(blob(n, slot), 'hinted')).toBe(true);
  const bytes = slots.reduce((sum, slot) => sum + slot + 17, 0);
  for (let n = 0; n < 3000; n += 7) {
    for (const slot of slots) expect(use.add(blob(n, slot), 'hinted')).toBe(false);
    expect(use.used(name(n))).toEqual({ blobs: slots.length, bytes });
    for (const slot of [1, 62, 65, 126, 16_382]) expect(use.isUsed(blob(n, slot))).toBe(false);
  }
  expect(use.used(name(3000))).toEqual({ blobs: 0, bytes: 0 });
});

test('a pack is needed when points name it, unless it was moved; and when something was moved into it', () => {
  const use = new PackUse();
  use.flag(name(1), 'hinted');
  expect(use.needs(name(1))).toBe(true);
  use.flag(name(1), 'moved');
  expect(use.needs(name(1))).toBe(false);
  use.add(blob(1, 3), 'target');
  expect(use.needs(name(1))).toBe(true);
  use.unflag(name(1), 'target');
  expect(use.needs(name(1))).toBe(false);
  expect(use.is(name(2), 'hinted', 'target')).toBe(false);
  expect(use.needs(name(2))).toBe(false);
});

test('a pack takes less than 60 bytes', () => {
  const use = new PackUse();
  for (let n = 0; n < 30_000; n++) use.flag(name(n), 'hinted');
  expect(use.bytes / 30_000).toBeLessThan(60);
});
