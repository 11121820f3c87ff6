/** What qemu-img knows about an image, also while a guest runs from it. */
import { stat } from 'node:fs/promises';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { runTool } from '@lifeboat/host/children';

const TIMEOUT_MS = 30_000;

export interface DiskImage {
  readonly sizeBytes: number;
  readonly format: string;
  /** Names of persistent bitmaps (`broken`: left open by a QEMU that was killed). */
  readonly bitmaps: readonly { readonly name: string; readonly broken: boolean }[];
  /** Internal snapshots, as `id name instant`. */
  readonly snapshots: readonly string[];
  /** Changes when the file is replaced by another at the same path. */
  readonly fileId: string;
}

interface ImageInfo {
  readonly 'virtual-size': number;
  readonly format: string;
  readonly snapshots?: readonly { id: string; name: string; 'date-sec': number; 'date-nsec': number }[];
  readonly 'format-specific'?: { data?: { bitmaps?: readonly { name: string; flags: readonly string[] }[] } };
}

/** Inode numbers are reused, births are not; device numbers change with a reboot and say nothing. */
async function identity(path: string): Promise<{ ino: number; birthtimeMs: number; isBlockDevice: boolean }> {
  const facts = await stat(path);
  return { ino: facts.ino, birthtimeMs: facts.birthtimeMs, isBlockDevice: facts.isBlockDevice() };
}

/** `format` is what the definition says, so that a guest cannot turn its raw disk into something else. Errors: `hypervisor.disk-unreadable`. */
export async function inspectImage(path: string, format: string): Promise<DiskImage> {
  try {
    const { ino, birthtimeMs, isBlockDevice } = await identity(path);
    const { stdout } = await runTool('qemu-img', ['info', '-U', '--output=json', '-f', format, path], {
      timeoutMs: TIMEOUT_MS,
    });
    const info = JSON.parse(stdout) as ImageInfo;
    if (!Number.isSafeInteger(info['virtual-size'])) throw new Error(`qemu-img says a size of ${info['virtual-size']}`);
    return {
      sizeBytes: info['virtual-size'],
      format: info.format,
      bitmaps: (info['format-specific']?.data?.bitmaps ?? []).map(({ name, flags }) => ({
        name,
        broken: flags.includes('in-use'),
      })),
      snapshots: (info.snapshots ?? []).map(
        ({ id, name, 'date-sec': seconds, 'date-nsec': nanoseconds }) => `${id} ${name} ${seconds}.${nanoseconds}`,
      ),
      fileId: isBlockDevice ? 'device' : `${ino}@${birthtimeMs}`,
    };
  } catch (error) {
    throw new LifeboatError('hypervisor.disk-unreadable', `the image ${path} cannot be read: ${messageOf(error)}`, {
      cause: error,
      context: { path, format },
    });
  }
}
