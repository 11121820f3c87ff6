/**
 * A driver package is put into the volume of a Windows, looked at with tools that are not ours (ntfscat, hivexregedit, libregf), and taken out
 * again. No Windows runs here.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { MiB } from '@lifeboat/foundation/units';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { beforeEach, describe, expect, it } from 'vitest';
import { DriverStore } from '../drivers/driver-store.ts';
import { revertJournal } from '../journal/apply-journal.ts';
import { loadHardwareProfile } from '../profile/shipped-profiles.ts';
import { makeDirty, makeHive, makeLog } from '../testing/hives.ts';
import { changeNtfsImage, makeNtfsImage } from '../testing/ntfs-image.ts';
import { VIRTIO_BLOCK_INF } from '../testing/sample-infs.ts';
import { type SampleFiles, type SampleRelease, sampleSystem, sampleWindows } from '../testing/sample-windows.ts';
import { planWindowsOn } from '../windows/plan-disks.ts';
import type { WindowsPlan } from '../windows/windows-plan.ts';
import { injectWindows } from './inject-windows.ts';

const { signal } = new AbortController();
const context = { signal, progress: () => {} };
const CONFIG = 'Windows/System32/config';
const DRIVER = Buffer.from('MZ a driver');

let base: string;
let image: string;
let store: DriverStore;
beforeEach(async () => {
  base = realpathSync(await scratchDirectory());
  image = join(base, 'disk.raw');
  const vendor = join(base, 'vendor');
  mkdirSync(vendor);
  writeFileSync(join(vendor, 'vioblk.inf'), VIRTIO_BLOCK_INF.replaceAll('DEV_1001', 'DEV_1042'));
  writeFileSync(join(vendor, 'vioblk.sys'), DRIVER);
  writeFileSync(join(vendor, 'vioblk.cat'), 'signed');
  store = new DriverStore(join(base, 'store'));
  await store.add(vendor, { nowMs: 0, signal });
});

async function planFor(release: SampleRelease, more: SampleFiles = {}): Promise<WindowsPlan> {
  await makeNtfsImage(image, { sizeBytes: 24 * MiB, files: sampleWindows(release, more) });
  const profile = await loadHardwareProfile('virtio-blk');
  return planWindowsOn({ ...disks(), signal }, { profile, store, nowMs: 0 });
}

const disks = () => ({
  disks: [{ name: 'vda', image: { path: image, format: 'raw' as const } }],
  directory: join(base, 'op'),
});
const inject = (plan: WindowsPlan) => injectWindows({ ...disks(), plan, store }, context);
const revert = () => revertJournal({ directory: join(base, 'op/journal'), workDirectory: join(base, 'op'), signal });
const hashOf = (): string => createHash('sha256').update(readFileSync(image)).digest('hex');
const fileOf = (path: string): Buffer => execFileSync('ntfscat', [image, path], { maxBuffer: 64 * MiB });

/** As libregf reads it: key to values, each a type and its bytes. */
function hiveOf(path: string): Record<string, Record<string, [number, string]>> {
  const copy = join(base, 'copy');
  writeFileSync(copy, fileOf(path));
  // Debian's python, which its packages are for.
  const script = join(import.meta.dirname, '../testing/dump-hive.py');
  return JSON.parse(
    execFileSync('/usr/bin/python3', [script, copy], { encoding: 'utf8', maxBuffer: 64 * MiB }),
  ) as ReturnType<typeof hiveOf>;
}

const dword = (number: number): [number, string] => [4, `0${number}000000`];
const text = (value: string): string => Buffer.from(`${value}\0`, 'utf16le').toString('hex');

describe('a driver package in a Windows', () => {
  it('of version 10 is in the driver database, as files, and gone again after a revert', async () => {
    const system = makeHive(sampleSystem('10'));
    const newer = makeHive({ 'ControlSet001\\Services\\logged': { Start: 'dword:00000003' } }, system);
    const plan = await planFor('10', {
      [`${CONFIG}/SYSTEM`]: makeDirty(system),
      [`${CONFIG}/SYSTEM.LOG1`]: makeLog([system, newer], system.readUInt32LE(8)),
    });
    expect(plan.refusals).toEqual([]);
    const before = hashOf();
    const done = await inject(plan);
    expect(done.bootServices.map(({ name, start }) => [name, start])).toContainEqual(['stornvme', 0]);

    const keys = hiveOf(`${CONFIG}/SYSTEM`);
    const services = 'ControlSet001\\Services';
    expect(keys[`${services}\\vioblk`]).toMatchObject({
      Type: dword(1),
      Start: dword(0),
      ErrorControl: dword(1),
      Group: [1, text('SCSI miniport')],
      ImagePath: [2, text('System32\\drivers\\vioblk.sys')],
    });
    expect(keys[`${services}\\vioblk\\Parameters\\PnpInterface`]).toEqual({ 5: dword(1) });
    // Values that are not named stay, StartOverride goes, and what was in the log only is there.
    expect(keys[`${services}\\stornvme`]).toMatchObject({ Start: dword(0), Type: dword(1), ErrorControl: dword(1) });
    expect(keys).not.toHaveProperty([`${services}\\stornvme\\StartOverride`]);
    expect(keys[`${services}\\logged`]).toEqual({ Start: dword(3) });
    expect(keys['ControlSet001\\Control\\CrashControl']).toEqual({ AutoReboot: dword(0), CrashDumpEnabled: dword(7) });
    const inf = keys['DriverDatabase\\DriverInfFiles\\lifeboat-vioblk.inf'];
    const pack = Buffer.from(inf?.['Active']?.[1] ?? '', 'hex')
      .toString('utf16le')
      .replace('\0', '');
    expect(pack).toMatch(/^lifeboat-vioblk\.inf_amd64_[0-9a-f]{16}$/);
    const top = `DriverDatabase\\DriverPackages\\${pack}`;
    expect(keys[top]?.['Version']).toEqual([3, `00ff0900000000007be9364d25e3ce11bfc108002be10318${'00'.repeat(24)}`]);
    expect(keys[`${top}\\Configurations\\vioblk_conf`]).toEqual({
      ConfigFlags: dword(0),
      Service: [1, text('vioblk')],
    });
    const id = 'PCI\\VEN_1AF4&DEV_1042';
    expect(keys[`${top}\\Descriptors\\${id}`]).toEqual({ Configuration: [1, text('vioblk_conf')] });
    expect(keys[`DriverDatabase\\DeviceIds\\${id}`]).toEqual({ 'lifeboat-vioblk.inf': [3, '01ff0000'] });
    const software = hiveOf(`${CONFIG}/SOFTWARE`)['Microsoft\\Windows\\CurrentVersion'];
    expect(Buffer.from(software?.['DevicePath']?.[1] ?? '', 'hex').toString('utf16le')).toMatch(
      /^%SystemRoot%\\inf;%SystemRoot%\\Lifeboat\\vioblk-[0-9a-f]{8}\0$/,
    );

    // Written to its end: both numbers equal, no log that could be put over it.
    const hive = fileOf(`${CONFIG}/SYSTEM`);
    expect(hive.readUInt32LE(4)).toBe(hive.readUInt32LE(8));
    expect(fileOf(`${CONFIG}/SYSTEM.LOG1`)).toHaveLength(0);
    expect(fileOf('Windows/System32/drivers/vioblk.sys').equals(DRIVER)).toBe(true);
    const folder = done.edits.find(({ path }) => path.endsWith('vioblk.cat'))?.path ?? '';
    expect(fileOf(folder).toString()).toBe('signed');

    expect(hashOf()).not.toBe(before);
    await revert();
    expect(hashOf()).toBe(before);
  });

  it('of version 7 is in CriticalDeviceDatabase, and can be written to by nobody who could not before', async () => {
    const plan = await planFor('7');
    const access = (root: string, path: string): string => {
      const args = ['--absolute-names', '-e', 'hex', '-n', 'system.ntfs_acl', join(root, path)];
      return /=(0x\S+)/.exec(execFileSync('getfattr', args, { encoding: 'utf8' }))?.[1] ?? '';
    };
    let wanted = '';
    await changeNtfsImage(image, async (root) => {
      // Full access for SYSTEM alone, as a security descriptor: owner, group and a list of one.
      const sid = '010100000000000512000000';
      const list = `02001c000100000000001400ff011f00${sid}`;
      const descriptor = `0x01000480300000003c0000000000000014000000${list}${sid}${sid}`;
      execFileSync('setfattr', ['-n', 'system.ntfs_acl', '-v', descriptor, join(root, 'Windows/System32/drivers')]);
      wanted = access(root, 'Windows/System32/drivers');
      await Promise.resolve();
    });
    await inject(plan);
    const keys = hiveOf(`${CONFIG}/SYSTEM`);
    expect(keys['ControlSet001\\Control\\CriticalDeviceDatabase\\PCI#VEN_1AF4&DEV_1042']).toEqual({
      Service: [1, text('vioblk')],
      ClassGUID: [1, text('{4D36E97B-E325-11CE-BFC1-08002BE10318}')],
    });
    expect(keys).not.toHaveProperty(['DriverDatabase']);
    expect(wanted).toMatch(/^0x01/);
    await changeNtfsImage(image, async (root) => {
      expect(access(root, 'Windows/System32/drivers/vioblk.sys')).toBe(wanted);
      expect(access(root, 'Windows/Lifeboat')).toBe(wanted);
      await Promise.resolve();
    });
  });

  it('that changed in the store since the plan is not put in, and nothing is changed', async () => {
    const plan = await planFor('10');
    const before = hashOf();
    const [pack] = await store.packages();
    writeFileSync(join(store.directoryOf(pack?.id ?? ''), 'vioblk.sys'), 'MZ another driver');
    await expect(inject(plan)).rejects.toMatchObject({ code: 'guest.driver-package-unusable' });
    expect(hashOf()).toBe(before);
  });

  it('whose file is no program is not put in, and nothing is changed', async () => {
    const vendor = join(base, 'vendor');
    writeFileSync(join(vendor, 'vioblk.sys'), 'SZDD');
    store = new DriverStore(join(base, 'store2'));
    await store.add(vendor, { nowMs: 0, signal });
    const plan = await planFor('10');
    const before = hashOf();
    await expect(inject(plan)).rejects.toMatchObject({ message: expect.stringContaining('MZ') as string });
    expect(hashOf()).toBe(before);
  });

  it('is not put in where the plan refuses', async () => {
    const plan = await planFor('10', { 'hiberfil.sys': Buffer.from('HIBR'.padEnd(4096, '\0')) });
    await expect(inject(plan)).rejects.toMatchObject({
      code: 'guest.redeploy-refused',
      message: expect.stringContaining('hibernated') as string,
    });
  });
});

it('gets its boot manager where the firmware of another machine looks', async () => {
  const [esp, volume] = [join(base, 'esp.raw'), join(base, 'ntfs.raw')];
  const env = { ...process.env, MTOOLS_SKIP_CHECK: '1' };
  const run = (tool: string, ...args: string[]) => execFileSync(tool, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  writeFileSync(esp, '');
  truncateSync(esp, 8 * MiB);
  run('mkfs.fat', esp);
  const manager = Buffer.alloc(4096);
  manager.write('MZ');
  manager.writeUInt32LE(0x40, 0x3c);
  manager.write('PE\0\0', 0x40);
  manager.writeUInt16LE(0x8664, 0x44);
  manager.write('Microsoft Corporation bootmgr', 1024, 'utf16le');
  const source = join(base, 'bootmgfw.efi');
  writeFileSync(source, manager);
  run('mmd', '-i', esp, '::/EFI', '::/EFI/Microsoft', '::/EFI/Microsoft/Boot');
  run('mcopy', '-i', esp, source, '::/EFI/Microsoft/Boot/bootmgfw.efi');
  await makeNtfsImage(volume, { sizeBytes: 24 * MiB, files: sampleWindows('10') });
  writeFileSync(image, '');
  truncateSync(image, 40 * MiB);
  run('sgdisk', '-n', '1:2048:+8M', '-t', '1:ef00', '-n', '2:0:+24M', '-t', '2:0700', image);
  const disk = openSync(image, 'r+');
  writeSync(disk, readFileSync(esp), 0, 8 * MiB, MiB);
  writeSync(disk, readFileSync(volume), 0, 24 * MiB, 9 * MiB);
  closeSync(disk);

  const profile = await loadHardwareProfile('ahci-uefi');
  const plan = await planWindowsOn({ ...disks(), signal }, { profile, store, nowMs: 0 });
  expect(plan.refusals).toEqual([]);
  const before = hashOf();
  const done = await inject(plan);
  expect(done.edits.map(({ path }) => path)).toContain('/EFI/BOOT/BOOTX64.EFI');
  const copy = join(base, 'copy.efi');
  run('mcopy', '-n', '-i', `${image}@@${MiB}`, '::/EFI/BOOT/BOOTX64.EFI', copy);
  expect(readFileSync(copy).equals(manager)).toBe(true);
  await revert();
  expect(hashOf()).toBe(before);
});
