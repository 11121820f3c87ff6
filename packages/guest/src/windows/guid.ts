/** GUIDs as Windows stores them: the first three parts little-endian. */

/** `{4d36e97b-e325-11ce-bfc1-08002be10318}`, in lower case. */
export function guidAt(bytes: Buffer, at: number): string {
  const hex = turned(bytes.subarray(at, at + 16)).toString('hex');
  return `{${hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')}}`;
}

/** The 16 bytes of `{4d36e97b-…}`. */
export function guidBytes(guid: string): Buffer {
  return turned(Buffer.from(guid.replaceAll(/[{}-]/g, ''), 'hex'));
}

/** The same there and back. */
function turned(bytes: Buffer): Buffer {
  const part = (from: number, to: number): Uint8Array => bytes.subarray(from, to).toReversed();
  return Buffer.concat([part(0, 4), part(4, 6), part(6, 8), bytes.subarray(8)]);
}
