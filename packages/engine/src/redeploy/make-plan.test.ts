import { realpathSync } from 'node:fs';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '@lifeboat/foundation/clock';
import { MiB } from '@lifeboat/foundation/units';
import { makeNtfsImage } from '@lifeboat/guest/testing/ntfs-image';
import { sampleWindows } from '@lifeboat/guest/testing/sample-windows';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { isWindowsPlan, makePlan } from './make-plan.ts';

test('disks are planned for by what is on them: a Windows, or nothing that is known', async () => {
  const base = realpathSync(await scratchDirectory());
  const path = join(base, 'disk.raw');
  const plan = () =>
    makePlan(
      { stateRoot: join(base, 'state'), clock: systemClock },
      { directory: join(base, 'op'), signal: new AbortController().signal } as never,
      {
        disks: [{ name: 'vda', path, format: 'raw', sizeBytes: 24 * MiB }],
        profile: 'ahci',
        newIdentity: true,
      } as never,
      { signal: new AbortController().signal, progress: () => {} },
    );
  await makeNtfsImage(path, { sizeBytes: 24 * MiB, files: sampleWindows('10') });
  const made = await plan();
  expect(isWindowsPlan(made) && made.drivers.map(({ service }) => service)).toEqual(['storahci']);
  expect(made.refusals).toEqual([]);
  expect(made.warnings.join(' ')).toContain('sysprep');

  await writeFile(path, '');
  await truncate(path, 24 * MiB);
  await expect(plan()).rejects.toMatchObject({
    code: 'guest.no-root',
    message: expect.stringContaining('Linux') as string,
  });
});
