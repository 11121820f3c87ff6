/**
 * The first 4 KiB of a hive, and the first 512 bytes of its logs.
 *
 *   0 'regf'  4 primary and 8 secondary sequence number: equal when the last write came to its end
 *   20 version  28 kind of file  36 cell of the root key  40 bytes of all bins behind  508 checksum of what stands before
 *
 * Source: M. Suhanov, Windows registry file format specification.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

export const BASE_BLOCK_BYTES = 4096;
/** What a log keeps of it, and what the checksum is over, with itself. */
export const BASE_BLOCK_HEAD_BYTES = 512;
export const BIN_ALIGNMENT_BYTES = 4096;
const CHECKSUM_AT = 508;
/** Windows ends at 2 GiB; SOFTWARE of an old installation has some 200 MB. */
export const MAX_BINS_BYTES = 1024 * 1024 * 1024;
const FILE_KIND_LOGS: readonly number[] = [1, 2];
const FILE_KIND_NEW_LOG = 6;

export interface BaseBlock {
  readonly primarySequence: number;
  readonly secondarySequence: number;
  readonly minorVersion: number;
  readonly kind: 'hive' | 'old-log' | 'new-log' | 'unknown';
  readonly rootCell: number;
  readonly binsBytes: number;
  readonly isChecksumRight: boolean;
}

/** Undefined: these bytes do not begin a hive or a log. */
export function parseBaseBlock(bytes: Buffer): BaseBlock | undefined {
  if (bytes.length < BASE_BLOCK_HEAD_BYTES || bytes.toString('latin1', 0, 4) !== 'regf') return undefined;
  const kind = bytes.readUInt32LE(28);
  return {
    primarySequence: bytes.readUInt32LE(4),
    secondarySequence: bytes.readUInt32LE(8),
    minorVersion: bytes.readUInt32LE(24),
    kind:
      kind === 0
        ? 'hive'
        : kind === FILE_KIND_NEW_LOG
          ? 'new-log'
          : FILE_KIND_LOGS.includes(kind)
            ? 'old-log'
            : 'unknown',
    rootCell: bytes.readUInt32LE(36),
    binsBytes: bytes.readUInt32LE(40),
    isChecksumRight: bytes.readUInt32LE(CHECKSUM_AT) === checksumOf(bytes),
  };
}

/** Makes a base block say that what stands behind it is whole: both numbers equal, the checksum right. */
export function sealBaseBlock(
  bytes: Buffer,
  { sequence, binsBytes }: { readonly sequence: number; readonly binsBytes: number },
): void {
  bytes.writeUInt32LE(sequence, 4);
  bytes.writeUInt32LE(sequence, 8);
  bytes.writeUInt32LE(binsBytes, 40);
  bytes.writeUInt32LE(checksumOf(bytes), CHECKSUM_AT);
}

function checksumOf(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < CHECKSUM_AT; at += 4) sum ^= bytes.readUInt32LE(at);
  sum >>>= 0;
  if (sum === 0) return 1;
  return sum === 0xffff_ffff ? 0xffff_fffe : sum;
}

export function hiveUnreadable(what: string, problem: string): LifeboatError {
  return new LifeboatError('guest.hive-unreadable', `${what}: ${problem}`, { context: { path: what } });
}
