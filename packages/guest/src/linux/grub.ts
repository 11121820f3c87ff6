/** What a grub.cfg boots: the kernel command lines, read without evaluating GRUB's scripting language. */
export interface GrubEntry {
  /** As GRUB names it, from the root of the filesystem that holds it. */
  readonly kernel: string;
  readonly root: string | undefined;
  readonly arguments: readonly string[];
}

const MAX_ENTRIES = 500;

export function parseGrubConfig(text: string): GrubEntry[] {
  const entries: GrubEntry[] = [];
  for (const line of text.split('\n')) {
    const words = line.trim().split(/\s+/);
    if (!/^linux(16|efi)?$/.test(words[0] ?? '') || words[1] === undefined) continue;
    const args = words.slice(2);
    const root = args.findLast((word) => word.startsWith('root='))?.slice('root='.length);
    entries.push({ kernel: words[1], root, arguments: args });
    if (entries.length >= MAX_ENTRIES) break;
  }
  return entries;
}

export type MbrLoader = 'grub' | 'windows' | 'syslinux' | 'other' | 'none';

/** Whose boot code is in the first sector, by the messages every version of it carries. */
export function identifyMbrLoader(sector: Uint8Array): MbrLoader {
  const code = Buffer.from(sector.subarray(0, 440));
  if (code.every((byte) => byte === 0)) return 'none';
  const text = code.toString('latin1');
  // GRUB's boot.img: "GRUB \0Geom\0Hard Disk\0Read\0 Error".
  if (text.includes('GRUB ') && text.includes('Geom')) return 'grub';
  // Messages are in the language of that Windows; since Vista its code also asks for a TPM by this name.
  if (text.includes('TCPA')) return 'windows';
  if (text.includes('Invalid partition table') && text.includes('Missing operating system')) return 'windows';
  // mbr.bin, and gptmbr.bin with its shorter messages.
  if (text.includes('isolinux') || text.includes('SYSLINUX') || text.includes('Missing operating system.'))
    return 'syslinux';
  if (text.includes('Missing OS') && text.includes('Multiple active partitions')) return 'syslinux';
  return 'other';
}
