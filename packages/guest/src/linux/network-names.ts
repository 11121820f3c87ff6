/** Files in which a Linux guest ties a network configuration to an interface's name or to a card's address. */
import type { GuestFiles } from '../access/guest-files.ts';

export interface NetworkFile {
  readonly path: string;
  readonly kind: 'ifupdown' | 'networkd' | 'netplan' | 'NetworkManager' | 'ifcfg' | 'udev';
  /** Lower case, as `52:54:00:12:34:56`. */
  readonly macs: readonly string[];
  readonly interfaces: readonly string[];
}

const MAX_FILES = 100;
const MAX_NAMES = 100;
const MAC = /(?<![0-9a-f:])[0-9a-f]{2}(?::[0-9a-f]{2}){5}(?![0-9a-f:])/gi;

/**
 * Where each kind lies, which files of a directory are meant, and how it names an interface. No pattern may cross a line: one that
 * begins with any blanks reads a file of blank lines again for each of them.
 */
const PLACES: readonly { kind: NetworkFile['kind']; directory: string; file: RegExp; name: RegExp }[] = [
  { kind: 'ifupdown', directory: '/etc/network', file: /^interfaces$/, name: /^[ \t]*iface[ \t]+(\S+)/gm },
  { kind: 'ifupdown', directory: '/etc/network/interfaces.d', file: /./, name: /^[ \t]*iface[ \t]+(\S+)/gm },
  {
    kind: 'networkd',
    directory: '/etc/systemd/network',
    file: /\.(network|link|netdev)$/,
    name: /^[ \t]*Name[ \t]*=[ \t]*(\S+)/gm,
  },
  { kind: 'netplan', directory: '/etc/netplan', file: /\.ya?ml$/, name: /^[ \t]*(?:set-)?name:[ \t]*["']?([\w.-]+)/gm },
  {
    kind: 'NetworkManager',
    directory: '/etc/NetworkManager/system-connections',
    file: /./,
    name: /^[ \t]*interface-name[ \t]*=[ \t]*(\S+)/gm,
  },
  {
    kind: 'ifcfg',
    directory: '/etc/sysconfig/network-scripts',
    file: /^ifcfg-(?!lo$)/,
    name: /^[ \t]*DEVICE[ \t]*=[ \t]*["']?([\w.-]+)/gm,
  },
  {
    kind: 'ifcfg',
    directory: '/etc/sysconfig/network',
    file: /^ifcfg-(?!lo$)/,
    name: /^[ \t]*DEVICE[ \t]*=[ \t]*["']?([\w.-]+)/gm,
  },
  { kind: 'udev', directory: '/etc/udev/rules.d', file: /net.*\.rules$/, name: /NAME[ \t]*=[ \t]*"([^"\n]+)"/g },
];

/** Those that name anything. Errors: those of the tree. */
export async function readNetworkFiles(tree: GuestFiles): Promise<NetworkFile[]> {
  const found: NetworkFile[] = [];
  for (const { kind, directory, file, name } of PLACES) {
    for (const entry of (await tree.list(directory)).filter((each) => file.test(each))) {
      const path = `${directory}/${entry}`;
      if (found.length >= MAX_FILES || !(await tree.isFile(path))) continue;
      const text = withoutComments((await tree.readText(path)) ?? '');
      const macs = unique([...text.matchAll(MAC)].map(([mac]) => mac.toLowerCase()));
      const interfaces = unique([...text.matchAll(name)].map((match) => match[1] ?? '')).filter(
        (each) => each !== 'lo',
      );
      if (macs.length > 0 || interfaces.length > 0) found.push({ path, kind, macs, interfaces });
    }
  }
  return found;
}

function withoutComments(text: string): string {
  return text.replace(/^[ \t]*[#;].*$/gm, '');
}

function unique(names: readonly string[]): string[] {
  return [...new Set(names)].slice(0, MAX_NAMES);
}
