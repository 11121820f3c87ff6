/**
 * Checks what is stored against what a point needs.
 *
 * | level | reads | finds |
 * |---|---|---|
 * | present | the pack set, one HEAD per pack | packs that are missing or have another size |
 * | ciphertext | every byte of every pack | also any changed byte, without decrypting data |
 * | content | every chunk of every disk, through the read path | also a chunk that does not open to its id |
 *
 * What is damaged is then looked up in the maps, so that the report says which bytes of which disk are lost. What a relocation leads
 * to a whole place is not damage any more. Nothing is changed, moved or renamed: a wrong verdict does no harm.
 */
import { hasCode, LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';

import type { Core } from '../core.ts';
import type { Damage } from './damage-reports.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { MAX_PACK_BYTES } from '../format/limits.ts';
import { packObject, type PackName } from '../format/names.ts';
import { hashSealed, parsePack } from '../format/pack.ts';
import { BlobDamage } from '../read/blob-reader.ts';
import { MapReader } from '../read/map-reader.ts';
import { discard } from '../seal/discard.ts';
import { readPackSets, type NamedPackSet, type NeededPack } from '../read/pack-set-reader.ts';
import type { Point } from '../read/point-reader.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';

export type CheckLevel = 'present' | 'ciphertext' | 'content';

/** Bytes of a disk that cannot be read as they were written. */
export interface DiskDamage {
  readonly disk: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly pack: string;
  readonly reason: string;
}

/** Something wrong with an object of the store. */
export interface ObjectDamage {
  readonly object: string;
  readonly reason: string;
}

export interface CheckReport {
  readonly level: CheckLevel;
  readonly sound: boolean;
  readonly checkedPacks: number;
  /** Bytes of packs hashed (ciphertext), or plain bytes opened (content). */
  readonly checkedBytes: number;
  readonly objects: readonly ObjectDamage[];
  /** Sorted by disk and offset; neighbours with one cause are joined. */
  readonly disks: readonly DiskDamage[];
  /** The same as the writers of the repository want to know it. */
  readonly damage: Damage;
}

/** Chunks opened side by side in a content check. */
const CONTENT_WINDOW = 16;

/** What is wrong with a pack: all of it, or single blobs. */
interface PackDamage {
  readonly whole?: string;
  readonly slots: ReadonlyMap<number, string>;
}

/** Throws what the store throws when it cannot be asked, or not now (never a finding), and the signal's reason. */
export async function checkPoint(
  core: Core,
  input: { point: Point; level: CheckLevel; context: VerbContext },
): Promise<CheckReport> {
  const { point, level, context } = input;
  // A page that was read before it was damaged would hide that it is.
  core.pages.forget();
  const objects: ObjectDamage[] = [];
  const disks: DiskDamage[] = [];
  const chunks: BlobRef[] = [];
  const pages: BlobRef[] = [];
  let checkedBytes = 0;

  const damaged = new Map<PackName, PackDamage>();
  const sets = point.disks.map(({ name, root }) => ({ name, root: root.packs }));
  const totalBytes = level === 'ciphertext' ? await bytesOf(core, sets, context.signal) : 0;
  let checkedPacks = 0;
  for await (const need of readPackSets(core.pages, sets, { signal: context.signal })) {
    context.signal.throwIfAborted();
    if ('error' in need) {
      const { error, set } = need;
      if (error instanceof BlobDamage) pages.push(error.ref);
      const object = error instanceof BlobDamage ? packObject(error.ref.pack) : `pack set of ${set}`;
      objects.push({ object, reason: error.message });
      continue;
    }
    const { pack } = need;
    checkedPacks++;
    const damage =
      level === 'ciphertext'
        ? await checkBytes(core, pack, context.signal)
        : await checkSize(core, pack, need, context.signal);
    if (damage) damaged.set(pack, damage);
    if (level !== 'ciphertext') continue;
    checkedBytes += need.sizeBytes ?? 0;
    context.progress({ phase: 'check', doneBytes: checkedBytes, totalBytes });
  }

  const relocated = new Set<PackName>();
  for (const pack of damaged.keys())
    if (await core.relocations.leadFrom(pack, { signal: context.signal })) relocated.add(pack);

  const mappedTotal = point.disks.reduce((sum, { root }) => sum + root.sizeBytes, 0);
  let before = 0;
  for (const { name, root } of point.disks) {
    const map = new MapReader({
      root,
      pages: core.pages,
      geometry: core.superblock,
      what: `disk ${name} of point ${point.pointId}`,
    });
    const checker = new DiskCheck({ core, map, disk: name, damaged, relocated, openContent: level === 'content' });
    const offset = before;
    const opened = await checker.run(context.signal, (doneBytes) => {
      if (level === 'content')
        context.progress({ phase: 'check', doneBytes: offset + doneBytes, totalBytes: mappedTotal, detail: name });
    });
    if (level === 'content') checkedBytes += opened;
    disks.push(...checker.damage);
    chunks.push(...checker.chunks);
    pages.push(...checker.pages);
    before += root.sizeBytes;
  }
  const hit = new Set([...chunks, ...pages].map(({ pack }) => pack));
  const whole: PackName[] = [];
  for (const [pack, damage] of damaged) {
    if (!hit.has(pack) && relocated.has(pack)) continue;
    if (damage.whole !== undefined) whole.push(pack);
    for (const reason of damage.whole === undefined ? new Set(damage.slots.values()) : [damage.whole])
      objects.push({ object: packObject(pack), reason });
  }
  const joined = join(disks);
  return {
    level,
    sound: objects.length === 0 && joined.length === 0,
    checkedPacks,
    checkedBytes,
    objects,
    disks: joined,
    damage: { packs: whole, chunks, pages },
  };
}

/** Of all packs that are going to be read. What cannot be read is reported then. */
async function bytesOf(core: Core, sets: readonly NamedPackSet[], signal: AbortSignal): Promise<number> {
  let bytes = 0;
  for await (const need of readPackSets(core.pages, sets, { signal })) bytes += ('pack' in need && need.sizeBytes) || 0;
  return bytes;
}

/** Asked once more before it counts. */
async function checkSize(
  core: Core,
  pack: PackName,
  need: NeededPack,
  signal: AbortSignal,
): Promise<PackDamage | undefined> {
  const first = await checkSizeOnce(core, pack, need, { signal });
  return first && checkSizeOnce(core, pack, need, { signal, fresh: true });
}

async function checkSizeOnce(
  core: Core,
  pack: PackName,
  need: NeededPack,
  options: StoreOptions,
): Promise<PackDamage | undefined> {
  try {
    const found = await core.store.head(packObject(pack), options);
    if (!found) return { whole: 'it is missing', slots: new Map() };
    if (need.sizeBytes === undefined || found.sizeBytes === need.sizeBytes) return undefined;
    return { whole: `it has ${found.sizeBytes} bytes instead of ${need.sizeBytes}`, slots: new Map() };
  } catch (error) {
    if (!hasCode(error, 'repository.object-unreadable')) throw error;
    return { whole: error.message, slots: new Map() };
  }
}

/** Needs no key: name, tables and hashes of the sealed blobs. Read once more, over another connection, before it counts. */
async function checkBytes(core: Core, pack: PackName, signal: AbortSignal): Promise<PackDamage | undefined> {
  const first = await checkBytesOnce(core, pack, { signal });
  return first && checkBytesOnce(core, pack, { signal, fresh: true });
}

async function checkBytesOnce(core: Core, pack: PackName, options: StoreOptions): Promise<PackDamage | undefined> {
  const object = packObject(pack);
  try {
    const bytes = await core.store.get(object, { ...options, maxBytes: MAX_PACK_BYTES });
    const layout = parsePack(bytes, object);
    if (layout.name !== pack) return { whole: `its tables hash to ${layout.name}`, slots: new Map() };
    const slots = new Map<number, string>();
    for (const { slot, offsetBytes, lengthBytes, hash } of layout.blobs) {
      const found = hashSealed(bytes.subarray(offsetBytes, offsetBytes + lengthBytes));
      if (!found.equals(hash)) slots.set(slot, `the ${lengthBytes} bytes at ${offsetBytes} do not have their hash`);
    }
    discard(bytes);
    return slots.size > 0 ? { slots } : undefined;
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    return { whole: error.message, slots: new Map() };
  }
}

/** Goes through one disk's map in order; with `openContent` every chunk is opened as well. */
class DiskCheck {
  readonly damage: DiskDamage[] = [];
  readonly chunks: BlobRef[] = [];
  readonly pages: BlobRef[] = [];
  readonly #core: Core;
  readonly #map: MapReader;
  readonly #disk: string;
  readonly #damaged: ReadonlyMap<PackName, PackDamage>;
  /** Packs that relocations lead away from. */
  readonly #relocated: ReadonlySet<PackName>;
  readonly #openContent: boolean;
  #openedBytes = 0;

  constructor(input: {
    core: Core;
    map: MapReader;
    disk: string;
    damaged: ReadonlyMap<PackName, PackDamage>;
    relocated: ReadonlySet<PackName>;
    openContent: boolean;
  }) {
    this.#core = input.core;
    this.#map = input.map;
    this.#disk = input.disk;
    this.#damaged = input.damaged;
    this.#relocated = input.relocated;
    this.#openContent = input.openContent;
  }

  /** Returns the plain bytes that were opened. */
  async run(signal: AbortSignal, progress: (doneBytes: number) => void): Promise<number> {
    const window = new Set<Promise<void>>();
    // Only the packs that are damaged need the map, unless every chunk is opened.
    if (!this.#openContent && this.#damaged.size === 0) return this.#walkPagesOnly(signal);
    for await (const run of this.#map.runs(0, this.#map.chunkCount, { signal })) {
      const { places, firstChunk } = run;
      if (places instanceof Error) {
        this.#reportPage(firstChunk, run.count, places);
      } else if (typeof places !== 'string') {
        for (const [i, place] of places.entries()) {
          if (typeof place === 'string') continue;
          const chunk = firstChunk + i;
          const known = this.#knownDamage(place);
          if (known !== undefined) {
            if (!(await this.#isElsewhere(chunk, place, signal))) this.#reportChunk(chunk, place, known);
          } else if (this.#openContent) {
            const opening = this.#open(chunk, place, signal).finally(() => window.delete(opening));
            // Awaited below; a failure must not count as unhandled until then.
            opening.catch(() => undefined);
            window.add(opening);
            if (window.size >= CONTENT_WINDOW) await Promise.race(window);
          }
        }
      }
      progress(Math.min((firstChunk + run.count) * this.#map.root.chunkSizeBytes, this.#map.root.sizeBytes));
    }
    await Promise.all(window);
    return this.#openedBytes;
  }

  /** The map itself must be readable at every level of check. */
  async #walkPagesOnly(signal: AbortSignal): Promise<number> {
    for await (const { firstChunk, count, places } of this.#map.runs(0, this.#map.chunkCount, { signal })) {
      if (places instanceof Error) this.#reportPage(firstChunk, count, places);
    }
    return 0;
  }

  #knownDamage(place: BlobRef): string | undefined {
    // Where every chunk is opened, that decides: a pack of the wrong size may still hold all of them.
    const damage = this.#openContent ? undefined : this.#damaged.get(place.pack);
    return damage && (damage.whole ?? damage.slots.get(place.slot));
  }

  async #open(chunk: number, place: BlobRef, signal: AbortSignal): Promise<void> {
    const exactBytes = this.#map.chunkBytes(chunk);
    try {
      discard(await this.#core.blobs.read(place, { kind: 'data', plain: { exactBytes } }, { signal }));
      this.#openedBytes += exactBytes;
    } catch (error) {
      if (!(error instanceof BlobDamage)) throw error;
      this.#reportChunk(chunk, place, messageOf(error));
    }
  }

  /** Whether a relocation leads to a place that opens. */
  async #isElsewhere(chunk: number, place: BlobRef, signal: AbortSignal): Promise<boolean> {
    if (!this.#relocated.has(place.pack)) return false;
    const exactBytes = this.#map.chunkBytes(chunk);
    try {
      discard(await this.#core.blobs.read(place, { kind: 'data', plain: { exactBytes } }, { signal }));
      return true;
    } catch (error) {
      if (!(error instanceof BlobDamage)) throw error;
      return false;
    }
  }

  #reportChunk(chunk: number, place: BlobRef, reason: string): void {
    this.chunks.push(place);
    this.#report(chunk, 1, { pack: place.pack, reason });
  }

  #reportPage(firstChunk: number, count: number, error: Error): void {
    if (error.cause instanceof BlobDamage) this.pages.push(error.cause.ref);
    this.#report(firstChunk, count, { pack: packOf(error), reason: error.message });
  }

  #report(firstChunk: number, count: number, cause: { pack: string; reason: string }): void {
    const { chunkSizeBytes, sizeBytes } = this.#map.root;
    const offsetBytes = firstChunk * chunkSizeBytes;
    const lengthBytes = Math.min((firstChunk + count) * chunkSizeBytes, sizeBytes) - offsetBytes;
    this.damage.push({ disk: this.#disk, offsetBytes, lengthBytes, ...cause });
  }
}

function packOf(error: Error): string {
  return error instanceof LifeboatError ? String(error.context['pack'] ?? '') : '';
}

function join(damage: readonly DiskDamage[]): DiskDamage[] {
  const joined: DiskDamage[] = [];
  const sorted = damage.toSorted((a, b) =>
    a.disk === b.disk ? a.offsetBytes - b.offsetBytes : a.disk < b.disk ? -1 : 1,
  );
  for (const item of sorted) {
    const last = joined.at(-1);
    const continues =
      last &&
      last.disk === item.disk &&
      last.pack === item.pack &&
      last.reason === item.reason &&
      last.offsetBytes + last.lengthBytes === item.offsetBytes;
    if (continues) joined[joined.length - 1] = { ...last, lengthBytes: last.lengthBytes + item.lengthBytes };
    else joined.push(item);
  }
  return joined;
}
