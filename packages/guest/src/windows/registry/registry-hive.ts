/**
 * Reads a hive of the Windows registry, and what its logs hold beside, without writing anything.
 *
 *   base block (4 KiB) ─► root key ─► list of subkeys (lf, lh, li; ri is a list of lists) ─► key ...
 *                                 └► list of values ─► value ─► its data: in the value, in a cell, or in pieces (db)
 *   everything is a cell: its size (negative: in use), then its content; offsets count from the end of the base block
 *
 * Only the pages that are asked for are read: SOFTWARE has 100 MB and more. Every offset and count is checked, every list has a limit, and
 * a path is walked from the root down, so nothing that leads in a circle is followed for ever.
 * Source: M. Suhanov, Windows registry file format specification.
 */
import {
  BASE_BLOCK_BYTES,
  BIN_ALIGNMENT_BYTES,
  hiveUnreadable,
  MAX_BINS_BYTES,
  parseBaseBlock,
  sealBaseBlock,
} from './base-block.ts';
import { replayLogs, type Page, type Replay } from './hive-log.ts';

/** Where the bytes come from: a file of an NTFS volume, of a mounted one, or memory. */
export interface HiveSource {
  readonly sizeBytes: number;
  readAt(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
}

export interface RegistryValue {
  /** Empty: the key's default value. */
  readonly name: string;
  readonly type: number;
  readonly data: Buffer;
}

export interface HiveFiles {
  readonly hive: HiveSource;
  /** .LOG1 and .LOG2, as far as they are there; they are read only where the hive is dirty. */
  readonly logs: readonly (() => Promise<Buffer>)[];
  /** Names the hive in errors. */
  readonly what: string;
}

export const REGISTRY_TYPE = { string: 1, expandString: 2, binary: 3, dword: 4, multiString: 7, qword: 11 } as const;

const CACHED_PAGE_BYTES = 16_384;
/** 32 MiB. */
const MAX_CACHED_PAGES = 2048;
const NONE = 0xffff_ffff;
/** Services has some 700 subkeys; Enum and Installer's, some thousand. */
const MAX_SUBKEYS = 200_000;
const MAX_VALUES = 20_000;
const MAX_NAME_CHARACTERS = 16_383;
const MAX_DATA_BYTES = 16 * 1024 * 1024;
const KEY = { compressedName: 0x20 } as const;
const VALUE_ASCII_NAME = 1;
const INLINE = 0x8000_0000;
/** Larger data is in pieces since version 1.4. */
const PIECE_BYTES = 16_344;

export class RegistryHive {
  readonly #source: HiveSource;
  readonly #what: string;
  readonly #binsBytes: number;
  readonly #minorVersion: number;
  readonly #rootCell: number;
  readonly #pages = new Map<number, Buffer>();
  readonly #patches = new Map<number, Page[]>();
  /** What was taken from the logs; absent: the hive was written to its end. */
  readonly replay: Replay | undefined;

  private constructor(
    files: HiveFiles,
    found: { binsBytes: number; minorVersion: number; rootCell: number; replay: Replay | undefined },
  ) {
    this.#source = files.hive;
    this.#what = files.what;
    this.#binsBytes = found.binsBytes;
    this.#minorVersion = found.minorVersion;
    this.#rootCell = found.rootCell;
    this.replay = found.replay;
    for (const page of found.replay?.pages ?? []) {
      const last = Math.floor((page.offsetBytes + page.bytes.length - 1) / CACHED_PAGE_BYTES);
      for (let i = Math.floor(page.offsetBytes / CACHED_PAGE_BYTES); i <= last; i += 1) {
        this.#patches.set(i, [...(this.#patches.get(i) ?? []), page]);
      }
    }
  }

  /** Errors: `guest.hive-unreadable`; `guest.hive-dirty` where the logs do not bring it up to date; those of the source. */
  static async open(files: HiveFiles): Promise<RegistryHive> {
    const { hive, logs, what } = files;
    if (hive.sizeBytes < BASE_BLOCK_BYTES + BIN_ALIGNMENT_BYTES)
      throw hiveUnreadable(what, `it has ${hive.sizeBytes} bytes`);
    const base = parseBaseBlock(await hive.readAt(0, BASE_BLOCK_BYTES));
    if (base?.kind !== 'hive') throw hiveUnreadable(what, 'it does not begin as a hive does');
    if (!base.isChecksumRight) throw hiveUnreadable(what, 'the checksum of its first block is wrong');
    const isDirty = base.primarySequence !== base.secondarySequence;
    const replay = isDirty ? replayLogs(base, await Promise.all(logs.map((read) => read())), what) : undefined;
    const binsBytes = replay?.binsBytes ?? base.binsBytes;
    const isThere = replay !== undefined || BASE_BLOCK_BYTES + binsBytes <= hive.sizeBytes;
    if (binsBytes === 0 || binsBytes % BIN_ALIGNMENT_BYTES !== 0 || binsBytes > MAX_BINS_BYTES || !isThere) {
      throw hiveUnreadable(what, `it says it has ${binsBytes} bytes of bins, and the file has ${hive.sizeBytes}`);
    }
    const { minorVersion, rootCell } = base;
    return new RegistryHive(files, { binsBytes, minorVersion, rootCell, replay });
  }

  root(): Promise<RegistryKey> {
    return RegistryKey.read(this, this.#rootCell);
  }

  /** `ControlSet001\Services`, without regard to case; undefined: there is no such key. */
  async key(path: string): Promise<RegistryKey | undefined> {
    let key: RegistryKey | undefined = await this.root();
    for (const name of path.split('\\')) key = await key?.subkey(name);
    return key;
  }

  /** The value of a key, or nothing where one of them is not there. */
  async value(path: string, name: string): Promise<RegistryValue | undefined> {
    return (await this.key(path))?.value(name);
  }

  /** The whole hive as Windows would have it in memory: with what the logs hold, written to its end. */
  async content(): Promise<Buffer> {
    const bytes = Buffer.alloc(BASE_BLOCK_BYTES + this.#binsBytes);
    const stored = Math.min(bytes.length, this.#source.sizeBytes);
    (await this.#source.readAt(0, stored)).copy(bytes);
    if (this.replay) {
      for (const page of this.replay.pages) page.bytes.copy(bytes, BASE_BLOCK_BYTES + page.offsetBytes);
      sealBaseBlock(bytes, { sequence: this.replay.sequence, binsBytes: this.#binsBytes });
    }
    return bytes;
  }

  unreadable(problem: string): Error {
    return hiveUnreadable(this.#what, problem);
  }

  get hasPieces(): boolean {
    return this.#minorVersion >= 4;
  }

  /** The content of a cell in use, at most `maxBytes` of it and not less than `minBytes`. */
  async cell(offset: number, minBytes: number, maxBytes = MAX_DATA_BYTES): Promise<Buffer> {
    if (offset % 8 !== 0 || offset + 8 > this.#binsBytes) throw this.unreadable(`there is no cell at ${offset}`);
    const size = -(await this.#bytes(offset, 4)).readInt32LE(0);
    if (size < 8 || offset + size > this.#binsBytes) throw this.unreadable(`the cell at ${offset} is not in use`);
    if (size - 4 < minBytes) throw this.unreadable(`the cell at ${offset} has ${size - 4} bytes, not ${minBytes}`);
    return this.#bytes(offset + 4, Math.min(size - 4, maxBytes));
  }

  async #bytes(offset: number, lengthBytes: number): Promise<Buffer> {
    const out = Buffer.alloc(lengthBytes);
    for (let done = 0; done < lengthBytes;) {
      const at = offset + done;
      const page = await this.#page(Math.floor(at / CACHED_PAGE_BYTES));
      const within = at % CACHED_PAGE_BYTES;
      done += page.copy(out, done, within, Math.min(page.length, within + lengthBytes - done));
    }
    return out;
  }

  async #page(index: number): Promise<Buffer> {
    const known = this.#pages.get(index);
    if (known) return known;
    const start = index * CACHED_PAGE_BYTES;
    const page = Buffer.alloc(CACHED_PAGE_BYTES);
    const at = BASE_BLOCK_BYTES + start;
    const stored = Math.min(CACHED_PAGE_BYTES, this.#source.sizeBytes - at);
    if (stored > 0) (await this.#source.readAt(at, stored)).copy(page);
    for (const { offsetBytes, bytes } of this.#patches.get(index) ?? []) {
      const from = Math.max(offsetBytes, start);
      const to = Math.min(offsetBytes + bytes.length, start + CACHED_PAGE_BYTES);
      bytes.copy(page, from - start, from - offsetBytes, to - offsetBytes);
    }
    if (this.#pages.size >= MAX_CACHED_PAGES) this.#pages.clear();
    this.#pages.set(index, page);
    return page;
  }
}

export class RegistryKey {
  readonly name: string;
  readonly #hive: RegistryHive;
  readonly #cell: Buffer;

  private constructor(hive: RegistryHive, cell: Buffer, name: string) {
    this.#hive = hive;
    this.#cell = cell;
    this.name = name;
  }

  static async read(hive: RegistryHive, offset: number): Promise<RegistryKey> {
    const cell = await hive.cell(offset, 76, 76 + MAX_NAME_CHARACTERS * 2);
    if (cell.toString('latin1', 0, 2) !== 'nk') throw hive.unreadable(`the cell at ${offset} is no key`);
    const nameBytes = cell.readUInt16LE(72);
    if (76 + nameBytes > cell.length) throw hive.unreadable(`the key at ${offset} has a damaged name`);
    const isCompressed = (cell.readUInt16LE(2) & KEY.compressedName) !== 0;
    return new RegistryKey(hive, cell, cell.toString(isCompressed ? 'latin1' : 'utf16le', 76, 76 + nameBytes));
  }

  /** Without regard to case. */
  async subkey(name: string): Promise<RegistryKey | undefined> {
    const wanted = name.toUpperCase();
    for (const offset of await this.#subkeyCells()) {
      const key = await RegistryKey.read(this.#hive, offset);
      if (key.name.toUpperCase() === wanted) return key;
    }
    return undefined;
  }

  async subkeys(): Promise<RegistryKey[]> {
    const keys: RegistryKey[] = [];
    for (const offset of await this.#subkeyCells()) keys.push(await RegistryKey.read(this.#hive, offset));
    return keys;
  }

  async value(name: string): Promise<RegistryValue | undefined> {
    const wanted = name.toUpperCase();
    for (const { name: found, cell } of await this.#valueCells()) {
      if (found.toUpperCase() === wanted) return this.#value(found, cell);
    }
    return undefined;
  }

  async values(): Promise<RegistryValue[]> {
    const values: RegistryValue[] = [];
    for (const { name, cell } of await this.#valueCells()) values.push(await this.#value(name, cell));
    return values;
  }

  async #subkeyCells(): Promise<number[]> {
    const count = this.#cell.readUInt32LE(20);
    const list = this.#cell.readUInt32LE(28);
    if (count === 0 || list === NONE) return [];
    if (count > MAX_SUBKEYS) throw this.#hive.unreadable(`the key '${this.name}' has ${count} subkeys`);
    const offsets: number[] = [];
    const head = await this.#hive.cell(list, 4, 4 + MAX_SUBKEYS * 8);
    const lists = head.toString('latin1', 0, 2) === 'ri' ? this.#listOf(head, 4) : [list];
    for (const one of lists) {
      const cell = one === list ? head : await this.#hive.cell(one, 4, 4 + MAX_SUBKEYS * 8);
      const kind = cell.toString('latin1', 0, 2);
      if (!['lf', 'lh', 'li'].includes(kind)) throw this.#hive.unreadable(`'${this.name}' has no list of subkeys`);
      offsets.push(...this.#listOf(cell, kind === 'li' ? 4 : 8));
      if (offsets.length > count) throw this.#hive.unreadable(`'${this.name}' lists more subkeys than it has`);
    }
    if (offsets.length !== count) throw this.#hive.unreadable(`'${this.name}' lists fewer subkeys than it has`);
    return offsets;
  }

  #listOf(cell: Buffer, entryBytes: number): number[] {
    const count = cell.readUInt16LE(2);
    if (4 + count * entryBytes > cell.length) throw this.#hive.unreadable(`'${this.name}' has a damaged list`);
    return Array.from({ length: count }, (_, i) => cell.readUInt32LE(4 + i * entryBytes));
  }

  async #valueCells(): Promise<{ name: string; cell: Buffer }[]> {
    const count = this.#cell.readUInt32LE(36);
    const list = this.#cell.readUInt32LE(40);
    if (count === 0 || list === NONE) return [];
    if (count > MAX_VALUES) throw this.#hive.unreadable(`the key '${this.name}' has ${count} values`);
    const offsets = await this.#hive.cell(list, count * 4, count * 4);
    const found: { name: string; cell: Buffer }[] = [];
    for (let i = 0; i < count; i += 1) {
      const cell = await this.#hive.cell(offsets.readUInt32LE(i * 4), 20, 20 + MAX_NAME_CHARACTERS * 2);
      const nameBytes = cell.readUInt16LE(2);
      if (cell.toString('latin1', 0, 2) !== 'vk' || 20 + nameBytes > cell.length) {
        throw this.#hive.unreadable(`the key '${this.name}' has a damaged value`);
      }
      const isAscii = (cell.readUInt16LE(16) & VALUE_ASCII_NAME) !== 0;
      found.push({ name: cell.toString(isAscii ? 'latin1' : 'utf16le', 20, 20 + nameBytes), cell });
    }
    return found;
  }

  async #value(name: string, cell: Buffer): Promise<RegistryValue> {
    const type = cell.readUInt32LE(12);
    const size = cell.readUInt32LE(4);
    const sizeBytes = size % INLINE;
    if (size >= INLINE) {
      if (sizeBytes > 4) throw this.#hive.unreadable(`the value '${name}' of '${this.name}' has a damaged size`);
      return { name, type, data: Buffer.from(cell.subarray(8, 8 + sizeBytes)) };
    }
    if (sizeBytes > MAX_DATA_BYTES)
      throw this.#hive.unreadable(`the value '${name}' of '${this.name}' has ${sizeBytes} bytes`);
    if (sizeBytes === 0) return { name, type, data: Buffer.alloc(0) };
    const at = cell.readUInt32LE(8);
    if (sizeBytes > PIECE_BYTES && this.#hive.hasPieces) return { name, type, data: await this.#pieces(at, sizeBytes) };
    return { name, type, data: await this.#hive.cell(at, sizeBytes, sizeBytes) };
  }

  async #pieces(at: number, sizeBytes: number): Promise<Buffer> {
    const head = await this.#hive.cell(at, 8, 8);
    const count = head.readUInt16LE(2);
    if (head.toString('latin1', 0, 2) !== 'db' || count !== Math.ceil(sizeBytes / PIECE_BYTES)) {
      throw this.#hive.unreadable(`a value of '${this.name}' is in damaged pieces`);
    }
    const list = await this.#hive.cell(head.readUInt32LE(4), count * 4, count * 4);
    const pieces: Buffer[] = [];
    for (let i = 0; i < count; i += 1) {
      const length = Math.min(PIECE_BYTES, sizeBytes - i * PIECE_BYTES);
      pieces.push(await this.#hive.cell(list.readUInt32LE(i * 4), length, length));
    }
    return Buffer.concat(pieces);
  }
}

/** Of a string: up to its first NUL. Other types have no text. */
export function textOf(value: RegistryValue | undefined): string | undefined {
  if (value?.type !== REGISTRY_TYPE.string && value?.type !== REGISTRY_TYPE.expandString) return undefined;
  return value.data.toString('utf16le').split('\0', 1)[0] ?? '';
}

export function numberOf(value: RegistryValue | undefined): number | undefined {
  return value?.type === REGISTRY_TYPE.dword && value.data.length === 4 ? value.data.readUInt32LE(0) : undefined;
}

/** Of a list of strings: those before the empty one that ends it. */
export function textsOf(value: RegistryValue | undefined): string[] | undefined {
  if (value?.type !== REGISTRY_TYPE.multiString) return undefined;
  const all = value.data.toString('utf16le').split('\0');
  const end = all.indexOf('');
  return end < 0 ? all : all.slice(0, end);
}
