/**
 * `npm test`: every check of this tree, in this order:
 *
 *   static       types, lint, format, boundaries, dead code, shell scripts; side by side
 *   unit         vitest, project unit
 *   simulation   vitest, project simulation: the repository in worlds that seeds decide
 *   integration  vitest, projects integration and alone (one file at a time), on a guest that is built first; then a look
 *                for what was left behind
 *
 * A part that fails does not stop the next one. The last line is `N passed, N failed`; a test that was skipped counts as
 * failed, and so does a run in which nothing ran. Exit code 0 only when at least one passed and none failed.
 */
import process from 'node:process';
import { spawnTool, stopTools } from './test-run/child.ts';
import { LeakWatch } from './test-run/leaks.ts';
import { staticChecks } from './test-run/static-checks.ts';
import { Tally } from './test-run/tally.ts';
import { runVitest } from './test-run/vitest.ts';

const USAGE = `Usage: npm test [-- PART [PATTERN...]]

  PART     static, unit, simulation or integration (default: all of them)
  PATTERN  part of a test file's path, for all but static

Example: npm test -- integration redeploy`;

const UNIT_LIMIT_MS = 15 * 60_000;
const SIMULATION_LIMIT_MS = 45 * 60_000;
const INTEGRATION_LIMIT_MS = 45 * 60_000;
const GUEST_LIMIT_MS = 35 * 60_000;

async function unit(tally: Tally, patterns: readonly string[]): Promise<void> {
  const tests = await runVitest(tally, { project: 'unit', patterns, limitMs: UNIT_LIMIT_MS });
  if (tests === 0 && patterns.length > 0) tally.fail('unit tests', `no test ran for ${patterns.join(' ')}`);
}

async function simulation(tally: Tally, patterns: readonly string[]): Promise<void> {
  const tests = await runVitest(tally, { project: 'simulation', patterns, limitMs: SIMULATION_LIMIT_MS });
  if (tests === 0 && patterns.length > 0) tally.fail('simulation', `no test ran for ${patterns.join(' ')}`);
}

async function integration(tally: Tally, patterns: readonly string[]): Promise<void> {
  tally.heading('guest image');
  const build = await spawnTool('bash', ['scripts/build-guest.sh'], { limitMs: GUEST_LIMIT_MS, stderr: 'inherit' });
  if (build.code !== 0) {
    tally.fail('the guest was not built', `scripts/build-guest.sh ended with ${build.how}`);
    return;
  }
  const watch = await LeakWatch.begin();
  let tests = 0;
  for (const project of ['integration', 'alone']) {
    tests += await runVitest(tally, {
      project,
      patterns,
      limitMs: INTEGRATION_LIMIT_MS,
      environment: watch.environment,
    });
  }
  if (tests === 0 && patterns.length > 0) tally.fail('integration tests', `no test ran for ${patterns.join(' ')}`);
  tally.heading('nothing left behind');
  const leaks = await watch.end();
  for (const leak of leaks) tally.fail(`left behind: ${leak}`);
  if (leaks.length === 0) tally.pass('nothing left behind');
}

const PARTS = ['static', 'unit', 'simulation', 'integration'];
const [part, ...patterns] = process.argv.slice(2);
const parts = part === undefined ? PARTS : [part];
if (!PARTS.includes(parts[0] as string)) {
  console.error(USAGE);
  process.exit(part === '--help' ? 0 : 2);
}

for (const [name, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  process.once(name, () => {
    void stopTools().finally(() => process.exit(code));
  });
}

const tally = new Tally((line) => console.log(line));
if (parts.includes('static')) await staticChecks(tally);
if (parts.includes('unit')) await unit(tally, patterns);
if (parts.includes('simulation')) await simulation(tally, patterns);
if (parts.includes('integration')) await integration(tally, patterns);
tally.finish();
process.exitCode = tally.green ? 0 : 1;
