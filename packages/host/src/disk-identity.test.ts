import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { MiB } from '@lifeboat/foundation/units';
import { differences, findDisks, identifyDisk } from './disk-identity.ts';
import { scratchDirectory } from './testing/scratch.ts';

/** A sysfs of disks that tell who they are in each of the ways there are. */
async function sysfs(): Promise<string> {
  const root = await scratchDirectory();
  const disk = (name: string, files: Record<string, string | Buffer>): void => {
    const directory = join(root, 'devices', name);
    mkdirSync(join(directory, 'device'), { recursive: true });
    mkdirSync(join(directory, 'queue'));
    for (const [path, content] of Object.entries({ 'queue/logical_block_size': '512\n', ...files })) {
      writeFileSync(join(directory, path), content);
    }
    mkdirSync(join(root, 'block'), { recursive: true });
    symlinkSync(directory, join(root, 'block', name));
  };
  const page = Buffer.concat([Buffer.from([0, 0x80, 0, 12]), Buffer.from('  WD-WX1234 ')]);
  disk('sda', {
    dev: '8:0\n',
    size: '2048\n',
    diskseq: '3\n',
    'device/vpd_pg80': page,
    'device/wwid': 'naa.5000c500a\n',
    'device/model': 'WDC  \n',
  });
  disk('sdb', { dev: '8:16\n', size: '2048\n', diskseq: '4\n', 'device/vpd_pg80': page });
  disk('vda', { dev: '252:0\n', size: '4096\n', serial: 'disk-7' });
  disk('nvme0n1', {
    dev: '259:0\n',
    size: '8192\n',
    wwid: 'eui.0025385\n',
    'device/serial': 'S3Z9   \n',
    'queue/logical_block_size': '4096\n',
  });
  disk('loop7', { dev: '7:7\n', size: '0\n' });
  return root;
}

test('disks are found by serial number, world wide name and size, however they tell them', async () => {
  const root = await sysfs();
  const names = async (wanted: Parameters<typeof findDisks>[0]) =>
    (await findDisks(wanted, root)).map(({ name }) => name);
  expect(await names({ serial: 'wd-wx1234' })).toEqual(['sda', 'sdb']);
  expect(await names({ serial: 'disk-7' })).toEqual(['vda']);
  expect(await names({ serial: 'S3Z9' })).toEqual(['nvme0n1']);
  expect(await names({ wwn: 'NAA.5000C500A' })).toEqual(['sda']);
  expect(await names({ wwn: 'eui.0025385' })).toEqual(['nvme0n1']);
  expect(await names({ sizeBytes: MiB })).toEqual(['sda', 'sdb']);
  expect(await names({ serial: 'another' })).toEqual([]);
  const [found] = await findDisks({ serial: 'S3Z9' }, root);
  expect(found?.identity).toMatchObject({ sizeBytes: 4 * MiB, sectorBytes: 4096 });
});

test('two disks that are alike are told apart', async () => {
  const [a, b] = await findDisks({ sizeBytes: MiB }, await sysfs());
  if (!a || !b) throw new Error('there are two');
  expect(differences(a.identity, a.identity)).toEqual([]);
  expect(differences(a.identity, b.identity)[0]).toBe(
    'its id is device 8:16 sequence 4 instead of device 8:0 sequence 3',
  );
});

test('a loop device and a file are what the kernel says they are', async () => {
  const path = join(await scratchDirectory(), 'disk');
  closeSync(openSync(path, 'w'));
  truncateSync(path, 2 * MiB);
  const device = execFileSync('losetup', ['--find', '--show', path], { encoding: 'utf8' }).trim();
  onTestFinished(() => void execFileSync('losetup', ['--detach', device]));
  for (const [name, id] of [
    [path, /^file \d+:\d+ \d+$/],
    [device, /^device 7:\d+ sequence \d+$/],
  ] as const) {
    const handle = await open(name, 'r+');
    try {
      const identity = await identifyDisk(handle);
      expect(identity).toMatchObject({ sizeBytes: 2 * MiB, id: expect.stringMatching(id) as string });
      expect(identity.sectorBytes).toBe(name === device ? 512 : undefined);
    } finally {
      await handle.close();
    }
  }
});
