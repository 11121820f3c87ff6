import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openFileDevice } from '@lifeboat/disk/file-device';
import { openNtfs } from '@lifeboat/disk/files/ntfs';
import { MiB } from '@lifeboat/foundation/units';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { makeDirty, makeHive } from '../testing/hives.ts';
import { makeNtfsImage } from '../testing/ntfs-image.ts';
import { sampleSystem, sampleWindows } from '../testing/sample-windows.ts';
import { checkHives } from './check-hives.ts';

const { signal } = new AbortController();
const CONFIG = 'Windows/System32/config';

test('hives are read to their last key; one that is damaged in its middle, or that its logs do not complete, is named', async () => {
  const system = makeHive(sampleSystem('10'));
  // A list of subkeys somewhere that is none any more: reading the beginning finds nothing.
  const at = system.lastIndexOf('lh') > 0 ? system.lastIndexOf('lh') : system.lastIndexOf('lf');
  const damaged = Buffer.from(system);
  damaged.write('xx', at, 'latin1');
  const path = join(await scratchDirectory(), 'disk.raw');
  const files = sampleWindows('10', {
    [`${CONFIG}/SECURITY`]: damaged,
    [`${CONFIG}/DEFAULT`]: makeDirty(system),
  });
  await makeNtfsImage(path, { sizeBytes: 24 * MiB, files });
  const device = await openFileDevice(path);
  try {
    const found = await checkHives(await openNtfs(device), signal);
    expect(
      Object.fromEntries(found.map(({ path: of, result }) => [of.slice(CONFIG.length + 1), result])),
    ).toMatchObject({
      SYSTEM: 'sound',
      SOFTWARE: 'sound',
      SECURITY: 'damaged',
      DEFAULT: 'damaged',
    });
    expect(found.find(({ path: of }) => of.endsWith('SECURITY'))?.detail).toContain('no list of subkeys');
  } finally {
    await device.close();
  }
});
