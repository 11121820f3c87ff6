/**
 * How the filesystem of a volume is checked, by its own checker, once its journal was replayed.
 *
 * The checkers only read. What they end with, and what they print, is read here; anything that is neither clearly good nor clearly bad is "not
 * checked", with why: never good.
 */
import { hasCode, messageOf } from '@lifeboat/foundation/errors';
import { runTool, type ToolResult } from '@lifeboat/host/children';

export type VolumeResult = 'sound' | 'damaged' | 'not-checked';

export interface Finding {
  readonly result: VolumeResult;
  /** What the checker said last, or why there was none. */
  readonly detail: string;
}

const CHECK_TIMEOUT_MS = 3_600_000;
const MAX_DETAIL = 400;
/** Whatever it ends with is looked at. */
const ANY_CODE = Array.from({ length: 256 }, (_, code) => code);

interface Checker {
  readonly tool: string;
  readonly args: readonly string[];
  readonly judge: (ended: ToolResult) => VolumeResult;
}

const E2FSCK: Checker = {
  tool: 'e2fsck',
  args: ['-fn'],
  // 4: errors left uncorrected, which is all of them with -n. 8 and more: it could not look.
  judge: ({ code }) => (code === 0 ? 'sound' : code < 8 ? 'damaged' : 'not-checked'),
};

const CHECKERS: Readonly<Record<string, Checker>> = {
  ext2: E2FSCK,
  ext3: E2FSCK,
  ext4: E2FSCK,
  xfs: {
    tool: 'xfs_repair',
    // -P: prefetching saves time on disks and costs it here.
    args: ['-n', '-P'],
    judge: ({ code, stdout, stderr }) => {
      // A log that was not replayed is ignored with -n, and what stands there may be missing elsewhere.
      if (`${stdout}${stderr}`.includes('valuable metadata changes in a log')) return 'not-checked';
      return code === 0 ? 'sound' : code === 1 ? 'damaged' : 'not-checked';
    },
  },
  btrfs: {
    tool: 'btrfs',
    args: ['check', '--readonly'],
    judge: ({ code }) => (code === 0 ? 'sound' : 'damaged'),
  },
  vfat: {
    tool: 'fsck.vfat',
    args: ['-n'],
    judge: ({ code, stdout }) => {
      // It was not unmounted; that alone is no damage of a machine that was running.
      const found = stdout
        .split('\n')
        .filter(
          (line) =>
            /^\S/.test(line) &&
            !/^fsck\.fat|Dirty bit is set|Automatically removing dirty bit|^Leaving filesystem|files?, .*clusters?$/.test(
              line,
            ),
        );
      return code === 0 || (code === 1 && found.length === 0) ? 'sound' : code === 1 ? 'damaged' : 'not-checked';
    },
  },
  ntfs: {
    tool: 'ntfsresize',
    args: ['--info', '--no-progress-bar'],
    judge: ({ code, stdout, stderr }) => {
      if (code === 0) return 'sound';
      const said = `${stdout}${stderr}`;
      // Its log can be replayed by Windows alone; before that, its tables may look damaged and be none.
      if (/scheduled for|dirty|hibernat|unclean|chkdsk/i.test(said) && !/accounting failed/i.test(said))
        return 'not-checked';
      return /inconsisten|corrupt|accounting failed|damaged/i.test(said) ? 'damaged' : 'not-checked';
    },
  },
};

export const CHECKED_TYPES: ReadonlySet<string> = new Set(Object.keys(CHECKERS));

/** `device` holds the volume and nothing else, and is not mounted. Errors: `host.tool-timeout`, the signal's reason. */
export async function checkVolume(type: string, device: string, signal: AbortSignal): Promise<Finding> {
  const checker = CHECKERS[type];
  if (checker === undefined) return { result: 'not-checked', detail: `there is no checker for ${type}` };
  const { tool, args, judge } = checker;
  try {
    const ended = await runTool(tool, [...args, device], { timeoutMs: CHECK_TIMEOUT_MS, okCodes: ANY_CODE, signal });
    const said = `${ended.stdout}\n${ended.stderr}`.trim().slice(-MAX_DETAIL);
    return { result: judge(ended), detail: ended.code === 0 ? '' : `${tool} ends with ${ended.code}: ${said}` };
  } catch (error) {
    if (!hasCode(error, 'host.tool-missing', 'host.tool-output-too-big')) throw error;
    return { result: 'not-checked', detail: messageOf(error) };
  }
}

/** What holds no filesystem of its own accord: nothing to check, and nothing that was skipped. */
export function hasNothingToCheck(type: string): boolean {
  return type === 'swap';
}
