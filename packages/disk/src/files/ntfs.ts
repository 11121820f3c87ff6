/**
 * Reads NTFS from its bytes.
 *
 *   boot sector ─► file table ($MFT, itself a file) ─► record ─► attributes ─► runs ─► clusters
 *   directory: $INDEX_ROOT, and in large ones the blocks of $INDEX_ALLOCATION that $BITMAP says are in use
 *
 * Source: Linux, fs/ntfs3, and libntfs-3g's layout.h. A directory is read whole, not searched by its order, so neither a tree that leads in a
 * circle nor the volume's own table of upper case matters.
 *
 * Not read, and refused by name: compressed and encrypted files, files that Windows keeps compressed behind a reparse point ("CompactOS").
 * Not done: what $LogFile holds and was not written to its place yet stays there; `hasOpenLog` says so.
 */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { littleEndian, readRun } from '../bytes.ts';
import {
  type FileNode,
  MAX_DIRECTORY_BYTES,
  MAX_DIRECTORY_ENTRIES,
  MAX_FILE_BYTES,
  type ReadOptions,
  unreadable,
} from './file-node.ts';
import {
  type Attribute,
  ATTRIBUTE,
  ATTRIBUTE_FLAG,
  type FileRecord,
  parseFileRecord,
  readReference,
  restoreSequence,
  type Run,
} from './ntfs-record.ts';

/** A file or directory, of which any part can be read. */
export interface NtfsNode extends FileNode {
  child(name: string): Promise<NtfsNode | undefined>;
  /** Of a file. Errors: `guest.filesystem-unreadable`, also for a range beyond its end. */
  readAt(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
}

export interface NtfsVolume {
  readonly root: NtfsNode;
  readonly label: string;
  /** `3.1` since Windows XP. */
  readonly version: string;
  /** Windows wants chkdsk to look at it. */
  readonly isDirty: boolean;
  /** It was not unmounted: what is newest may be in its log only. */
  readonly hasOpenLog: boolean;
}

const RECORD = { table: 0, log: 2, volume: 3, root: 5 } as const;
/** The first are the filesystem's own. */
const FIRST_USER_RECORD = 16;
const DOS_NAME = 2;
const INDEX_NAME = '$I30';
const LAST_ENTRY = 2;
const MAX_RECORD_BYTES = 4096;
const MAX_INDEX_BLOCK_BYTES = 65_536;
/** A list of attributes is in one resident value or one run; Windows itself ends at 256 KiB. */
const MAX_ATTRIBUTE_LIST_BYTES = 256 * 1024;
const MAX_EXTENSIONS = 4096;
const REPARSE = { compressedByWindows: 0x8000_0017 } as const;
const LOG_RECORD_CLEAN = 2;
const NO_CLIENT = 0xffff;

interface Content {
  readonly sizeBytes: number;
  readonly initializedBytes: number;
  readonly value?: Buffer;
  readonly runs: readonly Run[];
}

interface Entry {
  readonly name: string;
  readonly isDosName: boolean;
  readonly record: number;
}

/** Errors: `guest.filesystem-unreadable`; those of the device. */
export async function openNtfs(device: BlockDevice, options: ReadOptions = {}): Promise<NtfsVolume> {
  return (await Volume.open(device, options)).describe();
}

/** `Windows/System32/config`: what lies there, or nothing. Names count without regard to case. */
export async function findNtfs(root: NtfsNode, path: string): Promise<NtfsNode | undefined> {
  let node: NtfsNode | undefined = root;
  for (const name of path.split('/')) {
    if (node?.kind !== 'directory') return undefined;
    node = await node.child(name);
  }
  return node;
}

class Volume {
  readonly #device: BlockDevice;
  readonly #options: ReadOptions;
  readonly #clusterBytes: number;
  readonly #clusters: number;
  readonly #recordBytes: number;
  #table: Content;

  private constructor(device: BlockDevice, boot: Uint8Array, options: ReadOptions) {
    const view = littleEndian(boot);
    const sectorBytes = view.u16(11);
    const exponent = boot[13] ?? 0;
    // Above 128 the byte is a negative power of two: clusters of more than 64 KiB.
    const clusterSectors = exponent > 128 ? 2 ** (256 - exponent) : exponent;
    const isNtfs = Buffer.from(boot.subarray(3, 11)).toString('latin1') === 'NTFS    ';
    const sound =
      isNtfs &&
      [512, 1024, 2048, 4096].includes(sectorBytes) &&
      clusterSectors > 0 &&
      (clusterSectors & (clusterSectors - 1)) === 0 &&
      clusterSectors * sectorBytes <= 2 ** 21;
    if (!sound) throw unreadable('there is no NTFS boot sector');
    this.#device = device;
    this.#options = options;
    this.#clusterBytes = sectorBytes * clusterSectors;
    this.#clusters = Math.floor((view.u64(40) * sectorBytes) / this.#clusterBytes);
    const perRecord = ((boot[64] ?? 0) << 24) >> 24;
    this.#recordBytes = perRecord < 0 ? 2 ** -perRecord : perRecord * this.#clusterBytes;
    const start = view.u64(48);
    const isPower = (this.#recordBytes & (this.#recordBytes - 1)) === 0;
    if (
      !isPower ||
      this.#recordBytes < 512 ||
      this.#recordBytes > MAX_RECORD_BYTES ||
      !Number.isFinite(this.#clusters) ||
      this.#clusters * this.#clusterBytes > device.sizeBytes ||
      start >= this.#clusters
    ) {
      throw unreadable('the NTFS boot sector is damaged');
    }
    const count = Math.max(1, Math.ceil(this.#recordBytes / this.#clusterBytes));
    this.#table = { sizeBytes: this.#recordBytes, initializedBytes: this.#recordBytes, runs: [{ start, count }] };
  }

  static async open(device: BlockDevice, options: ReadOptions): Promise<Volume> {
    if (device.sizeBytes < 512) throw unreadable('the volume is too small for NTFS');
    const volume = new Volume(device, await readRun(device, 0, 512, options), options);
    await volume.#readTable();
    return volume;
  }

  /** The table describes itself. Pieces beyond its first record are described in records that lie in the pieces before them. */
  async #readTable(): Promise<void> {
    const record = await this.#record(RECORD.table);
    const pieces = record.attributes.filter(({ type, name }) => type === ATTRIBUTE.data && name === '');
    this.#table = contentOf(pieces, 'the file table', { isPart: true });
    const listed = await this.#listedRecords(record, RECORD.table, ATTRIBUTE.data);
    for (const number of listed) {
      pieces.push(...(await this.#extension(number, RECORD.table, ATTRIBUTE.data)));
      this.#table = contentOf(pieces, 'the file table', { isPart: true });
    }
    this.#table = contentOf(pieces, 'the file table', { clusterBytes: this.#clusterBytes });
  }

  async describe(): Promise<NtfsVolume> {
    const volume = await this.#record(RECORD.volume);
    const information = volume.attributes.find(({ type }) => type === ATTRIBUTE.volumeInformation)?.value;
    if (information === undefined || information.length < 12) throw unreadable('$Volume has no information');
    const name = volume.attributes.find(({ type }) => type === ATTRIBUTE.volumeName)?.value;
    return {
      root: await this.node(RECORD.root),
      label: name?.toString('utf16le') ?? '',
      version: `${information.readUInt8(8)}.${information.readUInt8(9)}`,
      isDirty: (information.readUInt16LE(10) & 1) !== 0,
      hasOpenLog: await this.#hasOpenLog(),
    };
  }

  async node(number: number): Promise<NtfsNode> {
    const what = `file ${number}`;
    const record = await this.#record(number);
    if (!record.isInUse || record.base !== 0) throw unreadable(`${what} is not in use`);
    const standard = record.attributes.find(({ type }) => type === ATTRIBUTE.standardInformation)?.value;
    const changed = standard && standard.length >= 24 ? standard.readBigUInt64LE(16).toString(16) : '';
    const reparse = record.attributes.find(({ type }) => type === ATTRIBUTE.reparsePoint)?.value;
    const tag = reparse && reparse.length >= 4 ? reparse.readUInt32LE(0) : undefined;
    const isCompressedByWindows = tag === REPARSE.compressedByWindows;
    const kind = tag !== undefined && !isCompressedByWindows ? 'other' : record.isDirectory ? 'directory' : 'file';
    const pieces = kind === 'file' ? await this.#pieces(record, number, ATTRIBUTE.data, '') : [];
    const content = kind === 'file' ? contentOf(pieces, what, { clusterBytes: this.#clusterBytes }) : undefined;
    const sizeBytes = content?.sizeBytes ?? 0;
    const readAt = async (offsetBytes: number, lengthBytes: number): Promise<Buffer> => {
      if (!content) throw unreadable(`${what} is no file`);
      const flags = pieces.reduce((all, piece) => all | piece.flags, 0);
      if (isCompressedByWindows)
        throw unreadable(`${what} is compressed by Windows ("CompactOS"), which is not read here`);
      if ((flags & ATTRIBUTE_FLAG.compressed) !== 0) throw unreadable(`${what} is compressed, which is not read here`);
      if ((flags & ATTRIBUTE_FLAG.encrypted) !== 0) throw unreadable(`${what} is encrypted`);
      if (lengthBytes > MAX_FILE_BYTES) throw unreadable(`${what} holds ${lengthBytes} bytes`);
      return this.#content(content, { offsetBytes, lengthBytes }, what);
    };
    let entries: Entry[] | undefined;
    const list = async (): Promise<Entry[]> => {
      if (kind !== 'directory') throw unreadable(`${what} is no directory`);
      return (entries ??= await this.#entries(record, number));
    };
    return {
      kind,
      sizeBytes,
      stamp: `${number}-${record.sequence}-${changed}-${sizeBytes}`,
      names: async () => (await list()).filter(({ isDosName }) => !isDosName).map(({ name }) => name),
      child: async (name) => {
        const wanted = upperCase(name);
        const found = (await list()).find((entry) => upperCase(entry.name) === wanted);
        return found && this.node(found.record);
      },
      readAt,
      read: (maxBytes = MAX_FILE_BYTES) => readAt(0, Math.min(sizeBytes, maxBytes)),
      target: () => Promise.reject(unreadable(`${what} is no symlink`)),
    };
  }

  async #entries(record: FileRecord, number: number): Promise<Entry[]> {
    const what = `directory ${number}`;
    const [root] = await this.#pieces(record, number, ATTRIBUTE.indexRoot, INDEX_NAME);
    if (root?.value === undefined || root.value.length < 32) throw unreadable(`${what} has no index`);
    const entries: Entry[] = [];
    collectEntries(root.value.subarray(16), entries, what);
    const blocks = await this.#pieces(record, number, ATTRIBUTE.indexAllocation, INDEX_NAME);
    if (blocks.length === 0) return withoutOwnFiles(entries, number);
    const blockBytes = root.value.readUInt32LE(8);
    if (blockBytes < 512 || blockBytes > MAX_INDEX_BLOCK_BYTES || blockBytes % 512 !== 0) {
      throw unreadable(`${what} has blocks of ${blockBytes} bytes`);
    }
    const allocation = contentOf(blocks, what, { clusterBytes: this.#clusterBytes });
    if (allocation.sizeBytes > MAX_DIRECTORY_BYTES) throw unreadable(`${what} has ${allocation.sizeBytes} bytes`);
    const bitmapPieces = await this.#pieces(record, number, ATTRIBUTE.bitmap, INDEX_NAME);
    const bitmapContent = contentOf(bitmapPieces, what, { clusterBytes: this.#clusterBytes });
    const bitmapBytes = Math.min(bitmapContent.sizeBytes, MAX_DIRECTORY_BYTES);
    const bitmap = await this.#content(bitmapContent, { offsetBytes: 0, lengthBytes: bitmapBytes }, what);
    const all = await this.#content(allocation, { offsetBytes: 0, lengthBytes: allocation.sizeBytes }, what);
    for (let block = 0; (block + 1) * blockBytes <= all.length; block += 1) {
      if (((bitmap[block >> 3] ?? 0) & (1 << (block & 7))) === 0) continue;
      const bytes = all.subarray(block * blockBytes, (block + 1) * blockBytes);
      restoreSequence(bytes, 'INDX', `block ${block} of ${what}`);
      collectEntries(bytes.subarray(24), entries, what);
    }
    return withoutOwnFiles(entries, number);
  }

  /** Every piece of an attribute, in whichever records it lies. */
  async #pieces(record: FileRecord, number: number, type: number, name: string): Promise<Attribute[]> {
    const found = [...record.attributes];
    for (const extension of await this.#listedRecords(record, number, type)) {
      found.push(...(await this.#extension(extension, number, type)));
    }
    return found.filter((attribute) => attribute.type === type && attribute.name === name);
  }

  /** Records beside the file's own that hold attributes of a type. */
  async #listedRecords(record: FileRecord, number: number, type: number): Promise<Set<number>> {
    const records = new Set<number>();
    const pieces = record.attributes.filter((attribute) => attribute.type === ATTRIBUTE.attributeList);
    if (pieces.length === 0) return records;
    const what = `the list of attributes of file ${number}`;
    const content = contentOf(pieces, what, { clusterBytes: this.#clusterBytes });
    if (content.sizeBytes > MAX_ATTRIBUTE_LIST_BYTES) throw unreadable(`${what} has ${content.sizeBytes} bytes`);
    const list = await this.#content(content, { offsetBytes: 0, lengthBytes: content.sizeBytes }, what);
    for (let at = 0; at + 26 <= list.length;) {
      const entryBytes = list.readUInt16LE(at + 4);
      if (entryBytes < 26) throw unreadable(`${what} is damaged`);
      const holder = readReference(list, at + 16);
      if (list.readUInt32LE(at) === type && holder !== number) records.add(holder);
      if (records.size > MAX_EXTENSIONS) throw unreadable(`${what} names too many records`);
      at += entryBytes;
    }
    return records;
  }

  async #extension(number: number, base: number, type: number): Promise<Attribute[]> {
    const record = await this.#record(number);
    if (!record.isInUse || record.base !== base) throw unreadable(`record ${number} is no part of file ${base}`);
    return record.attributes.filter((attribute) => attribute.type === type);
  }

  async #record(number: number): Promise<FileRecord> {
    const what = `record ${number} of the file table`;
    const offsetBytes = number * this.#recordBytes;
    if (offsetBytes + this.#recordBytes > this.#table.sizeBytes) throw unreadable(`there is no ${what}`);
    const bytes = await this.#content(this.#table, { offsetBytes, lengthBytes: this.#recordBytes }, what);
    restoreSequence(bytes, 'FILE', what);
    return parseFileRecord(bytes, what);
  }

  async #content(
    content: Content,
    { offsetBytes, lengthBytes }: { offsetBytes: number; lengthBytes: number },
    what: string,
  ): Promise<Buffer> {
    const isWithin = offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= content.sizeBytes;
    if (!isWithin)
      throw unreadable(`${what} ends at ${content.sizeBytes}, and ${offsetBytes + lengthBytes} was asked for`);
    if (content.value) return Buffer.from(content.value.subarray(offsetBytes, offsetBytes + lengthBytes));
    const out = Buffer.alloc(lengthBytes);
    const end = Math.min(offsetBytes + lengthBytes, content.initializedBytes);
    let runAt = 0;
    for (const { count, start } of content.runs) {
      const runEnd = runAt + count * this.#clusterBytes;
      const from = Math.max(runAt, offsetBytes);
      const to = Math.min(runEnd, end);
      if (start !== undefined && from < to) {
        if (start + count > this.#clusters) throw unreadable(`${what} points outside its volume`);
        const target = out.subarray(from - offsetBytes, to - offsetBytes);
        await this.#device.read(start * this.#clusterBytes + (from - runAt), target, this.#options);
      }
      runAt = runEnd;
      if (runAt >= end) break;
    }
    return out;
  }

  /** The newer of two restart pages says whether the log was closed. One that cannot be read was not closed by anybody. */
  async #hasOpenLog(): Promise<boolean> {
    const record = await this.#record(RECORD.log);
    const pieces = record.attributes.filter(({ type, name }) => type === ATTRIBUTE.data && name === '');
    const content = contentOf(pieces, '$LogFile', { clusterBytes: this.#clusterBytes });
    const first = await this.#content(
      content,
      { offsetBytes: 0, lengthBytes: Math.min(64, content.sizeBytes) },
      '$LogFile',
    );
    // mkntfs, and ntfs-3g when it empties the log, fill it with ones: nothing is open then.
    if (first.every((byte) => byte === 0xff)) return false;
    if (first.length < 64 || first.toString('latin1', 0, 4) !== 'RSTR') return true;
    const pageBytes = first.readUInt32LE(16);
    const areaAt = first.readUInt16LE(24);
    if (pageBytes < 512 || pageBytes > 65_536 || 2 * pageBytes > content.sizeBytes || areaAt + 16 > 512) return true;
    const pages = await this.#content(content, { offsetBytes: 0, lengthBytes: 2 * pageBytes }, '$LogFile');
    const areas = [0, pageBytes]
      .filter((at) => pages.toString('latin1', at, at + 4) === 'RSTR')
      .map((at) => pages.subarray(at + areaAt, at + areaAt + 16));
    const newest = areas.reduce((a, b) => (b.readBigUInt64LE(0) > a.readBigUInt64LE(0) ? b : a));
    const isClosed = newest.readUInt16LE(12) === NO_CLIENT || (newest.readUInt16LE(14) & LOG_RECORD_CLEAN) !== 0;
    return !isClosed;
  }
}

/** Pieces of one attribute, put together. `isPart`: there may be more of them. */
function contentOf(
  pieces: readonly Attribute[],
  what: string,
  { clusterBytes, isPart = false }: { clusterBytes?: number; isPart?: boolean },
): Content {
  const resident = pieces.find(({ value }) => value !== undefined)?.value;
  if (resident !== undefined) {
    return { sizeBytes: resident.length, initializedBytes: resident.length, value: resident, runs: [] };
  }
  const extents = pieces
    .flatMap(({ extent }) => (extent ? [extent] : []))
    .toSorted((a, b) => a.firstCluster - b.firstCluster);
  if (extents.length === 0) throw unreadable(`${what} has no content`);
  let next = 0;
  for (const { firstCluster, runs } of extents) {
    if (firstCluster !== next) throw unreadable(`${what} lacks a piece before its cluster ${firstCluster}`);
    next += runs.reduce((sum, { count }) => sum + count, 0);
  }
  const [{ sizeBytes, initializedBytes } = { sizeBytes: 0, initializedBytes: 0 }] = extents;
  if (!isPart && clusterBytes !== undefined && sizeBytes > next * clusterBytes) {
    throw unreadable(`${what} has ${sizeBytes} bytes, and clusters for less`);
  }
  return {
    sizeBytes,
    initializedBytes: Math.min(initializedBytes, sizeBytes),
    runs: extents.flatMap(({ runs }) => runs),
  };
}

/** `node`: from its header on, which says where the entries begin and end, counted from itself. */
function collectEntries(node: Buffer, entries: Entry[], what: string): void {
  const end = node.length < 16 ? -1 : node.readUInt32LE(4);
  if (end < 16 || end > node.length) throw unreadable(`${what} has a damaged index`);
  for (let at = node.readUInt32LE(0); ;) {
    if (at + 16 > end) throw unreadable(`${what} has an index without an end`);
    const entryBytes = node.readUInt16LE(at + 8);
    const keyBytes = node.readUInt16LE(at + 10);
    if ((node.readUInt16LE(at + 12) & LAST_ENTRY) !== 0) return;
    const nameBytes = (node[at + 16 + 64] ?? 0) * 2;
    if (entryBytes < 16 + 66 || at + entryBytes > end || keyBytes + 16 > entryBytes || 66 + nameBytes > keyBytes) {
      throw unreadable(`${what} has a damaged entry`);
    }
    entries.push({
      record: readReference(node, at),
      isDosName: node[at + 16 + 65] === DOS_NAME,
      name: node.toString('utf16le', at + 16 + 66, at + 16 + 66 + nameBytes),
    });
    if (entries.length > MAX_DIRECTORY_ENTRIES) throw unreadable(`${what} has too many entries`);
    at += entryBytes;
  }
}

/** The root lists itself and the filesystem's own files. */
function withoutOwnFiles(entries: Entry[], directory: number): Entry[] {
  return directory === RECORD.root ? entries.filter(({ record }) => record >= FIRST_USER_RECORD) : entries;
}

/** Character by character, as NTFS compares: a character that becomes two in upper case stays as it is. */
function upperCase(name: string): string {
  let upper = '';
  for (let i = 0; i < name.length; i += 1) {
    const one = name.charAt(i).toUpperCase();
    upper += one.length === 1 ? one : name.charAt(i);
  }
  return upper;
}
