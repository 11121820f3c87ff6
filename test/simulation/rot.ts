/**
 * Packs that rot where they lie, and what that costs.
 *
 * A blob is *found* from a pack if it is whole there, or if relocations lead from there to where it is. Rot may take that away, and only
 * then may a point miss a chunk: `lost` says what. Copies a compaction made count when the pack is gone: while it is there, a collector may
 * hold them for those of one that was killed, and let them go, since it does not read the pack (docs/format.md, section 12). For the same reason
 * it deletes the pack although a copy rotted, or is gone: then what was whole in the pack alone is lost with it. Once a session
 * healed it, it must be found for ever, as everything else.
 *
 * This looks at the bytes of the store, not through the reader: it must not believe what is to be tried.
 */
import { isOfCompaction } from '@lifeboat/repository/collect/moved-packs';
import type { Damage } from '@lifeboat/repository/check/damage-reports';
import {
  chunkIdOf,
  packObject,
  packOfObject,
  PACKS,
  relocatedPackOf,
  relocationIdOf,
  RELOCATIONS,
  type ChunkId,
  type PackName,
} from '@lifeboat/repository/format/names';
import { HEADER_READ_BYTES, kindOf, parsePack, type SealedBlob } from '@lifeboat/repository/format/pack';
import { openRelocation } from '@lifeboat/repository/read/relocations';
import { openToc, packKey } from '@lifeboat/repository/seal/blob-seal';

import { keyring } from './simulated-keys.ts';
import type { World } from './world.ts';

/** A blob, and the pack from which it is looked for. */
interface Wanted {
  readonly pack: PackName;
  readonly id: ChunkId;
}

/** A pack as it was before it rotted. */
interface Original {
  readonly bytes: Uint8Array;
  readonly blobs: ReadonlyMap<ChunkId, SealedBlob>;
  readonly headerBytes: number;
}

interface Loss extends Wanted {
  /** Whether a check said so, since it was lost. */
  reported: boolean;
  /** Whether only the copy is that a compaction made: it is lost when a collector deletes the pack. */
  readonly isOfCopy: boolean;
}

/** Packs that are looked at for one of chunks. */
const MAX_TRIES = 8;

const keyOf = ({ pack, id }: Wanted): string => `${pack} ${id}`;

export class Rot {
  readonly #world: World;
  readonly #originals = new Map<PackName, Original>();
  /** By the name of the relocation: where it leads, by id. */
  readonly #led = new Map<string, ReadonlyMap<ChunkId, PackName>>();
  readonly #lost = new Map<string, Loss>();

  constructor(world: World) {
    this.#world = world;
  }

  hasStruck(pack: PackName): boolean {
    return this.#originals.has(pack);
  }

  isLost(wanted: Wanted): boolean {
    const loss = this.#lost.get(keyOf(wanted));
    return loss !== undefined && !(loss.isOfCopy && this.#isFound(wanted, this.#ways()));
  }

  /** What a session that begins now learns of. */
  get reported(): ReadonlySet<string> {
    return new Set([...this.#lost].filter(([, { reported }]) => reported).map(([key]) => key));
  }

  /** Whether it was reported then, and is lost still. */
  isStale(wanted: Wanted, reported: ReadonlySet<string>): boolean {
    return reported.has(keyOf(wanted)) && this.isLost(wanted);
  }

  noteReport({ packs, chunks, pages }: Damage): void {
    const whole = new Set(packs);
    const places = new Set([...chunks, ...pages].map(keyOf));
    for (const [key, loss] of this.#lost) loss.reported ||= places.has(key) || whole.has(loss.pack);
  }

  /** A session came to its end: what it healed may never be lost again. */
  noteHealed(): void {
    if (this.#lost.size === 0) return;
    const ways = this.#ways();
    for (const [key, loss] of this.#lost) {
      const isOver = loss.isOfCopy ? this.#isFoundElsewhere(loss, ways) : loss.reported && this.#isFound(loss, ways);
      if (isOver) this.#lost.delete(key);
    }
  }

  /**
   * One pack rots: a byte changes, its end is cut off, it is gone, or some of it lies on bad sectors. Of chunks, as far as there is one among
   * a few: pages that are gone are gone for ever, and so are collections until their points are pruned; unit tests look at that.
   */
  strike(): void {
    const names = [...this.#world.objects.names(PACKS)];
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const name = this.#world.pick(names);
      const pack = name === undefined ? undefined : packOfObject(name);
      if (pack && this.#strikeAt(pack)) return;
    }
  }

  #strikeAt(pack: PackName): boolean {
    const name = packObject(pack);
    const bytes = this.#world.objects.get(name) ?? new Uint8Array(0);
    const original = this.#originals.get(pack) ?? readOriginal(pack, bytes);
    if (!original) return false;
    this.#originals.set(pack, original);
    const ways = this.#ways();
    const touched = [...original.blobs.keys()].flatMap((id) => [
      { pack, id },
      ...[...ways].filter(([, of]) => of.some(({ led }) => led.has(id))).map(([from]) => ({ pack: from, id })),
    ]);
    const found = touched.filter((wanted) => this.#isFound(wanted, ways));
    const foundElsewhere = touched.filter((wanted) => this.#isFoundElsewhere(wanted, ways));
    this.#spoil(name, bytes);
    for (const wanted of found)
      if (!this.#isFound(wanted, ways)) this.#lost.set(keyOf(wanted), { ...wanted, reported: false, isOfCopy: false });
    for (const wanted of foundElsewhere)
      if (!this.#lost.has(keyOf(wanted)) && !this.#isFoundElsewhere(wanted, ways))
        this.#lost.set(keyOf(wanted), { ...wanted, reported: false, isOfCopy: true });
    return true;
  }

  #spoil(name: string, bytes: Uint8Array): void {
    const { objects } = this.#world;
    const at = this.#world.below(bytes.length);
    const how = this.#world.below(4);
    if (how === 0) objects.set(name, flipped(bytes, at));
    else if (how === 1) objects.set(name, bytes.slice(0, at));
    else if (how === 2) objects.delete(name);
    else objects.spoil(name, { from: at, to: at + 1 + this.#world.below(bytes.length - at) });
  }

  #isFound(wanted: Wanted, ways: Ways): boolean {
    return this.#search(wanted, ways, () => false, new Set());
  }

  /** The same when every pack is gone whose blob a compaction copied. */
  #isFoundElsewhere(wanted: Wanted, ways: Ways): boolean {
    const isCopied = ({ pack, id }: Wanted): boolean =>
      (ways.get(pack) ?? []).some(({ led, isOfCompaction }) => isOfCompaction && led.has(id));
    return this.#search(wanted, ways, isCopied, new Set());
  }

  #search(wanted: Wanted, ways: Ways, isGivenUp: (wanted: Wanted) => boolean, seen: Set<PackName>): boolean {
    const { pack, id } = wanted;
    const isGone = isGivenUp(wanted) || !this.#world.objects.has(packObject(pack));
    if (!isGone && this.#isWhole(wanted)) return true;
    seen.add(pack);
    return (ways.get(pack) ?? []).some(({ led, isOfCompaction }) => {
      if (isOfCompaction && !isGone) return false;
      const next = led.get(id);
      return next !== undefined && !seen.has(next) && this.#search({ pack: next, id }, ways, isGivenUp, seen);
    });
  }

  #isWhole({ pack, id }: Wanted): boolean {
    const { objects } = this.#world;
    const name = packObject(pack);
    const bytes = objects.get(name);
    const original = this.#originals.get(pack);
    if (!bytes || !original) return bytes !== undefined;
    const blob = original.blobs.get(id);
    if (!blob) return false;
    const { offsetBytes, lengthBytes } = blob;
    const same = (from: number, to: number): boolean =>
      Buffer.compare(bytes.subarray(from, to), original.bytes.subarray(from, to)) === 0;
    const isReadable = (from: number, to: number): boolean => objects.isReadable(name, from, to);
    const end = offsetBytes + lengthBytes;
    return (
      same(0, original.headerBytes) &&
      same(offsetBytes, end) &&
      isReadable(0, HEADER_READ_BYTES) &&
      isReadable(offsetBytes, end)
    );
  }

  #ways(): Ways {
    const ways = new Map<PackName, Way[]>();
    for (const name of this.#world.objects.names(RELOCATIONS)) {
      const from = relocatedPackOf(name);
      const way = { led: this.#readRelocation(name, from), isOfCompaction: isOfCompaction(name) };
      ways.set(from, [...(ways.get(from) ?? []), way]);
    }
    return ways;
  }

  #readRelocation(name: string, pack: PackName): ReadonlyMap<ChunkId, PackName> {
    const known = this.#led.get(name);
    if (known) return known;
    const object = this.#world.objects.get(name) ?? new Uint8Array(0);
    const { moved } = openRelocation({ keyring }, object, { pack, relocationId: relocationIdOf(name) }, name);
    const led = new Map(moved.map((place) => [place.id, place.pack]));
    this.#led.set(name, led);
    return led;
  }
}

/** A relocation: where each blob is led. */
interface Way {
  readonly led: ReadonlyMap<ChunkId, PackName>;
  readonly isOfCompaction: boolean;
}

/** The relocations that lead from a pack. */
type Ways = ReadonlyMap<PackName, readonly Way[]>;

/** Undefined for a pack of pages. */
function readOriginal(pack: PackName, bytes: Uint8Array): Original | undefined {
  const { header, blobs, sealedToc } = parsePack(bytes, pack);
  const baseKey = keyring.baseKeyOf(header);
  if (kindOf(header) !== 'data' || !baseKey) return undefined;
  const opening = { key: packKey(baseKey, header.salt), kind: 'data' as const, tenantId: keyring.tenantId };
  const { ids } = openToc(opening, sealedToc, pack);
  const idAt = (slot: number): ChunkId => chunkIdOf(ids.subarray(slot * 32, slot * 32 + 32));
  return {
    bytes,
    blobs: new Map(blobs.map((blob) => [idAt(blob.slot), blob])),
    headerBytes: blobs[0]?.offsetBytes ?? bytes.length,
  };
}

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const copy = new Uint8Array(bytes);
  copy[at] = (copy[at] ?? 0) ^ 0x55;
  return copy;
}
