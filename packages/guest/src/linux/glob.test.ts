import { execFileSync } from 'node:child_process';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { globMatches } from './glob.ts';

/** One shell for all pairs: `case` matches as fnmatch(3) without flags does. */
function matchedByShell(pairs: readonly (readonly [string, string])[]): boolean[] {
  const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  const lines = pairs.map(
    ([pattern, text]) => `p=${quote(pattern)}; case ${quote(text)} in $p) echo 1;; *) echo 0;; esac`,
  );
  const answer = execFileSync('dash', { input: lines.join('\n'), encoding: 'utf8', env: { LC_ALL: 'C' } });
  return answer
    .trim()
    .split('\n')
    .map((line) => line === '1');
}

describe('globMatches', () => {
  it('agrees with the shell on random patterns', () => {
    const piece = fc.constantFrom('*', '?', 'a', 'b', 'c', '-', '[ab]', '[!a]', '[a-c]', '[]a]', 'ab', '\\*', '\\a');
    const pattern = fc.array(piece, { maxLength: 7 }).map((parts) => parts.join(''));
    const text = fc
      .array(fc.constantFrom('a', 'b', 'c', '-', '*', ']'), { maxLength: 8 })
      .map((parts) => parts.join(''));
    fc.assert(
      fc.property(fc.array(fc.tuple(pattern, text), { minLength: 300, maxLength: 300 }), (pairs) => {
        const expected = matchedByShell(pairs);
        for (const [index, [p, t]] of pairs.entries()) {
          expect({ p, t, matches: globMatches(p, t) }).toEqual({ p, t, matches: expected[index] });
        }
      }),
      { numRuns: 20 },
    );
  });

  it('takes a pattern made to explode in linear steps', () => {
    const startMs = performance.now();
    expect(globMatches('*a'.repeat(200) + 'b', 'a'.repeat(5000))).toBe(false);
    expect(performance.now() - startMs).toBeLessThan(2000);
  });
});
