/**
 * Real disks, filesystems and GRUB laid out anew, and judged by tools that are not ours: sfdisk, sgdisk, e2fsck, debugfs, fsck.fat,
 * mdir. No guest runs here.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { openFileDevice } from '@lifeboat/disk/file-device';
import type { LayoutRequest } from '@lifeboat/disk/layout/layout-plan';
import { readPartitionTable } from '@lifeboat/disk/partition-table';
import { KiB, MiB } from '@lifeboat/foundation/units';
import { systemRandom } from '@lifeboat/foundation/random';
import { readBootCode } from '@lifeboat/guest/inventory/boot-code';
import { serveDiskImage } from '@lifeboat/host/disk-image-server';
import { scratchDirectory } from '@lifeboat/host/testing/scratch';
import type { Point } from '@lifeboat/repository/read/point-reader';
import { beforeEach, describe, expect, test } from 'vitest';
import { copyDisk } from './copy-disk.ts';
import { layOutDisk } from './lay-out-disk.ts';

const SECTOR = 512;
const GRUB = '/usr/lib/grub/i386-pc';
/** As `serveDiskImage` names its export. */
const DISK = 'disk';
const { signal } = new AbortController();
const context = { signal, progress: () => {} };
const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

let base: string;
let facts: Map<string, unknown>;
beforeEach(async () => {
  base = realpathSync(await scratchDirectory());
  facts = new Map();
});

function blank(name: string, sizeBytes: number): string {
  const path = join(base, name);
  closeSync(openSync(path, 'w'));
  truncateSync(path, sizeBytes);
  return path;
}

/** Puts a file onto a disk at a sector, or takes a run off it. */
function put(from: string, disk: string, sector: number): void {
  run(
    'dd',
    `if=${from}`,
    `of=${disk}`,
    `seek=${sector * SECTOR}`,
    'oflag=seek_bytes',
    'bs=1M',
    'conv=notrunc,sparse',
    'status=none',
  );
}
function take(disk: string, startBytes: number, lengthBytes: number): string {
  const path = join(base, `part-${startBytes}`);
  const flags = ['iflag=skip_bytes,count_bytes', `skip=${startBytes}`, `count=${lengthBytes}`, 'bs=1M', 'status=none'];
  run('dd', `if=${disk}`, `of=${path}`, ...flags);
  return path;
}

function partitioned(name: string, sizeMib: number, script: string): string {
  const path = blank(name, sizeMib * MiB);
  execFileSync('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', path], { input: script });
  return path;
}

/** A point of one disk, which is this file. */
async function layOut(disk: string, wanted: Partial<LayoutRequest>, targetMib: number) {
  const directory = join(base, 'op');
  mkdirSync(directory, { recursive: true });
  const deps = {
    random: systemRandom,
    exporter: async () => {
      const image = { kind: 'image', path: disk, format: 'raw', readOnly: true } as const;
      const server = await serveDiskImage({ image, nbd: { writable: false }, directory, name: 'point' }, { signal });
      return {
        socketPath: server.nbdSocketPath as string,
        disks: [],
        assertServing: () => {},
        stop: () => server.stop(),
      };
    },
  };
  const operation = {
    directory,
    qemuDirectory: directory,
    record: async (name: string, value: unknown) => void facts.set(name, value),
    recall: async (name: string) => facts.get(name),
  };
  const source = await openFileDevice(disk);
  const request: LayoutRequest = {
    scheme: 'aligned',
    target: { sizeBytes: targetMib * MiB, sectorBytes: SECTOR },
    firmware: 'same',
    ids: 'kept',
    ...wanted,
  };
  try {
    const input = { point: {} as Point, disk: DISK, source, request };
    const laidOut = await layOutDisk(deps, operation, input, context);
    try {
      const path = blank('target.raw', targetMib * MiB);
      const target = await openFileDevice(path, { writable: true });
      await copyDisk(laidOut.device, target, { targetIsBlank: true, name: DISK }, context);
      await target.close();
      await laidOut.grow(path);
      return { path, plan: laidOut.plan };
    } finally {
      await laidOut.close();
      // Nothing of the way is left, neither a file nor a loop device.
      expect(readdirSync(directory).filter((name) => !name.endsWith('.log'))).toEqual([]);
      expect(run('losetup', '--list', '--noheadings', '--output', 'BACK-FILE')).not.toContain(base);
    }
  } finally {
    await source.close();
  }
}

/** Each partition of a laid out disk as a file. */
function partitionOf(
  laidOut: {
    path: string;
    plan: { partitions: readonly { number: number; startBytes: number; lengthBytes: number }[] };
  },
  number: number,
): string {
  const found = laidOut.plan.partitions.find((each) => each.number === number);
  if (!found) throw new Error(`there is no partition ${number}`);
  return take(laidOut.path, found.startBytes, found.lengthBytes);
}

function soundExt(path: string): void {
  run('e2fsck', '-f', '-n', path);
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** A root with GRUB's files, as a distribution leaves them: its modules, and their copy where GRUB looks. */
function rootTree(): string {
  const root = join(base, 'root');
  for (const path of ['etc', 'boot/grub/i386-pc', 'usr/lib/grub']) mkdirSync(join(root, path), { recursive: true });
  writeFileSync(join(root, 'etc/os-release'), 'ID=debian\n');
  writeFileSync(join(root, 'boot/grub/grub.cfg'), 'menuentry x { linux /vmlinuz }\n');
  copyFileSync(`${GRUB}/normal.mod`, join(root, 'boot/grub/i386-pc/normal.mod'));
  writeFileSync(join(root, 'marker'), Buffer.alloc(300_000, 'marker '));
  return root;
}

const ROOT_UUID = '11111111-2222-3333-4444-555555555555';

/** MBR of 2008: root on a logical partition at sector 63 of the extended one, FAT before it, GRUB in the gap. */
function oldDisk(): string {
  const disk = partitioned(
    'old.raw',
    80,
    'label: dos\nlabel-id: 0xcafe0001\n1 : start=63, size=32067, type=6, bootable\n2 : start=32130, size=128520, type=5\n5 : start=32193, size=96390, type=83\n6 : start=128646, size=16065, type=82\n',
  );
  const fat = blank('fat', 32_067 * SECTOR - ((32_067 * SECTOR) % KiB));
  run('mkfs.vfat', '-h', '63', fat);
  put(fat, disk, 63);
  const root = blank('root.img', 96_390 * SECTOR - ((96_390 * SECTOR) % (4 * KiB)));
  run('mkfs.ext4', '-q', '-F', '-U', ROOT_UUID, '-O', '^metadata_csum_seed,^orphan_file', '-d', rootTree(), root);
  put(root, disk, 32_193);
  const core = join(base, 'core.img');
  run(
    'grub-mkimage',
    '-O',
    'i386-pc',
    '-d',
    GRUB,
    '-p',
    '(,msdos5)/boot/grub',
    '-o',
    core,
    'biosdisk',
    'part_msdos',
    'ext2',
  );
  const image = readFileSync(core);
  image.writeUInt16LE(Math.ceil(image.length / SECTOR) - 1, 0x1fc);
  image.writeBigUInt64LE(2n, 0x1f4);
  writeFileSync(core, image);
  // The gap of 62 sectors holds it.
  expect(image.length).toBeLessThan(62 * SECTOR);
  put(core, disk, 1);
  const boot = join(base, 'boot.img');
  writeFileSync(boot, readFileSync(`${GRUB}/boot.img`).subarray(0, 440));
  put(boot, disk, 0);
  return disk;
}

describe('an MBR with logical partitions at sector 63', () => {
  test('comes aligned: sound for every tool, with its boot loader, its data and FAT that knows its new place', async () => {
    const disk = oldDisk();
    const gap = readFileSync(disk).subarray(SECTOR, 63 * SECTOR);
    const laidOut = await layOut(disk, {}, 96);
    const bytes = readFileSync(laidOut.path);
    expect(run('sfdisk', '--verify', laidOut.path)).toContain('No errors detected');
    expect(bytes.subarray(SECTOR, 63 * SECTOR).equals(gap)).toBe(true);
    expect(bytes.subarray(0, 440).equals(readFileSync(disk).subarray(0, 440))).toBe(true);
    const root = partitionOf(laidOut, 5);
    soundExt(root);
    expect(run('debugfs', '-R', 'cat /marker', root)).toHaveLength(300_000);
    expect(laidOut.plan.partitions.map(({ startBytes }) => startBytes % MiB)).toEqual([0, 0, 0, 0]);
    const fat = partitionOf(laidOut, 1);
    run('fsck.fat', '-n', fat);
    expect(readFileSync(fat).readUInt32LE(0x1c)).toBe(2048);
  });

  test('becomes a GPT with a core image of GRUB that finds its root by its id', async () => {
    const laidOut = await layOut(oldDisk(), { scheme: 'gpt' }, 96);
    expect(run('sgdisk', '--verify', laidOut.path)).toContain('No problems found');
    const device = await openFileDevice(laidOut.path);
    try {
      const table = await readPartitionTable(device);
      expect(table).toMatchObject({ scheme: 'gpt', problems: [] });
      const boot = await readBootCode(device, table);
      expect(boot).toMatchObject({ loader: 'grub', grubCore: { offsetBytes: 32 * KiB, place: 'bios-boot-partition' } });
    } finally {
      await device.close();
    }
    soundExt(partitionOf(laidOut, 5));
    // The rest of the core follows its first sector, at sector 64.
    expect(readFileSync(laidOut.path).readBigUInt64LE(32 * KiB + 0x1f4)).toBe(65n);
    // The same disk again gets the same ids: a restore that was killed is repeated.
    const again = await layOut(join(base, 'old.raw'), { scheme: 'gpt' }, 96);
    expect(again.plan).toEqual(laidOut.plan);
  });

  test('starts by UEFI as well: a partition with a loader where firmware looks', async () => {
    const laidOut = await layOut(oldDisk(), { scheme: 'gpt', firmware: 'uefi' }, 220);
    expect(run('sgdisk', '--verify', laidOut.path)).toContain('No problems found');
    const esp = partitionOf(laidOut, laidOut.plan.efiSystemPartition ?? 0);
    run('fsck.fat', '-n', esp);
    expect(run('mdir', '-b', '-/', '-i', esp, '::')).toMatch(/EFI\/BOOT\/BOOTX64\.EFI[^]*EFI\/debian\/grubx64\.efi/);
    const loader = join(base, 'loader.efi');
    run('mcopy', '-n', '-i', esp, '::/EFI/BOOT/BOOTX64.EFI', loader);
    const image = readFileSync(loader);
    expect(image.toString('latin1', 0, 2)).toBe('MZ');
    expect(image.includes(`search.fs_uuid ${ROOT_UUID} root`)).toBe(true);
    expect(readFileSync(esp).readUInt32LE(0x1c)).toBe(
      (laidOut.plan.partitions.find(({ number }) => number === laidOut.plan.efiSystemPartition)?.startBytes ?? 0) /
        SECTOR,
    );
  });

  test('without modules of the same build no core image is made up', async () => {
    const disk = oldDisk();
    const root = take(disk, 32_193 * SECTOR, 96_390 * SECTOR);
    const other = join(base, 'normal.mod');
    writeFileSync(other, Buffer.concat([readFileSync(`${GRUB}/normal.mod`), Buffer.from('x')]));
    run('debugfs', '-w', '-R', 'rm /boot/grub/i386-pc/normal.mod', root);
    run('debugfs', '-w', '-R', `write ${other} /boot/grub/i386-pc/normal.mod`, root);
    put(root, disk, 32_193);
    await expect(layOut(disk, { scheme: 'gpt' }, 96)).rejects.toMatchObject({ code: 'layout.unsupported' });
    expect(existsSync(join(base, 'target.raw'))).toBe(false);
  });
});

describe('another size', () => {
  /** Full, then every tenth file of 64 KiB taken away: what is free is scattered, and data lies to the end. */
  function fullDisk(): { disk: string; hashes: Map<string, string> } {
    const disk = partitioned('full.raw', 100, 'label: gpt\nstart=2048, size=196608, type=linux\n');
    const part = blank('full.img', 96 * MiB);
    run('mkfs.ext4', '-q', '-F', '-b', '4096', '-m', '0', '-N', '3000', '-E', 'lazy_itable_init=0', part);
    const mountPoint = join(base, 'mnt');
    mkdirSync(mountPoint);
    run('mount', '-o', 'loop', part, mountPoint);
    const hashes = new Map<string, string>();
    try {
      let count = 0;
      for (; ; count += 1) {
        const bytes = Buffer.alloc(64 * KiB);
        for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE((count * 16_384 + at) >>> 0, at);
        try {
          writeFileSync(join(mountPoint, `f${count}`), bytes);
        } catch {
          run('rm', join(mountPoint, `f${count}`)); // it is full
          break;
        }
        hashes.set(`f${count}`, sha256(bytes));
      }
      for (let each = 0; each < count; each += 10) {
        run('rm', join(mountPoint, `f${each}`));
        hashes.delete(`f${each}`);
      }
    } finally {
      run('umount', mountPoint);
    }
    put(part, disk, 2048);
    return { disk, hashes };
  }

  test('a filesystem 90 % full, scattered, with data at its end, becomes smaller with every file whole; and is not begun below what it holds', async () => {
    const { disk, hashes } = fullDisk();
    await expect(layOut(disk, { resize: 'last' }, 60)).rejects.toMatchObject({
      code: 'layout.cannot-shrink',
      message: expect.stringMatching(/needs .*\d{8} bytes.*would have 58.0 MiB/) as string,
    });
    expect(existsSync(join(base, 'target.raw'))).toBe(false);
    facts.clear();
    const last = readFileSync(disk).subarray(96 * MiB, 97 * MiB);
    expect(last.some((byte) => byte !== 0)).toBe(true);
    const before = sha256(readFileSync(disk));
    const laidOut = await layOut(disk, { resize: 'last' }, 94);
    expect(laidOut.plan.partitions[0]).toMatchObject({ lengthBytes: 92 * MiB, volume: { change: 'shrink' } });
    expect(sha256(readFileSync(disk))).toBe(before);
    const part = partitionOf(laidOut, 1);
    soundExt(part);
    expect(run('dumpe2fs', '-h', part)).toMatch(/^Block count: +23552$/m);
    const out = join(base, 'files');
    mkdirSync(out);
    run('debugfs', '-R', `rdump / ${out}`, part);
    const found = new Map(
      readdirSync(out)
        .filter((name) => name.startsWith('f'))
        .map((name) => [name, sha256(readFileSync(join(out, name)))]),
    );
    expect(found).toEqual(hashes);
  });

  test.each([
    [
      'ext4',
      'mkfs.ext4',
      ['-q', '-F', '-b', '4096'],
      (part: string) => run('dumpe2fs', '-h', part),
      /^Block count: +40960$/m,
    ],
    ['xfs', 'mkfs.xfs', ['-q'], (part: string) => run('xfs_info', part), /data\s+=\s+bsize=4096\s+blocks=81920/],
    [
      'btrfs',
      'mkfs.btrfs',
      ['-q'],
      (part: string) => run('btrfs', 'inspect-internal', 'dump-super', part),
      /^total_bytes\s+314572800$/m,
    ],
    [
      'ntfs',
      'mkntfs',
      ['-q', '-F', '-Q'],
      (part: string) => run('ntfsresize', '--info', '--force', part),
      /Current volume size: 1677[67]\d+/,
    ],
  ] as const)('%s grows with its partition', async (type, make, args, info, shows) => {
    // XFS is not made below 300 MiB, and btrfs does not grow to less than 256.
    const [oldMib, newMib] = { xfs: [310, 320], btrfs: [260, 300], ext4: [120, 160], ntfs: [120, 160] }[type] as [
      number,
      number,
    ];
    const disk = partitioned('grow.raw', oldMib + 2, `label: gpt\nstart=2048, size=${oldMib * 2048}, type=linux\n`);
    const part = blank('grow.img', oldMib * MiB);
    run(make, ...args, part);
    put(part, disk, 2048);
    const laidOut = await layOut(disk, { resize: 'last' }, newMib + 2);
    const grown = take(laidOut.path, MiB, newMib * MiB);
    expect(info(grown)).toMatch(shows);
    if (type === 'ext4') soundExt(grown);
  });

  test.each([
    [
      'btrfs',
      ['mkfs.btrfs', '-q'],
      [400, 300],
      (part: string) => run('btrfs', 'check', part) + run('btrfs', 'inspect-internal', 'dump-super', part),
      /^total_bytes\s+314572800$/m,
    ],
    [
      'ntfs',
      ['mkntfs', '-q', '-F', '-Q'],
      [120, 100],
      // Whole, and within what is there.
      (part: string) => run('ntfsfix', '--no-action', part) + run('ntfsresize', '--info', '--force', part),
      /Current volume size: 1048[45]\d+/,
    ],
  ] as const)('%s shrinks with its partition', async (_, [make, ...args], [oldMib, newMib], info, shows) => {
    const disk = partitioned('small.raw', oldMib + 2, `label: gpt\nstart=2048, size=${oldMib * 2048}, type=linux\n`);
    const part = blank('small.img', oldMib * MiB);
    run(make, ...args, part);
    put(part, disk, 2048);
    const laidOut = await layOut(disk, { resize: 'last' }, newMib + 2);
    expect(info(take(laidOut.path, MiB, newMib * MiB))).toMatch(shows);
  });
});
