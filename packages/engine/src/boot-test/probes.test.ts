import { expect, test } from 'vitest';
import type { Clock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { RunningMachine } from '@lifeboat/hypervisor/port';
import { runProbes } from './probes.ts';

const context = { signal: new AbortController().signal, progress: () => {} };

/** A clock on which every wait is over at once. */
function fastClock(): Clock {
  let nowMs = 0;
  const sleep = async (ms: number): Promise<void> => void (nowMs += ms);
  return { nowMs: () => nowMs, monotonicMs: () => nowMs, sleep };
}

/** The agent answers `true`; this is what becomes of any other command. */
function guestWhere(answer: () => Promise<{ exitCode: number; output: string }>, state = 'running'): RunningMachine {
  return {
    state: async () => state,
    runInGuest: async (command: string) => (command === 'true' ? { exitCode: 0, output: '' } : answer()),
  } as unknown as RunningMachine;
}

const probe = (guest: RunningMachine) => runProbes({ clock: fastClock() }, guest, ['check', 'never run'], context);
const failing = (code: ConstructorParameters<typeof LifeboatError>[0]) => (): Promise<never> =>
  Promise.reject(new LifeboatError(code, 'so it was'));

test('a probe that fails, hangs, is not run, or ends with its guest is a finding', async () => {
  expect(await probe(guestWhere(async () => ({ exitCode: 3, output: 'no' })))).toEqual({
    results: [{ command: 'check', exitCode: 3, output: 'no', durationMs: 0 }],
    failure: "The probe 'check' ended with exit code 3",
  });
  expect(await probe(guestWhere(failing('hypervisor.guest-command-timeout')))).toEqual({
    results: [{ command: 'check', exitCode: 124, output: '', durationMs: expect.any(Number) as number }],
    failure: "The probe 'check' did not end within 120 s",
  });
  for (const code of ['libvirt.agent-unresponsive', 'libvirt.agent-failed'] as const) {
    const { failure } = await probe(guestWhere(failing(code)));
    expect(failure).toBe("The guest is ready, but its agent did not run the probe 'check': so it was");
  }
  const { failure } = await probe(guestWhere(failing('libvirt.no-such-domain'), 'ended'));
  expect(failure).toBe("The guest ended while the probe 'check' ran in it");
});

test('what says nothing about the guest is an error', async () => {
  const lost = guestWhere(failing('libvirt.connection-lost'));
  await expect(probe(lost)).rejects.toMatchObject({ code: 'libvirt.connection-lost' });
});

test('an agent that hangs from the beginning did not answer', async () => {
  const guest = { ...guestWhere(failing('internal.bug')), runInGuest: failing('hypervisor.guest-command-timeout') };
  const { results, failure } = await runProbes({ clock: fastClock() }, guest, ['check'], context);
  expect([results, failure]).toEqual([[], expect.stringContaining('did not answer within 120 s')]);
});
