/**
 * Where a Linux guest knows a network card by its address, to match it and not to give it one:
 *
 *   ifcfg           HWADDR=                    (MACADDR= gives one)
 *   udev            ATTR{address}=="..."
 *   netplan         match: macaddress:         (macaddress: of the card itself gives one)
 *   NetworkManager  mac-address=               (cloned-mac-address= gives one)
 *   networkd        [Match] MACAddress=, PermanentMACAddress=     ([Link] MACAddress= gives one)
 */
import type { GuestFiles } from '../access/guest-files.ts';
import { readNetworkFiles, type NetworkFile } from './network-names.ts';

export interface AddressUse {
  /** Guest path of the file. */
  readonly path: string;
  /** Counted from 1. */
  readonly line: number;
  /** As it is written there. */
  readonly text: string;
  /** Lower case, with colons. */
  readonly mac: string;
}

const ADDRESS = /(?<![0-9a-f:-])[0-9a-f]{2}(?:([:-])[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}(?![0-9a-f:-])/gi;
const MAX_USES = 1000;

/** Errors: those of the tree. */
export async function readAddressUses(tree: GuestFiles): Promise<AddressUse[]> {
  const uses: AddressUse[] = [];
  for (const { path, kind } of await readNetworkFiles(tree)) {
    uses.push(...addressesIn(kind, path, (await tree.readText(path)) ?? ''));
  }
  return uses.slice(0, MAX_USES);
}

export function addressesIn(kind: NetworkFile['kind'], path: string, text: string): AddressUse[] {
  const lines = text.split('\n');
  return lines.flatMap((line, index) =>
    /^\s*[#;]/.test(line) || !matches(kind, lines, index)
      ? []
      : [...line.matchAll(ADDRESS)].map(([found]) => ({
          path,
          line: index + 1,
          text: found,
          mac: found.toLowerCase().replaceAll('-', ':'),
        })),
  );
}

/** An address in the spelling of another: the same marks, capitals where that has capitals. */
export function spelledAs(mac: string, example: string): string {
  const marked = example.includes('-') ? mac.replaceAll(':', '-') : mac;
  return /[A-F]/.test(example) ? marked.toUpperCase() : marked;
}

function matches(kind: NetworkFile['kind'], lines: readonly string[], index: number): boolean {
  const line = lines[index] ?? '';
  switch (kind) {
    case 'ifcfg':
      return /^\s*HWADDR\s*=/.test(line);
    case 'udev':
      return /ATTRS?\{address\}\s*==/.test(line);
    case 'NetworkManager':
      return /^\s*mac-address\s*=/.test(line);
    case 'networkd':
      return /^\s*(?:Permanent)?MACAddress\s*=/.test(line) && sectionOf(lines, index) === 'Match';
    case 'netplan':
      return /\bmacaddress\s*:/.test(line) && isInMatch(lines, index);
    default:
      return false;
  }
}

function sectionOf(lines: readonly string[], index: number): string | undefined {
  const heading = lines.slice(0, index).findLast((line) => /^\s*\[/.test(line));
  return heading?.trim().slice(1, -1);
}

/** In the block below `match:`, or between its braces in one line. */
function isInMatch(lines: readonly string[], index: number): boolean {
  const line = lines[index] ?? '';
  if (/\bmatch\s*:\s*\{/.test(line)) return true;
  const indent = line.search(/\S/);
  const parent = lines.slice(0, index).findLast((above) => {
    const at = above.search(/\S/);
    return at >= 0 && at < indent && !/^\s*#/.test(above);
  });
  return parent !== undefined && /^\s*match\s*:\s*$/.test(parent);
}
