import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { formatHardwareProfile, parseHardwareProfile } from './hardware-profile.ts';
import { loadHardwareProfile, shippedProfileNames } from './shipped-profiles.ts';

const valid = JSON.parse(readFileSync(new URL('../../profiles/nvme.json', import.meta.url), 'utf8')) as Record<
  string,
  unknown
>;

function failureOf(value: unknown): LifeboatError {
  try {
    parseHardwareProfile(typeof value === 'string' ? value : JSON.stringify(value), 'mine.json');
  } catch (error) {
    if (error instanceof LifeboatError) return error;
    throw error;
  }
  throw new Error('the profile was accepted');
}

it('addresses of network cards are read in lower case, and written back', () => {
  const profile = parseHardwareProfile(JSON.stringify({ ...valid, macs: ['52:54:00:AA:BB:01'] }), 'mine.json');
  expect(profile.macs).toEqual(['52:54:00:aa:bb:01']);
  expect(parseHardwareProfile(formatHardwareProfile(profile), 'mine.json')).toEqual(profile);
});

describe('shipped profiles', () => {
  it('are all readable and named like their files', async () => {
    const names = await shippedProfileNames();
    expect(names).toHaveLength(17);
    for (const name of names) expect((await loadHardwareProfile(name)).name).toBe(name);
  });

  it('carry the ids QEMU gives its devices', async () => {
    const boot = async (name: string) =>
      (await loadHardwareProfile(name)).pciDevices.find((d) => d.role === 'boot-storage');
    expect(await boot('virtio-blk')).toMatchObject({ vendor: 0x1af4, device: 0x1042, class: 0x010000 });
    expect(await boot('virtio-scsi')).toMatchObject({ vendor: 0x1af4, device: 0x1048 });
    expect(await boot('nvme')).toMatchObject({ vendor: 0x1b36, device: 0x0010, class: 0x010802 });
    expect(await boot('ahci')).toMatchObject({ vendor: 0x8086, device: 0x2922, class: 0x010601 });
  });

  it('say what is shipped when a name is unknown, and what is wrong with a path', async () => {
    await expect(loadHardwareProfile('floppy')).rejects.toMatchObject({
      code: 'guest.profile-not-found',
      message: expect.stringContaining('ide, lsi, megasas, mptsas, nvme') as string,
    });
    await expect(loadHardwareProfile('/nowhere/x.json')).rejects.toMatchObject({ code: 'guest.profile-not-found' });
    await expect(loadHardwareProfile('/')).rejects.toMatchObject({ code: 'guest.profile-not-found' });
  });
});

describe('parseHardwareProfile names the place of a mistake', () => {
  const withDevice = (change: object) => ({
    ...valid,
    pciDevices: [{ ...(valid['pciDevices'] as object[])[0], ...change }],
  });
  it.each([
    ['not JSON', '{', 'mine.json is not JSON'],
    ['a list', [], 'the profile must be an object, not []'],
    ['an unknown key', { ...valid, bios: true }, 'bios is not known here; known are name, description, firmware'],
    ['a missing key', { ...valid, emulation: undefined }, 'emulation is missing'],
    ['a wrong choice', { ...valid, firmware: 'efi' }, 'firmware must be one of bios, uefi, not "efi"'],
    [
      'a number for an id',
      withDevice({ vendor: 6900 }),
      'pciDevices[0].vendor must be a text of 4 hexadecimal digits, not 6900',
    ],
    ['too few digits', withDevice({ class: '0108' }), 'pciDevices[0].class must be a text of 6 hexadecimal digits'],
    ['an unknown key below', withDevice({ bus: 1 }), 'pciDevices[0].bus is not known here'],
    ['Secure Boot of a BIOS', { ...valid, secureBoot: true }, 'secureBoot needs the firmware uefi'],
    ['a text for a switch', { ...valid, secureBoot: 'yes' }, 'secureBoot must be true or false, not "yes"'],
    ['an unknown TPM', { ...valid, tpm: '3' }, 'tpm must be one of 1.2, 2.0'],
    ['an unknown maker of processors', { ...valid, processor: 'via' }, 'processor must be one of intel, amd'],
    ['no boot device', withDevice({ role: 'other' }), "pciDevices must hold a device with the role 'boot-storage'"],
    [
      'an unknown controller',
      { ...valid, emulation: { diskController: 'scsi', nicModel: 'e1000' } },
      'emulation.diskController must be one of virtio-blk',
    ],
    ['an address that is none', { ...valid, macs: ['52:54:00'] }, 'macs[0] must be an address'],
    ['a name that is no name', { ...valid, name: '../x' }, 'name must match'],
  ])('%s', (_, value, expected) => {
    const failure = failureOf(value);
    expect(failure.code).toBe('guest.profile-invalid');
    expect(failure.message).toContain(expected);
    expect(failure.message).toContain('mine.json');
  });

  it('or of any JSON that is no profile', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(failureOf(value).code).toBe('guest.profile-invalid');
      }),
    );
  });
});
