import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import process from 'node:process';
import { spawnTool } from './child.ts';
import type { Tally } from './tally.ts';

export interface VitestOptions {
  readonly project: string;
  readonly patterns: readonly string[];
  readonly limitMs: number;
  readonly environment?: Readonly<Record<string, string>>;
}

/** What we read of vitest's JSON report. */
interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: 'passed' | 'failed';
    readonly message: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

/**
 * Runs one project and counts its tests, which vitest prints itself; what its report shows beyond them is printed here.
 * Returns how many there were; none at all is a failure unless patterns chose them.
 */
export async function runVitest(tally: Tally, options: VitestOptions): Promise<number> {
  const { project, patterns, limitMs, environment = {} } = options;
  tally.heading(`${project} tests`);
  const directory = mkdtempSync(join(tmpdir(), 'lifeboat-test-'));
  try {
    const path = join(directory, 'report.json');
    const args = ['run', '--project', project, '--reporter=default', '--reporter=json', `--outputFile.json=${path}`];
    if (patterns.length > 0) args.push('--passWithNoTests');
    const run = await spawnTool('vitest', [...args, ...patterns], {
      limitMs,
      stdout: 'inherit',
      stderr: 'inherit',
      environment,
    });
    const report = readReport(path);
    if (report === undefined) {
      tally.fail(`${project} tests`, `vitest ended with ${run.how} and left no report`);
      return 0;
    }
    const { tests, failures } = count(tally, report);
    if (tests === 0 && patterns.length === 0) tally.fail(`${project} tests`, 'no test ran');
    else if (run.code !== 0 && failures === 0) {
      tally.fail(`${project} tests`, `every test passed, and yet vitest ended with ${run.how}: see the errors above`);
    }
    return tests;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function count(tally: Tally, report: Report): { tests: number; failures: number } {
  let tests = 0;
  let failures = 0;
  for (const file of report.testResults) {
    const path = relative(process.cwd(), file.name);
    const failed = file.assertionResults.filter((test) => test.status !== 'passed');
    for (const test of failed) {
      tally.fail(
        `${path}: ${test.fullName}`,
        test.status === 'failed' ? '' : `          it is ${test.status}: a test that does not run proves nothing`,
      );
    }
    tests += file.assertionResults.length;
    failures += failed.length;
    tally.passSilently(file.assertionResults.length - failed.length);
    // A file that cannot be loaded, or whose hook fails, is failed without a failed test.
    if (file.status === 'failed' && failed.length === 0) {
      tally.fail(path, file.message);
      failures++;
    }
  }
  return { tests, failures };
}

function readReport(path: string): Report | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Report;
  } catch {
    return undefined; // vitest was killed or did not start: the caller says so
  }
}
