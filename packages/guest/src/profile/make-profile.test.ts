import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { hasCode } from '@lifeboat/foundation/errors';
import { describe, expect, it } from 'vitest';
import { emulatedController, emulatedNic } from './emulated-devices.ts';
import { diskControllers, formatHardwareProfile, nicModels, parseHardwareProfile } from './hardware-profile.ts';
import { parseLspci } from './lspci.ts';
import { profileFromLspci, profileFromMachine, profileName, type DescribedMachine } from './make-profile.ts';
import { loadHardwareProfile, shippedProfileNames } from './shipped-profiles.ts';

/** By lspci 3.9.0 of a server's configuration spaces, in each of its forms. */
const listing = (form: string) => readFileSync(new URL(`../testing/lspci/${form}.txt`, import.meta.url), 'utf8');
const facts = { name: 'rack-7', firmware: 'uefi' } as const;

describe('parseLspci', () => {
  const ids = (form: string) =>
    parseLspci(listing(form), 'x').map(({ slot, class: code, vendor, device }) => [slot, code, vendor, device]);
  const subsystems = (form: string) =>
    parseLspci(listing(form), 'x').map(({ subsystemVendor, subsystemDevice }) => [subsystemVendor, subsystemDevice]);

  it.each(['nn', 'nnk', 'nnv', 'n', 'nnmm', 'nnvmm'])('reads the same devices from -%s', (form) => {
    expect(ids(form)).toEqual([
      ['0000:00:00.0', 0x060000, 0x8086, 0x6f00],
      ['0000:00:11.4', 0x010601, 0x8086, 0x8d62],
      ['0000:00:1f.2', 0x010601, 0x8086, 0x8d02],
      ['0000:01:00.0', 0x020000, 0x8086, 0x1521],
      ['0000:01:00.1', 0x020000, 0x8086, 0x1521],
      ['0000:03:00.0', 0x010400, 0x1000, 0x005d],
      ['0000:0a:00.0', 0x030000, 0x102b, 0x0534],
      ['0000:82:00.0', 0x010601, 0x8086, 0x2922],
      ['10000:81:00.0', 0x010802, 0x144d, 0xa808],
    ]);
  });

  it.each(['nnk', 'nnv', 'nnmm', 'nnvmm'])('reads subsystems from -%s', (form) => {
    expect(subsystems(form).slice(3, 6)).toEqual([
      [0x1028, 0x0602],
      [0x1028, 0x0602],
      [0x1028, 0x1f49],
    ]);
  });

  it('takes names as they are, brackets and all', () => {
    expect(parseLspci(listing('nn'), 'x')[2]?.name).toBe(
      'Intel Corporation C610/X99 series chipset 6-Port SATA Controller [AHCI mode]',
    );
    expect(parseLspci(listing('nnmm'), 'x')[5]?.name).toBe('Broadcom / LSI MegaRAID SAS-3 3108 [Invader]');
  });

  it.each([
    ['lines of Windows', listing('nn').replaceAll('\n', '\r\n'), 9],
    ['a prompt before and after', `root@rack7:~# lspci -nn -D\n${listing('nn')}root@rack7:~# exit\n`, 9],
    ['no domain', listing('nn').replaceAll(/^0000:/gm, ''), 9],
    ['an id inside a name', '00:01.0 SATA controller [0106]: Evil [1234:5678] Corp [8086:2922] (rev 01)', 1],
    ['-nk', '00:01.0 0106: 8086:2922 (rev 02)\n\tSubsystem: 1af4:1100\n\tKernel driver in use: ahci\n', 1],
    ['an ancient lspci -n', '00:01.0 Class 0106: 8086:2922 (rev 02)\n', 1],
  ])('understands %s', (_, text, count) => {
    const devices = parseLspci(text, 'x');
    expect(devices).toHaveLength(count);
    expect(devices.some(({ vendor, device }) => vendor === 0x8086 && device === 0x2922)).toBe(true);
  });

  it.each([
    ['', 'lists no PCI device'],
    ['hello', 'lists no PCI device'],
    [listing('none'), 'lists 9 devices without their numbers; use lspci -nn -D'],
    ['x\n'.repeat(100_001), 'at most 100000 are read'],
    [Array.from({ length: 1025 }, () => '00:01.0 0106: 8086:2922').join('\n'), 'more than 1024 devices'],
  ])('refuses what says nothing', (text, why) => {
    expect(() => parseLspci(text, 'rack.txt')).toThrow(
      expect.objectContaining({
        code: 'guest.hardware-list-invalid',
        message: expect.stringMatching(`^rack.txt .*${why}`) as string,
      }),
    );
  });

  it('survives any text', () => {
    const piece = fc.constantFrom(
      '00:1f.2 ',
      '0000:00:1f.2',
      '[0106]: ',
      '"',
      '\\"',
      '[8086:2922]',
      '\n',
      '\tSubsystem: ',
      'Slot:\t',
      'Class:\t',
      ' [0106]',
      '\u0007',
      '(prog-if 01 ',
      'Device:\t',
      '\u202e',
      ' x ',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), (parts) => {
        const outcome = attempt(() => profileFromLspci(parts.join(''), 'x', facts));
        const isSound =
          'value' in outcome
            ? parseHardwareProfile(formatHardwareProfile(outcome.value), 'y').name === 'rack-7'
            : hasCode(outcome.error, 'guest.hardware-list-invalid');
        expect(isSound).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  it('does not think long about long lines', () => {
    const line = `00:1f.2 ${'"x\\'.repeat(1000)}${'['.repeat(900)}`;
    expect(() => parseLspci(`${line}\n`.repeat(2000), 'x')).toThrow('without their numbers');
  });
});

function attempt<T>(work: () => T): { value: T } | { error: unknown } {
  try {
    return { value: work() };
  } catch (error) {
    return { error };
  }
}

describe('a profile from lspci', () => {
  it('asks for every disk controller and network card once, and is read back as the same', () => {
    const profile = profileFromLspci(listing('nnk'), 'x', { ...facts, secureBoot: true, tpm: '2.0' });
    expect(profile).toMatchObject({
      name: 'rack-7',
      firmware: 'uefi',
      secureBoot: true,
      tpm: '2.0',
      emulation: { diskController: 'ahci' },
    });
    expect(profile.pciDevices.map(({ device, role }) => [device, role])).toEqual([
      [0x8d62, 'boot-storage'],
      [0x8d02, 'boot-storage'],
      [0x005d, 'boot-storage'],
      [0x2922, 'boot-storage'],
      [0xa808, 'boot-storage'],
      [0x1521, 'network'],
    ]);
    expect(parseHardwareProfile(formatHardwareProfile(profile), 'x')).toEqual(profile);
  });

  it('starts from the slot it is told', () => {
    const profile = profileFromLspci(listing('nn'), 'x', { ...facts, bootSlot: '03:00.0' });
    expect(profile.pciDevices.filter(({ role }) => role === 'boot-storage').map(({ device }) => device)).toEqual([
      0x005d,
    ]);
    expect(profile.emulation.diskController).toBe('megasas');
    expect(() => profileFromLspci(listing('nn'), 'x', { ...facts, bootSlot: '01:00.0' })).toThrow(
      'x lists no disk controller in slot 01:00.0; it has 0000:00:11.4, 0000:00:1f.2',
    );
  });

  it('needs a disk controller', () => {
    expect(() => profileFromLspci('00:01.0 0200: 8086:100e', 'x', facts)).toThrow(
      'lists 1 devices, and none that disks hang on',
    );
    expect(() => profileFromLspci('00:01.0 0102: 8086:100e', 'x', facts)).toThrow('none that disks hang on');
  });

  it.each([
    ['00:01.0 0108: 144d:a808', 'nvme'],
    ['00:01.0 0106: 1022:7901', 'ahci'],
    ['00:01.0 0101: 8086:7111', 'ide'],
    ['00:01.0 0104: 1028:0015', 'megasas'],
    ['00:01.0 0104: 1000:005f', 'megasas'],
    ['00:01.0 0107: 1000:0072', 'mptsas'],
    ['00:01.0 0100: 1000:0058', 'mptsas'],
    ['00:01.0 0100: 1000:0030', 'mptsas'],
    ['00:01.0 0100: 1000:000f', 'lsi'],
    ['00:01.0 0107: 15ad:07c0', 'pvscsi'],
    ['00:01.0 0100: 1af4:1001', 'virtio-blk'],
    ['00:01.0 0100: 1af4:1004', 'virtio-scsi'],
    ['00:01.0 0107: 9005:028f', 'mptsas'],
  ])('is emulated by what is nearest: %s by %s', (line, controller) => {
    expect(profileFromLspci(line, 'x', facts).emulation.diskController).toBe(controller);
  });

  it.each([
    ['1af4:1000', 'virtio'],
    ['15ad:07b0', 'vmxnet3'],
    ['8086:100f', 'e1000'],
    ['8086:1533', 'e1000e'],
    ['10ec:8139', 'rtl8139'],
    ['14e4:165f', 'e1000e'],
  ])('and for the network, %s by %s', (id, model) => {
    expect(profileFromLspci(`00:01.0 0106: 8086:2922\n00:02.0 0200: ${id}`, 'x', facts).emulation.nicModel).toBe(model);
  });
});

describe('a profile of a virtual machine', () => {
  const machine: DescribedMachine = {
    name: 'Web 1',
    firmware: 'uefi',
    secureBoot: true,
    tpm: '2.0',
    machineType: 'pc-q35-7.2',
    disks: [
      { name: 'sda', controller: 'virtio-scsi' },
      { name: 'sdb', controller: 'virtio-scsi' },
      { name: 'sdc', controller: 'ahci' },
    ],
    nics: [{ model: 'virtio-non-transitional', mac: '52:54:00:AA:00:01' }, { model: 'ne2k_pci' }],
  };

  it('has its controllers, cards, firmware and TPM', () => {
    const profile = profileFromMachine(machine, 'web-1');
    expect(profile).toEqual({
      name: 'web-1',
      description: 'The virtual hardware of Web 1 (pc-q35-7.2)',
      firmware: 'uefi',
      secureBoot: true,
      tpm: '2.0',
      pciDevices: [
        emulatedController('virtio-scsi', 'boot-storage'),
        emulatedController('ahci', 'other'),
        emulatedNic('virtio'),
      ],
      macs: ['52:54:00:aa:00:01'],
      emulation: { diskController: 'virtio-scsi', nicModel: 'virtio' },
    });
    expect(parseHardwareProfile(formatHardwareProfile(profile), 'x')).toEqual(profile);
  });

  it('cannot be made when nobody knows what it starts from', () => {
    expect(() => profileFromMachine({ ...machine, disks: [{ name: 'uba', controller: 'other' }] }, 'x')).toThrow(
      'its first disk uba hangs on none of virtio-blk',
    );
    expect(() => profileFromMachine({ ...machine, disks: [] }, 'x')).toThrow('it has no disk');
  });

  it('has a name that a file may have', () => {
    expect([profileName('Web 1'), profileName('../x'), profileName('Ümläut'), profileName('')]).toEqual([
      'web-1',
      'x',
      'ml-ut',
      'machine',
    ]);
  });
});

describe('the shipped library', () => {
  it('has every controller and network card as it is emulated, and each firmware that can drive it', async () => {
    const profiles = await Promise.all((await shippedProfileNames()).map((name) => loadHardwareProfile(name)));
    expect(new Set(profiles.map(({ emulation }) => emulation.diskController))).toEqual(new Set(diskControllers));
    for (const { emulation, pciDevices } of profiles) {
      expect(
        pciDevices.map(({ vendor, device, class: code, subsystemDevice, role }) => [
          vendor,
          device,
          code,
          subsystemDevice,
          role,
        ]),
      ).toEqual(
        [emulatedController(emulation.diskController, 'boot-storage'), emulatedNic(emulation.nicModel)].map(
          ({ vendor, device, class: code, subsystemDevice, role }) => [vendor, device, code, subsystemDevice, role],
        ),
      );
    }
    const uefi = profiles
      .filter(({ firmware }) => firmware === 'uefi')
      .map(({ emulation }) => emulation.diskController);
    expect(new Set(uefi)).toEqual(new Set(['virtio-blk', 'virtio-scsi', 'nvme', 'ahci']));
    expect(profiles.filter(({ secureBoot }) => secureBoot).map(({ tpm }) => tpm)).toEqual(['2.0', '2.0', '2.0', '2.0']);
    expect(nicModels.every((model) => emulatedNic(model).class === 0x020000)).toBe(true);
  });
});
