/**
 * What a check found damaged, for writers: they refer to none of it, and read again what their source still has. Signed, because it
 * makes them read. A report adds work and takes nothing away: readers do not ask it.
 *
 * ```
 *   open (create-only) ─► writers avoid and read again ─► relocations lead to whole places of everything it names ─► closed (create-only)
 * ```
 */
import { placesSchema, type BlobRef, fromColumns, toColumns, type PlacesColumns } from './blob-ref.ts';
import { damaged } from './frame.ts';
import { MAX_DAMAGE_REPORT_BYTES, MAX_PAGE_ENTRIES, MAX_REPORTED_BLOBS, MAX_REPORTED_PACKS } from './limits.ts';
import { hashBytes, packNameOf, type PackName } from './names.ts';
import { bytes, list, message, uint, type MessageOf } from './wire.ts';

const reportSchema = message({
  /** Unix ms by the clock of who checked. */
  reportedMs: uint(1),
  /** Packs of which nothing can be relied on: missing, or of another size. 32 bytes each, ascending. */
  packs: bytes(2, { max: MAX_REPORTED_PACKS * 32 }),
  salt: bytes(3, { length: 32 }),
  /** Which blobs, sealed under the index key. */
  sealed: bytes(4, { max: MAX_DAMAGE_REPORT_BYTES }),
});
export type DamageReport = MessageOf<typeof reportSchema>;

const closingSchema = message({ closedMs: uint(1) });

const blobsSchema = message({
  chunks: list(1, placesSchema, Math.ceil(MAX_REPORTED_BLOBS / MAX_PAGE_ENTRIES)),
  /** Pages of maps and pack sets. */
  pages: list(2, placesSchema, Math.ceil(MAX_REPORTED_BLOBS / MAX_PAGE_ENTRIES)),
});

export interface ReportedBlobs {
  readonly chunks: readonly BlobRef[];
  readonly pages: readonly BlobRef[];
}

export const encodeReport = (report: DamageReport): Uint8Array => reportSchema.encode(report);
/** Throws `repository.object-damaged`. */
export const decodeReport = (body: Uint8Array, what: string): DamageReport => reportSchema.decode(body, what);
/** Throws `repository.object-damaged`. */
export const decodeClosing = (body: Uint8Array, what: string): { closedMs: number } => closingSchema.decode(body, what);
export const encodeClosing = (closing: { closedMs: number }): Uint8Array => closingSchema.encode(closing);

/** Any order, distinct. */
export const encodeReportedPacks = (packs: Iterable<PackName>): Uint8Array =>
  Buffer.concat([...packs].toSorted().map(hashBytes));

/** Throws `repository.object-damaged`. */
export function reportedPacks(report: DamageReport, what: string): PackName[] {
  const { packs } = report;
  if (packs.length % 32 !== 0) throw damaged(what, `${packs.length} bytes of pack names`);
  const names = Array.from({ length: packs.length / 32 }, (_, i) => packNameOf(packs.subarray(i * 32, i * 32 + 32)));
  names.forEach((name, i) => {
    if (i > 0 && (names[i - 1] ?? '') >= name) throw damaged(what, `pack ${i} is out of order`);
  });
  return names;
}

/** Any order, distinct by pack and slot. */
export function encodeReportedBlobs({ chunks, pages }: ReportedBlobs): Uint8Array {
  return blobsSchema.encode({ chunks: toBlocks(chunks), pages: toBlocks(pages) });
}

/** Throws `repository.object-damaged`. */
export function decodeReportedBlobs(plain: Uint8Array, what: string): ReportedBlobs {
  const { chunks, pages } = blobsSchema.decode(plain, what);
  return { chunks: fromBlocks(chunks, what), pages: fromBlocks(pages, what) };
}

function toBlocks(refs: readonly BlobRef[]): PlacesColumns[] {
  const sorted = refs.toSorted(byPlace);
  const blocks = [];
  for (let i = 0; i < sorted.length; i += MAX_PAGE_ENTRIES)
    blocks.push(toColumns(sorted.slice(i, i + MAX_PAGE_ENTRIES)));
  return blocks;
}

function fromBlocks(blocks: readonly PlacesColumns[], what: string): BlobRef[] {
  const places = blocks.flatMap((block) => fromColumns(block, undefined, what));
  return places.map((place, i) => {
    const before = places[i - 1];
    if (typeof place === 'string' || (typeof before === 'object' && byPlace(before, place) >= 0))
      throw damaged(what, `entry ${i} is out of order`);
    return place;
  });
}

function byPlace(a: BlobRef, b: BlobRef): number {
  if (a.pack !== b.pack) return a.pack < b.pack ? -1 : 1;
  return a.slot - b.slot;
}
