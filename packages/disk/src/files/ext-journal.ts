/**
 * What the journal of ext3 and ext4 (jbd2) holds and was not written to its place yet.
 *
 *   log: ┌ descriptor: which blocks ┐┌ the blocks ... ┐┌ commit ┐┌ descriptor ┐ ... ─► ends where the sequence does
 *        a revocation takes back what earlier transactions logged of a block
 *
 * A transaction counts when its commit block is there. Source: Linux, fs/jbd2/recovery.c and include/linux/jbd2.h. Checksums of blocks
 * are not looked at: a commit block follows its transaction's blocks onto the disk. "Fast commits" behind the log are not read.
 */
import { unreadable } from './file-node.ts';

const MAGIC = 0xc03b3998;
const BLOCK = { descriptor: 1, commit: 2, superblock2: 4, revoke: 5 } as const;
const FEATURE = { bits64: 0x2, checksum2: 0x8, checksum3: 0x10, fastCommit: 0x20 } as const;
const TAG = { escaped: 1, sameUuid: 2, last: 8 } as const;
/** mke2fs makes logs of at most 1 GiB, in blocks of 4 KiB; damage must not keep us longer. */
const MAX_LOG_BLOCKS = 262_144;
const FAST_COMMIT_BLOCKS = 256;

export interface JournalSource {
  readonly blockBytes: number;
  readonly blocks: number;
  /** The block of the volume that holds this one of the journal. */
  locate(logical: number): number | undefined;
  read(block: number): Promise<Buffer>;
}

/** For each block of the volume that is newer in the journal: where. Errors: `guest.filesystem-unreadable`. */
export async function readJournal(source: JournalSource): Promise<Map<number, { block: number; escaped: boolean }>> {
  const newer = new Map<number, { block: number; escaped: boolean }>();
  const place = (logical: number): number => {
    const block = source.locate(logical);
    if (block === undefined) throw unreadable('the journal has a hole');
    return block;
  };
  const superblock = await source.read(place(0));
  if (superblock.readUInt32BE(0) !== MAGIC || superblock.readUInt32BE(12) !== source.blockBytes) {
    throw unreadable('the journal has no superblock');
  }
  const features = superblock.readUInt32BE(4) === BLOCK.superblock2 ? superblock.readUInt32BE(40) : 0;
  const first = superblock.readUInt32BE(20);
  const fastCommit = (features & FEATURE.fastCommit) === 0 ? 0 : superblock.readUInt32BE(84) || FAST_COMMIT_BLOCKS;
  const end = Math.min(superblock.readUInt32BE(16), source.blocks) - fastCommit;
  let sequence = superblock.readUInt32BE(24);
  let at = superblock.readUInt32BE(28);
  if (at === 0) return newer;
  if (first < 1 || first >= end || at < first || at >= end || end > MAX_LOG_BLOCKS) {
    throw unreadable('the superblock of the journal is damaged');
  }
  const forward = (logical: number): number => (logical + 1 >= end ? first : logical + 1);
  let pending = new Map<number, { block: number; escaped: boolean }>();
  let revoked = new Set<number>();
  for (let seen = 0; seen < end; seen += 1) {
    const block = await source.read(place(at));
    if (block.readUInt32BE(0) !== MAGIC || block.readUInt32BE(8) !== sequence) break;
    at = forward(at);
    const kind = block.readUInt32BE(4);
    if (kind === BLOCK.descriptor) {
      for (const tag of tagsOf(block, features)) {
        pending.set(tag.target, { block: place(at), escaped: tag.escaped });
        at = forward(at);
        seen += 1;
      }
    } else if (kind === BLOCK.revoke) {
      for (const target of revocationsOf(block, features)) revoked.add(target);
    } else if (kind === BLOCK.commit) {
      for (const [target, where] of pending) newer.set(target, where);
      for (const target of revoked) newer.delete(target);
      pending = new Map();
      revoked = new Set();
      sequence = (sequence + 1) >>> 0;
    } else break;
  }
  return newer;
}

function* tagsOf(block: Buffer, features: number): Generator<{ target: number; escaped: boolean }> {
  const has64 = (features & FEATURE.bits64) !== 0;
  const version3 = (features & FEATURE.checksum3) !== 0;
  const tagBytes = version3 ? 16 : 12 + ((features & FEATURE.checksum2) === 0 ? 0 : 2) - (has64 ? 0 : 4);
  const tail = (features & (FEATURE.checksum2 | FEATURE.checksum3)) === 0 ? 0 : 4;
  for (let at = 12; at + tagBytes <= block.length - tail;) {
    const flags = version3 ? block.readUInt32BE(at + 4) : block.readUInt16BE(at + 6);
    const high = has64 ? block.readUInt32BE(at + 8) * 2 ** 32 : 0;
    yield { target: block.readUInt32BE(at) + high, escaped: (flags & TAG.escaped) !== 0 };
    if ((flags & TAG.last) !== 0) return;
    at += tagBytes + ((flags & TAG.sameUuid) === 0 ? 16 : 0);
  }
}

function revocationsOf(block: Buffer, features: number): number[] {
  const entryBytes = (features & FEATURE.bits64) === 0 ? 4 : 8;
  const end = Math.min(block.readUInt32BE(12), block.length);
  const found: number[] = [];
  for (let at = 16; at + entryBytes <= end; at += entryBytes) {
    found.push(entryBytes === 8 ? Number(block.readBigUInt64BE(at)) : block.readUInt32BE(at));
  }
  return found;
}
