/** What is inside an initrd: who made it, in which archives, and which modules it already holds. */
import { createHash } from 'node:crypto';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { Unpackers } from './compression.ts';
import { fileTypes, type CpioEntry } from './cpio.ts';
import { readInitrdSegments } from './initrd-segments.ts';
import { isModuleFile } from './module-name.ts';

export type InitrdGenerator = 'initramfs-tools' | 'dracut' | 'unknown';

export interface InitrdInspection {
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly generator: InitrdGenerator;
  /** Beside `unknown`: one that is recognised, and whose initrds no plan edits. */
  readonly foreignGenerator?: 'booster' | 'mkinitcpio';
  readonly archives: readonly {
    readonly offsetBytes: number;
    readonly lengthBytes: number;
    readonly compression: string;
    readonly entries: number;
  }[];
  /** Where module trees live inside: `usr/lib/modules` or `lib/modules`, whichever is no symlink. */
  readonly modulesRoot: string;
  /** Kernel version to module files, relative to the version's directory. */
  readonly moduleFiles: Readonly<Record<string, readonly string[]>>;
  /** Why it could not be read; the lists above are empty then. */
  readonly problem?: string;
}

/** Never fails on the content: what cannot be read becomes `problem`. Errors: only those of the tools that unpack. */
export async function inspectInitrd(
  bytes: Uint8Array,
  where: string,
  unpackers: Unpackers,
  options: { maxUnpackedBytes?: number } = {},
): Promise<InitrdInspection> {
  const sizeBytes = bytes.length;
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  try {
    const segments = await readInitrdSegments(bytes, where, unpackers, options);
    const all = segments.flatMap((segment) => segment.entries);
    return {
      sizeBytes,
      sha256,
      generator: generatorOf(all),
      ...foreignGeneratorOf(all),
      archives: segments.map(({ offsetBytes, lengthBytes, compression, entries }) => ({
        offsetBytes,
        lengthBytes,
        compression,
        entries: entries.length,
      })),
      ...treeOf(all),
    };
  } catch (error) {
    const isContent =
      error instanceof LifeboatError &&
      (error.code === 'guest.initrd-damaged' || error.code === 'guest.initrd-compression-unknown');
    if (!isContent) throw error;
    return {
      sizeBytes,
      sha256,
      generator: 'unknown',
      archives: [],
      modulesRoot: 'lib/modules',
      moduleFiles: {},
      problem: error.message,
    };
  }
}

function generatorOf(entries: readonly CpioEntry[]): InitrdGenerator {
  const paths = new Set(entries.map((entry) => entry.path));
  if (paths.has('conf/initramfs.conf') && paths.has('scripts/functions')) return 'initramfs-tools';
  for (const path of paths) if (/^(usr\/)?lib\/dracut\//.test(path)) return 'dracut';
  return 'unknown';
}

function foreignGeneratorOf(entries: readonly CpioEntry[]): Pick<InitrdInspection, 'foreignGenerator'> {
  const paths = new Set(entries.map((entry) => entry.path));
  if (paths.has('etc/booster.init.yaml')) return { foreignGenerator: 'booster' };
  // `buildconfig` and `config` are what mkinitcpio writes beside the functions of its init.
  return paths.has('init_functions') && paths.has('buildconfig') ? { foreignGenerator: 'mkinitcpio' } : {};
}

function treeOf(entries: readonly CpioEntry[]): Pick<InitrdInspection, 'modulesRoot' | 'moduleFiles'> {
  const types = new Map<string, number>();
  for (const { path, mode } of entries) types.set(path, mode & fileTypes.mask);
  // An archive that made a directory of a symlink `lib -> usr/lib` would hide everything behind the link.
  const libIsLink = types.get('lib') === fileTypes.symlink;
  const usesUsr = libIsLink || types.get('usr/lib/modules') === fileTypes.directory;
  return { modulesRoot: usesUsr ? 'usr/lib/modules' : 'lib/modules', moduleFiles: moduleFilesOf(entries) };
}

/** Module files by kernel version, relative to the version's directory, sorted. */
export function moduleFilesOf(entries: readonly CpioEntry[]): Record<string, string[]> {
  const found = new Map<string, Set<string>>();
  for (const { path, mode } of entries) {
    const match = /^(?:usr\/)?lib\/modules\/([^/]+)\/(.+)$/.exec(path);
    if (match?.[1] === undefined || match[2] === undefined || !isModuleFile(match[2])) continue;
    if ((mode & fileTypes.mask) !== fileTypes.file) continue;
    found.set(match[1], (found.get(match[1]) ?? new Set<string>()).add(match[2]));
  }
  return Object.fromEntries([...found].map(([version, files]) => [version, [...files].sort()]));
}
