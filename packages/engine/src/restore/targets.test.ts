import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { makeTargets, removeTargets } from './targets.ts';

let disks: [string, string];
beforeEach(async () => {
  const directory = await scratchDirectory();
  disks = [join(directory, 'a.qcow2'), join(directory, 'b.qcow2')];
});

/** An operation's facts; with a limit it is killed at that record. */
function facts(recordsUntilKilled = Infinity) {
  const known = new Map<string, unknown>();
  let records = 0;
  return {
    record: async (name: string, value: unknown) => {
      records += 1;
      if (records > recordsUntilKilled) throw new Error('killed');
      known.set(name, structuredClone(value));
    },
    recall: async (name: string) => known.get(name),
  };
}

test('of two operations with one name one makes the files, and the other takes none of them away', async () => {
  const both = [facts(), facts()];
  const ends = await Promise.allSettled(both.map((operation) => makeTargets(operation, disks)));
  const winner = ends.findIndex(({ status }) => status === 'fulfilled');
  expect(ends[1 - winner]).toMatchObject({ reason: { code: 'engine.target-exists', context: { path: disks[0] } } });
  await removeTargets(both[1 - winner] ?? facts());
  expect(disks.map((path) => existsSync(path))).toEqual([true, true]);
  // The same again, as after a kill: what belongs to the disks is still to be removed.
  for (let times = 0; times < 2; times++) expect(await removeTargets(both[winner] ?? facts())).toEqual(disks);
  expect(disks.map((path) => existsSync(path))).toEqual([false, false]);
});

test('a later name that is taken takes back the earlier ones, and stays', async () => {
  writeFileSync(disks[1], '');
  await expect(makeTargets(facts(), disks)).rejects.toMatchObject({ code: 'engine.target-exists' });
  expect(disks.map((path) => existsSync(path))).toEqual([false, true]);
});

test('a file that took the place of one that was made stays', async () => {
  const operation = facts();
  await makeTargets(operation, disks);
  // Mostly with the same inode number.
  rmSync(disks[0]);
  writeFileSync(disks[0], 'mine');
  expect(await removeTargets(operation)).toEqual([disks[1]]);
  expect(readFileSync(disks[0], 'utf8')).toBe('mine');
});

test.each([1, 2, 3, 4])('killed before note %i + 1, nothing is left for long', async (records) => {
  const operation = facts(records);
  await expect(makeTargets(operation, disks)).rejects.toThrow('killed');
  await removeTargets(operation);
  expect(disks.map((path) => existsSync(path))).toEqual([false, false]);
});
