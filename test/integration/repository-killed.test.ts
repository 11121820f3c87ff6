/**
 * A backup process is killed at random moments, again and again, over one operation directory. Nothing half-written is ever
 * visible, and the attempt that is left in peace commits the same content.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { afterAll, expect, test } from 'vitest';

import { DirectoryStore } from '@lifeboat/repository/store/directory-store';
import { noisyDisk, readDisk, seededRandom } from '@lifeboat/repository/testing/disks';
import { initTiny, MACHINE, pointId, Scratch } from '@lifeboat/repository/testing/tiny';

const ATTEMPTS = 12;
const scratch = new Scratch();
afterAll(() => scratch.remove());

test('a backup that is killed goes on to the same content', async () => {
  const seed = Number(process.env['KILL_SEED'] ?? Date.now() % 1_000_000);
  console.log(`KILL_SEED=${seed}`);
  const random = seededRandom(seed);
  const storePath = scratch.directory();
  const repository = await initTiny(new DirectoryStore(storePath));
  const content = noisyDisk(1500, seed);
  const disk = scratch.file(content);
  const directory = scratch.directory();
  const child = fileURLToPath(import.meta.resolve('@lifeboat/repository/testing/backup-child'));

  /** One attempt; killed when its progress passes so many bytes. Returns whether it came to its end. */
  const attempt = async (killAtBytes: number): Promise<boolean> => {
    const backup = spawn(process.execPath, [child, storePath, directory, disk, pointId(1), String(killAtBytes)], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const [code, killedBy] = (await once(backup, 'close')) as [number | null, string | null];
    if (killedBy === 'SIGKILL') return false;
    expect(code).toBe(0);
    return true;
  };

  let kills = 0;
  for (let i = 0; i < ATTEMPTS; i++) {
    // Beyond the end of the disk: killed between the last chunk and the report of success, or just too late to be killed.
    if (!(await attempt(Math.floor(random() * content.length * 1.2)))) kills++;
    for (const summary of await repository.points()) {
      expect(summary.state).toBe('readable');
      expect(Buffer.compare(await readDisk(repository, MACHINE, pointId(1)), content)).toBe(0);
    }
  }
  // One in ten is too late for it, by the seed.
  expect(kills).toBeGreaterThan(ATTEMPTS / 4);
  expect(await attempt(Number.MAX_SAFE_INTEGER)).toBe(true);
  expect(Buffer.compare(await readDisk(repository, MACHINE, pointId(1)), content)).toBe(0);
  expect(await repository.points()).toHaveLength(1);
  const point = await repository.readPoint(MACHINE, pointId(1));
  const report = await repository.checkPoint(point, 'ciphertext', {
    signal: new AbortController().signal,
    progress: () => {},
  });
  expect(report).toMatchObject({ sound: true, objects: [], disks: [] });
  await repository.close();
});
