import { randomBytes } from 'node:crypto';

/** Randomness as a port, so that a simulation can own it. `bytes` must be unpredictable in production. */
export interface Random {
  bytes(count: number): Uint8Array;
}

export const systemRandom: Random = { bytes: (count) => randomBytes(count) };
