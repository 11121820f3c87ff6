import type { Catalogue } from './entry.ts';

const NOTHING_WRITTEN = 'Nothing was written; the target is as it was.';

export const layoutErrors = {
  'layout.sector-size': {
    retry: 'permanent',
    cause:
      'The disk was made with sectors of another size than the target has (512 bytes or 4096). Partition tables and most filesystems count in sectors, so they do not survive such a move.',
    impact: NOTHING_WRITTEN,
    next: 'Choose a target with the sector size the message names, or partition the target anew and copy the files.',
  },
  'layout.target-too-small': {
    retry: 'permanent',
    cause: 'The partitions do not fit on the target.',
    impact: NOTHING_WRITTEN,
    next: 'Choose a larger target, let one partition give way (`--resize`), or bring only some partitions (`--only`).',
  },
  'layout.cannot-shrink': {
    retry: 'permanent',
    cause:
      'The partition that was to become smaller holds something that cannot: too much data, or a kind of volume that does not shrink.',
    impact: NOTHING_WRITTEN,
    next: 'Choose another partition to shrink, or a larger target.',
  },
  'layout.cannot-grow': {
    retry: 'permanent',
    cause:
      'The partition that was to become larger holds something that cannot grow here, or a partition behind it may not move.',
    impact: NOTHING_WRITTEN,
    next: 'Choose another partition, or restore without `--resize` and grow the volume in the machine.',
  },
  'layout.dynamic-disk': {
    retry: 'permanent',
    cause: 'The disk is a dynamic disk of Windows: its volumes are described in a database at its end, by their place.',
    impact: NOTHING_WRITTEN,
    next: 'Restore it without a layout, onto a target of the same size.',
  },
  'layout.no-table': {
    retry: 'permanent',
    cause: 'The disk has no partition table that could be laid out anew, or one that cannot be read whole.',
    impact: NOTHING_WRITTEN,
    next: 'Restore it without a layout. If the table is damaged, repair the source and back it up again.',
  },
  'layout.no-such-partition': {
    retry: 'permanent',
    cause: 'A partition was named that the disk does not have, or that cannot be chosen.',
    impact: NOTHING_WRITTEN,
    next: '`lifeboat inspect MACHINE` lists the partitions with their numbers.',
  },
  'layout.unsupported': {
    retry: 'permanent',
    cause: 'The wanted partition table cannot hold what the disk has, or its boot loader would not start from it.',
    impact: NOTHING_WRITTEN,
    next: 'Follow the message; `--layout keep` leaves the table as it is.',
  },
} as const satisfies Catalogue;
