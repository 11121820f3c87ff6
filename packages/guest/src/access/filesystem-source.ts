/** Which filesystem of a guest's disks an entry of its fstab means. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { FilesystemInspection } from '../inspect/guest-inspection.ts';
import { mapperName } from '../inventory/compose-volumes.ts';
import type { FstabEntry } from '../linux/fstab.ts';
import type { MdadmArray } from '../linux/volume-names.ts';

export interface Filesystems {
  /** Of partitions and whole disks. */
  readonly onDisks: readonly FilesystemInspection[];
  /** In logical volumes and arrays. */
  readonly inVolumes: readonly FilesystemInspection[];
  /** How many disks there are: with one, a kernel's name leaves no doubt. */
  readonly diskCount: number;
  /** mdadm.conf. */
  readonly arrays: readonly MdadmArray[];
}

/** Errors: `guest.layout-unsupported` where it is none of them, or several. */
export function findSource(entry: FstabEntry, filesystems: Filesystems): FilesystemInspection {
  const found = matching(entry.source, filesystems);
  const [only] = found;
  if (only === undefined || found.length > 1) {
    throw new LifeboatError(
      'guest.layout-unsupported',
      `The guest's fstab mounts ${entry.mountPoint} from ${entry.source}, which is ${found.length} of its filesystems`,
      { context: { mountPoint: entry.mountPoint, source: entry.source } },
    );
  }
  return only;
}

function matching(source: string, { onDisks, inVolumes, diskCount, arrays }: Filesystems): FilesystemInspection[] {
  const [, key, value] = /^(UUID|LABEL|PARTUUID)="?([^"]+)"?$/.exec(source) ?? byLink(source) ?? [];
  const all = [...onDisks, ...inVolumes];
  if (key === 'UUID') return all.filter(({ uuid }) => uuid.toLowerCase() === value?.toLowerCase());
  if (key === 'LABEL') return all.filter(({ label }) => label === value);
  if (key === 'PARTUUID') return all.filter(({ partitionUuid }) => partitionUuid === value?.toLowerCase());
  const number = /^\/dev\/(?:[a-z]+|nvme\d+n\d+p|mmcblk\d+p)(\d+)$/.exec(source)?.[1];
  if (number !== undefined && !source.startsWith('/dev/md')) {
    // A kernel name says which partition, but not which disk; with one disk there is no doubt.
    return diskCount === 1 ? onDisks.filter(({ partition }) => partition === Number(number)) : [];
  }
  return inVolumes.filter(({ volume }) =>
    volume?.kind === 'array'
      ? isArray(source, volume, arrays)
      : volume !== undefined && [`/dev/${volume.name}`, `/dev/mapper/${mapperName(volume.name)}`].includes(source),
  );
}

/** By mdadm.conf where it names the device; otherwise by the name in the superblock, `host:0` or `host:root`. */
function isArray(
  source: string,
  volume: { readonly name: string; readonly uuid: string },
  arrays: readonly MdadmArray[],
): boolean {
  const configured = arrays.find(({ device, uuid }) => device === source && uuid !== '');
  if (configured) return configured.uuid.replaceAll(':', '') === volume.uuid.replaceAll('-', '');
  const name = volume.name.slice(volume.name.indexOf(':') + 1);
  return source === `/dev/md/${name}` || (/^\d+$/.test(name) && source === `/dev/md${name}`);
}

function byLink(source: string): string[] | undefined {
  const match = /^\/dev\/disk\/by-(uuid|label|partuuid)\/(.+)$/.exec(source);
  return match === null ? undefined : ['', (match[1] ?? '').toUpperCase(), match[2] ?? ''];
}
