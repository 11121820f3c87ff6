/** NTFS volumes for tests, made by the tools of ntfs-3g. Needs root and FUSE. */
import { execFileSync } from 'node:child_process';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { mountFilesystem } from '@lifeboat/host/mounts';

/** A raw image of one volume without a partition table. `files`: path with slashes to content. */
export async function makeNtfsImage(
  path: string,
  { sizeBytes, files }: { readonly sizeBytes: number; readonly files: Readonly<Record<string, Buffer>> },
): Promise<void> {
  await writeFile(path, '');
  await truncate(path, sizeBytes);
  execFileSync('mkntfs', ['-q', '-F', '-f', path], { stdio: 'ignore' });
  await changeNtfsImage(path, async (root) => {
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(root, name)), { recursive: true });
      await writeFile(join(root, name), content);
    }
  });
}

/** Mounts it for as long as `work` takes. */
export async function changeNtfsImage(path: string, work: (root: string) => Promise<void>): Promise<void> {
  const mount = await mountFilesystem({
    device: path,
    type: 'ntfs-3g',
    readOnly: false,
    directory: dirname(path),
    name: 'ntfs-test',
  });
  try {
    await work(mount.path);
  } finally {
    await mount.unmount();
  }
}
