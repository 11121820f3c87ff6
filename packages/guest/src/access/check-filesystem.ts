/** Whether a filesystem is sound, by its own checker, which only reads. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { runTool } from '@lifeboat/host/children';
import type { FilesystemInspection } from '../inspect/guest-inspection.ts';
import { placeOf } from './mount-failure.ts';

const CHECK_TIMEOUT_MS = 600_000;
/** What e2fsck ends with when it found something, or could not look. */
const VERDICTS = [0, 1, 2, 4, 8, 12];
const E2FSCK = { tool: 'e2fsck', args: ['-fn'] };

const CHECKERS: Readonly<Record<string, { readonly tool: string; readonly args: readonly string[] }>> = {
  ext2: E2FSCK,
  ext3: E2FSCK,
  ext4: E2FSCK,
  // -P: prefetching saves time on disks and costs it here.
  xfs: { tool: 'xfs_repair', args: ['-n', '-P'] },
  ntfs: { tool: 'ntfsfix', args: ['--no-action'] },
  btrfs: { tool: 'btrfs', args: ['check', '--readonly'] },
};

/** `device`: holds the filesystem and nothing else; not mounted. Errors: `guest.filesystem-damaged`. */
export async function checkFilesystem(
  filesystem: FilesystemInspection,
  device: string,
  when: 'before' | 'after',
  signal: AbortSignal,
): Promise<void> {
  const checker = CHECKERS[filesystem.type];
  if (checker === undefined) return;
  const { tool, args } = checker;
  const result = await runTool(tool, [...args, device], { timeoutMs: CHECK_TIMEOUT_MS, okCodes: VERDICTS, signal });
  if (result.code === 0) return;
  const { type, disk, partition } = filesystem;
  const words = `${result.stdout}\n${result.stderr}`.trim().slice(-800);
  throw new LifeboatError(
    'guest.filesystem-damaged',
    `The ${type} filesystem on ${placeOf(filesystem)} is damaged ${when} the edit (${tool} ${args.join(' ')} ends with ${result.code}): ${words}`,
    { context: { disk, partition, when, code: result.code } },
  );
}
