import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { startChild } from './children.ts';
import { clearLeftovers } from './leftovers.ts';

test('finds records in the parts of a directory, but not where a guest or QEMU writes', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'lifeboat-leftovers-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const start = async (part: string) => {
    await mkdir(join(directory, part), { recursive: true });
    const child = await startChild('sleep', ['60'], { directory: join(directory, part), name: 'sleeper' });
    onTestFinished(async () => void (await child.stop()));
    return child;
  };
  const own = [await start('.'), await start('side-a')];
  const foreign = [await start('part1.mnt'), await start('qemu')];

  const leftovers = await clearLeftovers(directory);

  expect(leftovers.map(({ kind, name, gone }) => ({ kind, name, gone }))).toEqual([
    { kind: 'child', name: 'sleeper', gone: true },
    { kind: 'child', name: 'sleeper', gone: true },
  ]);
  for (const child of own) expect((await child.exited).signal).toBe('SIGKILL');
  for (const child of foreign) expect(child.exit).toBeUndefined();
});
