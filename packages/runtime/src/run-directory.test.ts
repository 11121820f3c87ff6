import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemRandom } from '@lifeboat/foundation/random';
import { createRunDirectory, takeAbandonedRuns } from './run-directory.ts';

const NOW_MS = Date.UTC(2026, 10, 24, 0, 23, 42);
let parent: string;
beforeEach(() => {
  parent = join(mkdtempSync(join(tmpdir(), 'lifeboat-runs-')), 'demo');
});
afterEach(() => rmSync(join(parent, '..'), { recursive: true, force: true }));

const create = () => createRunDirectory(parent, { nowMs: NOW_MS, random: systemRandom });
const abandoned = async (includeKept = false): Promise<string[]> => {
  const runs = await takeAbandonedRuns(parent, { includeKept });
  await Promise.all(runs.map((run) => run.release()));
  return runs.map(({ name }) => name);
};

describe('run directories', () => {
  it('are named by time, one per run', async () => {
    const runs = await Promise.all([create(), create()]);
    for (const { name } of runs) expect(name).toMatch(/^20261124t002342-[0-9a-f]{4}$/);
    expect(new Set(runs.map(({ path }) => path)).size).toBe(2);
    await Promise.all(runs.map((run) => run.remove()));
    expect(readdirSync(parent)).toEqual([]);
  });

  it('of living runs are nobody else’s', async () => {
    const run = await create();
    expect(await abandoned()).toEqual([]);
    await run.release();
    expect(await abandoned()).toEqual([run.name]);
  });

  it('that were kept stay until somebody asks for them', async () => {
    const run = await create();
    await run.keep();
    await run.release();
    expect(await abandoned()).toEqual([]);
    expect(await abandoned(true)).toEqual([run.name]);
  });

  it('keep logs and screenshots after a failure, and nothing large', async () => {
    const run = await create();
    mkdirSync(join(run.path, 'stack'));
    for (const file of ['stack/agent.log', 'stack/temporal.db', 'screen.png', 'disk.qcow2']) {
      writeFileSync(join(run.path, file), 'x');
    }
    await run.removeExceptEvidence();
    expect(new Set(readdirSync(run.path, { recursive: true, encoding: 'utf8' }))).toEqual(
      new Set(['run.lock', 'screen.png', 'stack', 'stack/agent.log']),
    );
    expect(await abandoned()).toEqual([run.name]);
  });

  it('do not take what is not a run', async () => {
    const run = await create();
    await run.release();
    mkdirSync(join(parent, 'build-log'));
    mkdirSync(join(parent, '..', 'elsewhere'));
    expect(await abandoned()).toEqual([run.name]);
    expect(existsSync(join(parent, 'build-log'))).toBe(true);
  });

  it('are none where there never was a run', async () => {
    expect(await abandoned()).toEqual([]);
  });
});
