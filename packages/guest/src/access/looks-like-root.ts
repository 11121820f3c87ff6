import type { GuestFiles } from './guest-files.ts';

/** Whether a tree is that of a Linux system. */
export async function looksLikeRoot(tree: Pick<GuestFiles, 'isFile' | 'isDirectory'>): Promise<boolean> {
  const hasRelease = (await tree.isFile('/etc/os-release')) || (await tree.isFile('/usr/lib/os-release'));
  return hasRelease && (await tree.isDirectory('/etc'));
}
