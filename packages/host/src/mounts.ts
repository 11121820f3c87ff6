/**
 * Mounts of an operation. Every mount lies beneath the operation's directory, so the kernel's own table
 * (/proc/self/mountinfo) is the record of what is to be undone: it cannot be stale, and kill -9 cannot lose it.
 */
import { mkdir, readFile, realpath, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError, hasCode } from '@lifeboat/foundation/errors';
import { runTool } from './children.ts';

const MOUNT_TIMEOUT_MS = 60_000;
/** Includes writing back what the filesystem still holds in memory. */
const UNMOUNT_TIMEOUT_MS = 120_000;
/** Waits between attempts while a mount is busy: 3.1 s in all. A scanner that looks into new mounts is gone by then. */
const BUSY_WAITS_MS = [20, 80, 200, 400, 800, 1600];

export interface Mount {
  readonly path: string;
  readonly type: string;
  /** The device, as the filesystem names it. */
  readonly source: string;
}

export interface MountOptions {
  /** A block device or an image file that QEMU serves. */
  readonly device: string;
  /** The kernel's name of the filesystem, or `ntfs-3g`. */
  readonly type: string;
  readonly readOnly: boolean;
  /** Beside `nosuid,nodev,noexec`, which always hold; for example `norecovery`. */
  readonly options?: readonly string[];
  /** The operation's directory; the mount point is `<name>.mnt` in it. */
  readonly directory: string;
  readonly name: string;
  readonly signal?: AbortSignal;
}

export interface MountedFilesystem {
  readonly path: string;
  /**
   * Writes everything back, unmounts and removes the mount point. May be called again.
   * Errors: `host.unmount-lazy` if it stayed busy: it is out of the tree then, but not yet written back.
   */
  unmount(): Promise<void>;
}

/**
 * Mounts a filesystem for us to look into: what is in it is data of somebody else, so no set-uid, devices or programs.
 * Errors: `host.tool-failed` with what mount(8) says; `input.invalid` for options that would undo the protection.
 */
export async function mountFilesystem(options: MountOptions): Promise<MountedFilesystem> {
  const flags = options.options ?? [];
  const undoing = flags.find(
    (flag) => !/^[a-z0-9_]+(=[a-zA-Z0-9_./:@-]+)?$/.test(flag) || /^(suid|dev|exec|rw|ro|defaults)$/.test(flag),
  );
  if (undoing !== undefined || !/^[a-z0-9-]+$/.test(options.type)) {
    throw new LifeboatError(
      'input.invalid',
      `'${undoing ?? options.type}' is not a mount option or type that may be passed`,
    );
  }
  const path = join(options.directory, `${options.name}.mnt`);
  await mkdir(path, { mode: 0o700, recursive: true });
  const list = [...flags, options.readOnly ? 'ro' : 'rw', 'nosuid', 'nodev', 'noexec'].join(',');
  try {
    await runTool('mount', ['-t', options.type, '-o', list, '--', options.device, path], {
      timeoutMs: MOUNT_TIMEOUT_MS,
      ...(options.signal ? { signal: options.signal } : {}),
    });
  } catch (error) {
    // An abort may come after the mount was made.
    if ((await mountsBeneath(path)).length > 0) await unmount(path);
    await rmdir(path);
    throw error;
  }
  let done: Promise<void> | undefined;
  return {
    path,
    unmount: () =>
      (done ??= unmount(path).then(
        () => rmdir(path),
        (error: unknown) => {
          if (!hasCode(error, 'host.unmount-lazy')) done = undefined;
          throw error;
        },
      )),
  };
}

/** What is mounted at or beneath a path, in the order it was mounted. */
export async function mountsBeneath(path: string): Promise<Mount[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  const top = await resolveParent(path);
  return table
    .split('\n')
    .filter((line) => line !== '')
    .map(parseMountLine)
    .filter((mount) => mount.path === top || mount.path.startsWith(`${top}/`));
}

/**
 * Takes one mount away; a path where nothing is mounted is fine. Waits out short use by others, bounded.
 * Errors: `host.unmount-lazy` after a lazy unmount of one that stayed busy.
 */
export async function unmount(path: string): Promise<void> {
  let lastWords = '';
  for (const waitMs of [...BUSY_WAITS_MS, 0]) {
    if (!(await isMounted(path))) return;
    try {
      await runUnmount(path, false);
    } catch (error) {
      if (!hasCode(error, 'host.tool-failed')) throw error;
      lastWords = error.message; // busy, mostly; kept for the message below
      await systemClock.sleep(waitMs);
    }
  }
  if (!(await isMounted(path))) return;
  await runUnmount(path, true);
  throw new LifeboatError('host.unmount-lazy', `${path} stayed busy and was unmounted lazily: ${lastWords}`, {
    context: { path },
  });
}

export async function isMounted(path: string): Promise<boolean> {
  const top = await resolveParent(path);
  return (await mountsBeneath(path)).some((mount) => mount.path === top);
}

async function runUnmount(path: string, lazy: boolean): Promise<void> {
  // An account that is not root may only take away FUSE mounts, and only so.
  const [command, args] =
    process.getuid?.() === 0
      ? (['umount', lazy ? ['--lazy'] : []] as const)
      : (['fusermount3', lazy ? ['-u', '-z'] : ['-u']] as const);
  await runTool(command, [...args, '--', path], { timeoutMs: UNMOUNT_TIMEOUT_MS });
}

/** The kernel lists resolved paths. The last part is left as it is: a dead FUSE mount cannot even be looked at. */
async function resolveParent(path: string): Promise<string> {
  const cut = path.lastIndexOf('/');
  return `${await realpath(path.slice(0, cut) || '/')}/${path.slice(cut + 1)}`.replace(/^\/\//, '/');
}

/** proc(5): `36 35 98:0 /root /mount/point options [optional…] - type source superoptions`; blanks as octal escapes. */
function parseMountLine(line: string): Mount {
  const [before = '', after = ''] = line.split(' - ', 2);
  const [type = '', source = ''] = after.split(' ');
  return { path: unescape(before.split(' ')[4] ?? ''), type, source: unescape(source) };
}

function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
