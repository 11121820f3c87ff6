import { linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { meet, storageAt } from './storage.ts';
import { scratchDirectory } from './testing/scratch.ts';

test('a file is the same under every name, and no other', async () => {
  const directory = await scratchDirectory();
  const at = (name: string): string => join(directory, name);
  writeFileSync(at('disk'), 'x');
  mkdirSync(at('deep'));
  symlinkSync('../disk', at('deep/link'));
  symlinkSync(directory, at('directory'));
  linkSync(at('disk'), at('second'));
  writeFileSync(at('other'), 'x');
  const disk = await storageAt(at('disk'));
  for (const name of ['disk', 'deep/link', 'directory/disk', 'second']) {
    expect(await storageAt(at(name))).toEqual(disk);
  }
  const other = await storageAt(at('other'));
  expect(disk && other && meet(disk, other)).toBe(false);
  expect(await storageAt(at('nothing'))).toBeUndefined();
});

test('a piece meets the whole and itself, and not the other piece', () => {
  const storage = (own: string, ...parts: string[]) => ({ own: new Set([own]), all: new Set([own, ...parts]) });
  const [disk, first, second] = [storage('disk'), storage('first', 'disk'), storage('second', 'disk')];
  expect([meet(first, disk), meet(disk, first), meet(first, first)]).toEqual([true, true, true]);
  expect(meet(first, second)).toBe(false);
});
