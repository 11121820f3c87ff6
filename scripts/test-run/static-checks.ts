import { globSync, readFileSync } from 'node:fs';
import { spawnTool } from './child.ts';
import type { Tally } from './tally.ts';

/** Name for people, script of package.json. What the checks are is written there, once. */
const SCRIPTS = [
  ['types', 'typecheck'],
  ['lint', 'lint'],
  ['format', 'format:check'],
  ['boundaries between rooms', 'boundaries'],
  ['dead code', 'deadcode'],
] as const;

const SHELL = ['.ci/run', 'scripts/*.sh', 'scripts/setup/*.sh'];
const LIMIT_MS = 5 * 60_000;
/** As many as there are cores on a small machine; the type-aware linter alone uses two. */
const AT_ONCE = 2;

/** Each check is one test; its output is shown when it fails. */
export async function staticChecks(tally: Tally): Promise<void> {
  tally.heading('static checks');
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> };
  const checks: { name: string; command: string }[] = SCRIPTS.map(([name, script]) => {
    const command = scripts[script];
    if (command === undefined) throw new Error(`package.json has no script '${script}'`);
    return { name, command };
  });
  checks.push({ name: 'shell scripts', command: `shellcheck --external-sources ${globSync(SHELL).join(' ')}` });

  const lanes = Array.from({ length: AT_ONCE }, async () => {
    for (let check = checks.shift(); check !== undefined; check = checks.shift()) {
      const { name, command } = check;
      // `sh -c`, because the scripts hold `&&`; node_modules/.bin is on PATH.
      const result = await spawnTool('sh', ['-c', command], { limitMs: LIMIT_MS });
      const seconds = `${(result.elapsedMs / 1000).toFixed(1)} s`;
      if (result.code === 0) tally.pass(name, seconds);
      else tally.fail(name, `$ ${command}    (${result.how})\n${result.output}`);
    }
  });
  await Promise.all(lanes);
}
