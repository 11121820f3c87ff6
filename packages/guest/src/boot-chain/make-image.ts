/**
 * Images of GRUB that find a guest's configuration by the id of its filesystem, wherever it lies now. Made by this host's grub-mkimage
 * from modules of the guest's own where it has them, else of this host's.
 *
 *   BIOS   a small core, which loads everything else from the guest's /boot/grub/i386-pc: the two must be of one build
 *   UEFI   one image with all that a configuration asks for, which loads nothing of the guest's
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import { MiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import type { GuestGrub } from './find-grub.ts';

const HOST_GRUB = '/usr/lib/grub';
const MAKE_TIMEOUT_MS = 60_000;
const MAX_MODULE_BYTES = 4 * MiB;
/** Enough to find the configuration on either table. */
const BIOS_MODULES = ['biosdisk', 'part_gpt', 'part_msdos', 'ext2', 'search_fs_uuid'];
/** What grub-mkconfig writes, on every distribution that has it; what a build lacks is left out. */
const EFI_MODULES =
  `part_gpt part_msdos ext2 xfs btrfs lvm mdraid1x diskfilter fat iso9660 search search_fs_uuid search_fs_file search_label
  normal configfile linux chain boot echo test true regexp sleep minicmd ls cat help halt reboot loadenv gzio keystatus probe
  all_video efi_gop efi_uga video video_fb font gfxterm gfxmenu png serial terminal terminfo loopback fwsetup tpm`.split(
    /\s+/,
  );
/** grub-mkimage takes a module with all it depends on; these decide whether it can work at all. */
const DECISIVE = new Set(['part_gpt', 'ext2', 'search_fs_uuid', 'normal', 'linux']);

type Target = 'i386-pc' | 'x86_64-efi';

export interface MadeCore {
  readonly bootImage: Buffer;
  readonly core: Buffer;
  readonly from: 'guest' | 'host';
}

interface Work {
  /** For files on the way; a directory of its own is made in it and goes again. */
  readonly directory: string;
  readonly signal: AbortSignal;
}

/** Errors: `layout.unsupported` when nothing of one build is there; `host.tool-missing`, `host.tool-failed`. */
export async function makeBiosCore(grub: GuestGrub, work: Work): Promise<MadeCore> {
  const modulesThere = `${grub.directory}/i386-pc/normal.mod`;
  const normal = await grub.home.read(modulesThere, { maxBytes: MAX_MODULE_BYTES });
  if (!normal) {
    throw new LifeboatError(
      'layout.unsupported',
      `The guest has no ${modulesThere}, so its GRUB does not start by BIOS`,
    );
  }
  return inDirectory(work, async (directory) => {
    const from = (await copyOfGuest(grub, 'i386-pc', [...BIOS_MODULES, 'normal'], directory)) ? 'guest' : 'host';
    const source = from === 'guest' ? directory : join(HOST_GRUB, 'i386-pc');
    const built = await ifThere(readFile(join(source, 'normal.mod')));
    if (!built?.equals(normal)) {
      throw new LifeboatError(
        'layout.unsupported',
        `A core image for GRUB must be of the same build as the guest's ${modulesThere}. ${
          from === 'guest'
            ? "The guest's /usr/lib/grub/i386-pc is of another one"
            : 'The guest has no /usr/lib/grub/i386-pc, and that of this host is of another one'
        }; install grub-pc-bin in the machine and back it up again`,
      );
    }
    const core = await mkimage('i386-pc', { grub, source, directory, modules: BIOS_MODULES }, work.signal);
    return { core, bootImage: await readFile(join(source, 'boot.img')), from };
  });
}

/** Errors: `layout.unsupported` when neither the guest nor this host has GRUB for UEFI; `host.tool-missing`, `host.tool-failed`. */
export async function makeEfiImage(grub: GuestGrub, work: Work): Promise<Buffer> {
  return inDirectory(work, async (directory) => {
    const isGuests = await copyOfGuest(grub, 'x86_64-efi', 'all', directory);
    const source = isGuests ? directory : join(HOST_GRUB, 'x86_64-efi');
    const modules: string[] = [];
    for (const name of EFI_MODULES) {
      if (await ifThere(readFile(join(source, `${name}.mod`)))) modules.push(name);
      else if (DECISIVE.has(name)) {
        throw new LifeboatError(
          'layout.unsupported',
          `A loader for UEFI cannot be made: neither the guest nor this host has GRUB's x86_64-efi/${name}.mod. On Debian: apt-get install grub-efi-amd64-bin on this host`,
        );
      }
    }
    return mkimage('x86_64-efi', { grub, source, directory, modules }, work.signal);
  });
}

async function mkimage(
  target: Target,
  input: { grub: GuestGrub; source: string; directory: string; modules: readonly string[] },
  signal: AbortSignal,
): Promise<Buffer> {
  const { grub, source, directory, modules } = input;
  const [config, image] = [join(directory, 'load.cfg'), join(directory, 'image')];
  await writeFile(config, searchConfig(grub));
  await runTool(
    'grub-mkimage',
    ['-O', target, '-d', source, '-c', config, '-p', grub.directory, '-o', image, ...modules],
    { timeoutMs: MAKE_TIMEOUT_MS, signal },
  );
  return readFile(image);
}

/** Also what a signed image of a distribution reads on the EFI system partition. */
export function searchConfig({ uuid, directory }: Pick<GuestGrub, 'uuid' | 'directory'>): string {
  return `search.fs_uuid ${uuid} root\nset prefix=($root)${directory}\n`;
}

/** The guest's own build, as files here; false when it has none that is whole. */
async function copyOfGuest(
  grub: GuestGrub,
  target: Target,
  wanted: readonly string[] | 'all',
  directory: string,
): Promise<boolean> {
  const from = `/usr/lib/grub/${target}`;
  for (const tree of grub.trees) {
    if (!(await tree.isFile(`${from}/kernel.img`))) continue;
    // A module brings those it depends on, so all of them are wanted; some 300 of 20 KB.
    const names = (await tree.list(from)).filter((name) => /^[a-z0-9_]+\.(mod|img|lst)$/.test(name));
    for (const name of names) {
      const bytes = await tree.read(`${from}/${name}`, { maxBytes: MAX_MODULE_BYTES });
      if (bytes) await writeFile(join(directory, name), bytes);
    }
    return wanted === 'all' || wanted.every((name) => names.includes(`${name}.mod`));
  }
  return false;
}

async function inDirectory<T>({ directory }: Work, use: (path: string) => Promise<T>): Promise<T> {
  const path = join(directory, 'grub-image');
  await rm(path, { recursive: true, force: true });
  await mkdir(path, { mode: 0o700 });
  try {
    return await use(path);
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

async function ifThere(asked: Promise<Buffer>): Promise<Buffer | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
