import { zstd, type Compression } from '../seal/codec.ts';
import type { Sealer } from './sealer.ts';
import { LocalLane } from './sealing-lane.ts';

/** Seals in the caller's thread: for tests and simulations, and where the compression itself is to be replaced. */
export function inlineSealer(options: { compression?: Compression; laneCount?: number } = {}): Sealer {
  const compression = options.compression ?? zstd(1);
  return {
    laneCount: options.laneCount ?? 1,
    openLane: (config) => LocalLane.open(config, compression),
  };
}
