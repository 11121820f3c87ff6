/** Names by which a Linux guest asks for encrypted volumes and arrays: crypttab(5) and mdadm.conf(5). */
export interface CrypttabEntry {
  readonly name: string;
  readonly source: string;
  /** `none`: asked for at the console. */
  readonly keyFile: string;
  readonly options: readonly string[];
}

export interface MdadmArray {
  readonly device: string;
  /** As mdadm writes it: `00112233:44556677:8899aabb:ccddeeff`; empty where the line names the array otherwise. */
  readonly uuid: string;
  readonly name: string;
}

const MAX_ENTRIES = 500;

export function parseCrypttab(text: string): CrypttabEntry[] {
  const entries = text.split('\n').flatMap((line) => {
    const [name = '', source, keyFile = 'none', options = ''] = line.trim().split(/\s+/);
    if (name === '' || name.startsWith('#') || source === undefined) return [];
    return [
      {
        name,
        source,
        keyFile: keyFile === '-' ? 'none' : keyFile,
        options: options.split(',').filter((each) => each !== ''),
      },
    ];
  });
  return entries.slice(0, MAX_ENTRIES);
}

export function parseMdadmConfig(text: string): MdadmArray[] {
  // A line that begins with a blank goes on with the one before.
  const lines = text.replace(/\n[ \t]+/g, ' ').split('\n');
  const arrays = lines.flatMap((line) => {
    const [keyword = '', device, ...rest] = line.trim().split(/\s+/);
    // mdadm takes three letters of a keyword for it.
    if (!/^arr(a(y)?)?$/i.test(keyword) || device === undefined) return [];
    const value = (key: string): string =>
      rest.find((word) => word.toLowerCase().startsWith(`${key}=`))?.slice(key.length + 1) ?? '';
    return [{ device, uuid: value('uuid').toLowerCase(), name: value('name') }];
  });
  return arrays.slice(0, MAX_ENTRIES);
}
