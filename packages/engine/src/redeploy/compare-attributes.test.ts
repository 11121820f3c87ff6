import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { compareAttributes } from './compare-attributes.ts';

test('finds attributes that differ or are missing, of files and directories with any name', async () => {
  const base = await scratchDirectory();
  const odd = 'a\nb \\c é';
  const at = (side: string, ...parts: string[]): string => join(base, side, ...parts);
  for (const side of ['a', 'b']) {
    mkdirSync(at(side, 'etc'), { recursive: true });
    for (const name of ['same', 'other', 'none', odd]) writeFileSync(at(side, 'etc', name), 'x');
    symlinkSync('same', at(side, 'etc', 'link'));
    execFileSync('setfattr', ['-n', 'user.z', '-v', '1', at(side, 'etc/same')]);
    execFileSync('setfattr', ['-n', 'user.a', '-v', '2', at(side, 'etc/same')]);
  }
  const compare = (): Promise<string[]> => compareAttributes(at('a'), at('b'), new AbortController().signal);
  expect(await compare()).toEqual([]);

  execFileSync('setfattr', ['-n', 'user.note', '-v', 'a', at('a', 'etc/other')]);
  execFileSync('setfattr', ['-n', 'user.note', '-v', 'b', at('b', 'etc/other')]);
  execFileSync('setfattr', ['-n', 'user.note', at('b', 'etc', odd)]);
  execFileSync('setfattr', ['-n', 'user.note', at('a', 'etc')]);
  execFileSync('setfattr', ['-n', 'user.note', at('b')]);
  const name = Buffer.from(odd).toString('latin1');
  expect(await compare()).toEqual(['/', '/etc', `/etc/${name}`, '/etc/other']);
});
