import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { type Log, silentLog } from '@lifeboat/foundation/log';
import { takeLock } from '@lifeboat/host/file-lock';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import type { Hypervisor } from '@lifeboat/hypervisor/port';
import { expect, test } from 'vitest';
import { watchForsakenJobs } from './forsaken-jobs.ts';
import { SCRATCH_FLOOR_BYTES } from './scratch-watch.ts';

const MACHINE = '6695eb01-f6a4-8304-79aa-97f2502e193f';
const OTHER = '7795eb01-f6a4-8304-79aa-97f2502e193f';
const hastyClock = { ...systemClock, sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(ms / 50, signal) };

test('a job that nobody reads from is ended before its scratch is full; one that is worked on is left to its attempt', async () => {
  const stateRoot = await scratchDirectory();
  const directoryOf = (name: string): string => join(stateRoot, 'ops', name);
  for (const name of ['left', 'worked-on', 'without-a-job', 'damaged', 'hanging']) {
    mkdirSync(join(directoryOf(name), 'facts'), { recursive: true });
    const begun =
      name === 'damaged'
        ? 'no json'
        : JSON.stringify({ machineId: name === 'hanging' ? OTHER : MACHINE, pointId: 'p' });
    writeFileSync(join(directoryOf(name), 'facts/begun.json'), begun);
  }
  mkdirSync(directoryOf('lost+found'));
  const lock = await takeLock(join(directoryOf('worked-on'), 'lock'), { waitMs: 0 });
  let leftBytes = SCRATCH_FLOOR_BYTES;
  let running = 'left';
  const ended: string[] = [];
  const looks: string[] = [];
  const lines: string[] = [];
  const answered = Promise.withResolvers<void>();
  const hypervisor = {
    currentBackup: async (machine: string) => {
      if (machine === OTHER) await answered.promise;
      return { ours: true, directory: join(directoryOf(running), 'qemu') };
    },
    attachBackup: async () => ({ diskFailedBefore: false }),
    machineState: async () => 'running',
    endBackup: async (_: string, directory: string) => {
      // Under the lock: no attempt goes on with it meanwhile.
      expect(await takeLock(join(directory, '../lock'), { waitMs: 0 })).toBeUndefined();
      ended.push(directory);
      running = 'none';
    },
  } as unknown as Hypervisor;
  const log: Log = { ...silentLog, warn: (message) => void lines.push(message) };
  const free = async (directory: string): Promise<number> => {
    looks.push(directory);
    return leftBytes;
  };
  const stop = new AbortController();
  const watching = watchForsakenJobs({ hypervisor, log, clock: hastyClock, stateRoot, free }, stop.signal);
  try {
    await expect.poll(() => looks.length).toBeGreaterThan(3);
    expect(ended).toEqual([]);
    leftBytes -= 1;
    await expect.poll(() => ended).toEqual([join(directoryOf('left'), 'qemu')]);
    running = 'worked-on';
    const before = looks.length;
    await expect.poll(() => looks.length).toBeGreaterThan(before + 3);
    expect(ended).toHaveLength(1);
    expect(lines.filter((line) => line.includes('damaged'))).toHaveLength(1);
    expect(lines.filter((line) => line.includes('was ended before its own writes would have failed'))).toHaveLength(1);
  } finally {
    stop.abort();
    answered.resolve();
    await watching;
    await lock?.release();
  }
});
