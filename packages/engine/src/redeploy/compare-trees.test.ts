import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compareTrees } from './compare-trees.ts';

let root: string;
const at = (...parts: string[]): string => join(root, ...parts);
const compare = () => compareTrees(at('a'), at('b'), { signal: new AbortController().signal });

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lifeboat-compare-'));
  mkdirSync(at('a', 'etc', 'deep'), { recursive: true });
  writeFileSync(at('a', 'etc', 'fstab'), 'x');
  writeFileSync(at('a', 'etc', 'deep', 'big'), Buffer.alloc(3 * 1024 * 1024 + 17, 7));
  writeFileSync(
    Buffer.concat([Buffer.from(at('a', 'etc') + '/'), Buffer.from([0xff, 0x61])]),
    'name that is not UTF-8',
  );
  symlinkSync('/nowhere', at('a', 'link'));
  cpSync(at('a'), at('b'), { recursive: true, verbatimSymlinks: true });
  // cpSync writes names as UTF-8; the one that is not is made again.
  rmSync(at('b', 'etc'), { recursive: true });
  mkdirSync(at('b', 'etc', 'deep'), { recursive: true });
  writeFileSync(at('b', 'etc', 'fstab'), 'x');
  writeFileSync(at('b', 'etc', 'deep', 'big'), Buffer.alloc(3 * 1024 * 1024 + 17, 7));
  writeFileSync(
    Buffer.concat([Buffer.from(at('b', 'etc') + '/'), Buffer.from([0xff, 0x61])]),
    'name that is not UTF-8',
  );
});
afterEach(() => rmSync(root, { recursive: true }));

describe('compareTrees', () => {
  it('finds nothing between equal trees, and says how much it looked at', async () => {
    const summary = await compare();
    expect(summary.differing).toEqual([]);
    expect(summary.comparedFiles).toBe(6);
    expect(summary.comparedBytes).toBe(3 * 1024 * 1024 + 17 + 1 + 22);
  });

  it('finds content of equal length, modes, links, missing and extra entries', async () => {
    const big = Buffer.alloc(3 * 1024 * 1024 + 17, 7);
    big[big.length - 1] = 8;
    writeFileSync(at('b', 'etc', 'deep', 'big'), big);
    chmodSync(at('b', 'etc', 'fstab'), 0o600);
    rmSync(at('b', 'link'));
    symlinkSync('/elsewhere', at('b', 'link'));
    writeFileSync(at('b', 'extra'), '');
    mkdirSync(at('a', 'gone'));
    expect((await compare()).differing).toEqual(['/etc/deep/big', '/etc/fstab', '/extra', '/gone', '/link']);
  });
});
