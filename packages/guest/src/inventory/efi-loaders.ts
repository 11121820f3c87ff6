/**
 * Whose loaders lie on an EFI system partition, by what is in the files: the SBAT section that Secure Boot asks for, the marks of
 * systemd, and texts. A name says only where firmware looks: BOOTX64.EFI may be anybody's.
 */
import { createHash } from 'node:crypto';
import type { FileNode } from '@lifeboat/disk/files/file-node';

export type EfiLoaderKind =
  | 'shim'
  | 'mok-manager'
  | 'fallback'
  | 'grub'
  | 'systemd-boot'
  | 'unified-kernel'
  | 'windows'
  | 'foreign'
  | 'unreadable';

export interface EfiLoader {
  /** As `/EFI/BOOT/BOOTX64.EFI`. */
  readonly path: string;
  readonly kind: EfiLoaderKind;
  readonly architecture: string;
  /** As the loader says; of a unified kernel, the kernel's. Empty where it does not. */
  readonly version: string;
  /** Of a foreign one. */
  readonly sha256?: string;
}

/** Loaders have up to some MB, unified kernels some hundred; what tells them apart is at the start, or is named there. */
const MAX_READ_BYTES = 8 * 1024 * 1024;
const MAX_LOADERS = 64;
const MAX_DEPTH = 4;
const MAX_SECTIONS = 96;
const MAX_SECTION_BYTES = 64 * 1024;
const MACHINES: Readonly<Record<number, string>> = {
  0x8664: 'x86_64',
  0x14c: 'x86',
  0xaa64: 'aarch64',
  0x1c2: 'arm',
  0x5064: 'riscv64',
};

/** Every `.efi` file, in order of its path, at most 64. A file that cannot be read is in the list, as that. */
export async function readEfiLoaders(root: FileNode): Promise<EfiLoader[]> {
  const loaders: EfiLoader[] = [];
  await search(root, '', loaders, 0);
  return loaders;
}

async function search(directory: FileNode, path: string, loaders: EfiLoader[], depth: number): Promise<void> {
  for (const name of (await directory.names()).sort()) {
    if (loaders.length >= MAX_LOADERS) return;
    const child = await directory.child(name);
    if (child?.kind === 'directory' && depth < MAX_DEPTH) await search(child, `${path}/${name}`, loaders, depth + 1);
    if (child?.kind !== 'file' || !/\.efi$/i.test(name)) continue;
    loaders.push({ path: `${path}/${name}`, ...identifyEfiLoader(await child.read(MAX_READ_BYTES), name) });
  }
}

/** `bytes`: the file, or its first 8 MiB. */
export function identifyEfiLoader(bytes: Buffer, name: string): Omit<EfiLoader, 'path'> {
  const image = readImage(bytes);
  if (!image) return { kind: 'unreadable', architecture: '', version: '' };
  const { architecture, section } = image;
  const sbat = (section('.sbat') ?? '').split('\n').map((line) => line.split(','));
  // The vendor's entry says which package it is; upstream's only which source.
  const component = (wanted: string): string | undefined =>
    sbat.find(([id]) => id?.startsWith(`${wanted}.`))?.[4] ?? sbat.find(([id]) => id === wanted)?.[4];
  const magic = /LoaderInfo: (systemd-boot|systemd-stub) ([^ ]+)/.exec(section('.sdmagic') ?? '');
  const known = (kind: EfiLoaderKind, version = ''): Omit<EfiLoader, 'path'> => ({ kind, architecture, version });
  if (magic?.[1] === 'systemd-boot') return known('systemd-boot', magic[2]);
  if (section('.linux') !== undefined && section('.initrd') !== undefined) {
    return known('unified-kernel', section('.uname') ?? '');
  }
  const shim = component('shim');
  // shim's helpers are built with it and carry its section.
  if (shim !== undefined)
    return known(/^mm/i.test(name) ? 'mok-manager' : /^fb/i.test(name) ? 'fallback' : 'shim', shim);
  const grub = component('grub');
  if (grub !== undefined || bytes.includes('Welcome to GRUB!')) return known('grub', grub);
  // Its version resource, in UTF-16; not tried on a file of Microsoft's here.
  const isMicrosoft = bytes.includes(Buffer.from('Microsoft Corporation', 'utf16le'));
  if (isMicrosoft && bytes.includes(Buffer.from('bootmgr', 'utf16le'))) return known('windows');
  return { ...known('foreign'), sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** Sections by name, as text to their first NUL. Source: Microsoft PE/COFF. */
function readImage(bytes: Buffer): { architecture: string; section: (name: string) => string | undefined } | undefined {
  if (bytes.length < 0x40 || bytes.toString('latin1', 0, 2) !== 'MZ') return undefined;
  const header = bytes.readUInt32LE(0x3c);
  if (header + 24 > bytes.length || bytes.toString('latin1', header, header + 4) !== 'PE\0\0') return undefined;
  const count = Math.min(bytes.readUInt16LE(header + 6), MAX_SECTIONS);
  const table = header + 24 + bytes.readUInt16LE(header + 20);
  const sections = new Map<string, string>();
  for (let at = table; at < table + count * 40 && at + 40 <= bytes.length; at += 40) {
    const name = bytes.toString('latin1', at, at + 8).split('\0', 1)[0] ?? '';
    const [size, start] = [bytes.readUInt32LE(at + 8), bytes.readUInt32LE(at + 20)];
    const text = bytes.toString('utf8', start, start + Math.min(size, MAX_SECTION_BYTES));
    sections.set(name, text.split('\0', 1)[0] ?? '');
  }
  const machine = bytes.readUInt16LE(header + 4);
  return { architecture: MACHINES[machine] ?? `0x${machine.toString(16)}`, section: (name) => sections.get(name) };
}
