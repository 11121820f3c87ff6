import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deviceOf, recordedVolume } from '@lifeboat/disk/testing/disks';
import { MiB } from '@lifeboat/foundation/units';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemUnpackers } from '../access/system-unpackers.ts';
import type { DiskInventory, MachineInventory } from './machine-inventory.ts';
import { renderInventory } from './render-inventory.ts';
import { takeInventory } from './take-inventory.ts';

const SECTOR = 512;
const files = { unpackers: systemUnpackers(new AbortController().signal) };

let directory: string;
let image: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'inventory-'));
  image = join(directory, 'disk.raw');
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function partitioned(script: string, sizeBytes: number): Buffer {
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  execFileSync('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', image], { input: script });
  return readFileSync(image);
}

function made(sizeBytes: number, tool: string, ...args: string[]): Buffer {
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  execFileSync(tool, [...args, image], { stdio: 'ignore' });
  return readFileSync(image);
}

async function inventory(disks: Record<string, Uint8Array>): Promise<MachineInventory> {
  const list = Object.entries(disks).map(([name, bytes]) => ({ name, device: deviceOf(bytes) }));
  return takeInventory({ disks: list, files, takenAtMs: 0 });
}

async function disk(bytes: Uint8Array): Promise<DiskInventory> {
  return (await inventory({ vda: bytes })).disks[0] as DiskInventory;
}

/** GRUB's first sector over the code of `bytes`, and a core of `sectors` at `lba`, as grub-bios-setup puts them. */
function withGrub(bytes: Buffer, lba: number, sectors: number): Buffer {
  readFileSync('/usr/lib/grub/i386-pc/boot.img').copy(bytes, 0, 0, 440);
  bytes.writeBigUInt64LE(BigInt(lba), 0x5c);
  readFileSync('/usr/lib/grub/i386-pc/diskboot.img').copy(bytes, lba * SECTOR);
  bytes.writeBigUInt64LE(BigInt(lba + 1), lba * SECTOR + 0x1f4);
  bytes.writeUInt16LE(sectors - 1, lba * SECTOR + 0x1fc);
  return bytes;
}

describe('the inventory of a disk', () => {
  it('says of a GPT disk: ids, alignment, what lies in each partition', async () => {
    const bytes = partitioned(
      'label: gpt\nstart=2048, size=2048, type=U\nstart=4096, size=8192, type=L, name=root\nstart=12351, size=2048, type=L\n',
      16 * MiB,
    );
    made(MiB, 'mkfs.fat', '-n', 'ESP').copy(bytes, 2048 * SECTOR);
    made(4 * MiB, 'mkfs.ext4', '-q', '-L', 'root').copy(bytes, 4096 * SECTOR);
    expect(await disk(bytes)).toMatchObject({
      scheme: 'gpt',
      protectiveMbr: 'protective',
      bootCode: { loader: 'none' },
      partitions: [
        { number: 1, alignmentBytes: MiB, content: { type: 'vfat', label: 'ESP' } },
        { number: 2, alignmentBytes: MiB, name: 'root', content: { type: 'ext4', label: 'root' } },
        { number: 3, alignmentBytes: 512, content: { kind: 'empty' } },
      ],
    });
  });

  it('knows a hybrid MBR, and one that protects nothing', async () => {
    const bytes = partitioned('label: gpt\nstart=2048, size=2048, type=L\n', 8 * MiB);
    bytes.copy(bytes, 446 + 16, 446, 446 + 16);
    bytes.writeUInt8(0x0c, 446 + 16 + 4);
    expect((await disk(bytes)).protectiveMbr).toBe('hybrid');
    bytes.fill(0, 446, 510);
    expect((await disk(bytes)).protectiveMbr).toBe('missing');
  });

  it('says of an MBR disk with sector 63 and logical partitions what moving it to an SSD has to mend', async () => {
    const bytes = partitioned(
      'label: dos\nlabel-id: 0x0badcafe\nstart=63, size=4032, type=83, bootable\nstart=4096, size=20000, type=5\nstart=4159, size=2048, type=83\n',
      16 * MiB,
    );
    expect(await disk(bytes)).toMatchObject({
      scheme: 'mbr',
      diskId: '0badcafe',
      partitions: [
        { number: 1, role: 'primary', bootable: true, alignmentBytes: 512 },
        { number: 2, role: 'extended', alignmentBytes: MiB },
        { number: 5, role: 'logical', alignmentBytes: 512, content: { kind: 'empty' } },
      ],
    });
    expect(await disk(bytes)).not.toHaveProperty('protectiveMbr');
  });
});

describe('boot code', () => {
  const mbr = () => partitioned('label: dos\nstart=2048, size=4096, type=83\n', 8 * MiB);
  const gpt = () =>
    partitioned(
      'label: gpt\nstart=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\nstart=4096, size=2048, type=L\n',
      8 * MiB,
    );

  it('of GRUB leads to its core, in the gap, in its partition, or nowhere', async () => {
    const core = async (bytes: Buffer) => (await disk(bytes)).bootCode.grubCore;
    expect(await core(withGrub(mbr(), 1, 60))).toEqual({ offsetBytes: 512, lengthBytes: 60 * SECTOR, place: 'gap' });
    expect(await core(withGrub(gpt(), 2048, 60))).toMatchObject({ place: 'bios-boot-partition' });
    expect(await core(withGrub(mbr(), 2048, 60))).toMatchObject({ place: 'partition' });
    // A core that is a file: its blocks lie where the filesystem put them.
    const file = withGrub(mbr(), 1, 20);
    file.writeBigUInt64LE(3000n, SECTOR + 0x1e8);
    file.writeUInt16LE(40, SECTOR + 0x1f0);
    expect(await core(file)).toEqual({ offsetBytes: 512, lengthBytes: 60 * SECTOR, place: 'partition' });
    file.writeBigUInt64LE(16_380n, SECTOR + 0x1e8);
    expect(await core(file)).toMatchObject({ place: 'unusable' });
    const moved = withGrub(mbr(), 1, 60);
    moved.fill(0, SECTOR, 61 * SECTOR);
    expect(await core(moved)).toEqual({ offsetBytes: 512, lengthBytes: 0, place: 'unusable' });
    const beyond = withGrub(mbr(), 1, 60);
    beyond.writeBigUInt64LE(0xffff_ffff_ffffn, 0x5c);
    expect(await core(beyond)).toMatchObject({ place: 'unusable' });
    const hostile = withGrub(mbr(), 1, 60);
    hostile.writeUInt16LE(0xffff, SECTOR + 0x1fc);
    expect(await core(hostile)).toMatchObject({ place: 'unusable' });
  });

  it.each([
    ['windows', 'Invalid partition table\0Error loading operating system\0Missing operating system'],
    ['windows', 'f\x81\xfbTCPA Ung\xfcltige Partitionstabelle'],
    ['syslinux', '1\xc0Missing operating system.\r\n'],
    ['syslinux', 'Missing OS\r\nMultiple active partitions\r\n'],
    ['other', 'SafeBoot'],
  ])('of others is told by its messages: %s', async (loader, code) => {
    const bytes = mbr();
    bytes.write(code, 90, 'latin1');
    const sha256 = createHash('sha256').update(bytes.subarray(0, 440)).digest('hex');
    expect((await disk(bytes)).bootCode).toEqual({ loader, sha256 });
  });
});

describe('volumes made of several disks', () => {
  it('logical volumes are found and looked into, linear over two runs and striped over two disks', async () => {
    const [first, second] = [recordedVolume('pv1'), recordedVolume('pv2')];
    const extent = (number: number) => MiB * (1 + number);
    // vg0/root: extents 0-19, then 50-51 of the first volume. A filesystem whose end lies in the second run.
    const tree = join(directory, 'tree');
    mkdirSync(join(tree, 'etc'), { recursive: true });
    writeFileSync(join(tree, 'etc/os-release'), 'ID=debian\nPRETTY_NAME="Debian on LVM"\n');
    const root = made(22 * MiB, 'mke2fs', '-q', '-t', 'ext4', '-L', 'root', '-d', tree);
    root.copy(first, extent(0), 0, 20 * MiB);
    root.copy(first, extent(50), 20 * MiB);
    // vg0/stripe: 64 KiB in turn.
    const stripe = made(4 * MiB, 'mkfs.ext4', '-q', '-L', 'striped');
    for (let at = 0; at < stripe.length; at += 65_536) {
      const [target, start] = (at / 65_536) % 2 === 0 ? [first, extent(52)] : [second, extent(0)];
      stripe.copy(target, start + Math.floor(at / 131_072) * 65_536, at, at + 65_536);
    }
    const found = await inventory({ vda: first, vdb: second });
    expect(found.problems).toEqual([]);
    expect(found.volumes).toMatchObject([
      { name: 'vg0/root', layout: 'linear', on: ['vda'], content: { type: 'ext4', label: 'root', notes: [] } },
      { name: 'vg0/swap-1', layout: 'linear', content: { kind: 'empty' } },
      { name: 'vg0/stripe', layout: 'striped', on: ['vda', 'vdb'], content: { type: 'ext4', label: 'striped' } },
    ]);
    expect(found.systems).toMatchObject([{ root: 'vg0/root', os: { prettyName: 'Debian on LVM' } }]);
  });

  it('a group that lacks a disk says which, and shows what is still whole', async () => {
    const found = await inventory({ vda: recordedVolume('pv1') });
    expect(found.problems).toEqual([
      expect.stringMatching(/^The volume group vg0 lacks its physical volume \S{38} \(\/dev\/loop\d\)\.$/),
    ]);
    expect(found.volumes.map(({ name, content }) => [name, content?.kind])).toEqual([
      ['vg0/root', 'empty'],
      ['vg0/swap-1', 'empty'],
      ['vg0/stripe', undefined],
    ]);
  });
});

it('is shown to people in lines, with what matters said', async () => {
  const bytes = withGrub(
    partitioned('label: dos\nlabel-id: 0x1\nstart=63, size=8192, type=83, bootable\n', 16 * MiB),
    1,
    40,
  );
  recordedVolume('luks2').copy(bytes, 63 * SECTOR, 0, 4 * MiB);
  const found = await takeInventory({
    disks: [{ name: 'vda', controller: 'ahci', serial: 'S1', device: deviceOf(bytes) }],
    hardware: {
      firmware: 'bios',
      memoryMiB: 512,
      vcpus: 1,
      nics: [{ mac: '52:54:00:00:00:01', model: 'virtio', network: 'lan' }],
    },
    files,
    takenAtMs: 0,
  });
  expect(renderInventory(found)).toEqual([
    'Firmware  BIOS',
    'Machine   1 vCPU, 512 MiB of memory',
    'Network   52:54:00:00:00:01 virtio on lan',
    'Disk      vda: 16.0 MiB, on ahci, serial S1, MBR 00000001',
    '  boot code: GRUB, core of 20.0 KiB in the gap before the first partition',
    "  1: 4.00 MiB, Linux, bootable, aligned to 512 B only, encrypted by LUKS 2 (aes-xts-plain64, 1 key slot) 'vault'",
  ]);
});
