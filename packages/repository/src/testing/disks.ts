/** Disk contents for tests, and the reading back of them. */
import type { MachineId, PointId } from '@lifeboat/foundation/ids';

import type { Repository } from '../repository.ts';
import { TINY_CHUNK } from './tiny.ts';

/** A chunk that depends on its seed and does not compress. */
export function noise(seed: number): Buffer {
  const random = seededRandom(seed + 1);
  return Buffer.from(Array.from({ length: TINY_CHUNK }, () => random() * 256));
}

/** So many different chunks. */
export function noisyDisk(chunks: number, seed = 0): Buffer {
  return Buffer.concat(Array.from({ length: chunks }, (_, i) => noise(seed * 100_003 + i)));
}

/** Numbers in [0, 1) that follow from the seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export async function readDisk(
  repository: Repository,
  machineId: MachineId,
  pointId: PointId,
  disk = 'vda',
): Promise<Buffer> {
  const device = repository.openDisk(await repository.readPoint(machineId, pointId), disk);
  const target = Buffer.alloc(device.sizeBytes, 0xee);
  await device.read(0, target);
  return target;
}
