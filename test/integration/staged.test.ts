/** What `npm run stage` makes: it works where neither this tree nor an npm package is in reach. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MiB } from '@lifeboat/foundation/units';
import { start, type Ended } from '../support/lifeboat-command.ts';
import { processesWith, run as runProgram, TestHost, type TinyMachine } from '../support/test-host.ts';
import { TINY_READY } from '../support/tiny-guest.ts';

const STAGE = fileURLToPath(new URL('../../scripts/stage.ts', import.meta.url));
let host: TestHost;
let web: TinyMachine;
let staged: string;

beforeAll(async () => {
  host = await TestHost.open('staged');
  staged = host.path('staged');
  runProgram(process.execPath, STAGE, staged);
  web = await host.machine({
    name: 'web',
    disks: [{ sizeBytes: 64 * MiB, random: [{ offsetBytes: 8 * MiB, lengthBytes: 8 * MiB }] }],
    start: true,
  });
});
afterAll(() => host?.close());

const lifeboat = (...args: readonly string[]): Promise<Ended> => command('lifeboat', ...args);

function command(name: string, ...args: readonly string[]): Promise<Ended> {
  const environment = { LIFEBOAT_STATE: host.root, LIFEBOAT_NODE: process.execPath };
  return start(args, environment, [join(staged, 'bin', name)]).ended;
}

it('carries native code for this platform and no path of the tree it came from', () => {
  const files = readdirSync(staged, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const native = files.filter(({ name }) => name.endsWith('.node')).map(({ parentPath }) => parentPath);
  expect(native).toHaveLength(2);
  for (const path of native) expect(path).toContain('linux');
  const tree = join(import.meta.dirname, '../..');
  const texts = files.filter(({ name }) => name.endsWith('.js')).map((entry) => join(entry.parentPath, entry.name));
  expect(texts.filter((path) => readFileSync(path, 'utf8').includes(tree))).toEqual([]);
});

it('shows its help, and a repository without points', async () => {
  const help = await lifeboat('--help');
  expect([help.code, help.stdout]).toEqual([0, expect.stringContaining('Usage: lifeboat')]);
  const supervisor = await command('lifeboat-supervisor', '--help');
  expect([supervisor.code, supervisor.stdout]).toEqual([0, expect.stringContaining('Usage: lifeboat-supervisor')]);
  const points = await lifeboat('points', '--json');
  expect([points.code, points.json]).toEqual([0, { points: [] }]);
  const target = await lifeboat('redeploy', web.name, '--target', 'floppy', '--name', 'x');
  expect([target.code, target.stderr]).toEqual([2, expect.stringContaining('virtio-scsi')]);
});

it('backs up and boots a machine with a stack of its own', async () => {
  const backup = await lifeboat('backup', web.name, '--json');
  expect([backup.stderr, backup.code]).toEqual([expect.anything(), 0]);
  const verify = await lifeboat('verify', web.name, '--ready', TINY_READY, '--timeout', '120');
  expect([verify.stderr, verify.stdout]).toEqual([
    expect.anything(),
    expect.stringContaining('stored, content, booted'),
  ]);
  expect(verify.code).toBe(0);
  expect(processesWith(host.root).filter(({ command }) => !command.includes('guest='))).toEqual([]);
});
