/**
 * A filesystem made larger or smaller by its own tools, on a block device that ends where its partition does. Each is checked first,
 * as its tool demands; a check that would have to decide something is left to a person.
 *
 *   ext     e2fsck -f -p, resize2fs
 *   ntfs    ntfsresize, which checks itself
 *   xfs     mounted, xfs_growfs                 (only larger)
 *   btrfs   mounted, btrfs filesystem resize
 */
import type { ResizeTool } from '@lifeboat/disk/layout/layout-plan';
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import { formatBytes, KiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import { mountFilesystem } from '@lifeboat/host/mounts';

/** Moving the blocks of a full filesystem of some TiB takes hours. */
const RESIZE_TIMEOUT_MS = 24 * 3_600_000;
/** e2fsck: 1 repaired what nobody has to decide, 2 the same of a root that is in use. */
const CHECKED = [0, 1, 2];

export interface ResizeTarget {
  /** A block device of the larger of the two sizes. */
  readonly device: string;
  readonly number: number;
  readonly tool: ResizeTool;
  readonly change: 'grow' | 'shrink';
  /** What it must not exceed when it shrinks. */
  readonly toBytes: number;
  readonly directory: string;
  readonly signal: AbortSignal;
}

/** Errors: `layout.cannot-shrink` with the smallest size there is, `layout.cannot-grow`; `host.tool-missing`. */
export async function resizeVolume(target: ResizeTarget): Promise<void> {
  try {
    if (target.tool === 'ext') await resizeExt(target);
    else if (target.tool === 'ntfs') await resizeNtfs(target);
    else await resizeMounted(target);
  } catch (error) {
    if (!hasCode(error, 'host.tool-failed')) throw error;
    const code = target.change === 'grow' ? 'layout.cannot-grow' : 'layout.cannot-shrink';
    throw new LifeboatError(
      code,
      `The filesystem of partition ${target.number} did not ${target.change}: ${error.message}`,
      {
        context: { partition: target.number },
        cause: error,
      },
    );
  }
}

async function resizeExt(target: ResizeTarget): Promise<void> {
  const { device, toBytes, change } = target;
  await tool(target, 'e2fsck', ['-f', '-p', device], CHECKED);
  if (change === 'grow') return void (await tool(target, 'resize2fs', [device]));
  const { stdout } = await tool(target, 'resize2fs', ['-P', device]);
  const blocks = Number(/: (\d+)\s*$/.exec(stdout)?.[1]);
  const { stdout: facts } = await tool(target, 'dumpe2fs', ['-h', device]);
  const blockBytes = Number(/^Block size:\s+(\d+)$/m.exec(facts)?.[1]);
  if (!(blocks > 0) || !(blockBytes > 0)) {
    throw new LifeboatError(
      'layout.cannot-shrink',
      `How small partition ${target.number} can become is not told: ${stdout}`,
    );
  }
  if (blocks * blockBytes > toBytes) throw tooFull(target, blocks * blockBytes);
  await tool(target, 'resize2fs', [device, `${Math.floor(toBytes / KiB)}K`]);
}

async function resizeNtfs(target: ResizeTarget): Promise<void> {
  const { device, toBytes, change } = target;
  if (change === 'grow') return void (await tool(target, 'ntfsresize', ['--force', '--force', device]));
  const { stdout } = await tool(target, 'ntfsresize', ['--force', '--info', device]);
  const least = Number(/You might resize at (\d+) bytes/.exec(stdout)?.[1]);
  if (least > toBytes) throw tooFull(target, least);
  await tool(target, 'ntfsresize', ['--force', '--force', '--size', `${toBytes}`, device]);
}

/** The kernel does it; what is on it is not looked at. */
async function resizeMounted(target: ResizeTarget): Promise<void> {
  const { device, directory, signal, toBytes, change, tool: type } = target;
  const options = type === 'xfs' ? ['nouuid'] : [];
  const name = `resize${target.number}`;
  const mounted = await mountFilesystem({ device, type, readOnly: false, options, directory, name, signal });
  try {
    if (type === 'xfs') await tool(target, 'xfs_growfs', [mounted.path]);
    else await tool(target, 'btrfs', ['filesystem', 'resize', change === 'grow' ? 'max' : `${toBytes}`, mounted.path]);
  } finally {
    await mounted.unmount();
  }
}

function tooFull({ number, toBytes }: ResizeTarget, leastBytes: number): LifeboatError {
  return new LifeboatError(
    'layout.cannot-shrink',
    `What partition ${number} holds needs ${formatBytes(leastBytes)} (${leastBytes} bytes), and it would have ${formatBytes(toBytes)} (${toBytes} bytes)`,
    { context: { partition: number, needBytes: leastBytes, haveBytes: toBytes } },
  );
}

function tool({ signal }: ResizeTarget, command: string, args: readonly string[], okCodes = [0]) {
  return runTool(command, args, { timeoutMs: RESIZE_TIMEOUT_MS, signal, okCodes });
}
