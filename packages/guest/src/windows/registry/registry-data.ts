/** Data of registry values as it is planned and shown: JSON-able, and turned into bytes only where it is written or compared. */
import { REGISTRY_TYPE, type RegistryValue } from './registry-hive.ts';

export type RegistryData =
  | { readonly type: 'string' | 'expand-string'; readonly text: string }
  | { readonly type: 'multi-string'; readonly texts: readonly string[] }
  | { readonly type: 'dword'; readonly number: number }
  | { readonly type: 'binary'; readonly hex: string };

export function encodeData(data: RegistryData): { readonly type: number; readonly bytes: Buffer } {
  switch (data.type) {
    case 'string':
      return { type: REGISTRY_TYPE.string, bytes: Buffer.from(`${data.text}\0`, 'utf16le') };
    case 'expand-string':
      return { type: REGISTRY_TYPE.expandString, bytes: Buffer.from(`${data.text}\0`, 'utf16le') };
    case 'multi-string':
      return {
        type: REGISTRY_TYPE.multiString,
        bytes: Buffer.from(`${data.texts.map((text) => `${text}\0`).join('')}\0`, 'utf16le'),
      };
    case 'dword': {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(data.number >>> 0);
      return { type: REGISTRY_TYPE.dword, bytes };
    }
    default:
      return { type: REGISTRY_TYPE.binary, bytes: Buffer.from(data.hex, 'hex') };
  }
}

/** Whether a value is there and holds exactly this. */
export function holds(value: RegistryValue | undefined, data: RegistryData): boolean {
  const { type, bytes } = encodeData(data);
  return value !== undefined && value.type === type && value.data.equals(bytes);
}

/** For people. */
export function dataText(data: RegistryData): string {
  switch (data.type) {
    case 'multi-string':
      return `[${data.texts.map((text) => `'${text}'`).join(', ')}]`;
    case 'dword':
      return String(data.number);
    case 'binary':
      return data.hex;
    default:
      return `'${data.text}'`;
  }
}
