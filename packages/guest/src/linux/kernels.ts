/** The installed kernels of a guest: image, initrd and module tree belong together by version. */
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';
import type { GuestFiles } from '../access/guest-files.ts';
import type { Unpackers } from './compression.ts';
import { inspectInitrd, type InitrdInspection } from './initrd.ts';
import { isModuleFile, moduleNameOf } from './module-name.ts';
import { parseModuleTables, type ModuleTables } from './module-tables.ts';

export interface KernelInspection {
  readonly version: string;
  readonly imagePath: string;
  /** Resolved path of its initrd; absent: none was found. */
  readonly initrdPath?: string;
  readonly initrd?: InitrdInspection;
  /** Absent: no /lib/modules/<version>, or its tables cannot be read (then `problems` says so). */
  readonly modules?: ModuleTables;
  /** Modules the initrd holds under another file name than the module tree, which the tree's index would hide. */
  readonly renamedModules: readonly string[];
  readonly problems: readonly string[];
}

export const MAX_INITRD_BYTES = 512 * MiB;
const MAX_TABLE_BYTES = 64 * MiB;
const MAX_KERNELS = 32;

/** Every `/boot/vmlinuz-<version>`, sorted by version text. */
export async function findKernels(tree: GuestFiles): Promise<{ version: string; imagePath: string }[]> {
  const files = await tree.list('/boot');
  const versions = files.flatMap((file) => /^vmlinu[xz]-(.+)$/.exec(file)?.[1] ?? []);
  if (versions.length > MAX_KERNELS) {
    throw new LifeboatError(
      'guest.path-unusable',
      `/boot in the guest holds ${versions.length} kernels; at most ${MAX_KERNELS} are taken`,
    );
  }
  return versions.map((version) => {
    const image = files.find((file) => file === `vmlinuz-${version}`) ?? `vmlinux-${version}`;
    return { version, imagePath: `/boot/${image}` };
  });
}

export async function inspectKernels(tree: GuestFiles, unpackers: Unpackers): Promise<KernelInspection[]> {
  const kernels: KernelInspection[] = [];
  for (const kernel of await findKernels(tree)) kernels.push(await inspectKernel(tree, kernel, unpackers));
  return kernels;
}

async function inspectKernel(
  tree: GuestFiles,
  kernel: { version: string; imagePath: string },
  unpackers: Unpackers,
): Promise<KernelInspection> {
  const { version } = kernel;
  const problems: string[] = [];
  const initrdPath = await findInitrd(tree, version);
  let initrd: InitrdInspection | undefined;
  if (initrdPath !== undefined) {
    const bytes = await attempt(() => tree.read(initrdPath, { maxBytes: MAX_INITRD_BYTES }), problems);
    if (bytes !== undefined) initrd = await inspectInitrd(bytes, initrdPath, unpackers);
    if (initrd?.problem !== undefined) problems.push(initrd.problem);
  }
  const tables = await attempt(() => readTables(tree, version), problems);
  return {
    ...kernel,
    ...(initrdPath === undefined ? {} : { initrdPath }),
    ...(initrd === undefined ? {} : { initrd }),
    ...(tables === undefined ? {} : { modules: tables.modules }),
    renamedModules: renamed(initrd?.moduleFiles[version] ?? [], tables?.files ?? new Map()),
    problems,
  };
}

/** Debian, then dracut's name, then SUSE's. */
export async function findInitrd(tree: GuestFiles, version: string): Promise<string | undefined> {
  for (const name of [`initrd.img-${version}`, `initramfs-${version}.img`, `initrd-${version}`]) {
    const path = await tree.resolve(`/boot/${name}`);
    if (path !== undefined && (await tree.isFile(path))) return path;
  }
  return undefined;
}

async function readTables(
  tree: GuestFiles,
  version: string,
): Promise<{ modules: ModuleTables; files: Map<string, string> } | undefined> {
  const directory = `/lib/modules/${version}`;
  const text = async (name: string): Promise<string> =>
    (await tree.readText(`${directory}/${name}`, { maxBytes: MAX_TABLE_BYTES })) ?? '';
  if (!(await tree.isFile(`${directory}/modules.dep`)) || !(await tree.isFile(`${directory}/modules.alias`)))
    return undefined;
  const dep = await text('modules.dep');
  const modules = parseModuleTables(
    {
      alias: await text('modules.alias'),
      dep,
      softdep: await text('modules.softdep'),
      builtin: await text('modules.builtin'),
      builtinModinfo: await text('modules.builtin.modinfo'),
    },
    directory,
  );
  const files = dep.split('\n').map((line) => line.slice(0, Math.max(line.indexOf(':'), 0)));
  return { modules, files: new Map(files.filter(isModuleFile).map((file) => [moduleNameOf(file), file])) };
}

function renamed(inInitrd: readonly string[], files: ReadonlyMap<string, string>): string[] {
  return inInitrd
    .filter((file) => {
      const indexed = files.get(moduleNameOf(file));
      return indexed !== undefined && indexed !== file;
    })
    .map(moduleNameOf);
}

/** A part of a guest that cannot be read is a finding about the guest, not the end of the inspection. */
async function attempt<T>(read: () => Promise<T>, problems: string[]): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof LifeboatError) || !error.code.startsWith('guest.')) throw error;
    problems.push(messageOf(error));
    return undefined;
  }
}
