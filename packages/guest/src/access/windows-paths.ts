/** Paths of Windows in a tree whose names depend on case, as ntfs-3g shows it. */
import type { GuestFiles } from './guest-files.ts';

const DIRECTORIES = ['Windows', 'WINNT'];

/** `/Windows`, as it is written there; undefined: this is not the volume of a Windows. */
export async function findWindowsDirectory(tree: GuestFiles): Promise<string | undefined> {
  for (const name of DIRECTORIES) {
    const directory = await findPath(tree, `/${name}`);
    if (directory !== undefined && (await findPath(tree, `${directory}/System32/config/SYSTEM`)) !== undefined)
      return directory;
  }
  return undefined;
}

/** The path as it is written in the tree, found without regard to case; undefined: there is none. */
export async function findPath(tree: GuestFiles, path: string): Promise<string | undefined> {
  let at = '';
  for (const part of path.split('/').filter((one) => one !== '')) {
    const names = await tree.list(at === '' ? '/' : at);
    const wanted = part.toUpperCase();
    const name = names.includes(part) ? part : names.find((one) => one.toUpperCase() === wanted);
    if (name === undefined) return undefined;
    at = `${at}/${name}`;
  }
  return at === '' ? '/' : at;
}

/** Where a path is to be made: those of its parts that are there as they are written there, the rest as given. */
export async function placeForPath(tree: GuestFiles, path: string): Promise<string> {
  const parts = path.split('/').filter((one) => one !== '');
  for (let there = parts.length; there > 0; there -= 1) {
    const found = await findPath(tree, `/${parts.slice(0, there).join('/')}`);
    if (found !== undefined) return [found, ...parts.slice(there)].join('/');
  }
  return `/${parts.join('/')}`;
}
