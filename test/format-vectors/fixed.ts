/** What production takes from its surroundings, fixed: the same scenario gives the same bytes. */
import { createHash } from 'node:crypto';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { Clock } from '@lifeboat/foundation/clock';
import type { Random } from '@lifeboat/foundation/random';
import { sha256 } from '@lifeboat/repository/format/frame';
import { zstd, type Compression } from '@lifeboat/repository/seal/codec';

/** Bytes that follow from how many were drawn before. */
export function fixedRandom(): Random {
  let draws = 0;
  return {
    bytes: (length) => createHash('shake256', { outputLength: length }).update(`format vectors ${draws++}`).digest(),
  };
}

/** Stands still, until the scenario moves it. */
export class FixedClock implements Clock {
  #nowMs = Date.UTC(2026, 0, 1);

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  sleep(): Promise<void> {
    return Promise.resolve();
  }

  pass(ms: number): void {
    this.#nowMs += ms;
  }
}

/** zstd frames in hexadecimal, by the SHA-256 of what they open to. */
export type Frames = Readonly<Record<string, string>>;

/**
 * zstd as it was when the vectors were made. Another release of zstd may compress to other bytes, and is right to; whatever reads
 * must open those that are there. Without `frames` it compresses, and `made` gives what came of it.
 */
export function pinnedZstd(frames?: Frames): Compression & { made(): Frames } {
  const real = zstd(1);
  const made = new Map<string, string>();
  return {
    compress(plain) {
      const hash = sha256(plain).toString('hex');
      const frame = frames ? frames[hash] : Buffer.from(real.compress(plain)).toString('hex');
      if (frame === undefined) {
        throw new LifeboatError(
          'internal.bug',
          `the writer compresses what it did not: ${Buffer.from(plain).toString('hex')}`,
        );
      }
      made.set(hash, frame);
      return Buffer.from(frame, 'hex');
    },
    decompress: (packed, maxBytes) => real.decompress(packed, maxBytes),
    made: () => Object.fromEntries([...made].toSorted(([a], [b]) => (a < b ? -1 : 1))),
  };
}
