import { systemClock } from '@lifeboat/foundation/clock';
import { parseMachineId } from '@lifeboat/foundation/ids';
import { type Log, silentLog } from '@lifeboat/foundation/log';
import type { Hypervisor, MachineState } from '@lifeboat/hypervisor/port';
import { describe, expect, it } from 'vitest';
import { SCRATCH_FLOOR_BYTES, whileScratchLasts } from './scratch-watch.ts';

const machine = { id: parseMachineId('11111111-2222-4333-8444-555555555555'), name: 'web' };
const { signal } = new AbortController();

/** A host whose scratch filesystem and machine are as `state` says. */
function host(options: { diskFailedBefore?: boolean } = {}) {
  const state = { leftBytes: SCRATCH_FLOOR_BYTES as number | Error, machine: 'running' as MachineState };
  const events: string[] = [];
  const hypervisor = {
    machineState: async () => state.machine,
    endBackup: async (_id: string, directory: string) => void events.push(`ended ${directory}`),
  } as unknown as Hypervisor;
  const log: Log = { ...silentLog, warn: (message) => void events.push(message) };
  const free = async (): Promise<number> => {
    if (state.leftBytes instanceof Error) throw state.leftBytes;
    return state.leftBytes;
  };
  const watched = { machine, job: { diskFailedBefore: options.diskFailedBefore ?? false }, directory: '/ops/1/qemu' };
  const run = <T>(reads: boolean, work: (signal: AbortSignal) => Promise<T>): Promise<T> =>
    whileScratchLasts({ hypervisor, clock: systemClock, log, free }, watched, { signal, reads }, work);
  return { state, events, run };
}

/** Reads until it is told to stop, and takes a moment to close its readers. */
function reader(events: string[]) {
  return async (own: AbortSignal): Promise<never> => {
    await new Promise((resolve) => own.addEventListener('abort', resolve, { once: true }));
    await systemClock.sleep(20);
    events.push('readers closed');
    throw new Error('a connection broke off');
  };
}

describe('while scratch lasts', () => {
  it('work is left alone', async () => {
    const { events, run } = host();
    expect(await run(true, async () => systemClock.sleep(300).then(() => 7))).toBe(7);
    await expect(run(true, () => Promise.reject(new Error('of its own')))).rejects.toThrow('of its own');
    expect(events).toEqual([]);
  });

  it.each([
    ['is nearly full', { leftBytes: SCRATCH_FLOOR_BYTES - 1 }, 'was ended before its own writes would have failed'],
    ['stopped the machine', { machine: 'disk-failed' as const }, 'stood still until the backup was ended'],
  ])('no more, since it %s: readers close, then the job ends, and the directory is named', async (_, trouble, said) => {
    const { state, events, run } = host();
    const reading = run(true, reader(events));
    Object.assign(state, trouble);
    await expect(reading).rejects.toMatchObject({
      code: 'disk.full',
      message: expect.stringMatching(new RegExp(`machine web.*${said}.*/ops/1/qemu`)) as string,
    });
    expect(events).toEqual(['readers closed', 'ended /ops/1/qemu']);
  });

  it('no more, but everything is read: the job ends at once, and the work goes on', async () => {
    const { state, events, run } = host();
    state.leftBytes = 0;
    const committing = run(false, async (own) => {
      await expect.poll(() => events).toEqual(['ended /ops/1/qemu']);
      return own.aborted;
    });
    expect(await committing).toBe(false);
    expect(events).toHaveLength(1);
  });

  it('a machine that stood still before is no reason, nor is what cannot be looked at', async () => {
    const { state, events, run } = host({ diskFailedBefore: true });
    state.machine = 'disk-failed';
    expect(await run(true, async () => systemClock.sleep(300).then(() => 7))).toBe(7);
    state.leftBytes = new Error('EIO');
    expect(await run(true, async () => systemClock.sleep(600).then(() => 8))).toBe(8);
    expect(events).toEqual(['the scratch files of web cannot be watched: EIO']);
  });
});
