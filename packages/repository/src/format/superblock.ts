import { LifeboatError } from '@lifeboat/foundation/errors';

import { decodeFrame, encodeFrame } from './frame.ts';
import { MAX_CHUNK_BYTES, MAX_PAGE_ENTRIES, MIN_CHUNK_BYTES } from './limits.ts';
import { bytes, message, uint } from './wire.ts';

/** How many entries the pages of maps and pack sets hold. Fixed per repository, so that pages can be shared. */
export interface Geometry {
  readonly leafEntries: number;
  readonly branchEntries: number;
  readonly packSetEntries: number;
}

/** The one object that says what this repository is; written once, last, when everything else a new one needs is there. */
export interface Superblock extends Geometry {
  readonly repositoryId: Uint8Array;
  readonly tenantId: Uint8Array;
  readonly createdMs: number;
  /** Power of two. */
  readonly chunkSizeBytes: number;
  /** Bits of `CAPABILITIES`: what the store could do that the repository was made in. */
  readonly capabilities: number;
}

export const CAPABILITIES = {
  /** Of several who put one name, one creates it. Always. */
  createOnly: 1,
  /** Keeps every version; the earliest is the object. */
  versions: 2,
  locks: 4,
  /** A directory in which files are linked to their names, and not renamed. */
  hardLinks: 8,
} as const;
const ALL_CAPABILITIES = 15;

const schema = message({
  repositoryId: bytes(1, { length: 16 }),
  tenantId: bytes(2, { length: 16 }),
  createdMs: uint(3),
  chunkSizeBytes: uint(4, MAX_CHUNK_BYTES),
  leafEntries: uint(5, MAX_PAGE_ENTRIES),
  branchEntries: uint(6, MAX_PAGE_ENTRIES),
  packSetEntries: uint(7, MAX_PAGE_ENTRIES),
  capabilities: uint(8, ALL_CAPABILITIES),
});

export function encodeSuperblock(superblock: Superblock): Uint8Array {
  assertSane(superblock, 'superblock');
  return encodeFrame('REPO', schema.encode(superblock));
}

/** Throws `repository.object-damaged` or `repository.newer-version`. */
export function decodeSuperblock(object: Uint8Array, what: string): Superblock {
  const superblock = schema.decode(decodeFrame('REPO', object, what), what);
  assertSane(superblock, what);
  return superblock;
}

function assertSane(superblock: Superblock, what: string): void {
  const { chunkSizeBytes, leafEntries, branchEntries, packSetEntries } = superblock;
  if (!isPowerOfTwo(chunkSizeBytes) || chunkSizeBytes < MIN_CHUNK_BYTES) {
    throw new LifeboatError(
      'repository.limit-exceeded',
      `${what}: chunk size ${chunkSizeBytes} is not a power of two in ${MIN_CHUNK_BYTES}..${MAX_CHUNK_BYTES}`,
    );
  }
  if (!isPowerOfTwo(leafEntries) || !isPowerOfTwo(branchEntries) || branchEntries < 2 || packSetEntries < 1) {
    throw new LifeboatError(
      'repository.limit-exceeded',
      `${what}: page sizes ${leafEntries}, ${branchEntries}, ${packSetEntries}`,
    );
  }
}

function isPowerOfTwo(value: number): boolean {
  return value >= 1 && (value & (value - 1)) === 0;
}
