/**
 * What firmware finds on an EFI system partition when it has no entry for the machine: `EFI/BOOT/BOOTX64.EFI`. Entries live in
 * the old machine's flash and do not come along, so a disk that is to start elsewhere must have this.
 *
 *   there is one         nothing to do; a shim alone loads `grubx64.efi` beside it, so that and `mmx64.efi` are put there
 *   a vendor's loaders   copied from `EFI/<vendor>`
 *   neither              the guest's own signed shim and GRUB where its packages are in it, else an image made for it (make-image.ts)
 */
import { open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sliceDevice } from '@lifeboat/disk/bytes';
import { openFileDevice } from '@lifeboat/disk/file-device';
import { openFat } from '@lifeboat/disk/files/fat';
import type { FileNode } from '@lifeboat/disk/files/file-node';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import { identifyEfiLoader } from '../inventory/efi-loaders.ts';
import { guestFile, type GuestGrub } from './find-grub.ts';
import { makeEfiImage, searchConfig } from './make-image.ts';

const TOOL_TIMEOUT_MS = 120_000;
const SECTOR_BYTES = 512;
const COPY_BYTES = 4 * MiB;
const MAX_LOADER_BYTES = 8 * MiB;
/** As every driver counts a disk that it knows only by sectors. */
const GEOMETRY = ['-h', '255', '-s', '63'];
const SHIM = '/usr/lib/shim/shimx64.efi.signed';
const SIGNED_GRUB = '/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed';
const MOK_MANAGERS = ['/usr/lib/shim/mmx64.efi.signed', '/usr/lib/shim/mmx64.efi'];
/** Firmware of such machines looks for this name alone. */
const FALLBACK = 'BOOTX64.EFI';

interface Work {
  readonly directory: string;
  readonly signal: AbortSignal;
}

/** Paths on the partition, with the bytes to be there. */
export type LoaderFiles = ReadonlyMap<string, Buffer>;

/** What a new partition gets. Errors: `layout.unsupported`, those of the tools. */
export async function loadersFor(grub: GuestGrub, work: Work): Promise<LoaderFiles> {
  const vendor = `EFI/${grub.vendor}`;
  const [shim, signed] = [await guestFile(grub, SHIM), await guestFile(grub, SIGNED_GRUB)];
  if (shim && signed) {
    const manager = (await guestFile(grub, MOK_MANAGERS[0] ?? '')) ?? (await guestFile(grub, MOK_MANAGERS[1] ?? ''));
    const beside = (directory: string): [string, Buffer][] => [
      [`${directory}/grubx64.efi`, signed],
      ...(manager ? [[`${directory}/mmx64.efi`, manager] as [string, Buffer]] : []),
    ];
    return new Map([
      [`EFI/BOOT/${FALLBACK}`, shim],
      ...beside('EFI/BOOT'),
      [`${vendor}/shimx64.efi`, shim],
      ...beside(vendor),
      // The signed image looks for its configuration here, and nowhere else.
      [`${vendor}/grub.cfg`, Buffer.from(`${searchConfig(grub)}configfile $prefix/grub.cfg\n`)],
    ]);
  }
  const image = await makeEfiImage(grub, work);
  return new Map([
    [`EFI/BOOT/${FALLBACK}`, image],
    [`${vendor}/grubx64.efi`, image],
  ]);
}

/** What an old partition lacks to start without an entry in flash; empty: nothing. `undefined`: it has no loader to do it with. */
export async function missingFallback(partition: BlockDevice): Promise<LoaderFiles | undefined> {
  const root = await openFat(partition);
  const efi = await root.child('EFI');
  const boot = await efi?.child('BOOT');
  const fallback = await read(boot, FALLBACK);
  if (fallback && identifyEfiLoader(fallback, FALLBACK).kind !== 'shim') return new Map();
  const vendors = efi?.kind === 'directory' ? await efi.names() : [];
  for (const name of vendors.filter((each) => !/^(boot|microsoft)$/i.test(each)).sort()) {
    const vendor = await efi?.child(name);
    const loader = (await read(vendor, 'shimx64.efi')) ?? (await read(vendor, 'grubx64.efi'));
    if (!loader) continue;
    const files = new Map<string, Buffer>(fallback ? [] : [[`EFI/BOOT/${FALLBACK}`, loader]]);
    for (const beside of ['grubx64.efi', 'mmx64.efi']) {
      const bytes = await read(vendor, beside);
      if (bytes && !(await read(boot, beside))) files.set(`EFI/BOOT/${beside}`, bytes);
    }
    return files;
  }
  return fallback ? new Map() : undefined;
}

/** A new FAT32 filesystem in a file, with these files on it. `startBytes`: where it will lie on its disk. */
export async function makeEfiSystemPartition(
  input: {
    readonly path: string;
    readonly sizeBytes: number;
    readonly startBytes: number;
    readonly files: LoaderFiles;
  },
  work: Work,
): Promise<void> {
  const { path, sizeBytes, startBytes, files } = input;
  const file = await open(path, 'wx', 0o600);
  try {
    await file.truncate(sizeBytes);
  } finally {
    await file.close();
  }
  const [total, hidden] = [sizeBytes / SECTOR_BYTES, startBytes / SECTOR_BYTES];
  await mtool(
    'mformat',
    ['-i', path, '-F', '-c', '1', '-T', `${total}`, ...GEOMETRY, '-H', `${hidden}`, '-v', 'EFI', '::'],
    work,
  );
  await addEfiFiles({ path, offsetBytes: 0, lengthBytes: sizeBytes }, files, work);
}

/** A copy of an old one in a file, with files added. */
export async function copyWithFiles(
  input: { readonly path: string; readonly partition: BlockDevice; readonly files: LoaderFiles },
  work: Work,
): Promise<void> {
  const { path, partition, files } = input;
  const file = await open(path, 'wx', 0o600);
  try {
    await file.truncate(partition.sizeBytes);
    for (let at = 0; at < partition.sizeBytes; at += COPY_BYTES) {
      work.signal.throwIfAborted();
      const bytes = Buffer.alloc(Math.min(COPY_BYTES, partition.sizeBytes - at));
      await partition.read(at, bytes, { signal: work.signal });
      if (bytes.some((byte) => byte !== 0)) await file.write(bytes, 0, bytes.length, at);
    }
  } finally {
    await file.close();
  }
  await addEfiFiles({ path, offsetBytes: 0, lengthBytes: partition.sizeBytes }, files, work);
}

/** Writes files into the FAT in a run of a file, over those of their names, and makes directories for them. */
export async function addEfiFiles(
  place: { readonly path: string; readonly offsetBytes: number; readonly lengthBytes: number },
  files: LoaderFiles,
  work: Work,
): Promise<void> {
  const image = `${place.path}@@${place.offsetBytes}`;
  const directories = new Set<string>();
  for (const name of files.keys()) {
    const parts = name.split('/').slice(0, -1);
    for (let depth = 1; depth <= parts.length; depth += 1) directories.add(parts.slice(0, depth).join('/'));
  }
  const root = await openEsp(place);
  try {
    for (const directory of directories) {
      if (await root.has(directory)) continue;
      await mtool('mmd', ['-i', image, `::/${directory}`], work);
    }
  } finally {
    await root.close();
  }
  const bytes = join(work.directory, 'loader');
  for (const [name, content] of files) {
    await writeFile(bytes, content, { mode: 0o600 });
    await mtool('mcopy', ['-i', image, '-o', bytes, `::/${name}`], work);
  }
  await rm(bytes, { force: true });
}

async function openEsp({
  path,
  ...run
}: {
  path: string;
  offsetBytes: number;
  lengthBytes: number;
}): Promise<{ has: (directory: string) => Promise<boolean>; close: () => Promise<void> }> {
  const device = await openFileDevice(path);
  const root = await openFat(sliceDevice(device, run));
  return {
    async has(directory) {
      let node: FileNode | undefined = root;
      for (const part of directory.split('/')) node = node?.kind === 'directory' ? await node.child(part) : undefined;
      return node !== undefined;
    },
    close: () => device.close(),
  };
}

async function mtool(command: string, args: readonly string[], { signal }: Work): Promise<void> {
  try {
    // What the partition's own maker wrote about its size is not ours to judge.
    await runTool(command, args, { timeoutMs: TOOL_TIMEOUT_MS, signal, env: { MTOOLS_SKIP_CHECK: '1' } });
  } catch (error) {
    if (!(error instanceof LifeboatError)) throw error;
    throw new LifeboatError(error.code, `the EFI system partition: ${error.message}`, {
      context: error.context,
      cause: error,
    });
  }
}

async function read(directory: FileNode | undefined, name: string): Promise<Buffer | undefined> {
  if (directory?.kind !== 'directory') return undefined;
  const file = await directory.child(name);
  return file?.kind === 'file' && file.sizeBytes <= MAX_LOADER_BYTES ? file.read() : undefined;
}
