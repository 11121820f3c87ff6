/** What AddReg of an INF writes into the registry: "INF AddReg Directive" of the Windows Driver Kit. */
import type { InfFile, InfLine } from './inf-file.ts';
import type { RegistryData } from './registry/registry-data.ts';

export interface InfRegistryValue {
  /** Below the key that HKR stands for; empty: that key itself. */
  readonly key: string;
  /** Empty: the key's default value. */
  readonly name: string;
  readonly data: RegistryData;
}

const FLAG = { deleteValue: 0x4, keyOnly: 0x10 } as const;
const TYPE_MASK = 0xffff_0001;
const KIND = { string: 0, binary: 0x1, multiString: 0x1_0000, dword: 0x1_0001, expandString: 0x2_0000 } as const;
/** What a registry file can name without doubt. Real drivers use no other names. */
const PLAIN = /^[\x20-\x5a\x5c\x5e-\x7e]{0,255}$/;
/** A driver's own are some tens. */
const MAX_VALUES = 1000;

/** Values that the AddReg lines of a section write below HKR. Other roots, deletions and types that are not known are left out. */
export function readAddedValues(inf: InfFile, section: string): InfRegistryValue[] {
  const lists = inf
    .lines(section)
    .filter(({ key }) => key?.toLowerCase() === 'addreg')
    .flatMap(({ values }) => values)
    .filter((list) => list !== '');
  return lists.flatMap((list) => inf.lines(list).flatMap(valueOf)).slice(0, MAX_VALUES);
}

function valueOf({ key: text, values }: InfLine): InfRegistryValue[] {
  const [root = '', key = '', name = '', flagText = '', ...rest] = values;
  if (text !== undefined || root.toUpperCase() !== 'HKR' || !PLAIN.test(key) || !PLAIN.test(name)) return [];
  const flags = flagText === '' ? 0 : Number(flagText);
  if (!Number.isSafeInteger(flags) || (flags & (FLAG.keyOnly | FLAG.deleteValue)) !== 0) return [];
  const data = dataOf((flags & TYPE_MASK) >>> 0, rest);
  return data === undefined ? [] : [{ key, name, data }];
}

function dataOf(kind: number, values: readonly string[]): RegistryData | undefined {
  switch (kind) {
    case KIND.string:
      return { type: 'string', text: values[0] ?? '' };
    case KIND.expandString:
      return { type: 'expand-string', text: values[0] ?? '' };
    case KIND.multiString:
      return { type: 'multi-string', texts: values.filter((text) => text !== '') };
    case KIND.dword:
      return dwordOf(values);
    case KIND.binary: {
      const bytes = values.filter((text) => text !== '').map((text) => Number(`0x${text.replace(/^0x/i, '')}`));
      if (bytes.some((byte) => !Number.isSafeInteger(byte) || byte < 0 || byte > 255)) return undefined;
      return { type: 'binary', hex: Buffer.from(bytes).toString('hex') };
    }
    default:
      return undefined;
  }
}

/** One number, or its four bytes, lowest first. */
function dwordOf(values: readonly string[]): RegistryData | undefined {
  if (values.length === 4) {
    const bytes = values.map((text) => Number(`0x${text.replace(/^0x/i, '')}`));
    if (bytes.some((byte) => !Number.isSafeInteger(byte) || byte < 0 || byte > 255)) return undefined;
    return { type: 'dword', number: Buffer.from(bytes).readUInt32LE(0) };
  }
  const number = Number(values[0] === '' ? Number.NaN : values[0]);
  return Number.isSafeInteger(number) && number >= -(2 ** 31) && number < 2 ** 32
    ? { type: 'dword', number: number >>> 0 }
    : undefined;
}
