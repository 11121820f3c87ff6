import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import type { RunningMachine } from '@lifeboat/hypervisor/port';
import { watchBoot } from './boot-watch.ts';

const context = { signal: new AbortController().signal, progress: () => {} };

/** A guest that prints this and is then in this state. */
function guestIn(state: 'disk-failed' | 'ended' | 'running', printed = ''): RunningMachine {
  return {
    state: async () => state,
    textScreen: async () => '',
    blockStats: async () => ({ readBytes: 0, readWaitMs: 0, writtenBytes: 0 }),
    async *console() {
      yield Buffer.from(printed);
    },
  } as unknown as RunningMachine;
}

async function watched(guest: RunningMachine, assertServed: () => Promise<void>, logPath?: string) {
  const consoleLogPath = logPath ?? join(await scratchDirectory(), 'console.log');
  const startedMs = systemClock.monotonicMs();
  const watch = {
    guest,
    clock: systemClock,
    ready: /READY/,
    consoleLogPath,
    startedMs,
    timeoutMs: 1_000,
    assertServed,
  };
  return watchBoot(watch, context);
}

describe('a guest that does not get ready', () => {
  const states = ['disk-failed', 'ended', 'running'] as const;

  test.each(states)('(%s) while its disks are served is a finding', async (state) => {
    const finding = state === 'running' ? 'timeout' : state;
    expect(await watched(guestIn(state), async () => {})).toMatchObject({ finding });
  });

  test('is not blamed before the end of what served its disks can be known', async () => {
    let ended = false;
    setTimeout(() => (ended = true), 50);
    const gone = async (): Promise<void> => {
      if (ended) throw new LifeboatError('engine.export-failed', 'it ended');
    };
    await expect(watched(guestIn('disk-failed'), gone)).rejects.toMatchObject({ code: 'engine.export-failed' });
  });

  test.each(states)('(%s) after the end of what served its disks is none', async (state) => {
    const gone = (): Promise<void> => Promise.reject(new LifeboatError('engine.export-failed', 'it ended'));
    await expect(watched(guestIn(state), gone)).rejects.toMatchObject({ code: 'engine.export-failed' });
    expect(await watched(guestIn('running', 'READY\n'), gone)).toMatchObject({ finding: 'ready' });
  });
});

test.each(['READY\n', 'still at it\n'])(
  'a console (%j) that the host has no room for is a fault of the host, and no finding',
  async (printed) => {
    const states = ['ended', 'running'] as const;
    for (const state of states) {
      await expect(watched(guestIn(state, printed), async () => {}, '/dev/full')).rejects.toMatchObject({
        code: 'disk.full',
        message: expect.stringContaining('on this host') as string,
      });
    }
  },
);
