/** Which packs are worth writing anew: those of which so much is needed by nobody that the room is worth the work. */
import { GiB } from '@lifeboat/foundation/units';

import type { Core } from '../core.ts';
import { packObject, type PackName } from '../format/names.ts';
import type { StoreOptions } from '../store/object-store.ts';
import type { PackUse } from './pack-use.ts';

export interface CompactionLimits {
  /** Share of a pack, 0 to 1, that must be dead. */
  readonly minDeadShare: number;
  /** Sealed bytes of live blobs that one run copies at most; one pack is always allowed. */
  readonly maxRewriteBytes: number;
  /** Also packs a lock of the store holds. Their room is free only when their locks end, and until then they lie there twice. */
  readonly includeLocked: boolean;
}

/**
 * A pack in which a quarter is dead costs three times the reading and writing that it frees; one in which half is, once. So much as 16 GiB
 * is read and written in minutes, also over a network: a prune that runs each night catches up.
 */
export const DEFAULT_COMPACTION: CompactionLimits = {
  minDeadShare: 0.4,
  maxRewriteBytes: 16 * GiB,
  includeLocked: false,
};

export interface Candidate {
  readonly pack: PackName;
  readonly sizeBytes: number;
  /** Sealed bytes of blobs that are needed. */
  readonly liveBytes: number;
  /** What writing it anew saves, as far as sizes tell. */
  readonly deadBytes: number;
}

/** Packs that are remembered as worth it; the rest waits for the next runs. 10 MB. */
const MAX_CANDIDATES = 65_536;
/** Blobs one run copies: 100 MB while their relocations wait for the last pack. */
const MAX_MOVED_BLOBS = 262_144;

/** Header, tags and trailer of a pack, at least; and what a blob has in the tables, at least. */
const PACK_OVERHEAD_BYTES = 230;
const BLOB_OVERHEAD_BYTES = 72;

export class CompactionPlan {
  readonly #core: Core;
  readonly #use: PackUse;
  readonly #limits: CompactionLimits;
  readonly #candidates: Candidate[] = [];
  /** Worth it, and not to be written anew in this run. */
  readonly left = { packs: 0, deadBytes: 0 };
  readonly locked = { packs: 0, deadBytes: 0 };

  constructor(core: Core, input: { use: PackUse; limits: CompactionLimits }) {
    this.#core = core;
    this.#use = input.use;
    this.#limits = input.limits;
  }

  /** A pack that is there, and needed. */
  async consider(pack: PackName, sizeBytes: number, options: StoreOptions): Promise<void> {
    if (this.#use.is(pack, 'whole', 'moved')) return;
    if (this.#core.rules.leaveHealed && this.#use.is(pack, 'healed')) return;
    const { blobs, bytes: liveBytes } = this.#use.used(pack);
    // Named by a pack set and by no map that was gone through: nothing is known of it.
    if (blobs === 0) return;
    const deadBytes = sizeBytes - liveBytes - PACK_OVERHEAD_BYTES - blobs * BLOB_OVERHEAD_BYTES;
    if (deadBytes <= 0 || deadBytes < sizeBytes * this.#limits.minDeadShare) return;
    if (!this.#limits.includeLocked && (await isLocked(this.#core, packObject(pack), options))) {
      this.locked.packs++;
      this.locked.deadBytes += deadBytes;
    } else if (this.#candidates.length < MAX_CANDIDATES)
      this.#candidates.push({ pack, sizeBytes, liveBytes, deadBytes });
    else this.#leave(deadBytes);
  }

  /** What is to be written anew now: what frees most for what it costs, as far as the budget goes. */
  choose(): Candidate[] {
    const ordered = this.#candidates.toSorted((a, b) => shareOf(b) - shareOf(a) || (a.pack < b.pack ? -1 : 1));
    const chosen: Candidate[] = [];
    let bytes = 0;
    let blobs = 0;
    for (const candidate of ordered) {
      bytes += candidate.liveBytes;
      blobs += this.#use.used(candidate.pack).blobs;
      const fits = chosen.length === 0 || (bytes <= this.#limits.maxRewriteBytes && blobs <= MAX_MOVED_BLOBS);
      if (fits) chosen.push(candidate);
      else {
        bytes -= candidate.liveBytes;
        blobs -= this.#use.used(candidate.pack).blobs;
        this.#leave(candidate.deadBytes);
      }
    }
    return chosen;
  }

  #leave(deadBytes: number): void {
    this.left.packs++;
    this.left.deadBytes += deadBytes;
  }
}

function shareOf({ liveBytes, deadBytes }: Candidate): number {
  return deadBytes / (liveBytes + deadBytes);
}

export async function isLocked(core: Core, object: string, options: StoreOptions): Promise<boolean> {
  const untilMs = await core.store.locks?.lockedUntilMs(object, options);
  return untilMs !== undefined && untilMs > core.clock.nowMs();
}
