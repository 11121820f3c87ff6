import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { firmwareFor } from './firmware.ts';

test('the firmware for given variables is the first whose own have their size, without Secure Boot', async () => {
  const root = mkdtempSync(join(tmpdir(), 'firmware-'));
  onTestFinished(() => rmSync(root, { recursive: true }));
  const file = (name: string, bytes = 1): string => {
    const path = join(root, name);
    writeFileSync(path, Buffer.alloc(bytes));
    return path;
  };
  const flash = (name: string, bytes: number, features: readonly string[] = []): string =>
    JSON.stringify({
      'interface-types': ['uefi'],
      mapping: {
        device: 'flash',
        executable: { filename: file(`${name}_CODE`), format: 'raw' },
        'nvram-template': { filename: file(`${name}_VARS`, bytes), format: 'raw' },
      },
      targets: [{ architecture: 'x86_64', machines: ['pc-q35-*'] }],
      features,
    });
  const [shipped, local] = [join(root, 'usr'), join(root, 'etc')] as const;
  mkdirSync(shipped);
  mkdirSync(local);
  const undescribed = [{ codePath: file('old_CODE'), templatePath: file('old_VARS', 128) }];
  const places = { directories: [shipped, local, join(root, 'missing')], undescribed };
  const find = async (bytes: number) => (await firmwareFor(new Uint8Array(bytes), places)).codePath;

  await expect(firmwareFor(new Uint8Array(7), { ...places, undescribed: [] })).rejects.toMatchObject({
    code: 'hypervisor.no-firmware',
    message: expect.stringMatching(/have 7 bytes, .* takes none/) as string,
  });
  writeFileSync(join(shipped, '40-secure.json'), flash('secure', 512, ['secure-boot']));
  writeFileSync(join(shipped, '50-hidden.json'), flash('hidden', 512));
  writeFileSync(join(local, '50-hidden.json'), '');
  writeFileSync(join(shipped, '60-plain.json'), flash('plain', 512));
  writeFileSync(join(shipped, '70-later.json'), flash('later', 512));
  writeFileSync(join(shipped, 'README'), 'no descriptor');
  expect(await find(512)).toBe(join(root, 'plain_CODE'));
  expect(await find(128)).toBe(join(root, 'old_CODE'));
  rmSync(join(root, 'plain_VARS'));
  expect(await find(512)).toBe(join(root, 'later_CODE'));
  await expect(find(7)).rejects.toMatchObject({
    code: 'hypervisor.no-firmware',
    message: expect.stringContaining('takes variables of 512, 128 bytes') as string,
  });
});
