/** What `npm run stage` refuses, before anything could run without a part of it. What it makes: integration/staged.test.ts. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const STAGE = fileURLToPath(new URL('../../scripts/stage.ts', import.meta.url));
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lb-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const stage = (...args: string[]) => spawnSync(process.execPath, [STAGE, ...args], { encoding: 'utf8' });

test.each([
  ['its own address', 'export const here = import.meta.url;'],
  ['a computed path', 'export const there = (name: string) => new URL(`./${name}.ts`, import.meta.url);'],
  ['a resolved name', "export const main = import.meta.resolve('@lifeboat/agent/main');"],
])('a module that goes by %s, which would not be there', (_, source) => {
  const entry = join(directory, 'lost.ts');
  writeFileSync(entry, source);
  const { status, stderr } = stage('--entry', entry, join(directory, 'staged'));
  expect([status, stderr]).toEqual([1, expect.stringContaining('lost.ts asks for its own place')]);
});

test('a directory that holds something else', () => {
  const photos = join(directory, 'photos');
  mkdirSync(photos);
  writeFileSync(join(photos, 'holiday.jpg'), 'x');
  expect(stage(photos)).toMatchObject({ status: 1, stderr: expect.stringContaining('was not made by this') as string });
  expect(readdirSync(photos)).toEqual(['holiday.jpg']);
});
