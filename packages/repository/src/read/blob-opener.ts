import { openBlob, type BlobOpening } from '../seal/blob-seal.ts';
import { zstd, type Compression } from '../seal/codec.ts';

/**
 * Opens sealed blobs: decrypt, decompress, compare with the id. A port, because that is the cost of reading: threads do it in
 * production, the caller's own thread in tests and simulations.
 */
export interface BlobOpener {
  /** `sealed` is the opener's from here on: its memory may move to another thread. */
  open(opening: BlobOpening, sealed: Uint8Array): Promise<{ plain: Uint8Array } | { failure: string }>;
  close(): Promise<void>;
}

export function inlineOpener(compression: Compression = zstd(1)): BlobOpener {
  return {
    open: (opening, sealed) => Promise.resolve(openBlob(opening, sealed, compression)),
    close: () => Promise.resolve(),
  };
}
