import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { deviceOf, recordedVolume } from '@lifeboat/disk/testing/disks';
import { systemClock } from '@lifeboat/foundation/clock';
import { MiB } from '@lifeboat/foundation/units';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemUnpackers } from '../access/system-unpackers.ts';
import { ahciInitrdModules, buildInitrd, FAKE_VERSION, fakeModules, writeModuleTree } from '../testing/fake-kernel.ts';
import { identifyEfiLoader } from './efi-loaders.ts';
import type { MachineInventory } from './machine-inventory.ts';
import { renderInventory } from './render-inventory.ts';
import { takeInventory } from './take-inventory.ts';

const SECTOR = 512;
const ROOT_UUID = '11111111-2222-4333-8444-000000000001';
const BOOT_UUID = '11111111-2222-4333-8444-000000000002';
/** Of the modules in the initrd, without the library of checksums. */
const DRIVERS = ['ahci', 'libahci', 'libata', 'scsi_common', 'scsi_mod', 'sd_mod'];
const OLD_VERSION = '5.10.0-old';

let directory: string;
let root: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'file-inventory-'));
  root = join(directory, 'root');
  write('usr/lib/os-release', 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n');
  write(
    'etc/fstab',
    `UUID=${ROOT_UUID} / ext4 defaults 0 1\nUUID=${BOOT_UUID} /boot ext4 defaults 0 2\n/dev/sdb1 /data xfs nofail 0 2\n`,
  );
  write('etc/crypttab', '# name source key\nvault UUID=aaaa none luks,discard\n');
  write(
    'etc/mdadm/mdadm.conf',
    'HOMEHOST <system>\nARRAY /dev/md0 metadata=1.2\n  UUID=00112233:44556677:8899AABB:ccddeeff name=host:0\n',
  );
  write(
    'etc/network/interfaces',
    'auto lo\niface lo inet loopback\nallow-hotplug ens3\niface ens3 inet dhcp\n  # hwaddress 00:00:00:00:00:00\n',
  );
  write(
    'etc/udev/rules.d/70-persistent-net.rules',
    'SUBSYSTEM=="net", ATTR{address}=="52:54:00:AA:bb:cc", NAME="eth0"\n',
  );
  write(
    'etc/netplan/01.yaml',
    'network:\n  ethernets:\n    lan:\n      match: {macaddress: "52:54:00:11:22:33"}\n      set-name: lan0\n',
  );
  write('bin/dash', Buffer.from('7f454c4602010100000000000000000003003e00', 'hex'));
  symlinkSync('dash', join(root, 'bin/sh'));
  symlinkSync('../usr/lib/os-release', join(root, 'etc/os-release'));
  mkdirSync(join(root, 'boot'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function write(path: string, content: string | Buffer, base = root): void {
  mkdirSync(dirname(join(base, path)), { recursive: true });
  writeFileSync(join(base, path), content);
}

/** A filesystem of a tree. */
function ext4(tree: string, sizeBytes: number, uuid: string): Buffer {
  const image = join(directory, 'fs.raw');
  rmSync(image, { force: true });
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  execFileSync('mke2fs', ['-q', '-F', '-t', 'ext4', '-U', uuid, '-d', tree, image], { stdio: 'ignore' });
  return readFileSync(image);
}

/** /boot with a kernel by initramfs-tools and an older one by dracut; GRUB's menu has both. */
function bootTree(): string {
  const boot = join(directory, 'boot');
  rmSync(boot, { recursive: true, force: true });
  for (const [version, generator] of [
    [FAKE_VERSION, 'initramfs-tools'],
    [OLD_VERSION, 'dracut'],
  ] as const) {
    const work = join(directory, `work-${version}`);
    rmSync(work, { recursive: true, force: true });
    const tree = writeModuleTree(join(work, 'modules'), fakeModules, version);
    mkdirSync(join(work, 'initrd'));
    const initrd = buildInitrd(tree, join(work, 'initrd'), {
      modules: ahciInitrdModules,
      version,
      generator,
    });
    write(`vmlinuz-${version}`, 'MZ', boot);
    write(`initrd.img-${version}`, initrd, boot);
  }
  write('vmlinuz-4.19.0-none', 'MZ', boot);
  const line = `linux /vmlinuz-${FAKE_VERSION} root=/dev/sda2 ro quiet`;
  write('grub/grub.cfg', `menuentry 'a' {\n${line}\n}\nmenuentry 'b' {\n${line}\n}\n`, boot);
  return boot;
}

function disk(): Buffer {
  const image = join(directory, 'disk.raw');
  rmSync(image, { force: true });
  writeFileSync(image, '');
  truncateSync(image, 80 * MiB);
  execFileSync('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', image], {
    input:
      'label: gpt\nstart=2048, size=16384, type=U\nstart=18432, size=65536, type=L\nstart=83968, size=16384, type=L\nstart=100352, size=8192, type=L\n',
  });
  const bytes = readFileSync(image);
  ext4(root, 32 * MiB, ROOT_UUID).copy(bytes, 18432 * SECTOR);
  ext4(bootTree(), 8 * MiB, BOOT_UUID).copy(bytes, 83968 * SECTOR);
  recordedVolume('xfs').copy(bytes, 100352 * SECTOR);
  esp().copy(bytes, 2048 * SECTOR);
  return bytes;
}

function esp(): Buffer {
  const image = join(directory, 'esp.raw');
  rmSync(image, { force: true });
  writeFileSync(image, '');
  truncateSync(image, 8 * MiB);
  execFileSync('mkfs.fat', [image], { stdio: 'ignore' });
  const env = { ...process.env, MTOOLS_SKIP_CHECK: '1' };
  execFileSync('mmd', ['-i', image, '::/EFI', '::/EFI/BOOT', '::/EFI/debian'], { env });
  const put = (path: string, bytes: Buffer) => {
    write('loader', bytes, directory);
    execFileSync('mcopy', ['-i', image, join(directory, 'loader'), `::${path}`], { env });
  };
  put('/EFI/BOOT/BOOTX64.EFI', program({ '.sbat': SHIM }));
  put('/EFI/BOOT/mmx64.efi', program({ '.sbat': SHIM }));
  put('/EFI/debian/grubx64.efi', program({ '.sbat': GRUB }));
  put('/EFI/debian/other.efi', program({ '.text': 'SafeBoot' }));
  return readFileSync(image);
}

/** As they are in Debian 12's packages. */
const SBAT = 'sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n';
const SHIM = `${SBAT}shim,4,UEFI shim,shim,1,https://github.com/rhboot/shim\nshim.debian,1,Debian,shim,16.1,https://tracker.debian.org/pkg/shim\n`;
const GRUB = `${SBAT}grub,5,Free Software Foundation,grub,2.06,https://www.gnu.org/software/grub/\ngrub.debian,5,Debian,grub2,2.06-13+deb12u2,https://tracker.debian.org/pkg/grub2\n`;

/** A program for UEFI with these sections. */
function program(sections: Record<string, string>): Buffer {
  const list = Object.entries(sections);
  const head = Buffer.alloc(1024);
  head.write('MZ');
  head.writeUInt32LE(0x80, 0x3c);
  head.write('PE\0\0', 0x80);
  head.writeUInt16LE(0x8664, 0x84);
  head.writeUInt16LE(list.length, 0x86);
  const bodies: Buffer[] = [];
  for (const [i, [name, text]] of list.entries()) {
    const at = 0x80 + 24 + i * 40;
    head.write(name, at);
    head.writeUInt32LE(text.length, at + 8);
    head.writeUInt32LE(1024 + Buffer.concat(bodies).length, at + 20);
    bodies.push(Buffer.from(text));
  }
  return Buffer.concat([head, ...bodies]);
}

function inventory(bytes: Uint8Array, earlier?: MachineInventory): Promise<MachineInventory> {
  const files = { unpackers: systemUnpackers(new AbortController().signal), ...(earlier ? { earlier } : {}) };
  return takeInventory({ disks: [{ name: 'vda', device: deviceOf(bytes) }], files, takenAtMs: 0 });
}

describe('the files of a machine', () => {
  it('say which system it is, which kernels start it, and by which names it looks for its disks and networks', async () => {
    const found = await inventory(disk());
    const [system] = found.systems;
    expect(found.systems).toHaveLength(1);
    expect(system).toMatchObject({
      root: 'vda2',
      os: { id: 'debian', versionId: '12' },
      architecture: 'x86_64',
      kernels: [
        {
          version: FAKE_VERSION,
          initrd: { generator: 'initramfs-tools', compression: ['none', 'zstd'], bootDrivers: DRIVERS },
        },
        { version: OLD_VERSION, initrd: { generator: 'dracut' }, problems: [] },
        { version: '4.19.0-none', problems: ['it has no initrd'] },
      ],
      kernelCommandLines: [{ root: '/dev/sda2' }],
      crypttab: [{ name: 'vault', source: 'UUID=aaaa', keyFile: 'none', options: ['luks', 'discard'] }],
      arrays: [{ device: '/dev/md0', uuid: '00112233:44556677:8899aabb:ccddeeff', name: 'host:0' }],
      network: [
        { kind: 'ifupdown', interfaces: ['ens3'], macs: [] },
        { kind: 'netplan', interfaces: ['lan0'], macs: ['52:54:00:11:22:33'] },
        { kind: 'udev', interfaces: ['eth0'], macs: ['52:54:00:aa:bb:cc'] },
      ],
    });
    expect(found.efiLoaders.map(({ path, kind, version }) => [path, kind, version])).toEqual([
      ['/EFI/BOOT/BOOTX64.EFI', 'shim', '16.1'],
      ['/EFI/BOOT/mmx64.efi', 'mok-manager', '16.1'],
      ['/EFI/debian/grubx64.efi', 'grub', '2.06-13+deb12u2'],
      ['/EFI/debian/other.efi', 'foreign', ''],
    ]);
    expect(found.problems).toEqual(['The files on vda4 were not looked at: xfs is not read without being mounted.']);
    const lines = renderInventory(found);
    expect(lines).toContain('System    Debian GNU/Linux 12 (bookworm), x86_64, root on vda2');
    expect(lines).toContain('  boots with root=/dev/sda2, a name that other hardware changes');
    expect(lines).toContain('  mounts /dev/sdb1 at /data (xfs), a name that other hardware changes');
    expect(lines).toContain('Loader    vda1 /EFI/debian/grubx64.efi: GRUB 2.06-13+deb12u2, x86_64');
  });

  it('that were not written to since the point before are not unpacked again', async () => {
    const bytes = disk();
    const before = await inventory(bytes);
    const known = (drivers: string[]): MachineInventory => ({
      ...before,
      systems: before.systems.map((system) => ({
        ...system,
        kernels: system.kernels.map(({ initrd, ...kernel }) => ({
          ...kernel,
          ...(initrd ? { initrd: { ...initrd, bootDrivers: drivers } } : {}),
        })),
      })),
    });
    const drivers = ({ systems }: MachineInventory) => systems[0]?.kernels[0]?.initrd?.bootDrivers;
    expect(drivers(await inventory(bytes, known(['remembered'])))).toEqual(['remembered']);
    // mke2fs stamps files with whole seconds.
    await systemClock.sleep(1100);
    const other = disk(); // the same, but all of it written anew: other inodes, other times
    const stamps = ({ systems }: MachineInventory) => systems[0]?.kernels.map(({ initrd }) => initrd?.stamp);
    const after = await inventory(other);
    expect(stamps(after)).not.toEqual(stamps(before));
    expect(drivers(await inventory(other, known(['remembered'])))).toEqual(DRIVERS);
  });

  it('that are damaged are a sentence, and the rest is told', async () => {
    const bytes = disk();
    // An entry of the root directory that is shorter than its own head.
    bytes.writeUInt16LE(3, bytes.indexOf('lost+found', 18432 * SECTOR) - 4);
    const found = await inventory(bytes);
    expect(found.systems).toEqual([]);
    expect(found.problems.join('\n')).toMatch(/vda2/);
    expect(found.efiLoaders).toHaveLength(4);
  });
});

describe('identifyEfiLoader', () => {
  it.each([
    ['systemd-boot', '252.39', program({ '.sdmagic': '#### LoaderInfo: systemd-boot 252.39 ####\0' })],
    [
      'unified-kernel',
      '6.1.0-1',
      program({
        '.linux': 'MZ',
        '.initrd': 'x',
        '.uname': '6.1.0-1',
        '.sdmagic': '#### LoaderInfo: systemd-stub 252 ####',
      }),
    ],
    ['grub', '', program({ '.text': 'Welcome to GRUB!' })],
    [
      'windows',
      '',
      program({ '.rsrc': Buffer.from('Microsoft Corporation bootmgr.exe', 'utf16le').toString('latin1') }),
    ],
    ['unreadable', '', Buffer.from('#!/bin/sh')],
    ['unreadable', '', Buffer.alloc(0)],
  ])('%s', (kind, version, bytes) => {
    expect(identifyEfiLoader(bytes, 'bootx64.efi')).toMatchObject({ kind, version });
  });

  it('gives an answer to any bytes', () => {
    const start = program({ '.sbat': SHIM, '.linux': 'x' });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat({ max: start.length - 1 }), fc.nat({ max: 255 })), { maxLength: 20 }),
        fc.nat({ max: start.length }),
        (changes, cut) => {
          const bytes = Buffer.from(start.subarray(0, cut));
          for (const [at, value] of changes) if (at < cut) bytes.writeUInt8(value, at);
          expect(identifyEfiLoader(bytes, 'x.efi').kind).toMatch(/^[a-z-]+$/);
        },
      ),
    );
  });
});
