/**
 * A disk with a Linux system on it that never runs: GPT or MBR, ext4, os-release, fstab, GRUB's configuration, a module
 * tree with depmod's index, and an initrd of cpio and zstd that holds only the AHCI drivers. Made in two seconds, with
 * the system's own tools.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  ahciInitrdModules,
  buildInitrd,
  FAKE_VERSION,
  fakeModules,
  writeModuleTree,
  type FakeInitrd,
} from '@lifeboat/guest/testing/fake-kernel';

export interface GuestImageOptions {
  /** An empty directory; gets the image and what is needed to build it. */
  readonly directory: string;
  readonly format: 'raw' | 'qcow2';
  readonly table?: 'gpt' | 'mbr';
  /** A partition of its own for /boot. */
  readonly separateBoot?: boolean;
  /** Partitions of their own for /var and for an EFI system partition, and entries in fstab for what is on no disk. */
  readonly further?: boolean;
  /** The root's source in fstab; its UUID when absent. */
  readonly rootSource?: string;
  /** The root is in this subvolume of a btrfs, beside a snapshot of it, instead of on ext4. */
  readonly subvolume?: string;
  readonly initrd?: Partial<FakeInitrd>;
  /** Changes the tree before it becomes a filesystem. */
  readonly change?: (root: string) => void;
}

export const ROOT_UUID = '11111111-2222-3333-4444-555555555555';
const BOOT_UUID = '66666666-7777-8888-9999-aaaaaaaaaaaa';
const VAR_UUID = 'bbbbbbbb-cccc-dddd-eeee-ffffffffffff';
const EFI_VOLUME_ID = 'ABCD1234';
const MiB = 1024 * 1024;
const VAR_MIB = 16;
const EFI_MIB = 4;
const ROOT_MIB = 160;
/** Half of it is for metadata, twice. */
const BTRFS_ROOT_MIB = 384;
const BOOT_MIB = 96;
const SECTOR = 512;

const FURTHER_FSTAB = `UUID=${VAR_UUID} /var ext4 defaults 0 2
UUID=ABCD-1234 /boot/efi vfat umask=0077 0 1
UUID=00000000-0000-0000-0000-000000000000 /data ext4 nofail 0 2
/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0
tmpfs /tmp tmpfs defaults 0 0
`;

/** Returns the image's path. */
export function buildGuestImage(options: GuestImageOptions): string {
  const { directory, table = 'gpt', separateBoot = false, further = false } = options;
  const root = join(directory, 'root');
  writeTree(root, options);
  const raw = join(directory, 'disk.raw');
  const rootMib = options.subvolume === undefined ? ROOT_MIB : BTRFS_ROOT_MIB;
  const bootMib = separateBoot ? BOOT_MIB : 0;
  const furtherMib = further ? VAR_MIB + EFI_MIB : 0;
  closeSync(openSync(raw, 'w'));
  truncateSync(raw, (2 + furtherMib + bootMib + rootMib) * MiB);
  const starts = {
    var: MiB,
    efi: (1 + VAR_MIB) * MiB,
    boot: (1 + furtherMib) * MiB,
    root: (1 + furtherMib + bootMib) * MiB,
  };
  const lines = [
    ...(further
      ? [
          `start=${starts.var / SECTOR}, size=${(VAR_MIB * MiB) / SECTOR}, type=${linuxType(table)}`,
          `start=${starts.efi / SECTOR}, size=${(EFI_MIB * MiB) / SECTOR}, type=${table === 'gpt' ? 'uefi' : 'ef'}`,
        ]
      : []),
    ...(separateBoot
      ? [`start=${starts.boot / SECTOR}, size=${(bootMib * MiB) / SECTOR}, type=${linuxType(table)}`]
      : []),
    `start=${starts.root / SECTOR}, size=${(rootMib * MiB) / SECTOR}, type=${linuxType(table)}`,
  ];
  const label = table === 'gpt' ? 'gpt' : 'dos';
  execFileSync('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', raw], {
    input: `label: ${label}\n${lines.join('\n')}\n`,
  });
  if (separateBoot) {
    const boot = join(directory, 'boot');
    execFileSync('mv', [join(root, 'boot'), boot]);
    mkdirSync(join(root, 'boot'));
    placeFilesystem(raw, boot, { uuid: BOOT_UUID, startBytes: starts.boot, mib: BOOT_MIB, directory });
  }
  if (further) {
    const tree = join(directory, 'var');
    execFileSync('mv', [join(root, 'var'), tree]);
    mkdirSync(join(root, 'var'));
    placeFilesystem(raw, tree, { uuid: VAR_UUID, startBytes: starts.var, mib: VAR_MIB, directory });
    const efi = ['-i', EFI_VOLUME_ID, '--offset', String(starts.efi / SECTOR), raw, String(EFI_MIB * 1024)];
    execFileSync('mkfs.vfat', efi, { stdio: 'ignore' });
  }
  const { subvolume } = options;
  placeFilesystem(raw, root, {
    uuid: ROOT_UUID,
    startBytes: starts.root,
    mib: rootMib,
    directory,
    ...(subvolume === undefined ? {} : { subvolume }),
  });
  writeBootCode(raw);
  if (options.format === 'raw') return raw;
  const qcow2 = join(directory, 'disk.qcow2');
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2]);
  rmSync(raw);
  return qcow2;
}

function writeTree(root: string, options: GuestImageOptions): void {
  for (const path of ['etc/initramfs-tools', 'etc/modprobe.d', 'boot/grub', 'usr/lib', 'var/log']) {
    mkdirSync(join(root, path), { recursive: true });
  }
  const tree = writeModuleTree(join(root, 'usr'), fakeModules);
  execFileSync('ln', ['-s', 'usr/lib', join(root, 'lib')]);
  const initrd = buildInitrd(tree, options.directory, { modules: ahciInitrdModules, ...options.initrd });
  writeFileSync(join(root, `boot/initrd.img-${FAKE_VERSION}`), initrd, { mode: 0o640 });
  writeFileSync(join(root, `boot/vmlinuz-${FAKE_VERSION}`), 'not a kernel');
  writeFileSync(join(root, 'usr/lib/os-release'), 'PRETTY_NAME="Fake GNU/Linux 12"\nID=debian\nVERSION_ID="12"\n');
  execFileSync('ln', ['-s', '../usr/lib/os-release', join(root, 'etc/os-release')]);
  const boot = options.separateBoot === true ? `UUID=${BOOT_UUID} /boot ext4 defaults 0 2\n` : '';
  const further = options.further === true ? FURTHER_FSTAB : '';
  const { subvolume } = options;
  const how = subvolume === undefined ? 'ext4 errors=remount-ro' : `btrfs subvol=${subvolume}`;
  writeFileSync(
    join(root, 'etc/fstab'),
    `# made up\n${options.rootSource ?? `UUID=${ROOT_UUID}`} / ${how} 0 1\n${boot}${further}`,
  );
  writeFileSync(
    join(root, 'boot/grub/grub.cfg'),
    `menuentry 'Fake' {\n  linux /boot/vmlinuz-${FAKE_VERSION} root=UUID=${ROOT_UUID} ro quiet\n  initrd /boot/initrd.img-${FAKE_VERSION}\n}\n`,
  );
  writeFileSync(join(root, 'etc/initramfs-tools/modules'), '# List of modules\nahci');
  writeFileSync(join(root, 'var/log/messages'), 'a file nobody edits\n'.repeat(1000));
  options.change?.(root);
}

function placeFilesystem(
  raw: string,
  tree: string,
  at: { uuid: string; startBytes: number; mib: number; directory: string; subvolume?: string },
): void {
  const part = join(at.directory, 'part.img');
  closeSync(openSync(part, 'w'));
  truncateSync(part, at.mib * MiB);
  if (at.subvolume === undefined) {
    execFileSync('mkfs.ext4', ['-q', '-F', '-U', at.uuid, '-d', tree, '-E', 'root_owner=0:0', part]);
  } else {
    execFileSync('mkfs.btrfs', ['-q', '-U', at.uuid, part]);
    mountedBtrfs(part, at.directory, (top) => {
      const root = join(top, at.subvolume ?? '');
      execFileSync('btrfs', ['-q', 'subvolume', 'create', root], { stdio: 'ignore' });
      execFileSync('cp', ['-a', `${tree}/.`, root]);
      execFileSync('btrfs', ['-q', 'subvolume', 'snapshot', '-r', root, `${root}-before`], { stdio: 'ignore' });
    });
  }
  execFileSync('dd', [
    `if=${part}`,
    `of=${raw}`,
    'bs=1M',
    `seek=${at.startBytes / MiB}`,
    'conv=notrunc,sparse',
    'status=none',
  ]);
  rmSync(part);
}

/** What the kernel reads of a whole btrfs; `at`: where it begins in the file. */
export function mountedBtrfs<T>(file: string, directory: string, use: (top: string) => T, at = 0): T {
  const top = join(directory, 'top');
  mkdirSync(top, { recursive: true });
  execFileSync('mount', ['-t', 'btrfs', '-o', `loop,offset=${at},subvolid=5`, file, top]);
  try {
    return use(top);
  } finally {
    execFileSync('umount', [top]);
  }
}

/** The messages of GRUB's boot.img, at the place where it has them. */
function writeBootCode(raw: string): void {
  const file = openSync(raw, 'r+');
  try {
    const code = Buffer.alloc(0x1a0);
    code.write('GRUB \0Geom\0Hard Disk\0Read\0 Error\r\n\0', 0x180, 'latin1');
    writeSync(file, code, 0, code.length, 0);
  } finally {
    closeSync(file);
  }
}

function linuxType(table: 'gpt' | 'mbr'): string {
  return table === 'gpt' ? 'linux' : '83';
}

/** SHA-256 of what a machine would read from the image, whatever its format. */
export function contentHash(image: string, format: 'raw' | 'qcow2'): string {
  return withFlat(image, format, (raw) => {
    const hash = createHash('sha256');
    const piece = Buffer.alloc(4 * MiB);
    const file = openSync(raw, 'r');
    try {
      for (let length = readSync(file, piece); length > 0; length = readSync(file, piece)) {
        hash.update(piece.subarray(0, length));
      }
    } finally {
      closeSync(file);
    }
    return hash.digest('hex');
  });
}

/** A file of the guest as it finds it below `/`, by debugfs: an independent reader. */
export function readGuestFile(image: string, format: 'raw' | 'qcow2', path: string): Buffer {
  const out = `${image}.file`;
  return withFlat(image, format, (raw) => {
    const table = JSON.parse(execFileSync('sfdisk', ['--json', raw], { encoding: 'utf8' })) as {
      partitiontable: { partitions: { start: number }[] };
    };
    const partitions = table.partitiontable.partitions;
    const isOnBoot = partitions.length > 1 && path.startsWith('/boot/');
    const start = partitions.at(isOnBoot ? 0 : -1)?.start ?? 0;
    const inside = isOnBoot ? path.slice('/boot'.length) : path;
    try {
      execFileSync('debugfs', ['-R', `dump ${inside} ${out}`, `${raw}?offset=${start * SECTOR}`], { stdio: 'ignore' });
      return readFileSync(out);
    } finally {
      rmSync(out, { force: true });
    }
  });
}

function withFlat<T>(image: string, format: 'raw' | 'qcow2', use: (raw: string) => T): T {
  if (format === 'raw') return use(image);
  const raw = `${image}.flat`;
  execFileSync('qemu-img', ['convert', '-f', format, '-O', 'raw', image, raw]);
  try {
    return use(raw);
  } finally {
    rmSync(raw);
  }
}
