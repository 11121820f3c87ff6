/**
 * Where mdadm.conf looks for arrays by names of disks, which change with the controller:
 *
 *   DEVICE /dev/sda1 /dev/sdb1               becomes   DEVICE partitions
 *   ARRAY /dev/md0 devices=/dev/sda1,…       becomes   ARRAY /dev/md0 UUID=…
 */
import { isUnstableDeviceName } from './fstab.ts';
import { parseMdadmConfig } from './volume-names.ts';

export interface ArrayNameUse {
  readonly path: string;
  /** Counted from 1. */
  readonly line: number;
  /** As it stands there. */
  readonly from: string;
  /** Absent: it cannot be told which array is meant. */
  readonly to?: string;
}

export interface FoundArray {
  /** `host:0` */
  readonly name: string;
  /** As in its superblock, with dashes. */
  readonly uuid: string;
}

/** `found`: the arrays on the guest's disks. */
export function namesInMdadmConfig(path: string, text: string, found: readonly FoundArray[]): ArrayNameUse[] {
  return text.split('\n').flatMap((line, index): ArrayNameUse[] => {
    const place = { path, line: index + 1 };
    const devices = /^\s*dev(?:i(?:ce?)?)?\s+(\S.*?)\s*$/i.exec(line)?.[1];
    if (devices !== undefined) {
      const isTied = devices.split(/\s+/).some(isUnstableDeviceName);
      return isTied ? [{ ...place, from: devices, to: 'partitions' }] : [];
    }
    const [array] = parseMdadmConfig(line);
    const from = /(?:^|\s)(devices=\S+)/i.exec(line)?.[1];
    if (
      !array ||
      from === undefined ||
      !from
        .slice(from.indexOf('=') + 1)
        .split(',')
        .some(isUnstableDeviceName)
    )
      return [];
    const uuid = array.uuid === '' ? uuidOf(array.device, found) : array.uuid;
    return [{ ...place, from, ...(uuid === undefined ? {} : { to: `UUID=${uuid}` }) }];
  });
}

/** By the name in its superblock; a single array on a guest with a single line leaves no doubt either. */
function uuidOf(device: string, found: readonly FoundArray[]): string | undefined {
  const named = found.filter(({ name }) => {
    const own = name.slice(name.indexOf(':') + 1);
    return device === `/dev/md/${own}` || device === `/dev/md${own}`;
  });
  const [only, ...others] = named.length > 0 ? named : found;
  if (only === undefined || others.length > 0) return undefined;
  return only.uuid.replaceAll('-', '').replace(/^(.{8})(.{8})(.{8})(.{8})$/, '$1:$2:$3:$4');
}
