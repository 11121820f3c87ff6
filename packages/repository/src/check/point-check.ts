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
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';

import type { Core } from '../core.ts';
import type { Damage } from './damage-reports.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { packObject, type PackName } from '../format/names.ts';
import type { CheckLevel } from '../format/verification.ts';
import { BlobDamage } from '../read/blob-reader.ts';
import { LruCache } from '../read/lru.ts';
import { MapReader } from '../read/map-reader.ts';
import { discard } from '../seal/discard.ts';
import { readPackSets, type NamedPackSet } from '../read/pack-set-reader.ts';
import type { Point } from '../read/point-reader.ts';
import type { CheckMemory } from './check-memory.ts';
import { checkBytes, checkSize, type PackDamage } from './pack-check.ts';

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
  /** Bytes of packs hashed (ciphertext), or plain bytes opened (content); not of what was looked at for an earlier point. */
  readonly checkedBytes: number;
  readonly objects: readonly ObjectDamage[];
  /** Sorted by disk and offset; neighbours with one cause are joined. */
  readonly disks: readonly DiskDamage[];
  /** The same as the writers of the repository want to know it. */
  readonly damage: Damage;
}

/** Chunks opened side by side in a content check. */
const CONTENT_WINDOW = 16;
const MAX_SIZES = 65_536;

/**
 * `whole` hears of every pack that is, as far as it was looked at: in its size ('present', 'content'), or to the last byte ('ciphertext').
 * `memory`: of a check of many points; what it holds is not read again.
 * Throws what the store throws when it cannot be asked, or not now (never a finding), and the signal's reason.
 */
export async function checkPoint(
  core: Core,
  input: {
    readonly point: Point;
    readonly level: CheckLevel;
    readonly context: VerbContext;
    readonly whole?: (pack: PackName) => Promise<void>;
    readonly memory?: CheckMemory | undefined;
  },
): Promise<CheckReport> {
  const { point, level, context, whole, memory } = input;
  // A page that was read before it was damaged would hide that it is.
  if (!memory) core.pages.forget();
  const objects: ObjectDamage[] = [];
  const pages: BlobRef[] = [];
  let checkedBytes = 0;

  const damaged = new Map<PackName, PackDamage>();
  const sets = point.disks.map(({ name, root }) => ({ name, root: root.packs }));
  const totalBytes = level === 'ciphertext' ? await bytesOf(core, sets, context.signal) : 0;
  let checkedPacks = 0;
  let doneBytes = 0;
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
    const look = (): Promise<PackDamage | undefined> =>
      level === 'ciphertext'
        ? checkBytes(core, pack, context.signal)
        : checkSize(core, pack, need.sizeBytes, context.signal);
    const { damage, isNew } = memory
      ? await memory.pack({ name: pack, sizeBytes: need.sizeBytes }, look)
      : { damage: await look(), isNew: true };
    if (damage) damaged.set(pack, damage);
    else await whole?.(pack);
    if (level !== 'ciphertext') continue;
    if (isNew) checkedBytes += need.sizeBytes ?? 0;
    doneBytes += need.sizeBytes ?? 0;
    context.progress({ phase: 'check', doneBytes, totalBytes });
  }

  const found = await locateDamage(core, {
    point,
    damaged,
    pages,
    openContent: level === 'content',
    presentOnly: level === 'present',
    memory,
    context,
  });
  if (level === 'content') checkedBytes += found.openedBytes;
  const allObjects = [...objects, ...found.objects];
  return {
    level,
    sound: allObjects.length === 0 && found.disks.length === 0,
    checkedPacks,
    checkedBytes,
    objects: allObjects,
    disks: found.disks,
    damage: found.damage,
  };
}

/** What damaged packs mean for a point that needs them. */
export interface LocatedDamage extends Pick<CheckReport, 'objects' | 'disks' | 'damage'> {
  /** Plain bytes, where every chunk was opened. */
  readonly openedBytes: number;
}

/**
 * Looks up in a point's maps what damaged packs hold of it; `openContent`: opens every chunk on the way. `damaged`: packs the point needs.
 * `pages`: what of its pack sets cannot be read. What a relocation leads to a whole place is left out.
 */
export async function locateDamage(
  core: Core,
  input: {
    readonly point: Point;
    readonly damaged: ReadonlyMap<PackName, PackDamage>;
    readonly pages: readonly BlobRef[];
    readonly openContent: boolean;
    /** Of what a relocation leads to it is asked whether it is there, and nothing more. */
    readonly presentOnly?: boolean;
    /** Chunks that were opened for earlier points. */
    readonly memory?: CheckMemory | undefined;
    readonly context: VerbContext;
  },
): Promise<LocatedDamage> {
  const { point, damaged, openContent, presentOnly = false, memory, context } = input;
  const objects: ObjectDamage[] = [];
  const disks: DiskDamage[] = [];
  const chunks: BlobRef[] = [];
  const pages = [...input.pages];
  let openedBytes = 0;
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
    const checker = new DiskCheck({ core, map, disk: name, damaged, relocated, openContent, presentOnly, memory });
    const offset = before;
    openedBytes += await checker.run(context.signal, (doneBytes) => {
      if (openContent)
        context.progress({ phase: 'check', doneBytes: offset + doneBytes, totalBytes: mappedTotal, detail: name });
    });
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
  return { objects, disks: join(disks), damage: { packs: whole, chunks, pages }, openedBytes };
}

/** Of all packs that are going to be read. What cannot be read is reported then. */
async function bytesOf(core: Core, sets: readonly NamedPackSet[], signal: AbortSignal): Promise<number> {
  let bytes = 0;
  for await (const need of readPackSets(core.pages, sets, { signal })) bytes += ('pack' in need && need.sizeBytes) || 0;
  return bytes;
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
  readonly #presentOnly: boolean;
  readonly #memory: CheckMemory | undefined;
  /** Of packs that relocations lead to. */
  readonly #sizes = new LruCache<PackName, number>(MAX_SIZES);
  #openedBytes = 0;

  constructor(input: {
    core: Core;
    map: MapReader;
    disk: string;
    damaged: ReadonlyMap<PackName, PackDamage>;
    relocated: ReadonlySet<PackName>;
    openContent: boolean;
    presentOnly: boolean;
    memory: CheckMemory | undefined;
  }) {
    this.#core = input.core;
    this.#memory = input.memory;
    this.#map = input.map;
    this.#disk = input.disk;
    this.#damaged = input.damaged;
    this.#relocated = input.relocated;
    this.#openContent = input.openContent;
    this.#presentOnly = input.presentOnly;
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
            const inVain = await this.#lookElsewhere(chunk, place, signal);
            if (inVain) this.#reportChunk(chunk, inVain, known);
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
    if (this.#memory?.hasOpened(place, exactBytes)) return;
    try {
      discard(await this.#core.blobs.read(place, { kind: 'data', plain: { exactBytes } }, { signal }));
      this.#openedBytes += exactBytes;
      this.#memory?.opened(place, exactBytes);
    } catch (error) {
      if (!(error instanceof BlobDamage)) throw error;
      this.#reportChunk(chunk, error.places, messageOf(error));
    }
  }

  /**
   * Undefined when a relocation leads to a place that opens; where only presence is asked for, to a pack that is there. Else the places
   * that were looked at.
   */
  async #lookElsewhere(chunk: number, place: BlobRef, signal: AbortSignal): Promise<readonly BlobRef[] | undefined> {
    if (!this.#relocated.has(place.pack)) return [place];
    if (this.#presentOnly) {
      for await (const moved of this.#core.relocations.places(place, { signal }))
        if (moved.offsetBytes + moved.lengthBytes <= (await this.#sizeOf(moved.pack, signal))) return undefined;
    }
    const exactBytes = this.#map.chunkBytes(chunk);
    try {
      discard(await this.#core.blobs.read(place, { kind: 'data', plain: { exactBytes } }, { signal }));
      return undefined;
    } catch (error) {
      if (!(error instanceof BlobDamage)) throw error;
      return error.places;
    }
  }

  async #sizeOf(pack: PackName, signal: AbortSignal): Promise<number> {
    const known = this.#sizes.get(pack);
    if (known !== undefined) return known;
    const size = (await this.#core.store.head(packObject(pack), { signal }))?.sizeBytes ?? 0;
    this.#sizes.set(pack, size);
    return size;
  }

  /** `places`: where the map says, and where relocations led: writers must know that none of them is whole. */
  #reportChunk(chunk: number, places: readonly BlobRef[], reason: string): void {
    this.chunks.push(...places);
    this.#report(chunk, 1, { pack: places[0]?.pack ?? '', reason });
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
