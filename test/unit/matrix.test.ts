import { mkdtempSync, rmSync, truncateSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { shippedProfileNames } from '@lifeboat/guest/profile/shipped-profiles';
import { addResult, readResults, type RowResult } from '../matrix/results.ts';
import { allRows, pairsOf, profileOf, rowId } from '../matrix/rows.ts';
import { BEGIN, END, withLinuxPart } from '../matrix/support-matrix.ts';

const result = (row: string, outcome: RowResult['outcome']): RowResult => ({
  row,
  outcome,
  after: outcome === 'passed' ? 'ready' : 'initramfs-shell',
  added: 1,
  seconds: 60,
  date: '2026-01-02T03:04:05Z',
  commit: 'abc1234',
});

test('the matrix holds every ordered pair of controllers, and every two values of anything else', async () => {
  const rows = allRows();
  expect(new Set(rows.map(rowId)).size).toBe(rows.length);
  const controllers = rows.filter(({ part }) => part === 'controllers');
  expect(controllers.filter(({ firmware }) => firmware === 'bios')).toHaveLength(9 * 8);
  expect(controllers.filter(({ firmware }) => firmware === 'uefi')).toHaveLength(4 * 3);
  const names = await shippedProfileNames();
  for (const row of rows) expect(names).toContain(profileOf(row));
  const pairs = new Set(rows.flatMap(pairsOf));
  for (const [first, second] of [
    ['release=trixie', 'root=raid0'],
    ['initramfs=dracut', 'root=btrfs'],
    ['root=lvm', 'target=mptsas'],
    ['firmware=uefi', 'target=nvme'],
    ['release=bullseye', 'layout=mbr'],
  ])
    expect(pairs).toContain(`${first} ${second}`);
  expect(pairs).not.toContain('firmware=uefi layout=mbr');
  expect(pairs).not.toContain('firmware=uefi target=pvscsi');
});

test('a line of results that was cut is no result, and the next one stands in a line of its own', () => {
  const directory = mkdtempSync(join(tmpdir(), 'matrix-'));
  const path = join(directory, 'results.jsonl');
  addResult(result('a', 'failed'), path);
  addResult(result('a', 'passed'), path);
  addResult(result('b', 'passed'), path);
  truncateSync(path, statSync(path).size - 5);
  addResult(result('c', 'passed'), path);
  expect([...readResults(path)].map(([row, { outcome }]) => `${row} ${outcome}`)).toEqual(['a passed', 'c passed']);
  rmSync(directory, { recursive: true });
});

test('the document tells of each row what came of it, and keeps what stands around', () => {
  const [first, second] = allRows().filter(({ part }) => part === 'controllers');
  if (!first || !second) throw new Error('no rows');
  const results = new Map([
    [rowId(first), result(rowId(first), 'passed')],
    [rowId(second), result(rowId(second), 'failed')],
  ]);
  const text = withLinuxPart(`above\n${BEGIN}\nold\n${END}\nbelow\n`, results);
  expect(text).toMatch(/^above\n/);
  expect(text).toMatch(/\nbelow\n$/);
  expect(text).not.toContain('old');
  expect(text).toContain('1 passed, 1 failed');
  expect(text).toContain('| virtio-blk | – | ✓ | ✗ | · |');
  expect(withLinuxPart(text, results)).toBe(text);
  expect(() => withLinuxPart('nothing', results)).toThrow(/lacks/);
});
