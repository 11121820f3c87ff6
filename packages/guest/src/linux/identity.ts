/**
 * What tells one Linux machine from another, and must not be the same in a copy that runs beside the original:
 *
 *   /etc/machine-id                              emptied: the next boot makes one
 *   /var/lib/dbus/machine-id                     removed, where it is no link to that
 *   /etc/ssh/ssh_host_*_key, and .pub            new ones, since Debian makes them only when the server is installed
 *   random seeds, leases of DHCP clients         removed
 */
import type { GuestFiles } from '../access/guest-files.ts';

export const hostKeyTypes = ['rsa', 'ecdsa', 'ed25519'] as const;
export type HostKeyType = (typeof hostKeyTypes)[number];

export type IdentityFile =
  | { readonly path: string; readonly treatment: 'empty' | 'remove' }
  | { readonly path: string; readonly treatment: 'new-key'; readonly keyType: HostKeyType };

const MACHINE_ID = '/etc/machine-id';
const DBUS_MACHINE_ID = '/var/lib/dbus/machine-id';
const SSH = '/etc/ssh';
const LEFTOVERS: readonly { readonly directory: string; readonly file: RegExp }[] = [
  { directory: '/var/lib/systemd', file: /^random-seed$/ },
  { directory: '/var/lib/urandom', file: /^random-seed$/ },
  { directory: '/var/lib/dhcp', file: /\.leases$/ },
  { directory: '/var/lib/dhclient', file: /\.leases?$/ },
  { directory: '/var/lib/dhcpcd', file: /\.lease6?$/ },
  { directory: '/var/lib/NetworkManager', file: /\.lease$|^secret_key$/ },
];
const MAX_FILES = 200;

/** Errors: those of the tree. */
export async function readIdentityFiles(tree: GuestFiles): Promise<IdentityFile[]> {
  const found: IdentityFile[] = [];
  if (await tree.isFile(MACHINE_ID)) found.push({ path: MACHINE_ID, treatment: 'empty' });
  const isOwn = (await tree.resolve(DBUS_MACHINE_ID)) === DBUS_MACHINE_ID;
  if (isOwn && (await tree.isFile(DBUS_MACHINE_ID))) found.push({ path: DBUS_MACHINE_ID, treatment: 'remove' });
  for (const name of await tree.list(SSH)) {
    const type = /^ssh_host_([a-z0-9]+)_key$/.exec(name)?.[1];
    const path = `${SSH}/${name}`;
    if (type === undefined || !(await tree.isFile(path))) continue;
    const keyType = hostKeyTypes.find((known) => known === type);
    // Of a type that nobody takes any more.
    found.push(keyType ? { path, treatment: 'new-key', keyType } : { path, treatment: 'remove' });
  }
  for (const { directory, file } of LEFTOVERS) {
    for (const name of (await tree.list(directory)).filter((each) => file.test(each))) {
      if (await tree.isFile(`${directory}/${name}`)) found.push({ path: `${directory}/${name}`, treatment: 'remove' });
    }
  }
  return found.slice(0, MAX_FILES);
}
