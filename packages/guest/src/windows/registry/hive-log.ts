/**
 * What a hive's logs hold and was not written to the hive yet, in the format of Windows 8.1 and later.
 *
 *   log: ┌ copy of the base block, 512 ┐┌ HvLE entry n ┐┌ HvLE entry n+1 ┐ ... then older entries, or nothing
 *   entry: 4 size  12 sequence number  16 bytes of all bins  20 pages  24 hash of what follows 40  32 hash of the first 32
 *          40 (offset, size) of each page, then the pages
 *
 * Entries count from the number that the log's base block says, each one higher than the one before. The log with the earlier entries goes
 * first, and the other goes on where it ends; a log whose entries begin before the hive's secondary number is one that was applied already.
 * Source: M. Suhanov, Windows registry file format specification, "New format" and "Multiple transaction log files".
 *
 * The format before (a bitmap and the pages) is not applied, but named.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';
import {
  BASE_BLOCK_HEAD_BYTES,
  type BaseBlock,
  BIN_ALIGNMENT_BYTES,
  MAX_BINS_BYTES,
  parseBaseBlock,
} from './base-block.ts';
import { marvin32 } from './marvin32.ts';

const ENTRY_HEAD_BYTES = 40;
const REFERENCE_BYTES = 8;
const SECTOR_BYTES = 512;
/** Windows changes over to the other log long before. */
export const MAX_LOG_BYTES = 256 * 1024 * 1024;

/** Bytes that take the place of those of the hive, counted from its first bin. */
export interface Page {
  readonly offsetBytes: number;
  readonly bytes: Buffer;
}

export interface Replay {
  /** In the order in which they are to be written. */
  readonly pages: readonly Page[];
  readonly entries: number;
  /** Of the last entry. */
  readonly sequence: number;
  readonly binsBytes: number;
}

interface Entry {
  readonly sequence: number;
  readonly binsBytes: number;
  readonly pages: readonly Page[];
}

/**
 * For a hive whose two numbers differ. `logs`: the content of .LOG1 and .LOG2 that are there, in any order.
 * Errors: `guest.hive-dirty` where they do not bring the hive up to date.
 */
export function replayLogs(base: BaseBlock, logs: readonly Buffer[], what: string): Replay {
  const heads = logs.flatMap((bytes) => {
    const head = parseBaseBlock(bytes);
    return head?.isChecksumRight ? [{ bytes, head }] : [];
  });
  const usable = heads.filter(({ head }) => head.kind === 'new-log');
  if (usable.length === 0) {
    throw dirty(
      what,
      heads.some(({ head }) => head.kind === 'old-log')
        ? 'its logs are in the format of Windows before 8.1, which is not applied here'
        : 'none of its logs can be read',
    );
  }
  const ordered = usable
    .map(({ bytes, head }) => entriesOf(bytes, head.primarySequence))
    .filter(([first]) => first !== undefined && first.sequence >= base.secondarySequence)
    .toSorted(([a], [b]) => (a?.sequence ?? 0) - (b?.sequence ?? 0));
  const applied: Entry[] = [];
  for (const entries of ordered) {
    const last = applied.at(-1);
    if (last === undefined || entries[0]?.sequence === last.sequence + 1) applied.push(...entries);
  }
  const last = applied.at(-1);
  if (last === undefined) throw dirty(what, `its logs hold nothing that follows its number ${base.secondarySequence}`);
  return {
    pages: applied.flatMap(({ pages }) => pages),
    entries: applied.length,
    sequence: last.sequence,
    binsBytes: last.binsBytes,
  };
}

/** Until one is not the next, not whole, or not right. */
function entriesOf(log: Buffer, firstSequence: number): Entry[] {
  const entries: Entry[] = [];
  for (let at = BASE_BLOCK_HEAD_BYTES, sequence = firstSequence; ; sequence = (sequence + 1) >>> 0) {
    const sizeBytes = at + ENTRY_HEAD_BYTES <= log.length ? log.readUInt32LE(at + 4) : 0;
    const isEntry = sizeBytes > 0 && log.toString('latin1', at, at + 4) === 'HvLE';
    if (!isEntry || sizeBytes % SECTOR_BYTES !== 0 || at + sizeBytes > log.length) return entries;
    const entry = parseEntry(log.subarray(at, at + sizeBytes));
    if (entry?.sequence !== sequence) return entries;
    entries.push(entry);
    at += sizeBytes;
  }
}

function parseEntry(bytes: Buffer): Entry | undefined {
  const binsBytes = bytes.readUInt32LE(16);
  const count = bytes.readUInt32LE(20);
  const pagesAt = ENTRY_HEAD_BYTES + count * REFERENCE_BYTES;
  const isRight =
    bytes.readBigUInt64LE(32) === marvin32(bytes.subarray(0, 32)) &&
    bytes.readBigUInt64LE(24) === marvin32(bytes.subarray(ENTRY_HEAD_BYTES));
  if (!isRight || binsBytes % BIN_ALIGNMENT_BYTES !== 0 || binsBytes > MAX_BINS_BYTES || pagesAt > bytes.length) {
    return undefined;
  }
  const pages: Page[] = [];
  let from = pagesAt;
  for (let at = ENTRY_HEAD_BYTES; at < pagesAt; at += REFERENCE_BYTES) {
    const offsetBytes = bytes.readUInt32LE(at);
    const sizeBytes = bytes.readUInt32LE(at + 4);
    if (from + sizeBytes > bytes.length || offsetBytes + sizeBytes > binsBytes) return undefined;
    pages.push({ offsetBytes, bytes: bytes.subarray(from, from + sizeBytes) });
    from += sizeBytes;
  }
  return { sequence: bytes.readUInt32LE(12), binsBytes, pages };
}

function dirty(what: string, why: string): LifeboatError {
  return new LifeboatError(
    'guest.hive-dirty',
    `${what} was not written to its end (its two sequence numbers differ), and ${why}`,
    { context: { path: what } },
  );
}
