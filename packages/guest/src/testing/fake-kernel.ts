/** A module tree like Debian's, small: what the shipped profiles ask for, with depmod's real index files. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { kernelModule, type FakeModule } from './kernel-module.ts';

export const FAKE_VERSION = '6.1.0-0-fake';

const block = 'kernel/drivers/block';
const virtio = 'kernel/drivers/virtio';
const scsi = 'kernel/drivers/scsi';

/** Names, dependencies and aliases as in Debian 12's 6.1 kernel, less those that matter to no test. */
export const fakeModules: readonly FakeModule[] = [
  { path: `${virtio}/virtio.ko`, exports: ['register_virtio_driver'] },
  { path: `${virtio}/virtio_ring.ko`, exports: ['vring_interrupt'], uses: ['register_virtio_driver'] },
  { path: `${virtio}/virtio_pci_modern_dev.ko`, exports: ['vp_modern_probe'] },
  {
    path: `${virtio}/virtio_pci.ko`,
    aliases: ['pci:v00001AF4d*sv*sd*bc*sc*i*'],
    uses: ['vring_interrupt', 'vp_modern_probe', 'register_virtio_driver'],
  },
  {
    path: `${block}/virtio_blk.ko`,
    aliases: ['virtio:d00000002v*'],
    uses: ['register_virtio_driver', 'vring_interrupt'],
  },
  {
    path: `${scsi}/virtio_scsi.ko`,
    aliases: ['virtio:d00000008v*'],
    uses: ['register_virtio_driver', 'vring_interrupt', 'scsi_add_host'],
  },
  { path: `${scsi}/scsi_common.ko`, exports: ['scsi_sense_desc'] },
  { path: `${scsi}/scsi_mod.ko`, exports: ['scsi_add_host'], uses: ['scsi_sense_desc'] },
  { path: 'kernel/lib/crc-t10dif.ko', exports: ['crc_t10dif'], softdep: 'pre: crct10dif' },
  { path: 'kernel/crypto/crct10dif_common.ko', exports: ['crc_t10dif_generic'] },
  { path: 'kernel/crypto/crct10dif_generic.ko', aliases: ['crct10dif'], uses: ['crc_t10dif_generic'] },
  { path: `${scsi}/sd_mod.ko`, aliases: ['scsi:t-0x00*', 'scsi:t-0x07*'], uses: ['scsi_add_host', 'crc_t10dif'] },
  { path: 'kernel/drivers/ata/libata.ko', exports: ['ata_host_activate'], uses: ['scsi_add_host'] },
  { path: 'kernel/drivers/ata/libahci.ko', exports: ['ahci_init'], uses: ['ata_host_activate'] },
  {
    path: 'kernel/drivers/ata/ahci.ko',
    aliases: ['pci:v00008086d00002922sv*sd*bc*sc*i*', 'pci:v*d*sv*sd*bc01sc06i01*'],
    uses: ['ahci_init', 'ata_host_activate'],
  },
  { path: 'kernel/drivers/nvme/host/nvme-core.ko', exports: ['nvme_init_ctrl'] },
  { path: 'kernel/drivers/nvme/host/nvme.ko', aliases: ['pci:v*d*sv*sd*bc01sc08i02*'], uses: ['nvme_init_ctrl'] },
  { path: 'kernel/drivers/net/virtio_net.ko', aliases: ['virtio:d00000001v*'], uses: ['register_virtio_driver'] },
  { path: 'kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko', aliases: ['pci:v00008086d000010D3sv*sd*bc*sc*i*'] },
];

/** The modules an initrd of a machine on AHCI holds. */
export const ahciInitrdModules = ['scsi_common', 'scsi_mod', 'libata', 'libahci', 'ahci', 'crc-t10dif', 'sd_mod'];

/** Writes `<root>/lib/modules/<version>` with depmod's index; deterministic content. */
export function writeModuleTree(
  root: string,
  modules: readonly FakeModule[] = fakeModules,
  version = FAKE_VERSION,
): string {
  const tree = join(root, 'lib/modules', version);
  for (const [index, module] of modules.entries()) {
    mkdirSync(dirname(join(tree, module.path)), { recursive: true });
    writeFileSync(join(tree, module.path), kernelModule({ payload: Buffer.alloc(4096 + index, index + 1), ...module }));
  }
  writeFileSync(join(tree, 'modules.order'), modules.map((module) => `${module.path}\n`).join(''));
  writeFileSync(join(tree, 'modules.builtin'), 'kernel/fs/ext4/ext4.ko\n');
  writeFileSync(join(tree, 'modules.builtin.modinfo'), Buffer.from('ext4.license=GPL\0ext4.file=fs/ext4/ext4\0'));
  execFileSync('depmod', ['-b', root, version]);
  return tree;
}

export interface FakeInitrd {
  readonly modules: readonly string[];
  readonly version?: string;
  readonly compression?: 'none' | 'gzip' | 'zstd' | 'xz' | 'lz4';
  readonly microcode?: boolean;
  readonly generator?: 'initramfs-tools' | 'dracut' | 'none';
  /** With `lib` as a link to `usr/lib`, as Debian 12 has it. */
  readonly usrMerged?: boolean;
}

/** An initrd of the modules named, packed by cpio and the compressor themselves. `tree` is a module tree; `work` an empty directory. */
export function buildInitrd(tree: string, work: string, options: FakeInitrd): Buffer {
  const {
    version = FAKE_VERSION,
    compression = 'zstd',
    microcode = true,
    generator = 'initramfs-tools',
    usrMerged = true,
  } = options;
  const root = join(work, 'initrd-root');
  const lib = usrMerged ? 'usr/lib' : 'lib';
  const target = join(root, lib, 'modules', version);
  mkdirSync(target, { recursive: true });
  if (usrMerged) symlinkSync('usr/lib', join(root, 'lib'));
  const files = readdirSync(tree, { recursive: true, encoding: 'utf8' });
  for (const name of options.modules) {
    const file = files.find((candidate) => candidate.endsWith(`/${name}.ko`));
    if (file === undefined) throw new Error(`no module ${name} in ${tree}`);
    mkdirSync(dirname(join(target, file)), { recursive: true });
    cpSync(join(tree, file), join(target, file));
  }
  for (const file of ['modules.order', 'modules.builtin', 'modules.builtin.modinfo'])
    cpSync(join(tree, file), join(target, file));
  execFileSync('depmod', ['-b', join(root, usrMerged ? 'usr' : ''), version]);
  writeFileSync(join(root, 'init'), '#!/bin/sh\n', { mode: 0o755 });
  if (generator === 'initramfs-tools') {
    mkdirSync(join(root, 'conf'));
    mkdirSync(join(root, 'scripts'));
    writeFileSync(join(root, 'conf/initramfs.conf'), 'MODULES=list\n');
    writeFileSync(join(root, 'scripts/functions'), '');
  } else if (generator === 'dracut') {
    mkdirSync(join(root, lib, 'dracut'));
    writeFileSync(join(root, lib, 'dracut/build-parameter.txt'), '');
  }
  const main = pack(root);
  const compressed = compression === 'none' ? main : compress(main, compression);
  if (!microcode) return compressed;
  const early = join(work, 'early-root');
  mkdirSync(join(early, 'kernel/x86/microcode'), { recursive: true });
  writeFileSync(join(early, 'kernel/x86/microcode/GenuineIntel.bin'), Buffer.alloc(3000, 0x4d));
  return Buffer.concat([pack(early), compressed]);
}

/** A directory as a cpio archive, by cpio. */
function pack(directory: string): Buffer {
  const names = execFileSync('find', ['.'], { cwd: directory });
  return execFileSync('cpio', ['--quiet', '-o', '-H', 'newc', '-R', '0:0'], {
    cwd: directory,
    input: names,
    maxBuffer: 1 << 30,
  });
}

function compress(bytes: Buffer, compression: 'gzip' | 'zstd' | 'xz' | 'lz4'): Buffer {
  const args = {
    gzip: ['-c', '-n'],
    zstd: ['-q', '-c', '-1'],
    // The kernel knows no other checksum.
    xz: ['-c', '--check=crc32', '-1'],
    lz4: ['-q', '-c', '-l'],
  }[compression];
  return execFileSync(compression, args, { input: bytes, maxBuffer: 1 << 30 });
}
