/**
 * What a check of many points found whole so far, so that what points share is read once: 8 bytes for each pack and chunk, at a load of a
 * quarter to a half (134 MB at most). What is beyond the limit is read as often as it is met. Two of 2^64 that are alike by chance count as one.
 */
import { createHash } from 'node:crypto';

import type { BlobRef } from '../format/blob-ref.ts';
import { PackNames } from '../collect/pack-names.ts';
import type { PackName } from '../format/names.ts';
import type { PackDamage } from './pack-check.ts';

/** Chunks of 8 TiB. */
const MAX_WHOLE = 8_388_608;
/** A damaged pack beyond these is looked at again by each point that needs it. */
const MAX_DAMAGED = 16_384;

/** For one level. Safe for points that are checked one after the other. */
export class CheckMemory {
  readonly #whole = new PackNames();
  readonly #damaged = new Map<string, PackDamage>();

  /** Looks at a pack unless that was done before. `sizeBytes`: what it should have, where that is known. */
  async pack(
    pack: { readonly name: PackName; readonly sizeBytes: number | undefined },
    look: () => Promise<PackDamage | undefined>,
  ): Promise<{ readonly damage: PackDamage | undefined; readonly isNew: boolean }> {
    const text = `${pack.name} ${pack.sizeBytes ?? '?'}`;
    const known = this.#damaged.get(text);
    if (known || this.#has(text)) return { damage: known, isNew: false };
    const damage = await look();
    if (!damage) this.#add(text);
    else if (this.#damaged.size < MAX_DAMAGED) this.#damaged.set(text, damage);
    return { damage, isNew: true };
  }

  /** Whether the very place that a map names was opened before, to so many bytes. */
  hasOpened(place: BlobRef, exactBytes: number): boolean {
    return this.#has(describe(place, exactBytes));
  }

  opened(place: BlobRef, exactBytes: number): void {
    this.#add(describe(place, exactBytes));
  }

  #has(text: string): boolean {
    return this.#whole.has(fingerprint(text));
  }

  #add(text: string): void {
    if (this.#whole.size < MAX_WHOLE) this.#whole.add(fingerprint(text));
  }
}

function describe({ id, pack, slot, offsetBytes, lengthBytes }: BlobRef, exactBytes: number): string {
  return `${id} ${pack} ${slot} ${offsetBytes} ${lengthBytes} ${exactBytes}`;
}

function fingerprint(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
