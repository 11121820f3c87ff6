import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import type { RunningMachine } from '@lifeboat/hypervisor/port';
import type { Image } from '@lifeboat/hypervisor/screen/image';
import { type BootWatch, watchBoot } from './boot-watch.ts';
import { Film } from './film.ts';
import { leaseCapture } from './testing/packets.ts';

const context = { signal: new AbortController().signal, progress: () => {} };

/** One colour, a grey each time it is looked at, or white on black. */
function picture(kind: 'black' | 'blue' | 'text'): Image {
  const rgb = new Uint8Array(320 * 240 * 3);
  for (let at = 0; at < rgb.length; at += 3) if (kind === 'blue') rgb.set([0, 120, 215], at);
  const mark = (left: number, top: number, right: number, bottom: number): void => {
    for (let y = top; y < bottom; y += 1) rgb.fill(255, (y * 320 + left) * 3, (y * 320 + right) * 3);
  };
  if (kind !== 'black') mark(40, 50, 60, 100);
  return { width: 320, height: 240, rgb };
}

interface Guest {
  readonly printed?: string;
  readonly screen?: Image;
  readonly resets?: number;
  readonly agent?: boolean;
}

/** A guest that prints this and is then in this state. */
function guestIn(state: 'disk-failed' | 'ended' | 'running', guest: Guest | string = {}): RunningMachine {
  const {
    printed = '',
    screen = picture('black'),
    resets = 0,
    agent = false,
  } = typeof guest === 'string' ? { printed: guest } : guest;
  return {
    state: async () => state,
    look: async () => ({ image: screen, text: '' }),
    resets: () => resets,
    runInGuest: async () => {
      if (!agent) throw new LifeboatError('libvirt.agent-unresponsive', 'nobody there');
      return { exitCode: 0, output: '' };
    },
    blockStats: async () => ({ readBytes: 0, readWaitMs: 0, writtenBytes: 0 }),
    async *console() {
      yield Buffer.from(printed);
    },
  } as unknown as RunningMachine;
}

async function watched(
  guest: RunningMachine,
  assertServed: () => Promise<void>,
  options: Partial<Pick<BootWatch, 'consoleLogPath' | 'readyBy' | 'capturePath' | 'timeoutMs' | 'clock'>> = {},
) {
  const directory = await scratchDirectory();
  const { clock = systemClock } = options;
  const watch = {
    guest,
    clock,
    readyBy: 'console',
    ready: /READY/,
    film: new Film(directory),
    capturePath: join(directory, 'network.pcap'),
    consoleLogPath: join(directory, 'console.log'),
    startedMs: clock.monotonicMs(),
    timeoutMs: 1_000,
    assertServed,
    ...options,
  } as const;
  return watchBoot(watch, context);
}

/** A clock on which every wait is over at once; the guest's console is read in between. */
function fastClock(): Clock {
  let nowMs = 0;
  const sleep = async (ms: number): Promise<void> => {
    nowMs += ms;
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { nowMs: () => nowMs, monotonicMs: () => nowMs, sleep };
}

const served = async (): Promise<void> => {};
const inTime = (): { clock: Clock; timeoutMs: number } => ({ clock: fastClock(), timeoutMs: 120_000 });

describe('a guest that does not get ready', () => {
  const states = ['disk-failed', 'ended', 'running'] as const;

  test.each(states)('(%s) while its disks are served is a finding', async (state) => {
    const finding = state === 'running' ? 'nothing-shown' : state;
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

describe('what a guest shows', () => {
  test.each<[string, Guest, string]>([
    ['nothing at all', {}, 'nothing-shown'],
    ['a picture, and nothing else', { screen: picture('text') }, 'timeout'],
    ['a blue screen', { screen: picture('blue') }, 'blue-screen'],
    ['its firmware, again and again', { resets: 3 }, 'reboot-loop'],
    ['two resets, as of a first start', { resets: 2, printed: 'READY\n' }, 'ready'],
    ['a prompt for a passphrase', { printed: 'Please enter passphrase for disk data (root): ' }, 'passphrase-prompt'],
  ])('%s', async (_, shown, finding) => {
    expect(await watched(guestIn('running', shown), served, inTime())).toMatchObject({ finding });
  });

  test('a prompt that the guest answers by itself is none', async () => {
    const clock = fastClock();
    const guest = {
      ...guestIn('running'),
      async *console() {
        yield Buffer.from('Please unlock disk root: ');
        while (clock.monotonicMs() < 20_000) await clock.sleep(0);
        yield Buffer.from('\nunlocked by the TPM\nREADY\n');
      },
    } as RunningMachine;
    expect(await watched(guest, served, { clock, timeoutMs: 120_000 })).toMatchObject({ finding: 'ready' });
  });
});

describe('a guest is ready', () => {
  test('when its agent answers', async () => {
    const options = { ...inTime(), readyBy: 'agent' } as const;
    expect(await watched(guestIn('running', { agent: true }), served, options)).toMatchObject({ finding: 'ready' });
    expect(await watched(guestIn('running', 'READY\n'), served, { ...inTime(), readyBy: 'agent' })).toMatchObject({
      finding: 'timeout',
    });
  });

  test('when it took an address', async () => {
    const capturePath = join(await scratchDirectory(), 'network.pcap');
    const options = () => ({ ...inTime(), readyBy: 'dhcp', capturePath }) as const;
    expect(await watched(guestIn('running'), served, options())).toMatchObject({ finding: 'nothing-shown' });
    await writeFile(capturePath, leaseCapture('10.0.2.15'));
    const { finding, explanation } = await watched(guestIn('running'), served, options());
    expect([finding, explanation]).toEqual(['ready', 'It took the address 10.0.2.15']);
    await writeFile(capturePath, 'x'.repeat(100));
    await expect(watched(guestIn('running'), served, options())).rejects.toMatchObject({
      code: 'engine.capture-unusable',
    });
  });

  test('when its screen settles on something, and on nothing that is known to be bad', async () => {
    const options = (): { clock: Clock; timeoutMs: number; readyBy: 'screen' } => ({ ...inTime(), readyBy: 'screen' });
    expect(await watched(guestIn('running', { screen: picture('text') }), served, options())).toMatchObject({
      finding: 'ready',
    });
    expect(await watched(guestIn('running'), served, options())).toMatchObject({ finding: 'nothing-shown' });
    expect(await watched(guestIn('running', { screen: picture('blue') }), served, options())).toMatchObject({
      finding: 'blue-screen',
    });
    const panicked = { screen: picture('text'), printed: 'Kernel panic - not syncing: no init\n' };
    expect(await watched(guestIn('running', panicked), served, options())).toMatchObject({ finding: 'kernel-panic' });
  });
});

test.each(['READY\n', 'still at it\n'])(
  'a console (%j) that the host has no room for is a fault of the host, and no finding',
  async (printed) => {
    const states = ['ended', 'running'] as const;
    for (const state of states) {
      await expect(
        watched(guestIn(state, printed), async () => {}, { consoleLogPath: '/dev/full' }),
      ).rejects.toMatchObject({
        code: 'disk.full',
        message: expect.stringContaining('on this host') as string,
      });
    }
  },
);
