/** Whether what a partition holds can become as large, or as small, as the partition is to be, and by which tool. */
import { formatBytes } from '@lifeboat/foundation/units';
import type { VolumeContent } from '../volume-content.ts';
import type { LayoutRefusal, PlannedPartition, ResizeTool } from './layout-plan.ts';

export interface Fitting {
  readonly volume?: NonNullable<PlannedPartition['volume']>;
  readonly refusal?: LayoutRefusal;
  readonly warning?: string;
}

/** Those whose tools change their size without mounting them, and XFS and btrfs, which the kernel changes. */
const TOOLS: Readonly<Record<string, ResizeTool>> = {
  ext2: 'ext',
  ext3: 'ext',
  ext4: 'ext',
  xfs: 'xfs',
  btrfs: 'btrfs',
  ntfs: 'ntfs',
};
const NEVER_SHRINK = new Set(['xfs']);

/** How far it can really shrink is found out by its own tool, before anything is written. */
export function fittingVolume(
  partition: { readonly number: number; readonly content: VolumeContent; readonly lengthBytes: number },
  newBytes: number,
): Fitting {
  const { number, content, lengthBytes } = partition;
  if (newBytes === lengthBytes || content.kind === 'empty') return {};
  const grows = newBytes > lengthBytes;
  const what = `Partition ${number} holds ${holdsOf(content)}`;
  const from = `${formatBytes(lengthBytes)} to ${formatBytes(newBytes)}`;
  const no = (why: string): Fitting => ({
    refusal: {
      code: grows ? 'layout.cannot-grow' : 'layout.cannot-shrink',
      text: `${what}, which ${why}; it would have to go from ${from}.`,
    },
  });
  if (content.kind === 'filesystem') {
    const tool = TOOLS[content.type];
    if (!tool) return no('does not change its size here');
    if (content.notes.some((note) => note.includes('devices of its filesystem')))
      return no('is one of several devices');
    if (grows) return { volume: { change: 'grow', tool } };
    // It never filled its partition.
    if (content.sizeBytes !== undefined && content.sizeBytes <= newBytes && tool !== 'ntfs') return {};
    if (NEVER_SHRINK.has(content.type)) return no('never becomes smaller');
    return { volume: { change: 'shrink', tool } };
  }
  if (grows && content.kind === 'physical-volume') {
    return { warning: `${what}: it becomes larger with its partition once \`pvresize\` is run in the machine.` };
  }
  if (grows && content.type === 'crypto_LUKS') {
    return { warning: `${what}: what is in it grows only in the machine.` };
  }
  return no(grows ? 'cannot follow its partition' : 'does not become smaller here');
}

/** In a word or two. */
export function holdsOf(content: VolumeContent): string {
  switch (content.kind) {
    case 'filesystem':
      return content.type;
    case 'physical-volume':
      return 'an LVM physical volume';
    case 'array-member':
      return 'a member of an MD array';
    case 'empty':
      return 'nothing';
    case 'unknown':
      return 'something unknown';
    default:
      return `a volume encrypted by ${content.type}`;
  }
}
