/**
 * Puts pages into packs of their own. A page refers to pages below it; while those lie in the pack being filled, which has no
 * name yet, they are referred to as "this pack", and every reference handed out gets the name when the pack is sealed.
 *
 * The same pages make the same pack, so its name may be taken: by itself, or by what damage made of it. Then the pages are sealed
 * anew, under another generation.
 */
import { SELF, type BlobRef } from '../format/blob-ref.ts';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { PackName } from '../format/names.ts';

import type { Compression } from '../seal/codec.ts';
import { chunkId } from '../seal/blob-seal.ts';
import { resealed } from './generation.ts';
import { PackBuilder, type FinishedPack, type PackOwner } from './pack-builder.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export interface PageWriterDeps {
  readonly owner: PackOwner;
  readonly compression: Compression;
  readonly packBytes: number;
  /**
   * Stores a sealed pack, durably. 'taken': something else lies under its name. `spoilt`: names under which these pages lie, damaged.
   */
  upload(pack: FinishedPack, bytes: Uint8Array, spoilt: readonly PackName[]): Promise<'stored' | 'taken'>;
}

/** How often pages are sealed anew before the store is not believed any more. */
const MAX_RESEALS = 8;

interface OpenPage {
  readonly ref: Mutable<BlobRef>;
  readonly plain: Uint8Array;
}

export class PageWriter {
  readonly #deps: PageWriterDeps;
  readonly #buffer: Uint8Array;
  /** Sealed packs and how many pages each got. */
  readonly packs: { readonly pack: PackName; readonly pages: number }[] = [];
  #builder: PackBuilder | undefined;
  #open: OpenPage[] = [];

  constructor(deps: PageWriterDeps) {
    this.#deps = deps;
    this.#buffer = Buffer.allocUnsafeSlow(deps.packBytes);
  }

  /**
   * Writes a page. `encode` may be called twice: references change their form when the pack before is sealed in between.
   * The returned reference is complete after the next `flush`.
   */
  async put(encode: () => Uint8Array): Promise<BlobRef> {
    let plain = encode();
    if (this.#builder && !this.#builder.hasRoom(1, plain.length)) {
      await this.flush();
      plain = encode();
    }
    this.#builder ??= new PackBuilder({ ...this.#deps, buffer: this.#buffer });
    if (!this.#builder.hasRoom(1, plain.length)) {
      throw new LifeboatError(
        'internal.bug',
        `a page of ${plain.length} bytes does not fit a pack of ${this.#deps.packBytes}`,
      );
    }
    const id = chunkId(this.#deps.owner.chunkIdKey, plain);
    const ref = { id, pack: SELF, ...this.#builder.add(id, plain) };
    this.#open.push({ ref, plain });
    return ref;
  }

  async flush(): Promise<void> {
    if (!this.#builder) return;
    const pack = await this.#store(this.#builder);
    this.#builder = undefined;
    this.packs.push({ pack: pack.name, pages: this.#open.length });
    for (const { ref } of this.#open) ref.pack = pack.name;
    this.#open = [];
  }

  async #store(first: PackBuilder): Promise<FinishedPack> {
    const spoilt: PackName[] = [];
    for (let builder = first; ; builder = this.#sealAnew(spoilt.length)) {
      const pack = builder.finish();
      if ((await this.#deps.upload(pack, this.#buffer.subarray(0, pack.sizeBytes), spoilt)) === 'stored') return pack;
      spoilt.push(pack.name);
      if (spoilt.length <= MAX_RESEALS) continue;
      throw new LifeboatError(
        'repository.object-damaged',
        `packs that were stored just now are not what was stored: ${spoilt.join(', ')}`,
      );
    }
  }

  /** References keep their slots and offsets: only the name of the pack becomes another. */
  #sealAnew(reseals: number): PackBuilder {
    const { owner } = this.#deps;
    const anew = { ...owner, generation: resealed(owner.generation, reseals) };
    const builder = new PackBuilder({ ...this.#deps, owner: anew, buffer: this.#buffer });
    for (const { ref, plain } of this.#open) {
      const { slot, offsetBytes, lengthBytes } = builder.add(ref.id, plain);
      if (slot !== ref.slot || offsetBytes !== ref.offsetBytes || lengthBytes !== ref.lengthBytes)
        throw new LifeboatError('internal.bug', `page ${ref.slot} of a pack that is sealed anew has another place`);
    }
    return builder;
  }
}
