/** The workflow bundle: what may not be in it, and when the cache is believed. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { workflowBundle } from '@lifeboat/worker/workflow-bundle';

let directory: string;
let cacheDirectory: string;
let entryPath: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lifeboat-bundle-'));
  cacheDirectory = join(directory, 'cache');
  // Packages are found from a workflow's own place.
  symlinkSync(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(directory, 'node_modules'));
  mkdirSync(join(directory, 'workflows'));
  entryPath = join(directory, 'workflows', 'entry.ts');
  writeFileSync(entryPath, 'export async function Quiet(): Promise<number> { return 1; }\n');
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

const cachedFiles = (): string[] => readdirSync(join(cacheDirectory, 'workflows'));

test('the product bundles, and stack traces name its files from the root of the clone', async () => {
  const { code } = await workflowBundle();
  expect(code).toContain('BackupMachine');
  const map = /sourceMappingURL=data:application\/json;[^,]*base64,([A-Za-z0-9+/=]+)/.exec(code)?.[1] ?? '';
  const { sources } = JSON.parse(Buffer.from(map, 'base64').toString()) as { sources: string[] };
  expect(sources).toContain('lifeboat:///./workflows/src/backup-machine.ts');
});

test.each([
  [
    'directly',
    "import { hostname } from 'node:os';\nexport async function Curious(): Promise<string> { return hostname(); }\n",
  ],
  [
    'through a room that is not for workflows',
    "import { systemRandom } from '@lifeboat/foundation/random';\nexport async function Curious(): Promise<number> { return systemRandom.bytes(1).length; }\n",
  ],
])('a workflow that reaches for Node %s is refused', async (_, source) => {
  writeFileSync(entryPath, source);
  await expect(workflowBundle({ entryPath, cacheDirectory })).rejects.toMatchObject({
    code: 'internal.bug',
    message: expect.stringMatching(/disallowed modules|UnhandledSchemeError|node:/),
  });
});

test('the second time it comes from the cache, the same', async () => {
  const built = await workflowBundle({ entryPath, cacheDirectory });
  const found = await workflowBundle({ entryPath, cacheDirectory });
  expect([built.cached, found.cached]).toEqual([false, true]);
  expect(found.code).toBe(built.code);
});

test('changed code is not served from the cache', async () => {
  await workflowBundle({ entryPath, cacheDirectory });
  writeFileSync(entryPath, 'export async function Quiet(): Promise<number> { return 2; }\n');
  const { cached, code } = await workflowBundle({ entryPath, cacheDirectory });
  expect(cached).toBe(false);
  expect(code).toContain('return 2');
});

test.each([
  ['cut short', (text: string) => text.slice(0, -1_000)],
  ['changed', (text: string) => text.replace('Quiet', 'Quite')],
  ['without its first line', (text: string) => text.slice(text.indexOf('\n') + 1)],
  ['empty', () => ''],
])('a cached bundle that is %s is made again', async (_, damage) => {
  const built = await workflowBundle({ entryPath, cacheDirectory });
  const [name = ''] = cachedFiles();
  const path = join(cacheDirectory, 'workflows', name);
  writeFileSync(path, damage(readFileSync(path, 'utf8')));
  const again = await workflowBundle({ entryPath, cacheDirectory });
  expect(again).toMatchObject({ cached: false, code: built.code });
  expect(await workflowBundle({ entryPath, cacheDirectory })).toMatchObject({ cached: true, code: built.code });
  expect(cachedFiles()).toEqual([name]);
});
