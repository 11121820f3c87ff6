/**
 * A sorted run of the local index: a file that is written once, and looked up without being held in memory.
 *
 * ```
 *   page 0 | page 1 | … | first words of the pages (4 bytes each) | MAC | trailer
 *   page = up to 53 records of 76 bytes || zeros || MAC (16)         record = chunk id || pack || slot u32 || offset u32 || length u32
 * ```
 * A look-up finds its page by the first four bytes of the id (ids are keyed hashes: evenly spread) and reads that page, rarely two.
 * In memory lie four bytes a page: 8 MB for 100 million chunks. A MAC covers the page, its number and the file's name: a page that is
 * damaged, or of another file, is noticed, and the run counts as lost.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { basename } from 'node:path';

import { Blake3Hasher } from '@napi-rs/blake-hash';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';

import type { BlobRef } from '../format/blob-ref.ts';
import { chunkIdOf, hashBytes, packNameOf, type ChunkId } from '../format/names.ts';
import { u32 } from '../seal/derive.ts';

const ID_BYTES = 32;
const RECORD_BYTES = 2 * ID_BYTES + 12;
const PAGE_BYTES = 4096;
const MAC_BYTES = 16;
const PAGE_RECORDS = Math.floor((PAGE_BYTES - MAC_BYTES) / RECORD_BYTES);
const TRAILER_BYTES = 16;
const MAGIC = Buffer.from('LBRUN-01', 'ascii');
/** Pages of a sequential read or write at once. */
const STRIDE_PAGES = 64;
/** 65 billion chunks. A file that claims more is none of ours. */
const MAX_PAGES = 2 ** 30;

export function encodeRecord(ref: BlobRef): Buffer {
  return Buffer.concat([
    hashBytes(ref.id),
    hashBytes(ref.pack),
    u32(ref.slot),
    u32(ref.offsetBytes),
    u32(ref.lengthBytes),
  ]);
}

function decodeRecord(record: Buffer): BlobRef {
  return {
    id: chunkIdOf(record.subarray(0, ID_BYTES)),
    pack: packNameOf(record.subarray(ID_BYTES, 2 * ID_BYTES)),
    slot: record.readUInt32BE(2 * ID_BYTES),
    offsetBytes: record.readUInt32BE(2 * ID_BYTES + 4),
    lengthBytes: record.readUInt32BE(2 * ID_BYTES + 8),
  };
}

/** Compares the ids of two records. */
export const byId = (a: Buffer, b: Buffer): number => a.compare(b, 0, ID_BYTES, 0, ID_BYTES);

/** What a damaged or foreign file is; the caller forgets the run. */
function unusable(path: string, why: string): LifeboatError {
  return new LifeboatError('repository.object-damaged', `${path}: ${why}`, { context: { path } });
}

/** Writes records that come in ascending order of their ids. The file exists in full, or is of no use (its trailer is last). */
export async function writeRun(
  path: string,
  key: Uint8Array,
  records: Iterable<Buffer> | AsyncIterable<Buffer>,
): Promise<number> {
  const file = await open(path, 'wx', 0o600);
  try {
    const firsts: number[] = [];
    const buffer = Buffer.alloc(STRIDE_PAGES * PAGE_BYTES);
    let filled = 0;
    let inPage = 0;
    let count = 0;
    const endPage = (): void => {
      const page = buffer.subarray(filled, filled + PAGE_BYTES);
      page.fill(0, inPage * RECORD_BYTES, PAGE_BYTES - MAC_BYTES);
      page.set(mac(key, path, firsts.length - 1, page.subarray(0, PAGE_BYTES - MAC_BYTES)), PAGE_BYTES - MAC_BYTES);
      filled += PAGE_BYTES;
      inPage = 0;
    };
    const flush = async (): Promise<void> => {
      for (let at = 0; at < filled;) at += (await file.write(buffer, at, filled - at)).bytesWritten;
      filled = 0;
    };
    for await (const record of records) {
      if (inPage === 0) firsts.push(record.readUInt32BE(0));
      record.copy(buffer, filled + inPage * RECORD_BYTES);
      count++;
      if (++inPage < PAGE_RECORDS) continue;
      endPage();
      if (filled === buffer.length) await flush();
    }
    if (inPage > 0) endPage();
    await flush();
    const table = Buffer.alloc(firsts.length * 4);
    firsts.forEach((first, i) => table.writeUInt32BE(first, i * 4));
    const trailer = Buffer.concat([MAGIC, u32(firsts.length), u32(count)]);
    await file.writeFile(Buffer.concat([table, mac(key, path, firsts.length, table, trailer), trailer]));
    return count;
  } finally {
    await file.close();
  }
}

export class IndexRun {
  readonly path: string;
  readonly count: number;
  readonly #key: Uint8Array;
  readonly #file: FileHandle;
  readonly #firsts: Uint32Array;

  /** Undefined when the file is not there; throws `repository.object-damaged` when it is not what was written. */
  static async open(path: string, key: Uint8Array): Promise<IndexRun | undefined> {
    let file: FileHandle;
    try {
      file = await open(path, 'r');
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw error;
    }
    try {
      const { size } = await file.stat();
      if (size < TRAILER_BYTES + MAC_BYTES) throw unusable(path, 'it was never finished');
      const trailer = await readAt(file, path, size - TRAILER_BYTES, TRAILER_BYTES);
      const pages = trailer.readUInt32BE(8);
      const tableAt = pages * PAGE_BYTES;
      const fits = pages <= MAX_PAGES && tableAt + pages * 4 + MAC_BYTES + TRAILER_BYTES === size;
      if (!trailer.subarray(0, 8).equals(MAGIC) || !fits) throw unusable(path, 'it was never finished');
      const table = await readAt(file, path, tableAt, pages * 4);
      const found = await readAt(file, path, tableAt + pages * 4, MAC_BYTES);
      if (!mac(key, path, pages, table, trailer).equals(found)) throw unusable(path, 'its table is damaged');
      const firsts = Uint32Array.from({ length: pages }, (_, i) => table.readUInt32BE(i * 4));
      return new IndexRun({ path, key, file, firsts, count: trailer.readUInt32BE(12) });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  private constructor(input: { path: string; key: Uint8Array; file: FileHandle; firsts: Uint32Array; count: number }) {
    this.path = input.path;
    this.count = input.count;
    this.#key = input.key;
    this.#file = input.file;
    this.#firsts = input.firsts;
  }

  /** The first place of the chunk that `isUsable` agrees to. Throws `repository.object-damaged` when a page of the run is. */
  async find(id: ChunkId, isUsable: (ref: BlobRef) => boolean): Promise<BlobRef | undefined> {
    const wanted = hashBytes(id);
    const word = wanted.readUInt32BE(0);
    for (let page = this.#lastBefore(word); page < this.#firsts.length; page++) {
      if ((this.#firsts[page] ?? 0) > word) return undefined;
      for (const record of this.#records(page, await readAt(this.#file, this.path, page * PAGE_BYTES, PAGE_BYTES))) {
        if (record.compare(wanted, 0, ID_BYTES, 0, ID_BYTES) !== 0) continue;
        const ref = decodeRecord(record);
        if (isUsable(ref)) return ref;
      }
    }
    return undefined;
  }

  /** Every record, in order. Each is valid until the next one is asked for. */
  async *records(): AsyncGenerator<Buffer> {
    for (let page = 0; page < this.#firsts.length; page += STRIDE_PAGES) {
      const pages = Math.min(STRIDE_PAGES, this.#firsts.length - page);
      const bytes = await readAt(this.#file, this.path, page * PAGE_BYTES, pages * PAGE_BYTES);
      for (let i = 0; i < pages; i++)
        yield* this.#records(page + i, bytes.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES));
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  /** The last page that begins before the word: an id with this word may lie at its end. */
  #lastBefore(word: number): number {
    let low = 0;
    let high = this.#firsts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#firsts[middle] ?? 0) < word) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  *#records(page: number, bytes: Buffer): Generator<Buffer> {
    const content = bytes.subarray(0, PAGE_BYTES - MAC_BYTES);
    if (!mac(this.#key, this.path, page, content).equals(bytes.subarray(PAGE_BYTES - MAC_BYTES)))
      throw unusable(this.path, `page ${page} is damaged`);
    const records = Math.min(PAGE_RECORDS, this.count - page * PAGE_RECORDS);
    for (let i = 0; i < records; i++) yield content.subarray(i * RECORD_BYTES, (i + 1) * RECORD_BYTES);
  }
}

/** Of several sorted runs one. A chunk may have a place in several packs: which of them are there next time is not known now. */
export async function* mergeRuns(runs: readonly IndexRun[], keep: (record: Buffer) => boolean): AsyncGenerator<Buffer> {
  const heads = await Promise.all(
    runs.map(async (run) => {
      const records = run.records();
      const { value, done } = await records.next();
      return { records, head: done ? undefined : value };
    }),
  );
  const last = Buffer.alloc(2 * ID_BYTES);
  let any = false;
  for (;;) {
    let least: (typeof heads)[number] | undefined;
    for (const candidate of heads) {
      if (candidate.head && (!least?.head || byId(candidate.head, least.head) < 0)) least = candidate;
    }
    if (!least?.head) return;
    const record = least.head;
    if ((!any || record.compare(last, 0, last.length, 0, last.length) !== 0) && keep(record)) {
      record.copy(last, 0, 0, last.length);
      any = true;
      yield record;
    }
    const { value, done } = await least.records.next();
    least.head = done ? undefined : value;
  }
}

function mac(key: Uint8Array, path: string, page: number, ...parts: readonly Uint8Array[]): Buffer {
  const hasher = Blake3Hasher.newKeyed(Buffer.from(key))
    .update(Buffer.from(basename(path), 'utf8'))
    .update(u32(page));
  for (const part of parts) hasher.update(part);
  return hasher.digestBuffer().subarray(0, MAC_BYTES);
}

async function readAt(file: FileHandle, path: string, offsetBytes: number, lengthBytes: number): Promise<Buffer> {
  const target = Buffer.allocUnsafe(lengthBytes);
  for (let at = 0; at < lengthBytes;) {
    const { bytesRead } = await file.read(target, at, lengthBytes - at, offsetBytes + at);
    if (bytesRead === 0) throw unusable(path, `it ends at ${offsetBytes + at}`);
    at += bytesRead;
  }
  return target;
}
