/**
 * Puts pages into packs of their own. A page refers to pages below it; while those lie in the pack being filled, which has no
 * name yet, they are referred to as "this pack", and every reference handed out gets the name when the pack is sealed.
 */
import { SELF, type BlobRef } from '../format/blob-ref.ts';
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { Compression } from '../seal/codec.ts';
import { chunkId } from '../seal/blob-seal.ts';
import { PackBuilder, type FinishedPack, type PackOwner } from './pack-builder.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export interface PageWriterDeps {
  readonly owner: PackOwner;
  readonly compression: Compression;
  readonly packBytes: number;
  /** Stores a sealed pack, durably. */
  upload(pack: FinishedPack, bytes: Uint8Array): Promise<void>;
}

export class PageWriter {
  readonly #deps: PageWriterDeps;
  readonly #buffer: Uint8Array;
  /** Sealed packs and how many pages each got. */
  readonly packs: { readonly pack: FinishedPack; readonly pages: number }[] = [];
  #builder: PackBuilder | undefined;
  #open: Mutable<BlobRef>[] = [];

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
    this.#open.push(ref);
    return ref;
  }

  async flush(): Promise<void> {
    if (!this.#builder) return;
    const pack = this.#builder.finish();
    this.#builder = undefined;
    await this.#deps.upload(pack, this.#buffer.subarray(0, pack.sizeBytes));
    this.packs.push({ pack, pages: this.#open.length });
    for (const ref of this.#open) ref.pack = pack.name;
    this.#open = [];
  }
}
