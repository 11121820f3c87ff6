// The import table is written down twice: for people in ARCHITECTURE.md, for machines in the rooms' package.json (which
// `turbo boundaries` enforces). This keeps the two the same.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '..', '..');
const table = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8')
  .split('\n')
  .map((line) => /^\| `([\w/]+)` \|[^|]*\|([^|]*)\|$/.exec(line))
  .filter((row) => row !== null)
  .map(([, room = '', imports = '']) => ({ room, imports: names(imports) }));

/** Room names in a table cell; what is in backquotes or brackets, and the Temporal SDK, are not rooms. */
function names(cell: string): string[] {
  return cell
    .split(',')
    .map((part) => part.replace(/\([^)]*\)/g, '').trim())
    .filter((part) => /^[a-z]+$/.test(part))
    .sort();
}

describe('import table', () => {
  it('has every room', () => {
    const { workspaces } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { workspaces: string[] };
    const single = workspaces.filter((workspace) => !workspace.includes('*') && !['test', 'bench'].includes(workspace));
    expect(table.map(({ room }) => room)).toEqual(expect.arrayContaining(single));
    expect(table.length).toBeGreaterThan(14);
  });

  it.each(table.filter(({ room }) => room !== 'test'))(
    '$room declares just what the table allows',
    ({ room, imports }) => {
      const { dependencies = {} } = JSON.parse(readFileSync(join(root, room, 'package.json'), 'utf8')) as {
        dependencies?: Record<string, string>;
      };
      const declared = Object.keys(dependencies)
        .filter((name) => name.startsWith('@lifeboat/'))
        .map((name) => name.slice('@lifeboat/'.length))
        .sort();
      // A room need not use all it may.
      expect(imports).toEqual(expect.arrayContaining(declared));
    },
  );
});
