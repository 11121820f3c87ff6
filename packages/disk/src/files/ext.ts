/**
 * Reads ext2, ext3 and ext4 from their bytes, as they were at the instant of the volume: what the journal holds and was not written
 * to its place yet is read from the journal (ext-journal.ts).
 *
 *   superblock ─► group descriptors ─► inode ─► extents, or the block map before ext4 ─► blocks
 *
 * Source: Linux, Documentation/filesystems/ext4. Not read: data in the inode itself, other devices' journals, meta_bg, encrypted files.
 */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { littleEndian, readRun } from '../bytes.ts';
import { readJournal } from './ext-journal.ts';
import {
  type FileNode,
  MAX_DIRECTORY_BYTES,
  MAX_DIRECTORY_ENTRIES,
  MAX_FILE_BYTES,
  type ReadOptions,
  unreadable,
} from './file-node.ts';

const ROOT_INODE = 2;
const SUPERBLOCK_BYTES = 1024;
const FEATURES = {
  journalDevice: 0x8,
  metaBlockGroups: 0x10,
  bits64: 0x80,
  compression: 0x1,
  directoryData: 0x1000,
} as const;
const EXTENTS_FLAG = 0x80000;
const INLINE_DATA_FLAG = 0x1000_0000;
const ENCRYPTED_FLAG = 0x800;
const EXTENT_MAGIC = 0xf30a;
/** ext4_ext_init: five levels map all of 2^32 blocks. */
const MAX_EXTENT_DEPTH = 5;
/** A file of 512 MiB whose every block lies alone. */
const MAX_RUNS = 131_072;
/** Some 80 entries are in a block of 1 KiB. */
const MAX_EXTENT_NODES = 4096;
/** mke2fs lays a journal out in one piece; a few more after it was grown. */
const MAX_JOURNAL_RUNS = 1024;
const INLINE_TARGET_BYTES = 60;
const MAX_TARGET_BYTES = 4096;
const KINDS: Readonly<Record<number, FileNode['kind']>> = { 0x8: 'file', 0x4: 'directory', 0xa: 'symlink' };

/** Blocks of a file that follow one another on the volume. Without `start` they read as zeros. */
interface Run {
  readonly logical: number;
  readonly count: number;
  readonly start?: number;
}

interface Inode {
  readonly mode: number;
  readonly sizeBytes: number;
  readonly flags: number;
  readonly map: Uint8Array;
  /** Instant of the last change, and the count of lives the number had. */
  readonly changed: string;
  readonly generation: number;
}

/** The root directory. Errors: `guest.filesystem-unreadable`; those of the device. */
export async function openExt(device: BlockDevice, options: ReadOptions = {}): Promise<FileNode> {
  const volume = await Volume.open(device, options);
  return volume.node(ROOT_INODE);
}

class Volume {
  readonly #device: BlockDevice;
  readonly #options: ReadOptions;
  readonly #blockBytes: number;
  readonly #firstBlock: number;
  readonly #inodesPerGroup: number;
  readonly #inodeBytes: number;
  readonly #inodes: number;
  readonly #descriptorBytes: number;
  #newer: ReadonlyMap<number, { block: number; escaped: boolean }> = new Map();

  private constructor(device: BlockDevice, superblock: Uint8Array, options: ReadOptions) {
    const view = littleEndian(superblock);
    const incompatible = view.u32(96);
    const unknown = FEATURES.journalDevice | FEATURES.metaBlockGroups | FEATURES.compression | FEATURES.directoryData;
    if (view.u16(56) !== 0xef53 || view.u32(24) > 6) throw unreadable('there is no ext superblock');
    if ((incompatible & unknown) !== 0) {
      throw unreadable(`the ext filesystem has features that are not read here (0x${incompatible.toString(16)})`);
    }
    this.#device = device;
    this.#options = options;
    this.#blockBytes = 1024 << view.u32(24);
    this.#firstBlock = view.u32(20);
    this.#inodes = view.u32(0);
    this.#inodesPerGroup = view.u32(40);
    this.#inodeBytes = view.u32(76) === 0 ? 128 : view.u16(88);
    this.#descriptorBytes = (incompatible & FEATURES.bits64) === 0 ? 32 : view.u16(254);
    const isPower = (this.#inodeBytes & (this.#inodeBytes - 1)) === 0;
    const sound =
      this.#inodesPerGroup > 0 &&
      isPower &&
      this.#inodeBytes >= 128 &&
      this.#inodeBytes <= this.#blockBytes &&
      this.#descriptorBytes >= 32 &&
      this.#descriptorBytes <= 1024;
    if (!sound) throw unreadable('the ext superblock is damaged');
  }

  static async open(device: BlockDevice, options: ReadOptions): Promise<Volume> {
    if (device.sizeBytes < SUPERBLOCK_BYTES * 2) throw unreadable('the volume is too small for an ext filesystem');
    const superblock = await readRun(device, SUPERBLOCK_BYTES, SUPERBLOCK_BYTES, options);
    const volume = new Volume(device, superblock, options);
    const view = littleEndian(superblock);
    const RECOVER = 0x4;
    const journalInode = view.u32(224);
    if ((view.u32(96) & RECOVER) !== 0 && journalInode !== 0) await volume.#readJournal(journalInode);
    return volume;
  }

  async #readJournal(number: number): Promise<void> {
    const inode = await this.#inode(number);
    const runs = await this.#runs(inode);
    if (runs.length > MAX_JOURNAL_RUNS) throw unreadable('the journal lies in too many pieces');
    const locate = (logical: number): number | undefined => {
      const run = runs.find((part) => logical >= part.logical && logical < part.logical + part.count);
      return run?.start === undefined ? undefined : run.start + (logical - run.logical);
    };
    this.#newer = await readJournal({
      blockBytes: this.#blockBytes,
      blocks: Math.floor(inode.sizeBytes / this.#blockBytes),
      locate,
      read: (block) => this.#readBlocks(block, 1),
    });
  }

  async node(number: number): Promise<FileNode> {
    const inode = await this.#inode(number);
    const { flags, sizeBytes } = inode;
    const kind = KINDS[inode.mode >> 12] ?? 'other';
    if ((flags & ENCRYPTED_FLAG) !== 0) throw unreadable(`inode ${number} is encrypted`);
    let entries: Map<string, number> | undefined;
    const list = async (): Promise<Map<string, number>> => (entries ??= await this.#entries(inode, number));
    return {
      kind,
      sizeBytes,
      stamp: `${number}-${inode.generation}-${inode.changed}-${sizeBytes}`,
      names: async () => [...(await list()).keys()],
      child: async (name) => {
        const found = (await list()).get(name);
        return found === undefined ? undefined : this.node(found);
      },
      read: (maxBytes = MAX_FILE_BYTES) => {
        if (kind !== 'file') throw unreadable(`inode ${number} is no file`);
        return this.#content(inode, Math.min(sizeBytes, maxBytes), number);
      },
      target: async () => {
        if (kind !== 'symlink' || sizeBytes > MAX_TARGET_BYTES) throw unreadable(`inode ${number} is no symlink`);
        if (sizeBytes < INLINE_TARGET_BYTES) return Buffer.from(inode.map.subarray(0, sizeBytes)).toString('utf8');
        return (await this.#content(inode, sizeBytes, number)).toString('utf8');
      },
    };
  }

  async #inode(number: number): Promise<Inode> {
    if (number < 1 || number > this.#inodes) throw unreadable(`there is no inode ${number}`);
    const group = Math.floor((number - 1) / this.#inodesPerGroup);
    const at = group * this.#descriptorBytes;
    const inBlock = this.#blockBytes;
    const descriptors = await this.#readBlocks(this.#firstBlock + 1 + Math.floor(at / inBlock), 1);
    const view = littleEndian(descriptors);
    const within = at % inBlock;
    const high = this.#descriptorBytes >= 64 ? view.u32(within + 0x28) : 0;
    const table = view.u32(within + 8) + high * 2 ** 32;
    const offset = ((number - 1) % this.#inodesPerGroup) * this.#inodeBytes;
    const block = await this.#readBlocks(table + Math.floor(offset / inBlock), 1);
    const bytes = block.subarray(offset % inBlock, (offset % inBlock) + this.#inodeBytes);
    const inode = littleEndian(bytes);
    const mode = inode.u16(0);
    // Inodes of 128 bytes know seconds only.
    const nanoseconds = this.#inodeBytes > 128 && inode.u16(128) >= 8 ? inode.u32(132) : 0;
    // The upper half of a directory's size was its access control list once; none is that large.
    const upper = mode >> 12 === 0x8 ? inode.u32(108) * 2 ** 32 : 0;
    return {
      mode,
      sizeBytes: inode.u32(4) + upper,
      flags: inode.u32(32),
      map: bytes.subarray(40, 100),
      changed: `${inode.u32(12).toString(16)}.${nanoseconds.toString(16)}`,
      generation: inode.u32(100),
    };
  }

  async #entries(inode: Inode, number: number): Promise<Map<string, number>> {
    if (inode.mode >> 12 !== 0x4) throw unreadable(`inode ${number} is no directory`);
    if (inode.sizeBytes > MAX_DIRECTORY_BYTES) throw unreadable(`the directory ${number} has ${inode.sizeBytes} bytes`);
    const content = await this.#content(inode, inode.sizeBytes, number);
    const view = littleEndian(content);
    const entries = new Map<string, number>();
    // Blocks of an index look like one entry without an inode that takes the whole block.
    for (let start = 0; start < content.length; start += this.#blockBytes) {
      const end = Math.min(start + this.#blockBytes, content.length);
      for (let at = start; at + 8 <= end;) {
        const recordBytes = view.u16(at + 4) === 0xffff ? this.#blockBytes : view.u16(at + 4);
        const nameBytes = content[at + 6] ?? 0;
        if (recordBytes < 8 || at + recordBytes > end) throw unreadable(`the directory ${number} is damaged`);
        if (view.u32(at) !== 0 && nameBytes + 8 <= recordBytes) {
          const name = content.subarray(at + 8, at + 8 + nameBytes).toString('utf8');
          if (name !== '.' && name !== '..') entries.set(name, view.u32(at));
          if (entries.size > MAX_DIRECTORY_ENTRIES) throw unreadable(`the directory ${number} has too many entries`);
        }
        at += recordBytes;
      }
    }
    return entries;
  }

  async #content(inode: Inode, lengthBytes: number, number: number): Promise<Buffer> {
    if (lengthBytes > MAX_FILE_BYTES) throw unreadable(`inode ${number} has ${lengthBytes} bytes`);
    if ((inode.flags & INLINE_DATA_FLAG) !== 0) throw unreadable(`inode ${number} holds its data itself`);
    const blocks = Math.ceil(lengthBytes / this.#blockBytes);
    // Before the memory is taken: a hostile size has no blocks behind it.
    const runs = await this.#runs(inode);
    const content = Buffer.alloc(lengthBytes);
    let end = 0;
    for (const { logical, count, start } of runs) {
      // What lies twice would be read twice, and again.
      if (logical < end) throw unreadable(`the pieces of inode ${number} overlap`);
      end = logical + count;
      if (start === undefined || logical >= blocks) continue;
      const bytes = await this.#readBlocks(start, Math.min(count, blocks - logical));
      bytes.copy(content, logical * this.#blockBytes);
    }
    return content;
  }

  /** In order; what no run covers reads as zeros. */
  async #runs(inode: Inode): Promise<Run[]> {
    const runs: Run[] = [];
    if ((inode.flags & EXTENTS_FLAG) !== 0)
      await this.#extents(inode.map, { maxDepth: MAX_EXTENT_DEPTH, runs, seen: { nodes: 0 } });
    else await this.#blockMap(inode, runs);
    return runs;
  }

  async #extents(
    node: Uint8Array,
    { maxDepth, runs, seen }: { maxDepth: number; runs: Run[]; seen: { nodes: number } },
  ): Promise<void> {
    seen.nodes += 1;
    if (seen.nodes > MAX_EXTENT_NODES) throw unreadable('an extent tree does not end');
    const view = littleEndian(node);
    const entries = view.u16(2);
    const depth = view.u16(6);
    if (view.u16(0) !== EXTENT_MAGIC || depth > maxDepth || 12 + entries * 12 > node.length) {
      throw unreadable('an extent tree is damaged');
    }
    for (let at = 12; at < 12 + entries * 12; at += 12) {
      if (depth > 0) {
        const child = view.u32(at + 4) + view.u16(at + 8) * 2 ** 32;
        await this.#extents(await this.#readBlocks(child, 1), { maxDepth: depth - 1, runs, seen });
        continue;
      }
      const length = view.u16(at + 4);
      // Above 32768: allocated, and nothing written yet.
      const unwritten = length > 32_768;
      const start = view.u32(at + 8) + view.u16(at + 6) * 2 ** 32;
      runs.push({
        logical: view.u32(at),
        count: unwritten ? length - 32_768 : length,
        ...(unwritten ? {} : { start }),
      });
      if (runs.length > MAX_RUNS) throw unreadable('a file lies in too many pieces');
    }
  }

  /** ext2 and ext3: twelve blocks, then one list of blocks, a list of lists, and a list of those. */
  async #blockMap(inode: Inode, runs: Run[]): Promise<void> {
    const view = littleEndian(inode.map);
    const left = { blocks: Math.ceil(Math.min(inode.sizeBytes, MAX_FILE_BYTES) / this.#blockBytes) };
    let logical = 0;
    const add = (block: number): void => {
      const last = runs.at(-1);
      if (block !== 0) {
        if (last?.start !== undefined && last.logical + last.count === logical && last.start + last.count === block) {
          runs[runs.length - 1] = { ...last, count: last.count + 1 };
        } else runs.push({ logical, count: 1, start: block });
        if (runs.length > MAX_RUNS) throw unreadable('a file lies in too many pieces');
      }
      logical += 1;
      left.blocks -= 1;
    };
    const perBlock = this.#blockBytes / 4;
    const addList = async (block: number, depth: number): Promise<void> => {
      if (block === 0) {
        const skipped = Math.min(perBlock ** depth, left.blocks);
        logical += skipped;
        left.blocks -= skipped;
        return;
      }
      const list = littleEndian(await this.#readBlocks(block, 1));
      for (let i = 0; i < perBlock && left.blocks > 0; i += 1) {
        if (depth === 1) add(list.u32(i * 4));
        else await addList(list.u32(i * 4), depth - 1);
      }
    };
    for (let i = 0; i < 12 && left.blocks > 0; i += 1) add(view.u32(i * 4));
    for (let depth = 1; depth <= 3 && left.blocks > 0; depth += 1) await addList(view.u32((11 + depth) * 4), depth);
  }

  async #readBlocks(start: number, count: number): Promise<Buffer> {
    const offsetBytes = start * this.#blockBytes;
    const lengthBytes = count * this.#blockBytes;
    if (!(offsetBytes + lengthBytes <= this.#device.sizeBytes)) {
      throw unreadable(`block ${start} of the ext filesystem lies outside its volume`);
    }
    const bytes = Buffer.from((await readRun(this.#device, offsetBytes, lengthBytes, this.#options)).buffer);
    if (this.#newer.size === 0) return bytes;
    for (let i = 0; i < count; i += 1) {
      const newer = this.#newer.get(start + i);
      if (!newer) continue;
      const at = newer.block * this.#blockBytes;
      if (at + this.#blockBytes > this.#device.sizeBytes) throw unreadable('the journal lies outside its volume');
      const block = Buffer.from((await readRun(this.#device, at, this.#blockBytes, this.#options)).buffer);
      // A block that began like one of the journal's own is kept there without its first word.
      if (newer.escaped) block.writeUInt32BE(0xc03b3998, 0);
      block.copy(bytes, i * this.#blockBytes);
    }
    return bytes;
  }
}
