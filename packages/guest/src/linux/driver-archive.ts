/**
 * The archive that is appended to an initrd: the modules it lacks, and the guest's complete modules.* index.
 *
 * The initrd's own index lists only its own modules, and a later archive replaces files of the same name. The guest's
 * full index is a superset, so udev finds old and new modules alike by modalias; nothing of the guest's is run.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';
import type { GuestTree } from '../access/guest-tree.ts';
import { fileTypes, writeCpio, type CpioEntry } from './cpio.ts';

/** The largest driver of Debian 12 is 9 MB uncompressed. */
const MAX_MODULE_BYTES = 64 * MiB;
const MAX_INDEX_BYTES = 32 * MiB;
const INDEX_FILE = /^modules\.(alias|dep|softdep|weakdep|symbols|order|devname|builtin)(\.|$)/;

export interface ArchiveRequest {
  readonly kernelVersion: string;
  /** Files to add, relative to /lib/modules/<version>. */
  readonly moduleFiles: readonly string[];
  /** Where the initrd has its module trees: `usr/lib/modules` or `lib/modules`. No link stands on the way. */
  readonly modulesRoot: string;
  /** Stamped on every entry: equal input, equal bytes. */
  readonly mtimeSeconds: number;
}

/** Errors: `guest.module-missing` when the tree lacks a file its index names. */
export async function buildDriverArchive(tree: GuestTree, request: ArchiveRequest): Promise<Buffer> {
  const { kernelVersion, modulesRoot } = request;
  const source = `/lib/modules/${kernelVersion}`;
  const target = `${modulesRoot}/${kernelVersion}`;
  // A directory that is there already stays as it is.
  const present = new Set<string>();
  const entries: CpioEntry[] = [];
  const addDirectory = (path: string): void => {
    if (path === '' || present.has(path)) return;
    addDirectory(path.slice(0, Math.max(path.lastIndexOf('/'), 0)));
    present.add(path);
    entries.push({ path, mode: fileTypes.directory | 0o755, content: new Uint8Array() });
  };
  const addFile = async (relative: string, maxBytes: number): Promise<void> => {
    const content = await tree.read(`${source}/${relative}`, { maxBytes });
    if (content === undefined) {
      throw new LifeboatError(
        'guest.module-missing',
        `The guest's module index names ${source}/${relative}, which does not exist`,
        {
          context: { kernelVersion, file: relative },
        },
      );
    }
    const path = `${target}/${relative}`;
    addDirectory(path.slice(0, path.lastIndexOf('/')));
    entries.push({ path, mode: fileTypes.file | 0o644, content });
  };
  for (const file of request.moduleFiles) await addFile(file, MAX_MODULE_BYTES);
  for (const file of await tree.list(source)) if (INDEX_FILE.test(file)) await addFile(file, MAX_INDEX_BYTES);
  return writeCpio(entries, { mtimeSeconds: request.mtimeSeconds });
}

/** NULs that bring the appended archive to a multiple of four, where the kernel looks for it. */
export function paddingBefore(initrdBytes: number): Buffer {
  return Buffer.alloc(-initrdBytes & 3);
}
