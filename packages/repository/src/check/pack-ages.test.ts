import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';

import { hashBytes, packNameOf, type PackName } from '../format/names.ts';
import { VERIFIED_NAME_BYTES } from '../format/verification.ts';
import { PackAges } from './pack-ages.ts';

const NOW_MS = 1_800_000_000_000;
const pack = (n: number): PackName => packNameOf(createHash('sha256').update(String(n)).digest());
const short = (...packs: readonly number[]): Buffer =>
  Buffer.concat(packs.map((n) => hashBytes(pack(n)).subarray(0, VERIFIED_NAME_BYTES)));
const ages = (count: number): PackAges => {
  const made = new PackAges();
  for (let n = 0; n < count; n++) made.add(pack(n), n + 1);
  return made;
};
const order = (of: PackAges, level: 'present' | 'ciphertext' | 'content', salt = 0): PackName[] =>
  [...of.leastRecent(level, { nowMs: NOW_MS, salt })].map((row) => of.pack(row));

describe('the ages of packs', () => {
  test('are kept for as many as there are, each once, with its size', () => {
    const many = ages(70_000);
    many.add(pack(3), undefined);
    many.add(pack(70_000), undefined);
    many.add(pack(70_000), 7);
    expect(many.count).toBe(70_001);
    expect(many.learn(short(69_999, 70_000, 70_001), 'present', NOW_MS)).toBe(2);
    const rows = [...many.leastRecent('present', { nowMs: NOW_MS, salt: 12_345 })];
    expect(new Set(rows).size).toBe(70_001);
    expect(rows.slice(-2).map((row) => [many.pack(row), many.sizeBytes(row), many.lookedMs(row, 'present')])).toEqual(
      expect.arrayContaining([
        [pack(69_999), 70_000, NOW_MS],
        [pack(70_000), 7, NOW_MS],
      ]),
    );
    expect(many.lookedMs(rows[0] ?? 0, 'present')).toBeUndefined();
  });

  test('put what was never looked at first, then what was looked at longest ago', () => {
    const some = ages(5);
    some.learn(short(0), 'ciphertext', NOW_MS - 1000);
    some.learn(short(1), 'ciphertext', NOW_MS - 2_000_000_000);
    some.learn(short(2), 'ciphertext', 1000);
    const found = order(some, 'ciphertext', 3);
    expect(new Set(found.slice(0, 2))).toEqual(new Set([pack(3), pack(4)]));
    expect(found.slice(2)).toEqual([pack(2), pack(1), pack(0)]);
  });

  test('count a look at a level for the levels below it, and for none above', () => {
    const one = ages(1);
    expect(one.learn(short(0), 'ciphertext', NOW_MS)).toBe(1);
    expect(one.lookedMs(0, 'present')).toBe(NOW_MS);
    expect(one.lookedMs(0, 'content')).toBeUndefined();
    expect(one.learn(short(0), 'content', NOW_MS - 5000)).toBe(1);
    expect(one.lookedMs(0, 'content')).toBe(NOW_MS - 5000);
    expect(one.lookedMs(0, 'ciphertext')).toBe(NOW_MS);
  });

  test('learn nothing from what is older, or of packs that are not here', () => {
    const one = ages(1);
    one.learn(short(0), 'content', NOW_MS);
    expect(one.learn(short(0), 'ciphertext', NOW_MS)).toBe(0);
    expect(one.learn(short(0), 'content', NOW_MS - 1000)).toBe(0);
    expect(one.learn(short(1), 'content', NOW_MS)).toBe(0);
    expect(one.lookedMs(0, 'content')).toBe(NOW_MS);
  });

  test('send checkers that begin at once to different packs', () => {
    const some = ages(64);
    expect(order(some, 'content', 1).slice(0, 8)).not.toEqual(order(some, 'content', 63).slice(0, 8));
  });
});
