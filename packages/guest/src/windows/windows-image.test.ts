/**
 * An operator looks into the disk of a Windows machine. No Windows runs here: the volumes are made by ntfs-3g and the hives by hivex, in the
 * shapes that Windows gives them (packages/guest/src/testing/sample-windows.ts); libregf reads the hives beside us.
 */
import { execFileSync } from 'node:child_process';
import { realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openFileDevice } from '@lifeboat/disk/file-device';
import { findNtfs, openNtfs } from '@lifeboat/disk/files/ntfs';
import { MiB } from '@lifeboat/foundation/units';
import { systemUnpackers } from '../access/system-unpackers.ts';
import type { MachineInventory } from '../inventory/machine-inventory.ts';
import { renderInventory } from '../inventory/render-inventory.ts';
import { takeInventory } from '../inventory/take-inventory.ts';
import { bufferSource, makeDirty, makeHive, makeLog } from '../testing/hives.ts';
import { changeNtfsImage, makeNtfsImage } from '../testing/ntfs-image.ts';
import { type SampleFiles, type SampleRelease, sampleSystem, sampleWindows } from '../testing/sample-windows.ts';
import { RegistryHive, type RegistryKey } from './registry/registry-hive.ts';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';

const { signal } = new AbortController();
const CONFIG = 'Windows/System32/config';

async function imageOf(release: SampleRelease, more: SampleFiles = {}): Promise<string> {
  const path = join(realpathSync(await scratchDirectory()), 'disk.raw');
  await makeNtfsImage(path, { sizeBytes: 24 * MiB, files: sampleWindows(release, more) });
  return path;
}

async function inventoryOf(path: string): Promise<MachineInventory> {
  const device = await openFileDevice(path);
  try {
    return await takeInventory(
      { disks: [{ name: 'sda', device }], takenAtMs: 0, files: { unpackers: systemUnpackers(signal) } },
      { signal },
    );
  } finally {
    await device.close();
  }
}

test('Windows 10 is told with version, control set, drivers, and what is wrong with it', async () => {
  const system = makeHive(sampleSystem('10'));
  const newer = makeHive({ 'ControlSet001\\Control\\CrashControl': { AutoReboot: 'dword:00000000' } }, system);
  const path = await imageOf('10', {
    [`${CONFIG}/SYSTEM`]: makeDirty(system),
    [`${CONFIG}/SYSTEM.LOG2`]: makeLog([system, newer], system.readUInt32LE(8)),
    'hiberfil.sys': Buffer.from('hibr'.padEnd(4096, '\0')),
  });
  const inventory = await inventoryOf(path);
  expect(inventory.problems).toEqual([]);
  expect(inventory.windows).toHaveLength(1);
  expect(inventory.windows?.[0]).toMatchObject({
    root: 'sda',
    directory: 'Windows',
    version: { major: 10, minor: 0, build: 19045, architecture: 'amd64', productType: 'workstation' },
    updateRevision: 4070,
    controlSets: { current: 1, default: 1 },
    deviceDatabase: 'driver-database',
    hives: [
      { name: 'SYSTEM', state: 'replayed', logEntries: 1 },
      { name: 'SOFTWARE', state: 'clean' },
    ],
    hibernation: 'hibernated',
    restartAfterCrash: 'off',
    devicePath: '%SystemRoot%\\inf',
    filesystem: { isDirty: false, hasOpenLog: false },
    problems: [],
  });
  expect(inventory.windows?.[0]?.bootDevices).toContainEqual({ id: 'PCI\\CC_010802', service: 'stornvme' });
  const text = renderInventory(inventory).join('\n');
  expect(text).toContain('System    Windows 10 Pro 10.0.19045.4070, amd64, on sda');
  expect(text).toContain('  driver storahci: at boot\n');
  expect(text).toContain('  driver stornvme: on demand, overridden\n');
  expect(text).toContain('  registry SYSTEM: not written to its end; 1 entries of its log are used');
  expect(text).toContain('  hibernated: shut it down completely');
});

test('Windows XP is told with its HAL, and a hive that its logs do not mend', async () => {
  const dirty = makeDirty(makeHive({ a: { b: '"c"' } }));
  const inventory = await inventoryOf(await imageOf('xp', { [`${CONFIG}/SOFTWARE`]: dirty }));
  const [windows] = inventory.windows ?? [];
  expect(windows).not.toHaveProperty('version');
  expect(windows?.hives[1]).toMatchObject({ name: 'SOFTWARE', state: 'dirty' });
  const whole = (await inventoryOf(await imageOf('xp'))).windows?.[0];
  expect(whole).toMatchObject({
    servicePack: 'Service Pack 3',
    version: { major: 5, minor: 1, architecture: 'x86' },
    deviceDatabase: 'critical-devices',
    bootDevices: [
      { id: 'PCI\\CC_0101', service: 'pciide' },
      { id: 'PCI\\VEN_8086&DEV_7111', service: 'intelide' },
    ],
    hal: { hal: 'halmacpi.dll', kernel: 'ntkrnlmp.exe' },
  });
});

test('files of NTFS are those that ntfs-3g wrote, in deep and in large directories', async () => {
  const path = join(realpathSync(await scratchDirectory()), 'disk.raw');
  const big = Buffer.from(Array.from({ length: 1_500_000 }, (_, i) => (i * 31) % 251));
  await makeNtfsImage(path, { sizeBytes: 24 * MiB, files: { 'a/b/c/Big.bin': big, 'a/empty': Buffer.alloc(0) } });
  await changeNtfsImage(path, async (root) => {
    await mkdir(join(root, 'many'));
    for (let i = 0; i < 1500; i += 1) await writeFile(join(root, `many/file with a long name ${i}`), `${i}`);
    // Blocks of the index that became free still hold what was in them.
    await mkdir(join(root, 'fewer'));
    for (let i = 0; i < 400; i += 1) await writeFile(join(root, `fewer/file with a long name ${i}`), '');
    for (let i = 5; i < 400; i += 1) await rm(join(root, `fewer/file with a long name ${i}`));
    await symlink('a', join(root, 'link'));
    // In many pieces: every other cluster is taken by another file.
    for (let i = 0; i < 300; i += 1)
      await writeFile(join(root, `filler${i % 2}`), Buffer.alloc(4096, i), { flag: 'a' });
  });
  const device = await openFileDevice(path);
  const { root } = await openNtfs(device, { signal });
  expect((await (await findNtfs(root, 'A/B/c/big.BIN'))?.read())?.equals(big)).toBe(true);
  expect(await (await findNtfs(root, 'many'))?.names()).toHaveLength(1500);
  expect(await (await findNtfs(root, 'fewer'))?.names()).toHaveLength(5);
  for (const i of [0, 777, 1499]) {
    expect((await (await findNtfs(root, `many/FILE with a long name ${i}`))?.read())?.toString()).toBe(String(i));
  }
  const pieces = await (await findNtfs(root, 'filler1'))?.read();
  expect(pieces?.equals(Buffer.concat(Array.from({ length: 150 }, (_, i) => Buffer.alloc(4096, i * 2 + 1))))).toBe(
    true,
  );
  expect((await root.child('link'))?.kind).not.toBe('directory');
  await device.close();
});

test('every key and value of a hive is the one that libregf reads', async () => {
  const directory = await scratchDirectory();
  for (const release of ['xp', '10'] as const) {
    const bytes = makeHive(sampleSystem(release));
    const path = join(directory, release);
    writeFileSync(path, bytes);
    // Debian's python, which its packages are for.
    const text = execFileSync('/usr/bin/python3', [join(import.meta.dirname, '../testing/dump-hive.py'), path], {
      encoding: 'utf8',
    });
    const ours: Record<string, Record<string, [number, string]>> = {};
    const walk = async (key: RegistryKey, name: string): Promise<void> => {
      ours[name] = Object.fromEntries(
        (await key.values()).map((value) => [value.name, [value.type, value.data.toString('hex')]]),
      );
      for (const child of await key.subkeys()) await walk(child, name === '' ? child.name : `${name}\\${child.name}`);
    };
    const hive = await RegistryHive.open({ hive: bufferSource(bytes), logs: [], what: release });
    await walk(await hive.root(), '');
    expect(ours).toEqual(JSON.parse(text));
    expect(Object.keys(ours).length).toBeGreaterThan(20);
  }
});
