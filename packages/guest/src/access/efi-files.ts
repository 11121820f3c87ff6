/** What lies on an EFI system partition, through mtools: many kernels of hosts lack vfat. */
import { runTool } from '@lifeboat/host/children';
import { LifeboatError } from '@lifeboat/foundation/errors';

const LIST_TIMEOUT_MS = 30_000;
const MAX_LISTED = 200;

/** Paths of `.efi` files, as `/EFI/BOOT/BOOTX64.EFI`. A damaged FAT gives an empty list: it boots nothing either. */
export async function listEfiFiles(imagePath: string, offsetBytes: number, signal: AbortSignal): Promise<string[]> {
  try {
    const { stdout } = await runTool('mdir', ['-/', '-b', '-i', `${imagePath}@@${offsetBytes}`, '::/'], {
      timeoutMs: LIST_TIMEOUT_MS,
      signal,
      env: { MTOOLS_SKIP_CHECK: '1' },
    });
    return stdout
      .split('\n')
      .filter((line) => /^::\/.*\.efi$/i.test(line))
      .map((line) => line.slice('::'.length))
      .slice(0, MAX_LISTED);
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'host.tool-failed') return [];
    throw error;
  }
}
