/** The command line as a person meets it: what goes wrong is said with a code and a next step, and exit codes mean something. */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MiB } from '@lifeboat/foundation/units';
import { systemCode } from '@lifeboat/foundation/errors';
import { orphanedGrub } from '../support/grub-guest.ts';
import { buildGuestImage } from '../support/guest-image.ts';
import { lifeboat, start, type Ended, type Running } from '../support/lifeboat-command.ts';
import { goOn, standStill } from '../support/stopped-process.ts';
import { difference, processesWith, socketsBeneath, TestHost, type TinyMachine } from '../support/test-host.ts';
import { TINY_READY } from '../support/tiny-guest.ts';

let host: TestHost;
let web: TinyMachine;
let grub: TinyMachine;
/** Large enough that a signal comes in the middle of its backup and its restore. */
let big: TinyMachine;
const READY = ['--ready', TINY_READY, '--timeout', '120'];
const NEVER_READY = ['--ready', 'never said', '--timeout', '120'];
/** A phase is shown when it is ordered; this much later the agent is at it. */
const INTO_PHASE_MS = 1000;

beforeAll(async () => {
  host = await TestHost.open('cli');
  web = await host.machine({
    name: 'web',
    disks: [{ sizeBytes: 64 * MiB, random: [{ offsetBytes: 8 * MiB, lengthBytes: 8 * MiB }] }],
    start: true,
  });
  grub = await host.machine({
    name: 'grub',
    disks: [{ sizeBytes: 32 * MiB, start: orphanedGrub(host.path('grub')) }],
    start: true,
  });
  big = await host.machine({
    name: 'big',
    disks: [{ sizeBytes: 640 * MiB, random: [{ offsetBytes: MiB, lengthBytes: 512 * MiB }] }],
    start: true,
  });
});
afterAll(() => host.close());

function run(...args: readonly string[]): Promise<Ended> {
  return lifeboat(args, { LIFEBOAT_STATE: host.root });
}

/** What every error on stderr has. */
function expectHelp({ stderr }: Ended, code: string): void {
  expect(stderr).toContain(`[${code}]`);
  expect(stderr).toMatch(/^ {2}Cause: +\S.*\n {2}Impact: +\S.*\n {2}Next: +\S/m);
}

describe('errors a person sees', () => {
  it('libvirt is not running', async () => {
    const socket = host.path('no-libvirt-sock');
    const ended = await lifeboat(['backup', 'web', '--json'], {
      LIFEBOAT_STATE: host.root,
      LIFEBOAT_LIBVIRT_SOCKET: socket,
    });
    expect(ended.code).toBe(1);
    expectHelp(ended, 'libvirt.not-running');
    expect(ended.stderr).toContain(socket);
    expect(ended.json).toMatchObject({ exitCode: 1, error: { code: 'libvirt.not-running' } });
  });

  it('no such machine', async () => {
    const ended = await run('backup', 'nobody');
    expect(ended.code).toBe(1);
    expectHelp(ended, 'hypervisor.no-such-machine');
    expect(ended.stderr).toContain("'nobody'");
    expect(ended.stdout).toBe('');
  });

  it('a machine without recovery points', async () => {
    const ended = await run('verify', 'nobody');
    expect(ended.code).toBe(1);
    expectHelp(ended, 'engine.no-such-point');
  });

  it('a directory that is no repository', async () => {
    const directory = host.path('photos');
    mkdirSync(directory);
    writeFileSync(join(directory, 'holiday.jpg'), 'x');
    const ended = await lifeboat(['points'], { LIFEBOAT_STATE: host.root, LIFEBOAT_REPOSITORY: directory });
    expect(ended.code).toBe(1);
    expectHelp(ended, 'repository.not-a-repository');
    expect(readdirSync(directory)).toEqual(['holiday.jpg']);
  });

  it('a wrong passphrase', async () => {
    const right = host.path('right');
    const wrong = host.path('wrong');
    writeFileSync(right, 'correct horse\n', { mode: 0o600 });
    writeFileSync(wrong, 'battery staple\n', { mode: 0o600 });
    const environment = { LIFEBOAT_STATE: host.path('passphrase-state'), LIFEBOAT_REPOSITORY: host.path('locked') };
    // Any backup makes the repository first; this one then finds no machine.
    await lifeboat(['backup', 'nobody'], { ...environment, LIFEBOAT_PASSPHRASE_FILE: right });
    const opened = await lifeboat(['points', '--json'], { ...environment, LIFEBOAT_PASSPHRASE_FILE: right });
    expect([opened.code, opened.json]).toEqual([0, { points: [] }]);
    const ended = await lifeboat(['points'], { ...environment, LIFEBOAT_PASSPHRASE_FILE: wrong });
    expect(ended.code).toBe(1);
    expectHelp(ended, 'repository.wrong-passphrase');
  });

  it('wrong usage: nothing is started, the exit code is 2', async () => {
    for (const args of [
      ['bakcup', 'web'],
      ['restore', 'web'],
      ['redeploy', 'web', '--target', 'floppy', '--name', 'x'],
    ]) {
      const ended = await run(...args);
      expect([args, ended.code]).toEqual([args, 2]);
      expect(ended.stderr).toMatch(/^error: /);
    }
    expect((await run()).code).toBe(2);
    expect(existsSync(host.path('stack'))).toBe(false);
  });

  it('help is no error, and says what exit codes mean', async () => {
    const ended = await run('verify', '--help');
    expect(ended.code).toBe(0);
    expect(ended.stdout).toContain('Exit codes:');
  });
});

/** Holds the data of `web`, which is backed up first. */
let webPack: string;

describe('a command that finds no stack', () => {
  it('starts one, does its work, and leaves nothing behind', async () => {
    const ended = await run('backup', web.name, '--json');
    expect(ended.stderr).toContain('✓ Capture');
    expect(ended.code).toBe(0);
    expect(ended.json).toMatchObject({ capture: { machineName: web.name, disks: [{ name: 'vda', method: 'full' }] } });
    expect(processesWith(host.root).filter(({ command }) => !command.includes('guest='))).toEqual([]);
    webPack = largestFile(join(host.root, 'repository'));
  });

  it('undoes a backup at Ctrl-C and says so by its exit code', async () => {
    const running = start(['backup', big.name], { LIFEBOAT_STATE: host.root });
    await running.shows(/▸ Capture/);
    running.child.kill('SIGINT');
    running.child.kill('SIGINT'); // as npm passes on what the terminal sent as well
    const ended = await running.ended;
    expect(ended.stderr).toContain('[operation.cancelled]');
    expect(ended.code).toBe(130);
    expect(big.hasJob()).toBe(false);
    expect(big.checkpoints()).toEqual([]);
    expect((await run('points', big.name, '--json')).json).toEqual({ points: [] });
    expect(await host.traces()).toEqual(
      expect.not.arrayContaining([expect.stringMatching(/^(domain|network|mount|loop)/)]),
    );
  });
});

describe('with a stack that runs', () => {
  let up: Running;
  /** A guest that can be redeployed, and never says that it is ready. */
  let linux: TinyMachine;
  beforeAll(async () => {
    up = start(['up'], { LIFEBOAT_STATE: host.root });
    await up.shows(/Ctrl-C stops it/);
    const directory = host.path('linux');
    mkdirSync(directory);
    linux = await host.machine({ name: 'linux', disks: [{ image: buildGuestImage({ directory, format: 'qcow2' }) }] });
    for (const { name } of [linux, big]) await run('backup', name);
  });
  afterAll(async () => {
    up.child.kill('SIGTERM');
    await up.ended;
  });

  it('a second one is refused', async () => {
    const ended = await run('up');
    expect(ended.code).toBe(1);
    expectHelp(ended, 'stack.in-use');
    expect(ended.stderr).toContain(String(up.child.pid));
  });

  it('backs up, lists, verifies and restores', async () => {
    web.write(0, 20 * MiB, MiB);
    const backup = await run('backup', web.name, '--json');
    expect([backup.code, backup.stderr]).toEqual([0, expect.stringContaining('runs')]);
    const { pointId } = (backup.json as { capture: { pointId: string } }).capture;
    const points = await run('points', web.name);
    expect(points.stdout.split('\n')[1]).toContain(pointId);
    const verify = await run('verify', web.name, ...READY);
    expect([verify.stdout, verify.code]).toEqual([expect.stringContaining('it starts: ready after'), 0]);
    expect(verify.stdout).toContain('proof levels: stored, content, booted');
    expect((await run('points', web.name)).stdout).toMatch(new RegExp(`${pointId}.*stored, content, booted`));
    const restore = await run('restore', web.name, '--to', host.path('restored'), '--name', 'copy', '--json');
    expect(restore.code).toBe(0);
    const [copy] = web.copies('now');
    expect(difference(host.path('restored', 'copy-vda.qcow2'), copy ?? '')).toBeUndefined();
    const evidence = await run('evidence', web.name, '--json');
    expect([evidence.code, evidence.json]).toMatchObject([
      0,
      {
        sound: true,
        records: [
          { operation: 'check', claims: [{ level: 'stored' }, { level: 'content', result: 'proven' }] },
          { operation: 'boot-test', claims: [{ level: 'booted', result: 'proven', pointId }] },
          { operation: 'restore', claims: [{ level: 'content', result: 'proven', disks: [] }] },
        ],
      },
    ]);
  });

  it('shows what a machine was made of, and makes a profile of its hardware', async () => {
    const inspected = await run('inspect', linux.name, '--json');
    expect(inspected.json).toMatchObject({
      taken: 'at-backup',
      inventory: {
        disks: [{ scheme: 'gpt', partitions: [{ number: 1, content: { type: 'ext4' } }] }],
        systems: [{ os: { id: 'debian' }, kernels: [{ initrd: { generator: 'initramfs-tools' } }] }],
      },
    });
    expect((await run('inspect', linux.name)).stdout).toMatch(/^System {4}\S.*, root on \w+1$/m);
    const profile = host.path('profile.json');
    writeFileSync(profile, (await run('profiles', 'from-domain', linux.name, '--name', 'as-it-is')).stdout);
    const shown = await run('profiles', 'show', profile, '--json');
    expect([shown.json, shown.code]).toMatchObject([{ name: 'as-it-is', firmware: 'bios' }, 0]);
  });

  it('checks the filesystems of a point, and has a program of the operator look at the guest', async () => {
    const program = host.path('look.sh');
    writeFileSync(
      program,
      '#!/bin/sh\ngrep -q ID=debian "$1/usr/lib/os-release" && touch "$1/looked" && echo looked\n',
      {
        mode: 0o700,
      },
    );
    const asked = await run('verify', linux.name, '--level', 'filesystem', '--check', program, '--no-boot', '--json');
    expect([asked.json, asked.code]).toMatchObject([
      {
        verdict: 'sound',
        proof: ['stored', 'content', 'filesystem', 'application'],
        filesystems: {
          volumes: [{ partition: 1, type: 'ext4', result: 'sound' }],
          programs: [{ program, exitCode: 0, output: 'looked' }],
        },
      },
      0,
    ]);
  });

  it('says where a machine would start, and why not elsewhere', async () => {
    const asked = await run('preflight', linux.name, web.name, '--target', 'nvme', '--target', 'nvme-uefi', '--json');
    const { machines } = asked.json as { machines: { machineName: string; answers: unknown[] }[] };
    const of = ({ name }: { name: string }): unknown[] =>
      machines.find(({ machineName }) => machineName === name)?.answers ?? [];
    expect(of(linux)).toMatchObject([
      { profile: 'nvme', verdict: 'yes', reasons: [] },
      { profile: 'nvme-uefi', verdict: 'no', reasons: [expect.stringContaining('boots by bios')] },
    ]);
    // It holds no system at all: that is no yes.
    expect(of(web)).toMatchObject([{ verdict: 'unknown' }, { verdict: 'unknown' }]);
    expect(asked.code).toBe(3);
  });

  it.each([
    ['a boot test', () => ['verify', web.name, ...NEVER_READY], /▸ Boot test/],
    ['a restore', () => ['restore', big.name, '--to', host.path('broken-off'), '--name', 'big'], /▸ Restore/],
    [
      'the boot test of a redeploy',
      () => ['redeploy', linux.name, '--target', 'virtio-blk', '--name', `${host.prefix}-new`, ...NEVER_READY],
      /▸ Boot test/,
    ],
  ] as const)('undoes %s at Ctrl-C', async (_, args, phase) => {
    const before = [...(await host.traces()), ...socketsBeneath(host.root)];
    const operations = new Set(readdirSync(host.path('ops')));
    const running = start(args(), { LIFEBOAT_STATE: host.root });
    const held = args()[0] === 'restore' ? await holdTarget(operations) : undefined;
    await running.shows(phase);
    await sleep(INTO_PHASE_MS);
    running.child.kill('SIGINT');
    await sleep(INTO_PHASE_MS);
    if (held !== undefined) goOn(held);
    const ended = await running.ended;
    expect([ended.stderr, ended.code]).toEqual([expect.stringContaining('[operation.cancelled]'), 130]);
    // Of what was there before, the reaper may have taken away operations that are over.
    const after = [...(await host.traces()), ...socketsBeneath(host.root)];
    expect(after.filter((trace) => !before.includes(trace))).toEqual([]);
    for (const directory of ['broken-off', `machines/${host.prefix}-new`])
      expect(filesIn(host.path(directory))).toEqual([]);
  });

  it('a guest that stops in the GRUB rescue shell is a bad finding: exit code 3', async () => {
    expect((await run('backup', grub.name)).code).toBe(0);
    const ended = await run('verify', grub.name, ...READY);
    expect(ended.stdout).toContain('✗ it does not start (grub-rescue)');
    expect(ended.stdout).toContain('proof levels: stored, content\n');
    expect(ended.stdout).not.toContain('booted');
    expect(ended.code).toBe(3);
  });

  it('a damaged pack is a bad finding: exit code 3, and the damage is named', async () => {
    const bytes = readFileSync(webPack);
    const at = Math.floor(bytes.length / 2);
    const sound = bytes[at] ?? 0;
    bytes[at] = sound ^ 0xff;
    writeFileSync(webPack, bytes);
    try {
      const ended = await run('verify', web.name, '--no-boot', '--json');
      expect(ended.code).toBe(3);
      expect(ended.json).toMatchObject({ verdict: 'damaged', proof: [] });
      expect((ended.json as { check: { damage: unknown[] } }).check.damage.length).toBeGreaterThan(0);
    } finally {
      bytes[at] = sound;
      writeFileSync(webPack, bytes);
    }
  });

  it('starts a process again that was killed, and work goes on', async () => {
    for (const entry of ['agent/src/main.ts', 'worker/src/main.ts', 'temporal.db']) {
      const [victim] = childrenOf(up.child.pid).filter(({ command }) => command.includes(entry));
      expect([entry, victim]).toEqual([entry, expect.anything()]);
      process.kill(victim?.pid ?? 0, 'SIGKILL');
    }
    const ended = await run('verify', web.name, '--no-boot');
    expect([ended.stderr, ended.code]).toEqual([expect.anything(), 0]);
  });
});

/** Empty for a process that ended since it was listed. */
function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes(systemCode(error) ?? '')) return '';
    throw error;
  }
}

/** Processes whose parent is `pid`. */
function childrenOf(pid: number | undefined): { pid: number; command: string }[] {
  return processesWith('').filter(({ pid: child }) => {
    const status = statusOf(child);
    return new RegExp(`^PPid:\\s+${pid}$`, 'm').test(status);
  });
}

/** Empty for a directory that is not there. */
function filesIn(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

/** Stops the server of the image a new operation restores to as soon as it is there, so that the restore cannot be over. */
async function holdTarget(known: ReadonlySet<string>): Promise<number> {
  for (const untilMs = performance.now() + 30_000; performance.now() < untilMs; await sleep(2)) {
    for (const name of readdirSync(host.path('ops'))) {
      if (known.has(name)) continue;
      const pid = standStill(host.path('ops', name, 'to-vda.pid'));
      if (pid !== undefined) return pid;
    }
  }
  throw new Error('no restore began');
}

function largestFile(directory: string): string {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  const [largest] = files.sort((a, b) => statSync(b).size - statSync(a).size);
  if (largest === undefined) throw new Error(`${directory} holds no file`);
  return largest;
}
