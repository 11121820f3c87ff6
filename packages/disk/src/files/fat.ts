/**
 * Reads FAT12, FAT16 and FAT32 from their bytes: EFI system partitions, which many kernels of hosts cannot mount.
 * Source: Microsoft Extensible Firmware Initiative FAT32 File System Specification, 1.03.
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

const ENTRY_BYTES = 32;
const ATTRIBUTE = { volume: 0x08, directory: 0x10, longName: 0x0f } as const;
const DELETED = 0xe5;
/** 255 characters in pieces of 13. */
const MAX_NAME_PIECES = 20;

interface Entry {
  readonly name: string;
  /** The 8.3 name, by which firmware may look, too. */
  readonly shortName: string;
  readonly isDirectory: boolean;
  readonly cluster: number;
  readonly sizeBytes: number;
}

/** The root directory. Errors: `guest.filesystem-unreadable`; those of the device. */
export async function openFat(device: BlockDevice, options: ReadOptions = {}): Promise<FileNode> {
  return (await Volume.open(device, options)).root();
}

class Volume {
  readonly #device: BlockDevice;
  readonly #options: ReadOptions;
  readonly #clusterBytes: number;
  readonly #clusters: number;
  readonly #dataAt: number;
  readonly #rootAt: number;
  readonly #rootBytes: number;
  readonly #rootCluster: number;
  readonly #fatBytes: number;
  readonly #fatAt: number;
  readonly #bits: 12 | 16 | 32;
  #fat: Uint8Array = new Uint8Array();

  private constructor(device: BlockDevice, boot: Uint8Array, options: ReadOptions) {
    const view = littleEndian(boot);
    const sectorBytes = view.u16(11);
    const clusterSectors = boot[13] ?? 0;
    const reserved = view.u16(14);
    const fats = boot[16] ?? 0;
    const rootEntries = view.u16(17);
    const sectors = view.u16(19) || view.u32(32);
    const fatSectors = view.u16(22) || view.u32(36);
    if (![512, 1024, 2048, 4096].includes(sectorBytes) || clusterSectors === 0 || fats === 0 || reserved === 0) {
      throw unreadable('there is no FAT boot sector');
    }
    this.#device = device;
    this.#options = options;
    this.#clusterBytes = sectorBytes * clusterSectors;
    this.#fatAt = reserved * sectorBytes;
    this.#rootAt = this.#fatAt + fats * fatSectors * sectorBytes;
    this.#rootBytes = rootEntries * ENTRY_BYTES;
    this.#dataAt = this.#rootAt + Math.ceil(this.#rootBytes / sectorBytes) * sectorBytes;
    this.#clusters = Math.floor((sectors * sectorBytes - this.#dataAt) / this.#clusterBytes);
    // By the number of clusters and nothing else, says the specification.
    this.#bits = this.#clusters < 4085 ? 12 : this.#clusters < 65_525 ? 16 : 32;
    this.#rootCluster = this.#bits === 32 ? view.u32(44) : 0;
    this.#fatBytes = Math.ceil(((this.#clusters + 2) * this.#bits) / 8);
    const fits = sectors * sectorBytes <= device.sizeBytes && this.#fatBytes <= fatSectors * sectorBytes;
    if (this.#clusters < 1 || !fits || this.#fatBytes > MAX_DIRECTORY_BYTES)
      throw unreadable('the FAT boot sector is damaged');
  }

  static async open(device: BlockDevice, options: ReadOptions): Promise<Volume> {
    if (device.sizeBytes < 512) throw unreadable('the volume is too small for FAT');
    const volume = new Volume(device, await readRun(device, 0, 512, options), options);
    volume.#fat = await readRun(device, volume.#fatAt, volume.#fatBytes, options);
    return volume;
  }

  root(): FileNode {
    const content = (): Promise<Buffer> =>
      this.#bits === 32
        ? this.#chain(this.#rootCluster, MAX_DIRECTORY_BYTES)
        : this.#run(this.#rootAt, this.#rootBytes);
    return this.#directory(content);
  }

  #directory(content: () => Promise<Buffer>): FileNode {
    let entries: Entry[] | undefined;
    const list = async (): Promise<Entry[]> => (entries ??= entriesOf(await content()));
    return {
      kind: 'directory',
      sizeBytes: 0,
      names: async () => (await list()).map(({ name }) => name),
      child: async (name) => {
        const wanted = name.toLowerCase();
        const all = await list();
        const found =
          all.find((entry) => entry.name.toLowerCase() === wanted) ??
          all.find((entry) => entry.shortName.toLowerCase() === wanted);
        return found && this.#node(found);
      },
      read: () => Promise.reject(unreadable('a directory is no file')),
      target: () => Promise.reject(unreadable('FAT has no symlinks')),
    };
  }

  #node(entry: Entry): FileNode {
    if (entry.isDirectory) return this.#directory(() => this.#chain(entry.cluster, MAX_DIRECTORY_BYTES));
    const { sizeBytes, cluster } = entry;
    return {
      kind: 'file',
      sizeBytes,
      names: () => Promise.reject(unreadable('a file is no directory')),
      child: async () => undefined,
      read: async (maxBytes = MAX_FILE_BYTES) => {
        const wanted = Math.min(sizeBytes, maxBytes);
        if (wanted > MAX_FILE_BYTES) throw unreadable(`a file has ${sizeBytes} bytes`);
        const content = wanted === 0 ? Buffer.alloc(0) : await this.#chain(cluster, wanted);
        if (content.length < wanted) throw unreadable('a chain of clusters ends before its file');
        return content.subarray(0, wanted);
      },
      target: () => Promise.reject(unreadable('FAT has no symlinks')),
    };
  }

  /** Clusters from `first` on, until the chain ends or gives `maxBytes`. Reads neighbours at once. */
  async #chain(first: number, maxBytes: number): Promise<Buffer> {
    const most = Math.min(Math.ceil(maxBytes / this.#clusterBytes), this.#clusters);
    const chain: number[] = [];
    for (let cluster = first; chain.length < most; cluster = this.#next(cluster)) {
      if (cluster >= this.#endMark()) break;
      if (cluster < 2 || cluster >= this.#clusters + 2) throw unreadable('a chain of clusters leads nowhere');
      chain.push(cluster);
    }
    const parts: Buffer[] = [];
    for (let i = 0; i < chain.length;) {
      let count = 1;
      while (chain[i + count] === (chain[i] as number) + count) count += 1;
      parts.push(
        await this.#run(this.#dataAt + ((chain[i] as number) - 2) * this.#clusterBytes, count * this.#clusterBytes),
      );
      i += count;
    }
    return Buffer.concat(parts);
  }

  #endMark(): number {
    return { 12: 0xff8, 16: 0xfff8, 32: 0x0fff_fff8 }[this.#bits];
  }

  #next(cluster: number): number {
    const view = littleEndian(this.#fat);
    if (this.#bits === 32) return view.u32(cluster * 4) & 0x0fff_ffff;
    if (this.#bits === 16) return view.u16(cluster * 2);
    const at = cluster + (cluster >> 1);
    const pair = (this.#fat[at] ?? 0) | ((this.#fat[at + 1] ?? 0) << 8);
    return (cluster & 1) === 0 ? pair & 0xfff : pair >> 4;
  }

  async #run(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    if (offsetBytes + lengthBytes > this.#device.sizeBytes) throw unreadable('FAT points outside its volume');
    return Buffer.from((await readRun(this.#device, offsetBytes, lengthBytes, this.#options)).buffer);
  }
}

function entriesOf(content: Buffer): Entry[] {
  const entries: Entry[] = [];
  let pieces: string[] = [];
  for (let at = 0; at + ENTRY_BYTES <= content.length; at += ENTRY_BYTES) {
    const entry = content.subarray(at, at + ENTRY_BYTES);
    const first = entry.readUInt8(0);
    const attributes = entry.readUInt8(11);
    if (first === 0) break;
    if (first === DELETED) {
      pieces = [];
      continue;
    }
    if (attributes === ATTRIBUTE.longName) {
      // The last piece comes first.
      pieces = [longPiece(entry), ...pieces].slice(0, MAX_NAME_PIECES);
      continue;
    }
    const shortName = shortNameOf(entry);
    const name = pieces.length > 0 ? pieces.join('').split('\0', 1)[0] || shortName : shortName;
    pieces = [];
    if ((attributes & ATTRIBUTE.volume) !== 0 || shortName === '.' || shortName === '..') continue;
    entries.push({
      name,
      shortName,
      isDirectory: (attributes & ATTRIBUTE.directory) !== 0,
      cluster: (entry.readUInt16LE(20) << 16) | entry.readUInt16LE(26),
      sizeBytes: entry.readUInt32LE(28),
    });
    if (entries.length > MAX_DIRECTORY_ENTRIES) throw unreadable('a FAT directory has too many entries');
  }
  return entries;
}

function longPiece(entry: Buffer): string {
  const bytes = Buffer.concat([entry.subarray(1, 11), entry.subarray(14, 26), entry.subarray(28, 32)]);
  return bytes.toString('utf16le');
}

/** Windows NT and Linux keep names that would need no more than lower case as short ones with two flags. */
const LOWER = { base: 0x08, extension: 0x10 } as const;

function shortNameOf(entry: Buffer): string {
  const flags = entry.readUInt8(12);
  const part = (from: number, to: number, lower: number): string => {
    const text = entry.subarray(from, to).toString('latin1').trimEnd();
    return (flags & lower) === 0 ? text : text.toLowerCase();
  };
  const base = part(0, 8, LOWER.base);
  const extension = part(8, 11, LOWER.extension);
  return extension === '' ? base : `${base}.${extension}`;
}
