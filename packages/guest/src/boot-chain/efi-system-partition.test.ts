/** What a UEFI machine needs where firmware looks without an entry; the partitions are made and read by mtools. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openFileDevice } from '@lifeboat/disk/file-device';
import type { FileNode } from '@lifeboat/disk/files/file-node';
import { MiB } from '@lifeboat/foundation/units';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import { beforeEach, expect, test } from 'vitest';
import { ImageTree } from '../access/image-tree.ts';
import { copyWithFiles, loadersFor, makeEfiSystemPartition, missingFallback } from './efi-system-partition.ts';
import type { GuestGrub } from './find-grub.ts';

let directory: string;
beforeEach(async () => {
  directory = await scratchDirectory();
});
const { signal } = new AbortController();

/** A loader by the section that Secure Boot asks for: what it is is told by that. */
function loader(sbat: string): Buffer {
  const image = Buffer.alloc(1024);
  image.write('MZ');
  image.writeUInt32LE(0x40, 0x3c);
  image.write('PE\0\0', 0x40);
  image.writeUInt16LE(0x8664, 0x44);
  image.writeUInt16LE(1, 0x46);
  image.write('.sbat', 0x58);
  image.writeUInt32LE(sbat.length, 0x60);
  image.writeUInt32LE(512, 0x6c);
  image.write(sbat, 512);
  return image;
}
const SHIM = loader('shim,1,UEFI shim,shim,1,https://example.org\n');
const GRUB = loader('grub,1,Free Software Foundation,grub,2.06,https://example.org\n');
const MANAGER = loader('shim,1,UEFI shim,mm,1,https://example.org\n');

async function partition(files: Record<string, Buffer>): Promise<string> {
  const path = join(directory, 'esp.img');
  await makeEfiSystemPartition(
    { path, sizeBytes: 40 * MiB, startBytes: MiB, files: new Map(Object.entries(files)) },
    { directory, signal },
  );
  return path;
}

async function missing(files: Record<string, Buffer>): Promise<string[] | undefined> {
  const device = await openFileDevice(await partition(files));
  try {
    const found = await missingFallback(device);
    return found && [...found.keys()].sort();
  } finally {
    await device.close();
  }
}

const BESIDE = ['EFI/BOOT/BOOTX64.EFI', 'EFI/BOOT/grubx64.efi', 'EFI/BOOT/mmx64.efi'];
const VENDOR = { 'EFI/debian/shimx64.efi': SHIM, 'EFI/debian/grubx64.efi': GRUB, 'EFI/debian/mmx64.efi': MANAGER };

test.each<[string, Record<string, Buffer>, string[] | undefined]>([
  ['a vendor alone: all three beside each other, since a shim alone starts nothing', VENDOR, BESIDE],
  ['a shim alone where firmware looks: what it loads', { ...VENDOR, 'EFI/BOOT/BOOTX64.EFI': SHIM }, BESIDE.slice(1)],
  ['a loader that needs no other: nothing', { ...VENDOR, 'EFI/BOOT/BOOTX64.EFI': GRUB }, []],
  ['a vendor without shim', { 'EFI/arch/grubx64.efi': GRUB }, BESIDE.slice(0, 2)],
  ['Windows alone: nothing that could be put there', { 'EFI/Microsoft/Boot/bootmgfw.efi': GRUB }, undefined],
])('%s', async (_, files, expected) => {
  expect(await missing(files)).toEqual(expected);
});

test('an old partition keeps what it has, and gets the rest', async () => {
  const path = await partition({ ...VENDOR, 'EFI/BOOT/fbx64.efi': MANAGER });
  const copy = join(directory, 'copy.img');
  const device = await openFileDevice(path);
  try {
    const files = (await missingFallback(device)) ?? new Map<string, Buffer>();
    await copyWithFiles({ path: copy, partition: device, files }, { directory, signal });
  } finally {
    await device.close();
  }
  execFileSync('fsck.fat', ['-n', copy], { stdio: 'ignore' });
  const listed = execFileSync('mdir', ['-b', '-/', '-i', copy, '::/EFI'], { encoding: 'utf8' });
  for (const name of [...BESIDE, ...Object.keys(VENDOR), 'EFI/BOOT/fbx64.efi']) expect(listed).toContain(`::/${name}`);
  const out = join(directory, 'out.efi');
  execFileSync('mcopy', ['-n', '-i', copy, '::/EFI/BOOT/BOOTX64.EFI', out]);
  expect(readFileSync(out).equals(SHIM)).toBe(true);
});

test("a machine with its distribution's signed loaders gets those, and a configuration where they look for it", async () => {
  const node = (files: Record<string, Buffer | undefined>, at = ''): FileNode => ({
    kind: files[at] === undefined ? 'directory' : 'file',
    sizeBytes: files[at]?.length ?? 0,
    names: async () => [],
    child: async (name) =>
      Object.keys(files).some((path) => path === `${at}/${name}` || path.startsWith(`${at}/${name}/`))
        ? node(files, `${at}/${name}`)
        : undefined,
    read: async () => files[at] ?? Buffer.alloc(0),
    target: async () => '',
  });
  const tree = new ImageTree(
    new Map([
      [
        '/',
        node({
          '/usr/lib/shim/shimx64.efi.signed': SHIM,
          '/usr/lib/shim/mmx64.efi': MANAGER,
          '/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed': GRUB,
        }),
      ],
    ]),
  );
  const grub: GuestGrub = { uuid: 'abc-1', directory: '/boot/grub', home: tree, trees: [tree], vendor: 'debian' };
  const files = await loadersFor(grub, { directory, signal });
  expect([...files.keys()].sort()).toEqual([
    ...BESIDE,
    'EFI/debian/grub.cfg',
    'EFI/debian/grubx64.efi',
    'EFI/debian/mmx64.efi',
    'EFI/debian/shimx64.efi',
  ]);
  expect(files.get('EFI/BOOT/BOOTX64.EFI')?.equals(SHIM)).toBe(true);
  expect(files.get('EFI/debian/grub.cfg')?.toString()).toBe(
    'search.fs_uuid abc-1 root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n',
  );
});
