/**
 * The freeze against a scripted agent, at the calls of libvirt: libvirt talks to an agent only once the guest's driver has
 * opened the channel, and a guest that has one takes a minute to boot. The second process is the real one, with a virsh of ours.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { silentLog, type Log } from '@lifeboat/foundation/log';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { whileFrozen } from './freeze.ts';
import { scriptedAgent } from './testing/scripted-agent.ts';

const domain = { name: 'web', uuid: '11111111-2222-4333-8444-555555555555', id: 1 };
const VIRSH_SAID = `-q -c qemu:///system domfsthaw ${domain.uuid}`;
/** Longer than the second process needs to notice that it is not wanted. */
const SETTLED_MS = 300;

afterEach(() => void vi.unstubAllEnvs());

/** A virsh first on the PATH that notes how it was called; the answer tells. */
async function noteVirsh(): Promise<() => Promise<string>> {
  const directory = await scratchDirectory();
  const calls = path.join(directory, 'calls');
  const bin = path.join(directory, 'bin');
  await mkdir(bin);
  await writeFile(path.join(bin, 'virsh'), `#!/bin/sh\necho "$@" >>'${calls}'\n`);
  await chmod(path.join(bin, 'virsh'), 0o755);
  await writeFile(calls, '');
  vi.stubEnv('PATH', `${bin}:${process.env['PATH']}`);
  return async () => (await readFile(calls, 'utf8')).trim();
}

async function freeze(
  script: Parameters<typeof scriptedAgent>[0],
  options: { work?: (virsh: () => Promise<string>) => Promise<unknown>; watchdogSeconds?: number } = {},
) {
  const virsh = await noteVirsh();
  const agent = scriptedAgent(script);
  const errors: string[] = [];
  const log: Log = { ...silentLog, error: (message) => void errors.push(message) };
  let runs = 0;
  const deps = { connection: agent.connection, log, virshUri: 'qemu:///system' };
  const { watchdogSeconds } = options;
  const frozen = whileFrozen(
    { ...deps, ...(watchdogSeconds === undefined ? {} : { watchdogSeconds }) },
    domain,
    async () => {
      runs += 1;
      await options.work?.(virsh);
      return 'the job';
    },
  );
  const outcome = await frozen.catch((error: unknown) => error);
  return { outcome, runs, asked: agent.asked, errors, virsh };
}

const PING = 'domainAgentCommand';
const FREEZE = 'domainFsfreeze';
const THAW = 'domainFsthaw';
const failed = new LifeboatError('libvirt.agent-failed', 'failed to freeze /mnt');

describe('a freeze', () => {
  test('that lasted is consistent, and the second process lets it be', async () => {
    const { outcome, runs, asked, virsh } = await freeze({ domainFsfreeze: 2 });
    const reason = 'the guest agent froze 2 filesystems for the instant';
    expect(outcome).toEqual({ consistency: 'filesystem', reason, result: 'the job' });
    expect([runs, asked]).toEqual([1, [PING, FREEZE, THAW]]);
    await systemClock.sleep(SETTLED_MS);
    expect(await virsh()).toBe('');
  });

  test.each([
    ['nothing was left to thaw', { domainFsfreeze: 2, domainFsthaw: 0 }, 'thawed by something else before'],
    ['nothing was frozen', { domainFsfreeze: 0 }, 'froze 0 filesystems'],
  ])('of which %s is none', async (_, script, reason) => {
    const { outcome, runs, virsh } = await freeze(script);
    expect(outcome).toMatchObject({ consistency: 'crash', reason: expect.stringContaining(reason) as string });
    expect(runs).toBe(1);
    await systemClock.sleep(SETTLED_MS);
    expect(await virsh()).toBe('');
  });

  test.each([
    ['libvirt.unsupported', 'has no guest agent channel'],
    ['libvirt.agent-unresponsive', 'does not answer'],
    ['libvirt.agent-failed', 'cannot be used'],
  ] as const)('is not tried where the ping fails with %s, and the work is done all the same', async (code, reason) => {
    const { outcome, runs, asked } = await freeze({ domainAgentCommand: new LifeboatError(code, 'no') });
    expect(outcome).toMatchObject({ consistency: 'crash', reason: expect.stringContaining(reason) as string });
    expect([runs, asked]).toEqual([1, [PING]]);
  });

  test('that failed may have frozen some: thawed before the work is done', async () => {
    const order: string[] = [];
    const work = async (): Promise<void> => void order.push('work');
    const { outcome, asked } = await freeze({ domainFsfreeze: failed, domainFsthaw: 1 }, { work });
    expect(outcome).toMatchObject({ consistency: 'crash', reason: expect.stringContaining('/mnt') as string });
    expect([asked, order]).toEqual([[PING, FREEZE, THAW], ['work']]);
  });

  test('is undone when the work fails, which is what is reported', async () => {
    const { outcome, asked } = await freeze({ domainFsfreeze: 1 }, { work: () => Promise.reject(new Error('no job')) });
    expect(outcome).toEqual(new Error('no job'));
    expect(asked).toEqual([PING, FREEZE, THAW]);
  });

  test('whose thaw fails is thawed by the second process, and proves nothing', async () => {
    const { outcome, errors, virsh } = await freeze({ domainFsfreeze: 1, domainFsthaw: failed });
    expect(outcome).toMatchObject({ consistency: 'crash', reason: expect.stringContaining('could not say') as string });
    expect(errors.join()).toContain('web may still be frozen');
    await expect.poll(virsh).toBe(VIRSH_SAID);
  });
});

describe('the second process', () => {
  test('thaws a guest that is frozen too long, while the work still hangs', async () => {
    let during = '';
    const script: Parameters<typeof scriptedAgent>[0] = { domainFsfreeze: 1 };
    const work = async (virsh: () => Promise<string>): Promise<void> => {
      await expect.poll(virsh, { timeout: 5000 }).toBe(VIRSH_SAID);
      during = await virsh();
      script.domainFsthaw = 0;
    };
    const { outcome } = await freeze(script, { work, watchdogSeconds: 1 });
    expect(during).toBe(VIRSH_SAID);
    expect(outcome).toMatchObject({ consistency: 'crash' });
  });

  test('thaws the guest of a process that is killed', async () => {
    const virsh = await noteVirsh();
    const child = spawn(process.execPath, [path.join(import.meta.dirname, 'testing/frozen-child.ts'), domain.uuid], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    expect(await virsh()).toBe('');
    child.kill('SIGKILL');
    await expect.poll(virsh, { timeout: 5000 }).toBe(VIRSH_SAID);
  });
});
