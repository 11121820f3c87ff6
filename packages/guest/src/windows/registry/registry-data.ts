/** Data of registry values as it is planned and shown: JSON-able. */

export type RegistryData =
  | { readonly type: 'string' | 'expand-string'; readonly text: string }
  | { readonly type: 'multi-string'; readonly texts: readonly string[] }
  | { readonly type: 'dword'; readonly number: number }
  | { readonly type: 'binary'; readonly hex: string };

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
