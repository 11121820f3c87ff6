/** Disks of tests: in memory, and as the tools of other people made them. */
import { readFileSync } from 'node:fs';
import { zstdDecompressSync } from 'node:zlib';
import { assertWithin, type BlockDevice } from '@lifeboat/foundation/block-device';

export function deviceOf(bytes: Uint8Array): BlockDevice {
  return {
    sizeBytes: bytes.length,
    read: async (offsetBytes, target) => {
      assertWithin(bytes.length, { offsetBytes, lengthBytes: target.length }, 'test disk');
      target.set(bytes.subarray(offsetBytes, offsetBytes + target.length));
    },
    extents: async (range) => [{ ...range, kind: 'data' }],
    close: async () => {},
  };
}

interface Recorded {
  /** The tool that wrote it. */
  readonly made: string;
  readonly sizeBytes: number;
  readonly pieces: readonly { readonly offsetBytes: number; readonly zstd: string }[];
}

/** Beginnings of volumes by tools that few hosts have; the rest of each is zeros. */
export function recordedVolume(name: 'luks1' | 'luks2' | 'pv1' | 'pv2' | 'xfs' | 'btrfs' | 'ntfs'): Buffer {
  const all = JSON.parse(readFileSync(new URL('./real-headers.json', import.meta.url), 'utf8')) as Record<
    string,
    Recorded
  >;
  const { sizeBytes, pieces } = all[name] as Recorded;
  const bytes = Buffer.alloc(sizeBytes);
  for (const { offsetBytes, zstd } of pieces) zstdDecompressSync(Buffer.from(zstd, 'base64')).copy(bytes, offsetBytes);
  return bytes;
}
