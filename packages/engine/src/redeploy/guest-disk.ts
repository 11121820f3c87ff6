import type { GuestDisk } from '@lifeboat/guest/access/open-guest';
import type { RestoredDisk } from '../verbs.ts';

export function guestDisk({ name, path, format }: RestoredDisk): GuestDisk {
  return { name, image: { path, format } };
}
