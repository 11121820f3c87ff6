import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import type { MachineSources } from '@lifeboat/hypervisor/port';
import { claimTarget } from './claim-target.ts';

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
