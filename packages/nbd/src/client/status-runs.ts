import type { Extent } from '@lifeboat/foundation/block-device';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { ALLOCATION_FLAG } from '../protocol.ts';

/** A run of bytes with the same status. `flags` mean what the context says: bit 0 of a dirty bitmap is "changed". */
export interface StatusRun {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly flags: number;
}

/** A list of 4 Mi runs is some 250 MiB; a dirty bitmap of 64 KiB grains has at most that many on 256 GiB. */
const MAX_STATUS_RUNS = 4 * 1024 * 1024;

/** Collects adjoining runs and joins those of equal flags. */
export class StatusRuns {
  readonly runs: StatusRun[] = [];
  readonly #endBytes: number;
  #atBytes: number;

  constructor(range: { offsetBytes: number; lengthBytes: number }) {
    this.#atBytes = range.offsetBytes;
    this.#endBytes = range.offsetBytes + range.lengthBytes;
  }

  /** What follows the runs so far; whatever reaches beyond the range is cut off. */
  add(lengthBytes: number, flags: number): void {
    const kept = Math.min(lengthBytes, this.#endBytes - this.#atBytes);
    if (kept <= 0) return;
    const last = this.runs.at(-1);
    if (last?.flags === flags) {
      this.runs[this.runs.length - 1] = { ...last, lengthBytes: last.lengthBytes + kept };
    } else {
      if (this.runs.length >= MAX_STATUS_RUNS) {
        throw new LifeboatError(
          'nbd.too-fragmented',
          `block status up to ${this.#atBytes} has ${MAX_STATUS_RUNS} runs already`,
        );
      }
      this.runs.push({ offsetBytes: this.#atBytes, lengthBytes: kept, flags });
    }
    this.#atBytes += kept;
  }
}

/** base:allocation as extents. A hole that does not promise zeros is data: what it reads as must be read. */
export function toExtents(runs: readonly StatusRun[]): Extent[] {
  const extents: Extent[] = [];
  for (const { offsetBytes, lengthBytes, flags } of runs) {
    const kind = kindOf(flags);
    const last = extents.at(-1);
    if (last?.kind === kind) extents[extents.length - 1] = { ...last, lengthBytes: last.lengthBytes + lengthBytes };
    else extents.push({ offsetBytes, lengthBytes, kind });
  }
  return extents;
}

function kindOf(flags: number): Extent['kind'] {
  if ((flags & ALLOCATION_FLAG.zero) === 0) return 'data';
  return (flags & ALLOCATION_FLAG.hole) === 0 ? 'zero' : 'hole';
}
