/**
 * Writes what is needed of packs anew, so that the rest of them can go.
 *
 * ```
 *   pack ─► open each blob that is needed, compare with its id ─► seal anew, open again (PackBuilder) ─► PUT of the new pack
 *        ─► relocation: every needed blob of the old pack, by its slot ─► now the old pack may be condemned
 * ```
 * Killed between any two of these, nothing is lost and nothing is half done: without its relocation a new pack is dead, and with it
 * the old one is. New packs have names nobody had, because their session key, or their generation, is drawn here.
 *
 * A pack may hold what was moved before. Then the relocations that lead to it are written anew as well, whole, and lead to where their
 * blobs are now: a blob is found in one step, however often it was moved. Old relocations mean nothing then, and go with what they led to.
 *
 * Two collectors may do this at once: both copies are true, the relocation with the greater id counts, and only one of them can publish
 * the next list. A pack of which a blob cannot be read stays as it is.
 */
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { parseSessionId } from '@lifeboat/foundation/ids';
import type { ProgressSink } from '@lifeboat/foundation/progress';

import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { MAX_INDEX_SEGMENT_ENTRIES, MAX_PACK_BYTES, MAX_PAGE_BYTES } from '../format/limits.ts';
import { chunkIdOf, hex, packObject, relocationObject, type ChunkId, type PackName } from '../format/names.ts';
import { decodePackHeader, HEADER_READ_BYTES, hashSealed, kindOf, parsePack, type PackHeader } from '../format/pack.ts';
import { openBlob, openToc, packKey } from '../seal/blob-seal.ts';
import { controlName } from '../seal/control-records.ts';
import { discard } from '../seal/discard.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { holds } from '../write/healing.ts';
import { writeIndexSegment } from '../write/index-segments.ts';
import type { WriterLimits } from '../write/limits.ts';
import { PackBuilder, type PackOwner } from '../write/pack-builder.ts';
import { writeRelocation } from '../write/relocation-writer.ts';
import type { Candidate } from './compaction-plan.ts';
import type { MovedSource } from './moved-packs.ts';
import type { PackUse } from './pack-use.ts';

export interface Compacted {
  /** Packs that may be condemned now. */
  readonly packs: PackName[];
  /** Sealed bytes that were copied, and the bytes of the packs they lie in now. */
  copiedBytes: number;
  storedBytes: number;
  /** Packs that stay because not all that is needed of them could be read. */
  unreadablePacks: number;
}

/** A blob on its way: its place is known when the pack it goes to is stored. */
interface Copy {
  readonly slot: number;
  readonly id: ChunkId;
  place: BlobRef | undefined;
}

interface OldPack {
  readonly pack: PackName;
  readonly copies: Copy[];
}

/** `zstd` level of everything that is written. */
const LEVEL = 1;

export class Compaction {
  readonly #core: Core;
  readonly #use: PackUse;
  readonly #limits: Pick<WriterLimits, 'packBytes' | 'pagePackBytes'>;
  readonly #options: StoreOptions;
  readonly #progress: ProgressSink;
  readonly #relocationId: string;
  /** Of all packs this run writes; what is sealed for a machine has the same in its generation. */
  readonly #nonce: Uint8Array;
  readonly #session: { readonly key: Uint8Array; readonly epoch: number; readonly sealed: Uint8Array };
  readonly #sizes = new Map<PackName, number>();
  #segments = 0;
  #stored: BlobRef[] = [];
  #buffer = new Uint8Array(0);
  #open:
    | { readonly key: string; readonly builder: PackBuilder; readonly copies: Copy[]; readonly ids: Set<ChunkId> }
    | undefined;
  readonly done: Compacted = { packs: [], copiedBytes: 0, storedBytes: 0, unreadablePacks: 0 };

  /** `listNumber`: of the condemn list that is to name the old packs. */
  constructor(input: {
    core: Core;
    use: PackUse;
    listNumber: number;
    limits: Pick<WriterLimits, 'packBytes' | 'pagePackBytes'>;
    options: StoreOptions;
    progress?: ProgressSink | undefined;
  }) {
    const { core, listNumber } = input;
    this.#core = core;
    this.#use = input.use;
    this.#limits = input.limits;
    this.#options = input.options;
    this.#progress = input.progress ?? (() => {});
    this.#nonce = core.random.bytes(16);
    this.#relocationId = `compacted-${String(listNumber).padStart(8, '0')}-${hex(this.#nonce).slice(0, 16)}`;
    this.#session = core.keyring.newSessionKey(core.random);
  }

  /**
   * Moves what is needed of the packs. `sources`: packs that relocations lead from, into any of these. Errors: those of the store,
   * `repository.sealing-mismatch`. What was moved until then is true all the same.
   */
  async run(candidates: readonly Candidate[], sources: () => AsyncIterable<MovedSource>): Promise<Compacted> {
    const totalBytes = candidates.reduce((sum, { liveBytes }) => sum + liveBytes, 0);
    const moved = new Map<PackName, OldPack>();
    let waiting: OldPack[] = [];
    for (const { pack } of await this.#byOwner(candidates)) {
      this.#options.signal?.throwIfAborted();
      const old = await this.#copy(pack);
      if (!old) {
        this.done.unreadablePacks++;
        continue;
      }
      moved.set(pack, old);
      waiting.push(old);
      waiting = await this.#relocateComplete(waiting);
      this.#progress({ phase: 'compact', doneBytes: this.done.copiedBytes, totalBytes });
    }
    await this.#seal();
    await this.#relocateComplete(waiting);
    await this.#leadOn(moved, sources);
    await this.#writeSegment(1);
    return this.done;
  }

  /** What is sealed under one key lies side by side: fewer and larger packs. Packs that are gone are left out. */
  async #byOwner(candidates: readonly Candidate[]): Promise<{ pack: PackName; owner: string }[]> {
    const found: { pack: PackName; owner: string }[] = [];
    for (const { pack } of candidates) {
      try {
        const range = { offsetBytes: 0, lengthBytes: HEADER_READ_BYTES, atMost: true };
        const start = await this.#core.store.getRange(packObject(pack), range, this.#options);
        found.push({ pack, owner: ownerKey(decodePackHeader(start, packObject(pack)).header) });
      } catch (error) {
        if (!isUselessObject(error)) throw error;
        this.#skip(pack, messageOf(error));
        this.done.unreadablePacks++;
      }
    }
    return found.toSorted((a, b) => (`${a.owner} ${a.pack}` < `${b.owner} ${b.pack}` ? -1 : 1));
  }

  /** Undefined: a blob that is needed cannot be read, or lies in it twice. */
  async #copy(pack: PackName): Promise<OldPack | undefined> {
    const { keyring } = this.#core;
    const copies: Copy[] = [];
    try {
      const bytes = await this.#core.store.get(packObject(pack), { ...this.#options, maxBytes: MAX_PACK_BYTES });
      const layout = parsePack(bytes, pack);
      const { header } = layout;
      const kind = kindOf(header);
      if (!keyring.knowsEpochOf(header)) await this.#core.refreshKeys(this.#options);
      const baseKey = keyring.baseKeyOf(header);
      if (layout.name !== pack || !kind || !baseKey) return this.#skip(pack, 'it is not what its name says');
      const opening = { key: packKey(baseKey, header.salt), kind, tenantId: keyring.tenantId };
      const toc = openToc(opening, layout.sealedToc, pack);
      const needed = layout.blobs.filter(({ slot }) => this.#use.isUsed({ pack, slot }));
      const ids = needed.map(({ slot }) => chunkIdOf(toc.ids.subarray(slot * 32, slot * 32 + 32)));
      if (needed.length !== this.#use.used(pack).blobs || new Set(ids).size !== ids.length)
        return this.#skip(pack, 'maps name blobs in it that it does not hold');
      for (const [i, { slot, offsetBytes, lengthBytes, hash }] of needed.entries()) {
        const id = ids[i] as ChunkId;
        const sealed = bytes.subarray(offsetBytes, offsetBytes + lengthBytes);
        if (!hashSealed(sealed).equals(hash)) return this.#skip(pack, `blob ${slot} does not have its hash`);
        const plain = kind === 'data' ? { exactBytes: toc.plainBytes[slot] ?? 0 } : { maxBytes: MAX_PAGE_BYTES };
        const opened = openBlob(
          { ...opening, chunkIdKey: keyring.chunkIdKey, id, slot, plain },
          sealed,
          this.#core.zstd(LEVEL),
        );
        if ('failure' in opened) return this.#skip(pack, `blob ${slot}: ${opened.failure}`);
        copies.push(await this.#add(header, { slot, id, place: undefined }, opened.plain));
        this.done.copiedBytes += lengthBytes;
        discard(opened.plain);
      }
      discard(bytes);
      return { pack, copies };
    } catch (error) {
      if (!isUselessObject(error)) throw error;
      return this.#skip(pack, messageOf(error));
    }
  }

  #skip(pack: PackName, why: string): undefined {
    this.#core.log.warn(
      'a pack cannot be written anew, and stays as it is; a check of the content says what is damaged',
      {
        pack,
        why,
      },
    );
    return undefined;
  }

  async #add(header: PackHeader, copy: Copy, plain: Uint8Array): Promise<Copy> {
    const key = ownerKey(header);
    if (this.#open && (this.#open.key !== key || !this.#open.builder.hasRoom(1, plain.length))) await this.#seal();
    this.#open ??= { key, builder: this.#newBuilder(header), copies: [], ids: new Set() };
    // What several of the old packs hold lies in the new one once.
    if (!this.#open.ids.has(copy.id)) this.#open.builder.add(copy.id, plain);
    this.#open.ids.add(copy.id);
    this.#open.copies.push(copy);
    return copy;
  }

  #newBuilder(header: PackHeader): PackBuilder {
    const { tenantId, chunkIdKey } = this.#core.keyring;
    const kind = kindOf(header) ?? 'data';
    const bytes = kind === 'data' ? this.#limits.packBytes : this.#limits.pagePackBytes;
    if (this.#buffer.length !== bytes) this.#buffer = Buffer.allocUnsafeSlow(bytes);
    const owner: PackOwner = {
      kind,
      tenantId,
      chunkIdKey,
      baseKey: kind === 'data' ? this.#session.key : (this.#core.keyring.baseKeyOf(header) ?? new Uint8Array(32)),
      generation: this.#nonce,
      access:
        kind === 'data'
          ? { epoch: this.#session.epoch, sealedSessionKey: this.#session.sealed }
          : { machineId: header.machineId ?? '' },
    };
    return new PackBuilder({ owner, buffer: this.#buffer, compression: this.#core.zstd(LEVEL) });
  }

  async #seal(): Promise<void> {
    const open = this.#open;
    if (!open) return;
    this.#open = undefined;
    const { name, sizeBytes, blobs } = open.builder.finish();
    const bytes = this.#buffer.subarray(0, sizeBytes);
    const outcome = await this.#core.store.putIfAbsent(packObject(name), [bytes], this.#options);
    if (outcome === 'exists' && !(await holds(this.#core, name, bytes, this.#options)))
      throw new LifeboatError(
        'repository.object-damaged',
        `pack ${name}, which was put just now, is not what was put`,
        {
          context: { object: packObject(name) },
        },
      );
    const byId = new Map(blobs.map((ref) => [ref.id, ref]));
    for (const copy of open.copies) copy.place = byId.get(copy.id);
    this.#sizes.set(name, sizeBytes);
    this.#use.flag(name, 'target');
    this.done.storedBytes += sizeBytes;
    if (!open.key.startsWith('data')) return;
    this.#stored.push(...blobs);
    await this.#writeSegment(MAX_INDEX_SEGMENT_ENTRIES);
  }

  /** Writes the relocations of packs whose blobs are all stored. Returns the others. */
  async #relocateComplete(waiting: readonly OldPack[]): Promise<OldPack[]> {
    const left: OldPack[] = [];
    for (const old of waiting) {
      if (old.copies.some(({ place }) => place === undefined)) {
        left.push(old);
        continue;
      }
      if (this.#use.is(old.pack, 'hinted')) await this.#relocate(old);
      // What is found in it by way of other packs is led on at the end.
      if (!this.#use.is(old.pack, 'target')) this.#giveUp(old.pack);
    }
    return left;
  }

  #giveUp(pack: PackName): void {
    this.#use.flag(pack, 'moved');
    this.done.packs.push(pack);
  }

  async #relocate({ pack, copies }: OldPack): Promise<void> {
    const moved = copies.map(({ place }) => place).filter((place) => place !== undefined);
    const slots = new Map(copies.map(({ id, slot }) => [id, slot]));
    await this.#write({ pack, moved, slots });
  }

  async #write(what: { pack: PackName; moved: BlobRef[]; slots: ReadonlyMap<ChunkId, number> }): Promise<void> {
    const sizes = await this.#sizesOf(what.moved);
    const relocationId = this.#relocationId;
    const relocation = { ...what, sizes, relocationId, reason: 'compacted' as const };
    if (await writeRelocation(this.#core, relocation, this.#options)) return;
    throw new LifeboatError(
      'repository.object-damaged',
      `what lies under the name of relocation ${relocationId} of pack ${what.pack} is not what was put just now`,
      { context: { object: controlName(this.#core, relocationObject(what.pack, relocationId)) } },
    );
  }

  async #sizesOf(places: readonly BlobRef[]): Promise<Map<PackName, number>> {
    const sizes = new Map<PackName, number>();
    for (const pack of new Set(places.map((place) => place.pack))) {
      const known = this.#sizes.get(pack) ?? (await this.#core.store.head(packObject(pack), this.#options))?.sizeBytes;
      if (known !== undefined) sizes.set(pack, known);
    }
    return sizes;
  }

  /** Leads packs that led into one of the moved on, to where their blobs are now; then nothing is found by way of those any more. */
  async #leadOn(moved: ReadonlyMap<PackName, OldPack>, sources: () => AsyncIterable<MovedSource>): Promise<void> {
    const targets = [...moved.keys()].filter((pack) => this.#use.is(pack, 'target'));
    if (targets.length === 0) return;
    const copies = new Map<string, BlobRef>();
    for (const pack of targets)
      for (const { slot, place } of moved.get(pack)?.copies ?? []) if (place) copies.set(`${pack} ${slot}`, place);
    for await (const { pack, places } of this.#core.rules.leadSourcesOn ? sources() : []) {
      const now = [...places].map(([slot, place]) => ({
        slot,
        place: copies.get(`${place.pack} ${place.slot}`) ?? place,
      }));
      if (now.every(({ slot, place }) => places.get(slot) === place)) continue;
      const slots = new Map(now.map(({ slot, place }) => [place.id, slot]));
      await this.#write({ pack, moved: now.map(({ place }) => place), slots });
    }
    for (const pack of targets) {
      this.#use.unflag(pack, 'target');
      this.#giveUp(pack);
    }
  }

  /** So that writers find the copies: the places they know lie in packs that go. */
  async #writeSegment(atLeast: number): Promise<void> {
    const sessionId = parseSessionId(`s${hex(this.#nonce)}`);
    while (this.#stored.length >= atLeast) {
      const refs = this.#stored.slice(0, MAX_INDEX_SEGMENT_ENTRIES);
      await writeIndexSegment(this.#core, { sessionId, sequence: this.#segments++, refs }, this.#options);
      this.#stored = this.#stored.slice(refs.length);
    }
  }
}

function ownerKey(header: PackHeader): string {
  return `${kindOf(header) ?? ''} ${header.machineId ?? ''}`;
}
