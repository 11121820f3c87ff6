/**
 * The UEFI firmware of this host that understands given variables. A firmware is built for flash of one size, and so are the
 * variables it keeps there: those of another size it passes over, without a word, and starts as one that never ran (seen with
 * OVMF): what the machine boots from is then forgotten.
 *
 * What is there is told by QEMU's descriptors (docs/interop/firmware.json of QEMU): a file of /etc/qemu/firmware hides the one
 * of the same name in /usr/share, and an empty one hides it without replacing it.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';

const DESCRIPTORS = ['/usr/share/qemu/firmware', '/etc/qemu/firmware'];
/** Debian's build for 2 MiB of flash, older than the one its descriptors name; machines of earlier releases have its variables. */
const UNDESCRIBED: readonly Firmware[] = [
  { codePath: '/usr/share/OVMF/OVMF_CODE.fd', templatePath: '/usr/share/OVMF/OVMF_VARS.fd' },
];

export interface Firmware {
  readonly codePath: string;
  /** Variables of a machine that never ran. */
  readonly templatePath: string;
}

interface Descriptor {
  readonly 'interface-types'?: readonly string[];
  readonly mapping?: {
    readonly device?: string;
    readonly executable?: { readonly filename?: string; readonly format?: string };
    readonly 'nvram-template'?: { readonly filename?: string; readonly format?: string };
  };
  readonly targets?: readonly { readonly architecture?: string }[];
  readonly features?: readonly string[];
}

/** Errors: `hypervisor.no-firmware`, with the sizes that there are. */
export async function firmwareFor(
  variables: Uint8Array,
  places: { readonly directories: readonly string[]; readonly undescribed: readonly Firmware[] } = {
    directories: DESCRIPTORS,
    undescribed: UNDESCRIBED,
  },
): Promise<Firmware> {
  const sizes = new Set<number>();
  for (const firmware of [...(await described(places.directories)), ...places.undescribed]) {
    const size = await sizeOf(firmware);
    if (size === variables.length) return firmware;
    if (size !== undefined) sizes.add(size);
  }
  const known = sizes.size === 0 ? 'none' : `variables of ${[...sizes].join(', ')} bytes`;
  throw new LifeboatError(
    'hypervisor.no-firmware',
    `the machine's UEFI variables have ${variables.length} bytes, and the firmware of this host takes ${known}`,
    { context: { neededBytes: variables.length, path: places.directories.join(':') } },
  );
}

/** By name, which begins with their priority. Secure Boot's are left out: what is restored was not signed for their keys. */
async function described(directories: readonly string[]): Promise<Firmware[]> {
  const files = new Map<string, string>();
  for (const directory of directories) {
    for (const name of await jsonFilesOf(directory)) files.set(name, path.join(directory, name));
  }
  const found: Firmware[] = [];
  for (const name of [...files.keys()].sort()) {
    const firmware = firmwareIn(await readFile(files.get(name) ?? '', 'utf8'));
    if (firmware) found.push(firmware);
  }
  return found;
}

function firmwareIn(text: string): Firmware | undefined {
  let descriptor: Descriptor;
  try {
    descriptor = JSON.parse(text) as Descriptor;
  } catch {
    return undefined; // empty: hidden on purpose; damaged: of no use to anybody
  }
  const { mapping, targets = [], features = [] } = descriptor;
  const codePath = mapping?.executable?.filename;
  const templatePath = mapping?.['nvram-template']?.filename;
  const fits =
    descriptor['interface-types']?.includes('uefi') === true &&
    mapping?.device === 'flash' &&
    mapping.executable?.format === 'raw' &&
    mapping['nvram-template']?.format === 'raw' &&
    targets.some(({ architecture }) => architecture === 'x86_64') &&
    !['secure-boot', 'requires-smm', 'enrolled-keys'].some((feature) => features.includes(feature));
  return fits && codePath && templatePath ? { codePath, templatePath } : undefined;
}

/** Undefined for one whose files are not there. */
async function sizeOf({ codePath, templatePath }: Firmware): Promise<number | undefined> {
  try {
    await stat(codePath);
    return (await stat(templatePath)).size;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function jsonFilesOf(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((name) => name.endsWith('.json'));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}
