/**
 * Where the live state of this host is, and who may reach what in it.
 *
 *   <root>/                 0711   QEMU's account passes through, but lists nothing
 *     host-id               0600   this host's name, made once
 *     ops/                  0711   a directory per operation (operation.ts)
 *       <opId>/             0711   intent.json, lock, records: 0600
 *         qemu/             0700   owned by QEMU's account: sockets, scratch files, overlays
 *     exports/              0700   what the supervisor runs (exports.ts)
 *     journals/<opId>/      0700   of finished edits, until their disks are removed by us
 *     evidence/<opId>/      0700   of boot tests, for 90 days
 *
 * Not root: QEMU runs as the same account, so all directories are 0700.
 */
import { chmod, chown, mkdir, readFile, realpath } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import { parseHostId, type HostId } from '@lifeboat/foundation/ids';
import type { Random } from '@lifeboat/foundation/random';
import { runTool } from './children.ts';
import { createDurably } from './durable-file.ts';

/** QEMU's account under libvirt: Debian's name, then Fedora's. */
const QEMU_ACCOUNTS = ['libvirt-qemu', 'qemu'];
const GETENT_TIMEOUT_MS = 10_000;

export interface StateRoot {
  readonly path: string;
  readonly hostId: HostId;
}

/**
 * The path of the live state: `LIFEBOAT_STATE`, else `/var/lib/lifeboat` for root, else `$XDG_STATE_HOME/lifeboat`
 * (by default `~/.local/state/lifeboat`). Errors: `host.state-unusable` if it is relative or nothing says where.
 */
export function stateRootPath(env: NodeJS.ProcessEnv, uid: number): string {
  const xdg = env['XDG_STATE_HOME'] || (env['HOME'] && join(env['HOME'], '.local/state'));
  const path = env['LIFEBOAT_STATE'] || (uid === 0 ? '/var/lib/lifeboat' : xdg && join(xdg, 'lifeboat'));
  if (!path)
    throw new LifeboatError(
      'host.state-unusable',
      'No state directory: none of LIFEBOAT_STATE, XDG_STATE_HOME and HOME is set',
    );
  if (!isAbsolute(path))
    throw new LifeboatError('host.state-unusable', `The state directory '${path}' is not an absolute path`);
  return path;
}

/** Makes the state directory if needed and says who this host is. Errors: `host.state-unusable`. */
export async function openStateRoot(path: string, random: Random): Promise<StateRoot> {
  await refuseClone(path);
  await mkdir(path, { recursive: true });
  await chmod(path, passageMode());
  for (const [name, mode] of [['ops', passageMode()] as const, ['exports', 0o700] as const]) {
    await mkdir(join(path, name), { recursive: true });
    await chmod(join(path, name), mode);
  }
  return { path, hostId: await persistentHostId(path, random) };
}

/** Mode of a directory that QEMU's account must pass through on its way to what belongs to it. */
export function passageMode(): number {
  return isRoot() ? 0o711 : 0o700;
}

/** Makes (or takes over) a directory in which QEMU may create sockets and files, and nobody else but root. */
export async function makeQemuDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
  await giveToQemu(path);
}

/** Makes QEMU's account the owner of a file or socket we made; nothing to do where QEMU runs as us. */
export async function giveToQemu(path: string): Promise<void> {
  const account = isRoot() ? await qemuAccount() : undefined;
  if (account !== undefined) await chown(path, account.uid, account.gid);
}

let account: Promise<{ uid: number; gid: number } | undefined> | undefined;

/** The account under which libvirt runs QEMU; undefined if libvirt is not installed. */
function qemuAccount(): Promise<{ uid: number; gid: number } | undefined> {
  account ??= lookUpQemuAccount();
  return account;
}

async function lookUpQemuAccount(): Promise<{ uid: number; gid: number } | undefined> {
  // getent answers 2 for "no such account" and still prints those it found.
  const { stdout } = await runTool('getent', ['passwd', ...QEMU_ACCOUNTS], {
    timeoutMs: GETENT_TIMEOUT_MS,
    okCodes: [0, 2],
  });
  const [line] = stdout.split('\n').filter((text) => text !== '');
  if (line === undefined) return undefined;
  const [, , uid, gid] = line.split(':');
  return { uid: Number(uid), gid: Number(gid) };
}

async function persistentHostId(root: string, random: Random): Promise<HostId> {
  const path = join(root, 'host-id');
  const fresh = `h-${Buffer.from(random.bytes(8)).toString('hex')}`;
  await createDurably(path, `${fresh}\n`); // false: it has one already
  try {
    return parseHostId((await readFile(path, 'utf8')).trim());
  } catch (cause) {
    // Another id would disown every domain and network this host has tagged so far.
    throw new LifeboatError('host.state-unusable', `${path} does not hold a host id`, { cause, context: { path } });
  }
}

/** Live state in a source tree would be deleted with it, and QEMU's account cannot reach a home directory. */
async function refuseClone(path: string): Promise<void> {
  for (let at = await nearestExisting(path); ; at = dirname(at)) {
    if (await isOurSource(at)) {
      throw new LifeboatError('host.state-unusable', `The state directory ${path} lies inside the source tree ${at}`, {
        context: { path },
      });
    }
    if (at === dirname(at)) return;
  }
}

async function nearestExisting(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    try {
      return await realpath(at);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT' || at === dirname(at)) throw error;
    }
  }
}

async function isOurSource(directory: string): Promise<boolean> {
  let text: string;
  try {
    text = await readFile(join(directory, 'package.json'), 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'EACCES') return false;
    throw error;
  }
  return /"name":\s*"lifeboat"/.test(text);
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}
