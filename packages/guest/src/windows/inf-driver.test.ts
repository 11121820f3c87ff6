import { describe, expect, it } from 'vitest';
import { AHCI_INF, OLD_INF, VIRTIO_BLOCK_INF } from '../testing/sample-infs.ts';
import { readAllModels, readHeader, readInstall, readModels } from './inf-driver.ts';
import { InfFile } from './inf-file.ts';
import type { WindowsVersion } from './windows-version.ts';

const [virtio, ahci, old] = [VIRTIO_BLOCK_INF, AHCI_INF, OLD_INF].map((text) => InfFile.parse(text, 'x.inf')) as [
  InfFile,
  InfFile,
  InfFile,
];
const windows10: WindowsVersion = {
  major: 10,
  minor: 0,
  build: 19045,
  architecture: 'amd64',
  productType: 'workstation',
};
const windows7: WindowsVersion = { ...windows10, major: 6, minor: 1, build: 7601 };
const server2022: WindowsVersion = { ...windows10, build: 20348, productType: 'server' };
const xp: WindowsVersion = { ...windows10, major: 5, minor: 1, build: 2600, architecture: 'x86' };
const installOf = (inf: InfFile, windows: WindowsVersion) => {
  const [model] = readModels(inf, windows);
  return model && readInstall(inf, model, windows);
};

describe('the header of an INF', () => {
  it('says class, provider, date, version and catalogues', () => {
    expect(readHeader(virtio)).toEqual({
      provider: 'Example',
      className: 'SCSIAdapter',
      classGuid: '{4d36e97b-e325-11ce-bfc1-08002be10318}',
      driverVersion: { date: [2024, 7, 12], version: [100, 95, 104, 26200] },
      catalogues: { '': 'vioblk.cat' },
    });
    expect(readHeader(ahci).catalogues).toEqual({ ntamd64: 'ahci64.cat' });
    expect(readHeader(old).driverVersion).toEqual({ date: [2003, 5, 4], version: [] });
  });

  it.each([
    ['[Version]\nSignature="$Linux$"\n', 'Signature'],
    ['[Version]\nSignature="$Windows NT$"\nClassGUID={1}\n', 'ClassGUID'],
    ['', 'Signature'],
  ])('is refused where it is none: %j', (text, problem) => {
    expect(() => readHeader(InfFile.parse(text, 'x.inf'))).toThrow(
      expect.objectContaining({ code: 'guest.inf-invalid', message: expect.stringContaining(problem) as string }),
    );
  });
});

describe('models', () => {
  const ids = (inf: InfFile, windows: WindowsVersion): string[][] =>
    readModels(inf, windows).map((model) => [...model.ids]);
  const [legacy, modern] = [
    ['PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00', 'PCI\\VEN_1AF4&DEV_1001'],
    ['PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01', 'PCI\\VEN_1AF4&DEV_1042'],
  ];

  it('are those of the section that is closest to the Windows', () => {
    expect(ids(virtio, windows10)).toEqual([legacy, modern]);
    expect(ids(virtio, windows7)).toEqual([legacy]);
    expect(ids(virtio, { ...windows7, architecture: 'x86' })).toEqual([legacy]);
    expect(ids(virtio, { ...windows10, architecture: 'arm64' })).toEqual([]);
    expect(ids(virtio, { ...windows7, minor: 0 })).toEqual([]);
    expect(readModels(ahci, windows10)).toMatchObject([
      { install: 'ahci_inst', description: 'Standard SATA AHCI Controller', manufacturer: 'Microsoft' },
    ]);
    expect(readModels(ahci, server2022)).toMatchObject([{ install: 'ahci_server' }]);
  });

  it('without any decoration are of x86', () => {
    expect(readModels(old, xp)).toEqual([
      {
        description: 'LSI Logic PCI SCSI/FC MPI Driver',
        manufacturer: 'LSI Logic',
        install: 'SYMMPI_Inst',
        ids: ['PCI\\VEN_1000&DEV_0030'],
      },
      { description: 'Without an id', manufacturer: 'LSI Logic', install: 'SYMMPI_Inst', ids: [] },
      {
        description: 'LSI Logic PCI SCSI/FC MPI Driver',
        manufacturer: 'Bare',
        install: 'SYMMPI_Inst',
        ids: ['', 'PCI\\VEN_1000&DEV_0054', '*GENERIC'],
      },
    ]);
    expect(readModels(old, windows10)).toEqual([]);
  });

  it('are all of them, with what they are for, where one wants to know what a package holds', () => {
    expect(readAllModels(virtio).map(({ target, model }) => [target.architecture, target.major, model.ids[1]])).toEqual(
      [
        ['x86', 6, 'PCI\\VEN_1AF4&DEV_1001'],
        ['amd64', 6, 'PCI\\VEN_1AF4&DEV_1001'],
        ['amd64', 10, 'PCI\\VEN_1AF4&DEV_1001'],
        ['amd64', 10, 'PCI\\VEN_1AF4&DEV_1042'],
      ],
    );
  });
});

describe('what is installed', () => {
  it('is a service that starts at boot, and its file', () => {
    expect(installOf(virtio, windows10)).toEqual({
      section: 'install',
      services: [
        {
          name: 'vioblk',
          isAssociated: true,
          binary: 'vioblk.sys',
          startType: 0,
          serviceType: 1,
          errorControl: 1,
          loadOrderGroup: 'SCSI miniport',
          registry: [
            { key: 'Parameters\\PnpInterface', name: '5', data: { type: 'dword', number: 1 } },
            { key: 'Parameters', name: 'BusType', data: { type: 'dword', number: 10 } },
            { key: '', name: 'Tag', data: { type: 'binary', hex: '01ff' } },
            { key: 'Parameters', name: 'Names', data: { type: 'multi-string', texts: ['a', 'b, c'] } },
            { key: 'Parameters', name: 'Path', data: { type: 'expand-string', text: '%SystemRoot%\\x' } },
            { key: 'Parameters', name: '', data: { type: 'string', text: 'default' } },
          ],
        },
      ],
      files: [{ source: 'vioblk.sys', target: 'vioblk.sys', directory: { id: 12, subdirectory: '' } }],
      featureScore: 255,
      needs: [],
    });
  });

  it('comes from the section of the architecture, with what another INF has to bring', () => {
    expect(installOf(ahci, windows10)).toMatchObject({
      section: 'ahci_inst.NTamd64',
      services: [{ name: 'ahci', isAssociated: true, errorControl: 3 }],
      files: [{ source: 'amd64/bin/ahci.sys', target: 'ahci.sys', directory: { id: 13 } }],
      featureScore: 0x40,
      needs: [{ inf: 'storport.inf, other.inf', section: 'storport_install' }],
    });
    expect(installOf(ahci, server2022)).toMatchObject({
      section: 'ahci_server.NT',
      services: [
        { name: 'ahci', isAssociated: true },
        { name: 'helper', isAssociated: false, binary: 'helper.exe', serviceType: 16, startType: 2 },
      ],
    });
  });

  it('may be called otherwise in the package', () => {
    expect(installOf(old, xp)?.files).toEqual([
      { source: 'symmpi.sy_', target: 'symmpi.sys', directory: { id: 12, subdirectory: '' } },
    ]);
  });

  it('is nothing where the section is not there', () => {
    const inf = InfFile.parse(VIRTIO_BLOCK_INF.replace('[install]', '[other]'), 'x.inf');
    expect(installOf(inf, windows10)).toBeUndefined();
  });
});
