/** Which subvolume of a btrfs holds the root, where it is not the one that is mounted by itself. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import { parseFstab, type FstabEntry } from '../linux/fstab.ts';
import type { GuestFiles } from './guest-files.ts';
import { looksLikeRoot } from './looks-like-root.ts';

/** Installers make a handful at the top; programs that take snapshots put theirs deeper. */
const MAX_SUBVOLUMES = 256;
/** What mount(8) is given: no comma, no blank. */
const MOUNTABLE_PATH = /^\/[\w@./:-]*$/;

/**
 * `top`: the whole filesystem. Of several trees that look like a root, such as snapshots of it, the one whose fstab mounts itself as
 * root. Undefined: there is none. Errors: `guest.several-roots`, those of the tree.
 */
export async function findSubvolume(top: GuestFiles, uuid: string): Promise<string | undefined> {
  const roots: { path: string; names: boolean }[] = [];
  for (const name of (await top.list('/')).slice(0, MAX_SUBVOLUMES)) {
    const path = `/${name}`;
    if (!MOUNTABLE_PATH.test(path) || !(await looksLikeRoot(beneath(top, path)))) continue;
    const fstab = parseFstab((await top.readText(`${path}/etc/fstab`)) ?? '');
    const names = fstab.some(
      (entry) => entry.mountPoint === '/' && subvolumeOf(entry) === path && !isOther(entry.source, uuid),
    );
    roots.push({ path, names });
  }
  const certain = roots.filter(({ names }) => names);
  const candidates = certain.length > 0 ? certain : roots;
  if (candidates.length > 1) {
    const text = `Several subvolumes of the btrfs filesystem ${uuid} hold a root: ${candidates.map(({ path }) => path).join(', ')}`;
    throw new LifeboatError('guest.several-roots', text);
  }
  return candidates[0]?.path;
}

/** `subvol=@home` and `subvol=/@home` as `/@home`. Undefined: it names none, or by a name that cannot be passed on. */
export function subvolumeOf({ options }: FstabEntry): string | undefined {
  const value = options.findLast((option) => option.startsWith('subvol='))?.slice('subvol='.length);
  if (value === undefined) return undefined;
  const path = `/${value.replace(/^\/+/, '')}`;
  return MOUNTABLE_PATH.test(path) && !path.split('/').includes('..') ? path : undefined;
}

function isOther(source: string, uuid: string): boolean {
  const named = /^(?:UUID=|\/dev\/disk\/by-uuid\/)"?([^"]+)"?$/.exec(source)?.[1];
  return named !== undefined && named.toLowerCase() !== uuid.toLowerCase();
}

/** Paths of the tree as they are from one of its directories; absolute links are not followed right, and are not needed. */
function beneath(top: GuestFiles, directory: string): Parameters<typeof looksLikeRoot>[0] {
  return {
    isFile: (path) => top.isFile(`${directory}${path}`),
    isDirectory: (path) => top.isDirectory(`${directory}${path}`),
  };
}
