import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import type { MachineSources } from '@lifeboat/hypervisor/port';
import { chooseTarget, claimTarget } from './claim-target.ts';

let target: string;
let link: string;
let other: string;
beforeEach(async () => {
  const directory = await scratchDirectory();
  [target = '', link = '', other = ''] = ['target', 'link', 'other'].map((name) => join(directory, name));
  for (const path of [target, other]) writeFileSync(path, 'old');
  symlinkSync(target, link);
});

const running = (sources: Partial<MachineSources>) => ({
  listSources: async () => [{ machine: 'web', paths: [], untold: [], ...sources }],
});

describe('a target', () => {
  test('that a machine runs from under another name is refused', async () => {
    for (const [path, source] of [
      [target, link],
      [link, target],
      [target, target],
    ] as const) {
      await expect(claimTarget(running({ paths: [other, source] }), path)).rejects.toMatchObject({
        code: 'engine.target-in-use',
        message: expect.stringContaining('machine web runs from it') as string,
      });
    }
  });

  test('is refused when it cannot be told what a machine runs from', async () => {
    const machines = [
      running({ untold: ["disk vdb is of type 'volume'"] }),
      // Beneath a file nothing can be looked at.
      running({ paths: [join(other, 'below')] }),
    ];
    for (const machine of machines) {
      await expect(claimTarget(machine, target)).rejects.toMatchObject({
        code: 'engine.target-in-use',
        message: expect.stringMatching(/machine web does not run from it cannot be told.*(volume|ENOTDIR)/) as string,
      });
    }
  });

  test('that is missing, or of the wrong kind, is no target', async () => {
    for (const [path, why] of [
      [`${target}.gone`, 'ENOENT'],
      [join(target, '..'), 'neither a file nor a block device'],
      ['/dev/null', 'neither a file nor a block device'],
    ] as const) {
      await expect(claimTarget(running({}), path)).rejects.toMatchObject({
        code: 'input.invalid',
        message: expect.stringContaining(why) as string,
      });
    }
  });

  test('that nothing uses is claimed, and let go of', async () => {
    const claim = await claimTarget(running({ paths: [other, `${other}.gone`] }), link);
    await expect(claim.release()).resolves.toBeUndefined();
  });
});

describe('the wrong disk', () => {
  /** Of one size, and nothing on them; loop devices, which the kernel numbers as it does every disk. */
  function equalDisks(): string[] {
    return [target, other].map((path) => {
      rmSync(path);
      closeSync(openSync(path, 'w'));
      truncateSync(path, 1024 * 1024);
      const device = execFileSync('losetup', ['--find', '--show', path], { encoding: 'utf8' }).trim();
      onTestFinished(() => void execFileSync('losetup', ['--detach', device]));
      return device;
    });
  }

  test('two equal disks that change places between the plan and the write: refused, and neither is written to', async () => {
    const [first = '', second = ''] = equalDisks();
    const name = `${link}.by-id`;
    symlinkSync(first, name);
    const planned = await claimTarget(running({}), name);
    await planned.release();
    rmSync(name);
    symlinkSync(second, name);
    const claim = await claimTarget(running({}), name);
    try {
      await expect(claim.assertSame(planned.identity)).rejects.toMatchObject({
        code: 'engine.target-changed',
        message: expect.stringContaining('its id is device') as string,
      });
      await expect(claim.assertSame(claim.identity)).resolves.toBeUndefined();
    } finally {
      await claim.release();
    }
  });

  test('the path that changes after the claim leads nobody astray: what was claimed is written to', async () => {
    const [first = '', second = ''] = equalDisks();
    const name = `${link}.by-id`;
    symlinkSync(first, name);
    const claim = await claimTarget(running({}), name);
    try {
      rmSync(name);
      symlinkSync(second, name);
      const disk = claim.asDisk();
      await disk.write(0, Buffer.from('mine'));
      await disk.flush();
      await disk.close();
      await claim.assertSame(claim.identity);
    } finally {
      await claim.release();
    }
    expect(readFileSync(first).toString('latin1', 0, 4)).toBe('mine');
    expect(readFileSync(second).every((byte) => byte === 0)).toBe(true);
  });

  test('a device that got another disk under the same name is not the same', async () => {
    const [first = ''] = equalDisks();
    const planned = await claimTarget(running({}), first);
    await planned.release();
    const third = `${other}.third`;
    closeSync(openSync(third, 'w'));
    truncateSync(third, 1024 * 1024);
    execFileSync('losetup', ['--detach', first]);
    execFileSync('losetup', [first, third]);
    const claim = await claimTarget(running({}), first);
    try {
      await expect(claim.assertSame(planned.identity)).rejects.toMatchObject({
        code: 'engine.target-changed',
        message: expect.stringMatching(/sequence \d+ instead of device .* sequence \d+/) as string,
      });
    } finally {
      await claim.release();
    }
  });

  test('what several disks have, or none, chooses none', async () => {
    await expect(chooseTarget('serial:nobody-has-this')).rejects.toMatchObject({
      code: 'engine.target-ambiguous',
      message: 'no disk of this host has serial:nobody-has-this',
    });
    equalDisks();
    await expect(chooseTarget(`size:${1024 * 1024}`)).rejects.toMatchObject({
      code: 'engine.target-ambiguous',
      message: expect.stringMatching(/\d disks of this host have size:1048576: .*loop/) as string,
    });
    expect(await chooseTarget(link)).toBe(link);
  });
});
