import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { GiB } from '@lifeboat/foundation/units';
import { ensureFree, freeBytes } from './disk-space.ts';
import { scratchDirectory } from './testing/scratch.ts';

test('free bytes are what df says, also for a path that does not exist yet', async () => {
  const directory = await scratchDirectory();
  const df = Number(
    execFileSync('df', ['--block-size=1', '--output=avail', directory], { encoding: 'utf8' }).split('\n')[1],
  );
  for (const path of [directory, join(directory, 'not/yet')]) {
    // Others write to the same filesystem meanwhile.
    expect(Math.abs((await freeBytes(path)) - df)).toBeLessThan(GiB);
  }
});

test('refuses before the start what cannot fit, with both numbers', async () => {
  const directory = await scratchDirectory();
  await ensureFree(directory, 1, 'a byte');
  const refusal = ensureFree(join(directory, 'overlay'), 2 ** 50, 'the overlay of vm1');
  await expect(refusal).rejects.toMatchObject({ code: 'disk.full', context: { neededBytes: 2 ** 50 } });
  await expect(refusal).rejects.toThrow(
    /the overlay of vm1 needs 1024 TiB \(1125899906842624 bytes\) in .* \(\d+ bytes\) are free/,
  );
});
